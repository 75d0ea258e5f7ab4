//! Document 003: sections, the two-level array of their descriptors, holes, and the coded pointer.

use kernmem_base::{Era, Granule, Pfn, PhysRange, VirtAddr};
use kernmem_firmware::{Arch, Bank};
use kernmem_sparse::{Geometry, GeometryFacts, Model, SparseArch, Spending, VirtualMap, Word};

use crate::bench::{Bench, Booted, Own, frame_zero, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const COUNT: ClaimId = ClaimId::new(3, 1);
const ARRAY: ClaimId = ClaimId::new(3, 2);
const HOLES: ClaimId = ClaimId::new(3, 3);
const CODED: ClaimId = ClaimId::new(3, 4);

pub(crate) const LAB: Lab = Lab {
    name: "sparsemem",
    title: Text::SparsememTitle,
    reverse: Text::SparsememReverse,
    claims: &[COUNT, ARRAY, HOLES, CODED],
    run,
};

/// 4 GiB with a hole of one.
pub(super) const MACHINE: &str = r#"
arch = "arm64"
model = "4 GiB with a hole of 1 GiB"
cmdline = "rodata=off"

[[memory]]
start = "1G"
size = "3G"

[[memory]]
start = "5G"
size = "1G"

[given]
text_phys = "0x40200000"
"#;

const MIB: u64 = 1 << 20;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let mut bench = Bench::open(options, Own::Described(MACHINE))?;
    if options.reverse {
        fill_holes(&mut bench)?;
    }
    count(book)?;
    array(book)?;
    bench.boot(|booted| {
        holes(&bench, booted, book)?;
        coded(&bench, booted, book)
    })
}

/// The same machine with memory from its first to its last byte.
fn fill_holes(bench: &mut Bench) -> Result<(), LabError> {
    let machine = &mut bench.source.machine;
    let start = machine.memory.iter().map(|bank| bank.range.start).min();
    let end = machine.memory.iter().map(|bank| bank.range.end).max();
    let (Some(start), Some(end)) = (start, end) else { return Err(LabError::Missing("memory")) };
    match machine.arch {
        Arch::Arm64 => {
            machine.memory = vec![Bank { range: PhysRange::new(start, end), nid: None, hotplug: false }];
            Ok(())
        }
        arch @ (Arch::X86_64 | Arch::I386) => Err(LabError::Architecture { lab: LAB.name, arch, wanted: Arch::Arm64 }),
    }
}

fn geometry(facts: GeometryFacts) -> Result<Geometry, LabError> {
    Ok(Geometry::new(facts).map_err(kernmem::BootError::from)?)
}

fn count(book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(COUNT, Text::CountClaim)?;
    for era in Era::ALL {
        let facts = GeometryFacts::new(SparseArch::X86_64, era, Granule::K4);
        let four = geometry(facts)?;
        let five = geometry(GeometryFacts { five_levels: true, ..facts })?;
        let arm64 = geometry(GeometryFacts::new(SparseArch::Arm64, era, Granule::K4))?;
        book.say(
            Text::Counts,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("sections", Value::Count(four.nr_mem_sections())),
                ("section_bytes", Value::Bytes(four.section_bytes())),
                ("sections_five", Value::Count(five.nr_mem_sections())),
                ("sections_arm64", Value::Count(arm64.nr_mem_sections())),
                ("section_bytes_arm64", Value::Bytes(arm64.section_bytes())),
            ],
        )?;
        let holds = if four.nr_mem_sections() == 1 << 19 {
            Holds::OnlyIf(Text::FourLevels)
        } else {
            Holds::No(Text::OtherCount)
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn array(book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(ARRAY, Text::ArrayClaim)?;
    for era in Era::ALL {
        let extreme = geometry(GeometryFacts::new(SparseArch::X86_64, era, Granule::K4))?.with_model(Model::Extreme);
        let statics = extreme.with_model(Model::Static);
        // 4 GiB from address 0.
        let spent = |geometry: &Geometry| spending(geometry, &[(Pfn(0), Pfn(1 << 20))]);
        let (one, other) = (spent(&extreme), spent(&statics));
        book.say(
            Text::Roots,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("per_root", Value::Count(extreme.sections_per_root())),
                ("root_bytes", Value::Bytes(extreme.root_bytes())),
                ("roots", Value::Count(extreme.nr_section_roots())),
                ("pointers_bytes", Value::Bytes(one.roots_array_bytes)),
                ("roots_in_use", Value::Count(one.roots)),
                ("static_bytes", Value::Bytes(other.roots_bytes)),
            ],
        )?;
        book.conclude(era, Holds::OnlyIf(Text::RootsOnDemand))?;
    }
    Ok(())
}

fn spending(geometry: &Geometry, ranges: &[(Pfn, Pfn)]) -> Spending {
    let map = VirtualMap { base: VirtAddr(0), page_bytes: geometry.page_bytes(), variable: false };
    Spending::of(geometry, ranges.iter().copied(), map, 48)
}

/// Descriptors of a flat array and of sections.
fn flat_and_sparse(geometry: &Geometry, ranges: &[(Pfn, Pfn)]) -> (Spending, Spending) {
    (spending(&geometry.with_model(Model::Flat), ranges), spending(geometry, ranges))
}

/// What is saved by a hole of `bytes` that begins `offset` behind the start of a section, in 4 GiB of memory.
fn saved_by_hole(geometry: &Geometry, offset: u64, bytes: u64) -> u64 {
    let page = geometry.granule().bytes();
    let pfn = |pa: u64| Pfn(pa / page);
    let (start, hole) = (1u64 << 30, (2u64 << 30) + offset);
    let ranges = [(pfn(start), pfn(hole)), (pfn(hole + bytes), pfn(start + (4 << 30)))];
    let (flat, sparse) = flat_and_sparse(geometry, &ranges);
    flat.memmap_bytes.saturating_sub(sparse.memmap_bytes)
}

fn holes(bench: &Bench, booted: &Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(HOLES, Text::HolesClaim)?;
    let own = *booted.kernel.sections.geometry();
    let page = own.granule();
    let ranges: Vec<(Pfn, Pfn)> =
        booted.banks().iter().map(|bank| (bank.start.pfn(page), bank.end.pfn(page))).collect();
    for era in Era::ALL {
        let geometry = geometry(GeometryFacts { era, ..*own.facts() })?;
        let (flat, sparse) = flat_and_sparse(&geometry, &ranges);
        if era == bench.era() {
            book.say(
                Text::HolesOfMachine,
                &[
                    ("memory", Value::Bytes(sparse.memory_bytes)),
                    ("span", Value::Bytes(sparse.span_bytes)),
                    ("flat", Value::Bytes(flat.memmap_bytes)),
                    ("sparse", Value::Bytes(sparse.memmap_bytes)),
                    ("sections", Value::Count(sparse.sections)),
                    ("sections_booted", Value::Count(booted.kernel.sections.present_count())),
                    ("other_cost", Value::Bytes(sparse.total_bytes() - sparse.memmap_bytes)),
                ],
            )?;
        }
        let saved = |offset, bytes| Value::Bytes(saved_by_hole(&geometry, offset, bytes));
        book.say(
            Text::HolesBySize,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("section_bytes", Value::Bytes(geometry.section_bytes())),
                ("hole_100m", saved(0, 100 * MIB)),
                ("hole_128m", saved(0, 128 * MIB)),
                ("hole_128m_shifted", saved(64 * MIB, 128 * MIB)),
                ("hole_1g", saved(0, 1024 * MIB)),
            ],
        )?;
        let holds = match saved_by_hole(&geometry, 0, 128 * MIB) {
            0 => Holds::No(Text::LargerSections),
            _ => Holds::OnlyIf(Text::WholeSections),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn coded(bench: &Bench, booted: &Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(CODED, Text::CodedClaim)?;
    let sections = &booted.kernel.sections;
    let geometry = sections.geometry();
    let (base, _) = frame_zero(&booted.kernel)?;
    let root = booted.kernel_root()?;
    let (mut equal, mut mapped, mut total) = (0, 0, 0);
    for nr in sections.present() {
        let first = geometry.first_pfn(nr);
        // Where the layout says that the section's descriptors are.
        let map = VirtAddr(base.0.wrapping_add(first.0 * geometry.page_bytes()));
        let Word::Mapped { coded, flags } = sections.word(nr) else { continue };
        total += 1;
        equal += u64::from(coded.0 == map.0.wrapping_sub(first.0 * geometry.page_bytes()));
        mapped += u64::from(reached(&booted.steps(root, map)?, map).is_some());
        if total == 1 {
            let raw = sections.section(nr).map_or(0, |section| section.word);
            book.say(
                Text::CodedWord,
                &[
                    ("section", Value::Count(nr.0)),
                    ("word", Value::Address(raw)),
                    ("mem_map", Value::Address(map.0)),
                    ("start_pfn", Value::Address(first.0)),
                    ("coded", Value::Address(coded.0)),
                    ("flags", Value::Address(flags)),
                ],
            )?;
        }
    }
    book.say(
        Text::CodedAll,
        &[("equal", Value::Count(equal)), ("total", Value::Count(total)), ("mapped", Value::Count(mapped))],
    )?;
    let holds =
        if equal == total && mapped == total { Holds::OnlyIf(Text::BesideFlags) } else { Holds::No(Text::NotCoded) };
    book.conclude(bench.era(), holds)
}
