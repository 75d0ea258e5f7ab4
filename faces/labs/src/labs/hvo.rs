//! Document 000: the descriptors inside a huge page repeat each other, and most of their memory can be given back.

use kernmem_arch::hugetlb::{HugeArch, hvo_kept_pages, hvo_saving};
use kernmem_base::{CpuId, Era, Granule, Order, Pfn, PhysAddr, Privilege, VirtAddr};
use kernmem_firmware::Arch;
use kernmem_live::{Live, LiveError};
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_sparse::Descriptors;

use crate::bench::{Bench, Own};
use crate::notebook::{Notebook, Number};
use crate::tables::{Leaf, kernel_leaf};
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const GIVES_BACK: ClaimId = ClaimId::new(0, 7);

pub(crate) const LAB: Lab =
    Lab { name: "hvo", title: Text::HvoTitle, reverse: Text::HvoReverse, claims: &[GIVES_BACK], run };

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
const TWO_MIB: Order = Order(9);
const ONE_GIB: Order = Order(18);

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let mut options = options.clone();
    if options.source.is_none() {
        // The preset's CPU has no leaves of 1G, and so no huge pages of that size.
        options.parts.cpu.get_or_insert_with(|| "+pdpe1gb".to_owned());
    }
    let bench = Bench::open(&options, Own::Preset("x86-4g"))?;
    let word = if options.reverse { "hugetlb_free_vmemmap=off" } else { "hugetlb_free_vmemmap=on" };
    let bench = match options.parts.cmdline {
        Some(_) => bench,
        None => bench.with_word("hugetlb_free_vmemmap", Some(word)),
    };
    bench.live(|live| {
        book.claim(GIVES_BACK, Text::HvoClaim)?;
        let way = Way::of(live, options.reverse);
        live.running.optimize_new(way != Way::Off);
        book.show(way.text(), &[])?;
        let two = experiment(live, TWO_MIB)?;
        tell(live, &two, book)?;
        judge(&bench, way, &two, book)
    })
}

/// How descriptors are given back on this kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As Linux does it.
    Linux,
    /// As an option of ours, on a kernel where Linux cannot.
    Ours,
    /// Not at all.
    Off,
}

impl Way {
    fn of(live: &Live<'_>, reverse: bool) -> Self {
        let facts = &live.running.facts;
        match (facts.hvo, facts.hvo_built, reverse) {
            (true, ..) => Self::Linux,
            (false, false, false) => Self::Ours,
            _ => Self::Off,
        }
    }

    const fn text(self) -> Text {
        match self {
            Self::Linux => Text::HvoByLinux,
            Self::Ours => Text::HvoByUs,
            Self::Off => Text::HvoSwitchedOff,
        }
    }
}

/// What is seen of the descriptors of one huge page.
struct Sight {
    /// The leaf of each page of them.
    leaves: Vec<Leaf>,
    /// Free frames of the page allocator, those in lists of CPUs too.
    free: u64,
    /// Frames that the page allocator manages.
    managed: u64,
    /// Bytes that the host holds.
    host: u64,
}

impl Sight {
    fn of(live: &Live<'_>, start: VirtAddr, pages: u64) -> Result<Self, LabError> {
        let leaves = (0..pages).map(|page| kernel_leaf(live, start + page * PAGE));
        let allocator = &live.running.kernel.pages.allocator;
        let in_lists: u64 = live.running.cpu_lists().map(|lists| lists.total()).sum();
        Ok(Self {
            leaves: leaves.collect::<Result<_, _>>()?,
            free: allocator.free_frames() + in_lists,
            managed: allocator.managed(),
            host: live.memory.allocated_bytes(),
        })
    }

    /// Different frames behind the pages.
    fn frames(&self) -> u64 {
        let mut frames: Vec<PhysAddr> = self.leaves.iter().map(|leaf| leaf.pa.align_down(PAGE)).collect();
        frames.sort_unstable();
        frames.dedup();
        frames.len() as u64
    }

    /// Bytes of the first page's leaf.
    fn leaf_bytes(&self) -> u64 {
        self.leaves.first().map_or(0, |leaf| leaf.bytes)
    }

    /// Leaves larger than a page that became tables since `before`.
    fn tables_since(&self, before: &Self) -> u64 {
        let mut split: Vec<PhysAddr> = (self.leaves.iter().zip(&before.leaves))
            .filter(|(now, then)| now.bytes < then.bytes)
            .map(|(_, then)| then.at)
            .collect();
        split.dedup();
        split.len() as u64
    }
}

/// One huge page before, in, and behind the pool.
struct Experiment {
    pfn: Pfn,
    /// Its descriptors.
    start: VirtAddr,
    plain: Sight,
    pooled: Sight,
    /// Pages whose descriptors refuse a write while it is in the pool.
    refused: u64,
    /// Why the last of them refuses.
    refusal: String,
    emptied: Sight,
}

impl Experiment {
    fn pages(&self) -> u64 {
        self.plain.leaves.len() as u64
    }

    fn given_back(&self) -> u64 {
        self.plain.frames() - self.pooled.frames()
    }

    fn tables(&self) -> u64 {
        self.pooled.tables_since(&self.plain)
    }
}

/// Takes a huge page of the page allocator, lets the pool have it, and empties the pool.
fn experiment(live: &mut Live<'_>, order: Order) -> Result<Experiment, LabError> {
    let pool = live.running.pool_of(order).ok_or(LabError::Missing("pool of that size"))?;
    live.on(CPU, |running, on| running.resize_pool(on, pool, 0));
    let pfn = take(live, order)?;
    let start = live.running.map.page(pfn);
    let pages = (live.running.facts.descriptor_bytes << order.0) / PAGE;
    // Descriptors are memory of the host once they are written.
    for frame in (pfn.0..pfn.0 + (1 << order.0)).step_by(1 << TWO_MIB.0) {
        live.running.map.words(Pfn(frame))?;
    }
    let plain = Sight::of(live, start, pages)?;
    let nid = live.node_of(pfn);
    live.on(CPU, |running, on| running.take_in(on, pool, pfn, nid, false)).0.map_err(LiveError::from)?;
    let pooled = Sight::of(live, start, pages)?;
    let (refused, refusal) = refusals(live, start, pages)?;
    live.on(CPU, |running, on| running.resize_pool(on, pool, 0));
    let emptied = Sight::of(live, start, pages)?;
    Ok(Experiment { pfn, start, plain, pooled, refused, refusal, emptied })
}

fn take(live: &mut Live<'_>, order: Order) -> Result<Pfn, LabError> {
    let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::COMP | Gfp::NOWARN;
    let is_gigantic = order.0 > live.running.facts.vmalloc.max_page_order;
    let mut pages = live.running.pages(CPU).ok_or(LabError::Missing("first CPU"))?;
    let taken = if is_gigantic { pages.alloc_contig(None, gfp, 1 << order.0) } else { pages.alloc(gfp, order) };
    Ok(taken.map_err(LiveError::from)?)
}

/// Writes what is there to each page of descriptors; returns how many refuse, and why.
fn refusals(live: &Live<'_>, start: VirtAddr, pages: u64) -> Result<(u64, String), LabError> {
    let cpu = live.cpus.cpu(CPU).ok_or(LabError::Missing("first CPU"))?;
    let (mut refused, mut refusal) = (0, "none".to_owned());
    for va in (0..pages).map(|page| start + page * PAGE) {
        let word = cpu.read_u64(live.memory, va, Privilege::Kernel).map_err(LiveError::from)?;
        if let Err(interrupted) = cpu.write_u64(live.memory, va, word, Privilege::Kernel) {
            refused += 1;
            refusal = format!("{:?} fault", interrupted.fault.kind);
        }
    }
    Ok((refused, refusal))
}

/// A huge page of 2M in every detail, one of 1G in short.
fn tell(live: &mut Live<'_>, two: &Experiment, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.say(
        Text::HvoBefore,
        &[
            ("huge", Value::Address(two.pfn.0 * PAGE)),
            ("start", Value::Address(two.start.0)),
            ("start_pages", Value::Count(two.pages())),
            ("leaf_before", Value::Bytes(two.plain.leaf_bytes())),
            ("leaf_after", Value::Bytes(two.pooled.leaf_bytes())),
        ],
    )?;
    let sights = two.plain.leaves.iter().zip(&two.pooled.leaves).zip(&two.emptied.leaves);
    for (page, ((plain, pooled), emptied)) in (0u64..).zip(sights) {
        book.show(
            Text::HvoPage,
            &[
                ("va", Value::Address(two.start.0 + page * PAGE)),
                ("plain", Value::Address(plain.pa.0)),
                ("pooled", Value::Address(pooled.pa.0)),
                ("emptied", Value::Address(emptied.pa.0)),
            ],
        )?;
    }
    let gain = two.pooled.free.wrapping_sub(two.plain.free);
    book.say(
        Text::HvoGave,
        &[
            ("given_back", Value::Count(two.given_back())),
            ("map_pages", Value::Count(two.pages())),
            ("tables", Value::Count(two.tables())),
            ("free_more", Value::Count(gain)),
            ("managed_more", Value::Count(two.pooled.managed - two.plain.managed)),
            ("host_before", Value::Bytes(two.plain.host)),
            ("host_after", Value::Bytes(two.pooled.host)),
        ],
    )?;
    book.say(
        Text::HvoAliases,
        &[("refused", Value::Count(two.refused)), ("refusal", Value::Name(two.refusal.clone()))],
    )?;
    book.say(
        Text::HvoEmptied,
        &[
            ("frames_again", Value::Count(two.emptied.frames())),
            ("leaf_again", Value::Bytes(two.emptied.leaf_bytes())),
            ("tables_left", Value::Count(two.emptied.tables_since(&two.plain))),
        ],
    )?;
    if live.running.pool_of(ONE_GIB).is_none() {
        return book.show(Text::HvoNoGigantic, &[]);
    }
    match experiment(live, ONE_GIB) {
        Ok(one) => book.say(Text::HvoGigantic, &gigantic(&one)),
        Err(LabError::Live(LiveError::Alloc(_))) => book.show(Text::HvoNoGigabyte, &[]),
        Err(error) => Err(error),
    }
}

fn gigantic(one: &Experiment) -> [Number; 5] {
    [
        ("map_pages_1g", Value::Count(one.pages())),
        ("given_back_1g", Value::Count(one.given_back())),
        ("tables_1g", Value::Count(one.tables())),
        ("refused_1g", Value::Count(one.refused)),
        ("frames_again_1g", Value::Count(one.emptied.frames())),
    ]
}

fn judge(bench: &Bench, way: Way, two: &Experiment, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let is_done = two.given_back() > 0 && two.pooled.leaf_bytes() == PAGE;
    let holds = match (way, is_done) {
        (Way::Linux, true) => Holds::Yes,
        (Way::Ours, true) => Holds::No(Text::HvoNotByLinux),
        (Way::Linux | Way::Ours, false) => Holds::No(Text::HvoRefused),
        (Way::Off, _) => Holds::No(Text::HvoOff),
    };
    book.conclude(bench.era(), holds)?;
    let arch = match bench.source.machine.arch {
        Arch::X86_64 => HugeArch::X86_64,
        Arch::Arm64 => HugeArch::Arm64,
        Arch::I386 => HugeArch::I386Pae,
    };
    for era in Era::ALL.into_iter().filter(|era| *era != bench.era()) {
        let freed = |order: Order| hvo_saving(era, arch, Granule::K4, PAGE << order.0, 64).freed_pages;
        let kept = hvo_kept_pages(era, arch);
        book.say(
            Text::HvoRule,
            &[
                ("era", Value::Name(era.name().to_owned())),
                ("given_back", Value::Count(freed(TWO_MIB))),
                ("given_back_1g", Value::Count(freed(ONE_GIB))),
            ],
        )?;
        book.conclude(era, if kept.is_some() { Holds::Yes } else { Holds::No(Text::HvoAbsent) })?;
    }
    Ok(())
}
