//! Document 003: how large a virtual memory map is, and what one costs that is really there.

use kernmem_arch::x86::layout::{Bases, KASAN_SHADOW_OFFSET, KASAN_SHADOW_SCALE_SHIFT, Paging};
use kernmem_base::{Era, Granule};
use kernmem_sparse::{Geometry, GeometryFacts, SectionNr, SparseArch};
use kernmem_view::RootKind;
use kernmem_view::census::census;

use crate::bench::{Bench, Booted, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const ONE_TEBIBYTE: ClaimId = ClaimId::new(3, 6);
const BY_BLOCKS: ClaimId = ClaimId::new(0, 5);

pub(crate) const LAB: Lab = Lab {
    name: "vmemmap-size",
    title: Text::VmemmapTitle,
    reverse: Text::VmemmapReverse,
    claims: &[ONE_TEBIBYTE, BY_BLOCKS],
    run,
};

/// As much memory as x86-64 with four levels can have, on a machine of arm64 that can map it.
const MACHINE: &str = r#"
arch = "arm64"
model = "64 TiB in one bank"
cmdline = "rodata=off"
cpu = "neoverse-n1"

[[memory]]
start = "1G"
size = "64T"

[given]
text_phys = "0x40200000"
"#;

/// What Linux's documentation gives the region.
const DOCUMENTED: u64 = 1 << 40;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    computed(options.reverse, book)?;
    let bench = Bench::open(options, Own::Described(MACHINE))?;
    bench.boot(|booted| real(&bench, booted, book))
}

fn computed(larger: bool, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(ONE_TEBIBYTE, Text::OneTebibyteClaim)?;
    let page_bytes = if larger { 128 } else { 64 };
    for era in Era::ALL {
        let facts = GeometryFacts { page_bytes, ..GeometryFacts::new(SparseArch::X86_64, era, Granule::K4) };
        let four = Geometry::new(facts).map_err(kernmem::BootError::from)?;
        let five = Geometry::new(GeometryFacts { five_levels: true, ..facts }).map_err(kernmem::BootError::from)?;
        let bytes = |geometry: &Geometry| geometry.max_pfn().0 * geometry.page_bytes();
        let start = Bases::fixed(era, Paging::Level4).vmemmap;
        // The next thing above is the shadow of the kernel's half.
        let shadow = KASAN_SHADOW_OFFSET.wrapping_add(Paging::Level4.kernel_half().0 >> KASAN_SHADOW_SCALE_SHIFT);
        let bytes_of_four = bytes(&four);
        book.say(
            Text::Computed,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("physical", Value::Bytes(1 << four.max_physmem_bits())),
                ("page_bytes", Value::Bytes(page_bytes)),
                ("vmemmap_bytes", Value::Bytes(bytes_of_four)),
                ("vmemmap_start", Value::Address(start.0)),
                ("vmemmap_last", Value::Address(start.0 + (bytes_of_four - 1))),
                ("room", Value::Bytes(shadow - start.0)),
                ("five_levels", Value::Bytes(bytes(&five))),
            ],
        )?;
        let holds = if bytes_of_four == DOCUMENTED { Holds::OnlyIf(Text::FourLevels) } else { Holds::No(Text::Larger) };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn real(bench: &Bench, booted: &Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(BY_BLOCKS, Text::ByBlocksClaim)?;
    let sections = &booted.kernel.sections;
    let geometry = sections.geometry();
    let present = sections.present_count();
    let memmap = present * geometry.section_memmap_bytes();
    let memory: u64 = booted.banks().iter().map(|bank| bank.size()).sum();
    book.say(
        Text::RealMachine,
        &[
            ("memory", Value::Bytes(memory)),
            ("sections", Value::Count(present)),
            ("section_bytes", Value::Bytes(geometry.section_bytes())),
            ("memmap", Value::Bytes(memmap)),
        ],
    )?;
    let first = sections.next_present(SectionNr(0)).and_then(|nr| sections.map_of(nr));
    let last = sections.highest_present().and_then(|nr| sections.map_of(nr));
    let (Some(first), Some(last)) = (first, last) else { return Err(LabError::Missing("memory map")) };
    let end = last + (geometry.section_memmap_bytes() - 1);
    let range = kernmem_base::VirtRange { start: first, last: end };
    let census = census(&booted.kernel, RootKind::Kernel, &[range]).map_err(LabError::Missing)?;
    let blocks: u64 = census.leaves.iter().filter(|leaf| leaf.size.bytes > 4096).map(|leaf| leaf.bytes).sum();
    let pages = census.mapped_bytes() - blocks;
    book.say(
        Text::RealMap,
        &[
            ("map_start", Value::Address(first.0)),
            ("map_last", Value::Address(end.0)),
            ("map_blocks", Value::Bytes(blocks)),
            ("map_pages", Value::Bytes(pages)),
            // The root is counted, and is the kernel's anyway.
            ("map_tables", Value::Count(census.table_count() - 1)),
        ],
    )?;
    book.say(Text::HostMemory, &[("host", Value::Bytes(booted.memory.allocated_bytes()))])?;
    book.conclude(bench.era(), if pages == 0 && blocks == memmap { Holds::Yes } else { Holds::No(Text::MapOfPages) })
}
