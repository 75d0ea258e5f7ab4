//! Why a leaf has its size and its rights.
//!
//! A boot's record has every mapping with its edges and limits, and every later change of rights. From it follow, for
//! any leaf, all reasons that keep it from being larger: for the next larger size each edge that the larger leaf
//! would reach over, each limit that forbids it, each change that covers only a part of it. A larger size still that
//! other reasons forbid adds those. A leaf whose reasons are all gone grows: the causal test holds that against boots
//! with other options.

use alloc::vec::Vec;

use kernmem::Area;
use kernmem::kasan::ZeroShadow;
use kernmem_arch::x86::bit;
use kernmem_arch::{Change, Entry, EntryFormat, LeafSize, Opt, Reason, Shape, WithFormat};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, VirtAddr, VirtRange};
use kernmem_pgtable::{Visitor, visit};

use crate::{BootRecord, KernelView, MappedRun};

/// A leaf, and why it is as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeafStory {
    /// Its addresses; those of the whole group if it is one of a contiguous group.
    pub range: VirtRange,
    /// Its level.
    pub level: Level,
    /// The memory behind the first byte of `range`.
    pub pa: PhysAddr,
    /// Its entry, without the address: of the group's first member.
    pub attrs: u64,
    /// What is mapped there; `None` if the record does not know the mapping.
    pub area: Option<Area>,
    /// Why it is no larger.
    pub size: Vec<Reason>,
    /// Each of these reasons alone forbids every larger size; otherwise some forbid one size and some another.
    pub each_suffices: bool,
    /// Why it has its rights.
    pub rights: Vec<Reason>,
}

impl LeafStory {
    /// Options without which the leaf would be larger, if options alone keep it from that.
    #[must_use]
    pub fn size_options(&self) -> Option<Vec<Opt>> {
        self.size.iter().map(|reason| reason.option()).collect()
    }

    /// Options that decide a part of its rights.
    pub fn rights_options(&self) -> impl Iterator<Item = Opt> + '_ {
        self.rights.iter().filter_map(|reason| reason.option())
    }

    /// Every option that the leaf names.
    pub fn options(&self) -> impl Iterator<Item = Opt> + '_ {
        self.size.iter().chain(&self.rights).filter_map(|reason| reason.option())
    }
}

/// What is found at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Story {
    /// A leaf.
    Leaf(LeafStory),
    /// Nothing: the level of the empty entry and the addresses that it covers.
    Hole {
        /// The level.
        level: Level,
        /// The addresses.
        range: VirtRange,
    },
    /// An entry that the architecture does not define.
    Malformed {
        /// The level.
        level: Level,
        /// Its bits.
        raw: u64,
    },
}

/// The story of `va` in the tree at `root`.
///
/// # Errors
/// A table cannot be read.
pub fn leaf<V: KernelView>(view: &V, record: &BootRecord, root: PhysAddr, va: VirtAddr) -> Result<Story, BusError> {
    let mut found = Collector { record, zero: None, stories: Vec::new(), error: None };
    let page = VirtRange { start: va, last: va };
    visit_format(view, root, page, &mut found);
    if let Some(error) = found.error {
        return Err(error);
    }
    Ok(found.stories.pop().unwrap_or(Story::Hole { level: Level::Pgd, range: page }))
}

/// The stories of every leaf of `range`, in address order; those of the page that KASAN's shadow shares are left out.
///
/// # Errors
/// A table cannot be read.
pub fn leaves<V: KernelView>(
    view: &V,
    record: &BootRecord,
    root: PhysAddr,
    range: VirtRange,
) -> Result<Vec<LeafStory>, BusError> {
    let zero = view.zero_shadow().known();
    let mut found = Collector { record, zero, stories: Vec::new(), error: None };
    visit_format(view, root, range, &mut found);
    if let Some(error) = found.error {
        return Err(error);
    }
    let stories = found.stories.into_iter().filter_map(|story| match story {
        Story::Leaf(leaf) => Some(leaf),
        Story::Hole { .. } | Story::Malformed { .. } => None,
    });
    Ok(stories.collect())
}

fn visit_format<V: KernelView>(view: &V, root: PhysAddr, range: VirtRange, found: &mut Collector<'_>) {
    struct Visit<'a, 'r, M> {
        mem: &'a M,
        root: PhysAddr,
        range: VirtRange,
        found: &'a mut Collector<'r>,
    }
    impl<M: PhysRead> WithFormat for Visit<'_, '_, M> {
        type Output = ();
        fn run<F: EntryFormat>(self) {
            visit::<F, M>(self.mem, self.root, self.range, self.found);
        }
    }
    view.format().with(Visit { mem: view.mem(), root, range, found });
}

struct Collector<'r> {
    record: &'r BootRecord,
    /// What is not gone into.
    zero: Option<ZeroShadow>,
    stories: Vec<Story>,
    error: Option<BusError>,
}

impl<F: EntryFormat> Visitor<F> for Collector<'_> {
    fn table(&mut self, _va: VirtAddr, _level: Level, _raw: u64, next: PhysAddr) -> bool {
        !self.zero.is_some_and(|zero| zero.is_shared(next))
    }

    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, entry: Entry<F::Attrs>) {
        let shape = F::shape().level(level);
        let story = match entry {
            Entry::Leaf { base, attrs } => {
                let group =
                    if F::is_contiguous(attrs) { shape.bytes() << shape.contiguous_bits } else { shape.bytes() };
                let start = va.align_down(group);
                // One story a group: its members say the same.
                if let Some(Story::Leaf(last)) = self.stories.last()
                    && last.range.contains(va)
                {
                    return;
                }
                let pa = base.align_down(shape.bytes()) - (va.align_down(shape.bytes()) - start);
                let size = LeafSize { bytes: group, level, contiguous: group != shape.bytes() };
                Story::Leaf(tell(self.record, F::shape(), start, size, pa, F::bits(attrs)))
            }
            Entry::Reserved { raw } => Story::Malformed { level, raw },
            Entry::Absent { .. } | Entry::Table { .. } => {
                let _ = raw;
                let start = va.align_down(shape.bytes());
                Story::Hole { level, range: VirtRange { start, last: VirtAddr(start.0 | (shape.bytes() - 1)) } }
            }
        };
        self.stories.push(story);
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, error: BusError) {
        self.error.get_or_insert(error);
    }
}

/// The story of one leaf.
fn tell(record: &BootRecord, shape: &Shape, va: VirtAddr, leaf: LeafSize, pa: PhysAddr, attrs: u64) -> LeafStory {
    let range = VirtRange { start: va, last: va + (leaf.bytes - 1) };
    let run = record.mapping(va);
    let (size, each_suffices) = run.map_or((Vec::new(), true), |run| size_reasons(record, shape, run, range, pa));
    LeafStory {
        range,
        level: leaf.level,
        pa,
        attrs,
        area: run.map(|run| run.area),
        size,
        each_suffices,
        rights: run.map_or_else(Vec::new, |run| rights_reasons(record, shape, run, range, attrs)),
    }
}

/// Every reason that keeps the leaf from being larger, and whether each alone does.
fn size_reasons(
    record: &BootRecord,
    shape: &Shape,
    run: &MappedRun,
    leaf: VirtRange,
    pa: PhysAddr,
) -> (Vec<Reason>, bool) {
    let mut sets: Vec<Vec<Reason>> = Vec::new();
    let larger = shape.leaves.iter().rev().filter(|size| size.bytes > leaf.size());
    for size in larger {
        let forbidding = forbidding(record, shape, run, leaf.start, pa, size);
        // A set that holds a smaller one adds nothing: without the smaller one's reasons the leaf had grown already.
        if !sets.iter().any(|smaller| smaller.iter().all(|reason| forbidding.contains(reason))) {
            sets.push(forbidding);
        }
    }
    let each_suffices = sets.len() <= 1;
    let mut reasons: Vec<Reason> = sets.into_iter().flatten().collect();
    reasons.sort_unstable();
    reasons.dedup();
    (if reasons.is_empty() { Vec::from([Reason::LargestLeaf]) } else { reasons }, each_suffices)
}

/// Every reason that alone forbids a leaf of `size` around `va`.
fn forbidding(
    record: &BootRecord,
    shape: &Shape,
    run: &MappedRun,
    va: VirtAddr,
    pa: PhysAddr,
    size: &LeafSize,
) -> Vec<Reason> {
    let start = va.align_down(size.bytes);
    let block = VirtRange { start, last: VirtAddr(start.0 | (size.bytes - 1)) };
    let mut reasons = Vec::new();
    if (va.0 ^ pa.0) & (size.bytes - 1) != 0 {
        reasons.push(Reason::Incongruent);
    }
    if block.start < run.range.start {
        reasons.push(run.start);
    }
    if block.last > run.range.last {
        reasons.push(run.end);
    }
    let limits = run.limits.iter().filter(|(_, sizes)| !sizes.allow(shape, size));
    reasons.extend(limits.map(|(reason, _)| *reason));
    let cuts = |range: &VirtRange| range.overlaps(&block) && (range.start > block.start || range.last < block.last);
    let changes = record.changed.iter().filter(|changed| cuts(&changed.range));
    reasons.extend(changes.map(|changed| Reason::SplitBy { cause: changed.cause }));
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// Every reason of the leaf's rights that is in force: a step whose effect a later one undid is none.
fn rights_reasons(record: &BootRecord, shape: &Shape, run: &MappedRun, leaf: VirtRange, attrs: u64) -> Vec<Reason> {
    let mut reasons = run.rights.clone();
    let changes = record.changed.iter().filter(|changed| changed.range.overlaps(&leaf));
    reasons.extend(changes.map(|changed| Reason::Changed(changed.cause)));
    let kept = record.kept.iter().filter(|kept| kept.range.overlaps(&leaf));
    reasons.extend(kept.map(|kept| kept.reason));
    reasons.retain(|reason| in_force(*reason, shape, attrs));
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// Whether a leaf with `attrs` still has what `reason` gave it: page-table isolation first takes the global mark from
/// the whole image and then gives it back to text (x86).
fn in_force(reason: Reason, shape: &Shape, attrs: u64) -> bool {
    let is_x86 = shape.arch != kernmem_arch::arm64::Arm64Granule4K::shape().arch;
    let is_global = is_x86 && attrs & bit::GLOBAL != 0;
    match reason {
        Reason::PtiGlobal | Reason::Changed(Change::Pti) => !is_global,
        _ => true,
    }
}
