//! Documents 000 and 002: what a TLB saves, and what larger leaves save beyond it.

use kernmem_arch::{Format, LeafSize, UserFormat, WithFormat};
use kernmem_base::{Asid, Cpu, CpuId, FrameSource, Half, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_base::{Order, Privilege, Size};
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::{Gfp, HeapStore, PageSource, Pages};
use kernmem_pgtable::{Mapping, Sizes, Tables};
use kernmem_sim::{Memory, TlbShape, Vcpu};

use crate::bench::{Bench, Own, banks};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const REACH: ClaimId = ClaimId::new(0, 6);
const HIT: ClaimId = ClaimId::new(2, 4);

pub(crate) const LAB: Lab =
    Lab { name: "tlb", title: Text::TlbTitle, reverse: Text::TlbReverse, claims: &[REACH, HIT], run };

const CPU: CpuId = CpuId(0);

/// What a tour goes through: more than the TLB holds by blocks of 2M.
const WORK: u64 = 128 << 20;

/// From one word that a tour reads to the next.
const STEP: u64 = 16 << 10;

/// Where the lab maps memory once more.
const AGAIN: VirtAddr = VirtAddr(0x40_0000_0000);

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.with_leaves(options);
    bench.live(|live| {
        reach(&bench, live, book)?;
        hit(&bench, live, book)
    })
}

/// What a CPU counted in a round.
#[derive(Clone, Copy)]
struct Round {
    walks: u64,
    /// Entries of tables that were read.
    entries: u64,
    /// Entries and data that were read.
    reads: u64,
}

/// Two rounds through the same memory.
struct Tour {
    first: Round,
    again: Round,
    held: u64,
    reach: u64,
    /// Reads that the memory counted.
    below: u64,
}

impl Tour {
    const fn reads(&self) -> u64 {
        self.first.reads + self.again.reads
    }
}

/// A CPU whose tables are those of `root`, with an empty TLB.
fn fresh_cpu(format: Format, shape: &TlbShape, root: PhysAddr) -> Vcpu {
    let mut cpu = Vcpu::new(CPU, format, shape);
    cpu.load_root(Half::Both, root, Asid(0));
    cpu
}

/// Reads a word every [`STEP`] bytes in `bytes` bytes from `start` on.
fn round(cpu: &mut Vcpu, memory: &Memory, start: VirtAddr, bytes: u64) -> Result<Round, LabError> {
    let before = cpu.counters();
    for at in (0..bytes).step_by(STEP as usize) {
        cpu.read_u64(memory, start + at, Privilege::Kernel).map_err(LiveError::from)?;
    }
    let after = cpu.counters();
    let entries = after.references - before.references;
    Ok(Round { walks: after.misses - before.misses, entries, reads: entries + after.data_reads - before.data_reads })
}

fn tour(cpu: &mut Vcpu, memory: &Memory, start: VirtAddr, bytes: u64) -> Result<Tour, LabError> {
    let before = memory.references();
    let first = round(cpu, memory, start, bytes)?;
    let again = round(cpu, memory, start, bytes)?;
    let below = memory.references() - before;
    Ok(Tour { first, again, held: cpu.held() as u64, reach: cpu.reach(), below })
}

/// The highest memory of `bytes` bytes that starts at a multiple of `align`.
fn piece(live: &Live<'_>, bytes: u64, align: u64) -> Option<PhysAddr> {
    banks(&live.running.kernel).iter().rev().find_map(|bank| {
        let start = PhysAddr(bank.end.0.checked_sub(bytes)?).align_down(align);
        (start >= bank.start).then_some(start)
    })
}

/// A root of the lab's own that maps memory at [`AGAIN`] by leaves of one size.
struct MapBy<'a, 'm> {
    memory: &'m Memory,
    pages: Pages<'a, HeapStore>,
    leaf: LeafSize,
    range: VirtRange,
    base: PhysAddr,
    data: u64,
    table: u64,
}

impl WithFormat for MapBy<'_, '_> {
    type Output = Result<PhysAddr, LabError>;

    fn run<F: UserFormat>(mut self) -> Self::Output {
        let root = self.pages.take(Level::Pgd).map_err(|_| LabError::Missing("free page"))?.pa;
        self.memory.zero(PhysRange::new(root, root + F::shape().granule.bytes()))?;
        self.memory.note(root)?.set_used(0);
        let sizes = Sizes::only(F::shape(), |leaf| *leaf == self.leaf);
        let mapping = Mapping::<F>::new(self.base, F::attrs(self.data), sizes).with_table_attrs(F::attrs(self.table));
        let mut tables = Tables::<F, _>::new(self.memory, root);
        match tables.cursor(self.range).map(&mut self.pages, &mapping) {
            Ok(stale) => stale.forgive("nothing was mapped there"),
            Err(failed) => {
                failed.stale.forgive("the tree is dropped");
                return Err(failed.error.into());
            }
        }
        Ok(root)
    }
}

/// The root of a tree that maps some memory by `leaf` alone; `None` if no memory is large enough.
fn map_by(live: &mut Live<'_>, leaf: LeafSize) -> Result<Option<PhysAddr>, LabError> {
    let bytes = leaf.bytes.max(WORK);
    let Some(base) = piece(live, bytes, leaf.bytes) else { return Ok(None) };
    let range = VirtRange::of_size(AGAIN, bytes).ok_or(LabError::Missing("room for a mapping"))?;
    let (format, prot, memory) = (live.running.facts.format, live.running.facts.prot, live.memory);
    let pages = live.running.pages(CPU).ok_or(LabError::Missing("CPU 0"))?;
    format.with(MapBy { memory, pages, leaf, range, base, data: prot.data, table: prot.table }).map(Some)
}

fn reach(bench: &Bench, live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(REACH, Text::ReachClaim)?;
    let shape = TlbShape::default();
    let (format, memory) = (live.running.facts.format, live.memory);
    let entries = shape.entries as u64;
    book.say(
        Text::TourPlan,
        &[("entries", Value::Count(entries)), ("step", Value::Bytes(STEP)), ("work", Value::Bytes(WORK))],
    )?;
    let start = piece(live, WORK, WORK).ok_or(LabError::Missing("memory for a tour"))?;
    let mut cpu = fresh_cpu(format, &shape, live.running.kernel.roots.kernel);
    let linear = tour(&mut cpu, memory, live.linear_address(start), WORK)?;
    let (mut by_cpus, mut by_memory) = (linear.reads(), linear.below);
    book.say(
        Text::TourOfLinear,
        &[
            ("line", Value::Name(bench.source.config.cmdline.text().to_owned())),
            ("linear_first", Value::Count(linear.first.walks)),
            ("linear_again", Value::Count(linear.again.walks)),
            ("linear_held", Value::Count(linear.held)),
            ("linear_reach", Value::Bytes(linear.reach)),
        ],
    )?;
    let mut by_pages = linear.again;
    for leaf in format.shape().leaves.iter().rev() {
        let Some(root) = map_by(live, *leaf)? else { continue };
        let found = tour(&mut fresh_cpu(format, &shape, root), memory, AGAIN, WORK)?;
        (by_cpus, by_memory) = (by_cpus + found.reads(), by_memory + found.below);
        tell(leaf, &found, book)?;
        if leaf.bytes == format.shape().granule.bytes() {
            by_pages = found.again;
            let small = entries * STEP;
            let found = tour(&mut fresh_cpu(format, &shape, root), memory, AGAIN, small)?;
            (by_cpus, by_memory) = (by_cpus + found.reads(), by_memory + found.below);
            book.say(
                Text::SmallTour,
                &[
                    ("small", Value::Bytes(small)),
                    ("small_first", Value::Count(found.first.walks)),
                    ("small_again", Value::Count(found.again.walks)),
                ],
            )?;
        }
    }
    book.say(Text::BothCount, &[("by_cpus", Value::Count(by_cpus)), ("by_memory", Value::Count(by_memory))])?;
    let fewer = linear.again.walks < by_pages.walks;
    book.conclude(bench.era(), if fewer { Holds::OnlyIf(Text::MoreThanReach) } else { Holds::No(Text::LinearByPages) })
}

/// A row of the table of leaf sizes.
fn tell(leaf: &LeafSize, found: &Tour, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let [first, entries, again, reach] = names(leaf.bytes);
    book.keep((first, Value::Count(found.first.walks)));
    book.keep((entries, Value::Count(found.first.entries)));
    book.keep((again, Value::Count(found.again.walks)));
    book.keep((reach, Value::Bytes(found.reach)));
    book.show(
        Text::TourBy,
        &[
            ("leaf", Value::Name(format!("{:>3}", Size(leaf.bytes).to_string()))),
            ("first", Value::Count(found.first.walks)),
            ("entries", Value::Count(found.first.entries)),
            ("again", Value::Count(found.again.walks)),
            ("held", Value::Count(found.held)),
            ("reach", Value::Bytes(found.reach)),
        ],
    )
}

const fn names(bytes: u64) -> [&'static str; 4] {
    match bytes {
        0x1000 => ["first_4k", "entries_4k", "again_4k", "reach_4k"],
        0x1_0000 => ["first_64k", "entries_64k", "again_64k", "reach_64k"],
        0x20_0000 => ["first_2m", "entries_2m", "again_2m", "reach_2m"],
        0x200_0000 => ["first_32m", "entries_32m", "again_32m", "reach_32m"],
        0x4000_0000 => ["first_1g", "entries_1g", "again_1g", "reach_1g"],
        _ => ["first_other", "entries_other", "again_other", "reach_other"],
    }
}

/// What the kernel's CPU does, and how often memory is read for it.
struct Reads<'l, 'm> {
    live: &'l mut Live<'m>,
    by_cpu: u64,
    by_memory: u64,
}

impl Reads<'_, '_> {
    /// Reads the word at `va`; `None` for a fault. How many reads of memory it took.
    fn read(&mut self, va: VirtAddr) -> Result<(Option<u64>, u64), LabError> {
        let cpu = self.live.cpus.cpu(CPU).ok_or(LabError::Missing("CPU 0"))?;
        let counted = || cpu.counters().references + cpu.counters().data_reads;
        let (own, below) = (counted(), self.live.memory.references());
        let word = cpu.read_u64(self.live.memory, va, Privilege::Kernel).ok();
        let reads = self.live.memory.references() - below;
        self.by_cpu += counted() - own;
        self.by_memory += reads;
        Ok((word, reads))
    }

    fn forget(&self) {
        if let Some(cpu) = self.live.cpus.cpu(CPU) {
            cpu.flush_here(None, None, true);
        }
    }
}

fn hit(bench: &Bench, live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(HIT, Text::HitClaim)?;
    let page = live.running.facts.granule;
    let mut pages = live.running.pages(CPU).ok_or(LabError::Missing("CPU 0"))?;
    let mut take = || pages.alloc(Gfp::KERNEL, Order(0)).map_err(LiveError::from);
    let frames = [take()?, take()?];
    let pa = frames[0].to_phys(page).ok_or(LabError::Missing("memory behind a frame"))?;
    let linear = live.linear_address(pa);
    let va = live.on(CPU, |running, on| running.vmap(on, &frames)).0.map_err(LiveError::from)?;
    let mut reads = Reads { live, by_cpu: 0, by_memory: 0 };
    reads.forget();
    let (_, first) = reads.read(va)?;
    let (_, again) = reads.read(va)?;
    reads.forget();
    let (_, flushed) = reads.read(va)?;
    let (_, linear_first) = reads.read(linear)?;
    let (_, linear_again) = reads.read(linear)?;
    book.say(
        Text::HitOfPage,
        &[
            ("va", Value::Address(va.0)),
            ("first", Value::Count(first)),
            ("again", Value::Count(again)),
            ("flushed", Value::Count(flushed)),
        ],
    )?;
    book.say(
        Text::HitOfLinear,
        &[
            ("linear", Value::Address(linear.0)),
            ("linear_first", Value::Count(linear_first)),
            ("linear_again", Value::Count(linear_again)),
        ],
    )?;
    walk_cache(reads.live, va, book)?;
    stale(&mut reads, va, linear, book)?;
    let counts = [("by_cpus", Value::Count(reads.by_cpu)), ("by_memory", Value::Count(reads.by_memory))];
    book.say(Text::BothCount, &counts)?;
    let levels = reads.live.running.facts.format.shape().levels.len() as u64;
    let as_said = first == levels + 1 && flushed == first && again == 1;
    book.conclude(bench.era(), if as_said { Holds::Yes } else { Holds::No(Text::WalkedAgain) })
}

/// A miss need not read every table: a CPU may remember tables beside translations.
fn walk_cache(live: &Live<'_>, va: VirtAddr, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let shape = TlbShape { walks: 16, ..TlbShape::default() };
    let facts = &live.running.facts;
    let mut cpu = fresh_cpu(facts.format, &shape, live.running.kernel.roots.kernel);
    round(&mut cpu, live.memory, va, facts.granule.bytes())?;
    let beside = round(&mut cpu, live.memory, va + facts.granule.bytes(), facts.granule.bytes())?;
    book.say(Text::WalkCache, &[("pointers", Value::Count(16)), ("beside", Value::Count(beside.reads))])
}

/// What the TLB holds outlives what the tables say, until it is flushed.
fn stale(reads: &mut Reads<'_, '_>, va: VirtAddr, linear: VirtAddr, book: &mut Notebook<'_>) -> Result<(), LabError> {
    const WORD: u64 = 0x0b5e_55ed;
    reads.read(va)?;
    let unmapped = reads.live.on(CPU, |running, on| running.vunmap(on, va));
    unmapped.0.map_err(LiveError::from)?;
    let cpu = reads.live.cpus.cpu(CPU).ok_or(LabError::Missing("CPU 0"))?;
    cpu.write_u64(reads.live.memory, linear, WORD, Privilege::Kernel).map_err(LiveError::from)?;
    let (word, stale) = reads.read(va)?;
    let (_, purges) = reads.live.on(CPU, |running, on| running.purge(on));
    let (gone, faulting) = reads.read(va)?;
    book.say(
        Text::StaleHit,
        &[
            ("flushes", Value::Count(unmapped.1)),
            ("stale", Value::Count(stale)),
            ("seen", Value::Truth(word == Some(WORD))),
        ],
    )?;
    book.say(
        Text::PurgedHit,
        &[
            ("purges", Value::Count(purges)),
            ("faulting", Value::Count(faulting)),
            ("faults", Value::Truth(gone.is_none())),
        ],
    )
}
