//! Document 002: the first tables of arm64, which the kernel builds before it runs at its own addresses.

use kernmem::Isa;
use kernmem_arch::Entry;
use kernmem_base::{BusError, Era, Level, PhysAddr, PhysRange, VirtAddr};
use kernmem_view::entries::{EntryVisitor, Place, entries, root_ranges};
use kernmem_view::{KernelView, RootKind};

use crate::bench::{Bench, Booted, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const IDENTITY: ClaimId = ClaimId::new(2, 2);
const IMAGE: ClaimId = ClaimId::new(2, 3);

pub(crate) const LAB: Lab = Lab {
    name: "boot-tables",
    title: Text::BootTablesTitle,
    reverse: Text::BootTablesReverse,
    claims: &[IDENTITY, IMAGE],
    run,
};

/// A seed for machines whose firmware gives none.
const SEED: u64 = 0x1b2c_3d4e_5f60_7182;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let mut bench = Bench::open(options, Own::Preset("arm64-4g"))?.of_arm64(LAB.name)?;
    if options.reverse {
        let source = &mut bench.source;
        source.machine.kaslr_seed = source.machine.kaslr_seed.filter(|seed| *seed != 0).or(Some(SEED));
        source.config.given.text_virt = None;
    }
    bench.boot(|booted| {
        let image = Image::of(&bench, booted)?;
        identity(&bench, booted, &image, book)?;
        first_kernel_map(&bench, booted, &image, book)
    })
}

/// Where the image lies, `_text` to `_end`, and the code that turns the MMU on.
struct Image {
    memory: PhysRange,
    virt: VirtAddr,
    idmap_text: PhysRange,
}

impl Image {
    fn of(bench: &Bench, booted: &Booted<'_>) -> Result<Self, LabError> {
        let Isa::Arm64(state) = &booted.kernel.isa else { return Err(LabError::Missing("arm64 state")) };
        let symbol = |name| bench.source.config.symbols.address(name).ok_or(LabError::Missing("symbols of the image"));
        let text = symbol("_text")?;
        let phys = |name| Ok::<_, LabError>(state.text_phys + (symbol(name)? - text));
        Ok(Self {
            memory: PhysRange::new(phys("_text")?, phys("_end")?),
            virt: text.wrapping_add(state.displacement),
            idmap_text: PhysRange::new(phys("__idmap_text_start")?, phys("__idmap_text_end")?),
        })
    }
}

/// The leaves of one tree.
#[derive(Default)]
struct Leaves {
    found: Vec<(VirtAddr, PhysAddr, u64)>,
    tables: u64,
}

impl EntryVisitor for Leaves {
    fn table(&mut self, _place: &Place, _next: PhysAddr, _attrs: u64) -> bool {
        self.tables += 1;
        true
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        if let Entry::Leaf { base, .. } = entry {
            self.found.push((place.va, base, place.bytes));
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {}
}

impl Leaves {
    fn of(booted: &Booted<'_>, kind: RootKind, range_of: RootKind) -> Result<Self, LabError> {
        let root = booted.kernel.root(kind).known().ok_or(LabError::Missing("early tables"))?;
        let mut leaves = Self { found: Vec::new(), tables: 1 };
        for range in root_ranges(booted.kernel.format(), range_of) {
            entries(&booted.kernel, root, range, &mut leaves);
        }
        Ok(leaves)
    }

    /// Bytes of the leaves for which `holds`.
    fn bytes(&self, holds: impl Fn(VirtAddr, PhysAddr) -> bool) -> u64 {
        self.found.iter().filter(|(va, pa, _)| holds(*va, *pa)).map(|(.., bytes)| bytes).sum()
    }

    /// Leaves of `size` for which `holds`.
    fn count_of(&self, size: u64, holds: impl Fn(VirtAddr, PhysAddr) -> bool) -> u64 {
        self.found.iter().filter(|(va, pa, bytes)| *bytes == size && holds(*va, *pa)).count() as u64
    }

    /// Whether the leaves that map to `offset` from their address reach all of `memory`.
    fn covers(&self, memory: PhysRange, offset: u64) -> bool {
        let mut at = memory.start;
        for (va, pa, bytes) in &self.found {
            if va.0.wrapping_sub(pa.0) == offset && *pa <= at && at < *pa + *bytes {
                at = *pa + *bytes;
            }
        }
        at >= memory.end
    }
}

const BLOCK: u64 = 2 << 20;
const PAGE: u64 = 4096;

fn identity(bench: &Bench, booted: &Booted<'_>, image: &Image, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(IDENTITY, Text::IdentityClaim)?;
    let first = Leaves::of(booted, RootKind::EarlyIdentity, RootKind::Idmap)?;
    let last = Leaves::of(booted, RootKind::Idmap, RootKind::Idmap)?;
    let is_same = |va: VirtAddr, pa: PhysAddr| va.0 == pa.0;
    let same = |leaves: &Leaves| leaves.bytes(is_same);
    book.say(
        Text::FirstIdentity,
        &[
            ("identical", Value::Bytes(same(&first))),
            ("blocks", Value::Count(first.count_of(BLOCK, is_same))),
            ("tables", Value::Count(first.tables)),
            ("image_bytes", Value::Bytes(image.memory.size())),
            ("image_phys", Value::Address(image.memory.start.0)),
        ],
    )?;
    book.say(Text::DevicetreeWindow, &[("moved", Value::Bytes(first.bytes(|va, pa| va.0 != pa.0)))])?;
    book.say(
        Text::LastIdentity,
        &[
            ("stays_identical", Value::Bytes(same(&last))),
            ("stays_pages", Value::Count(last.count_of(PAGE, is_same))),
            ("idmap_text", Value::Bytes(image.idmap_text.size())),
        ],
    )?;
    let whole_image = first.covers(image.memory, 0);
    let mmu_code = first.covers(image.idmap_text, 0) && last.covers(image.idmap_text, 0);
    book.keep(("whole_image", Value::Truth(whole_image)));
    let holds = match (mmu_code, whole_image) {
        (true, true) => Holds::OnlyIf(Text::TheOneThatStays),
        (true, false) => Holds::Yes,
        (false, _) => Holds::No(Text::NotIdentical),
    };
    book.conclude(bench.era(), holds)?;
    for era in Era::ALL.into_iter().filter(|era| *era != bench.era()) {
        let holds = match era {
            Era::V4_14 | Era::V5_10 => Holds::Yes,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => Holds::OnlyIf(Text::TheOneThatStays),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn first_kernel_map(
    bench: &Bench,
    booted: &Booted<'_>,
    image: &Image,
    book: &mut Notebook<'_>,
) -> Result<(), LabError> {
    book.claim(IMAGE, Text::ImageMapClaim)?;
    let Isa::Arm64(state) = &booted.kernel.isa else { return Err(LabError::Missing("arm64 state")) };
    let leaves = Leaves::of(booted, RootKind::EarlyKernel, RootKind::Kernel)?;
    let offset = image.virt.0.wrapping_sub(image.memory.start.0);
    book.say(
        Text::FirstKernelMap,
        &[
            ("image_virt", Value::Address(image.virt.0)),
            ("image_phys", Value::Address(image.memory.start.0)),
            ("displacement", Value::Address(state.displacement)),
            ("mapped", Value::Bytes(leaves.bytes(|_, _| true))),
            ("blocks", Value::Count(leaves.count_of(BLOCK, |_, _| true))),
            ("tables", Value::Count(leaves.tables)),
        ],
    )?;
    let whole = leaves.covers(image.memory, offset);
    let only_image = leaves.bytes(|va, pa| va.0.wrapping_sub(pa.0) != offset) == 0;
    book.conclude(bench.era(), if whole && only_image { Holds::Yes } else { Holds::No(Text::NotTheImage) })
}
