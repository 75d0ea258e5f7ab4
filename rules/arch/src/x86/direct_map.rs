//! Which leaf sizes the direct map uses, and how a range of memory is cut into pieces of one size.
//!
//! Not here: in which order ranges are mapped (`steps`), where memory is, writing tables.
//!
//! # Invariants
//! 1. Pieces ascend, touch each other and cover the range; neighbours differ in their sizes.
//! 2. A piece that may use a size may be smaller than one leaf of it: then the leaf maps more than the piece.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init.c `probe_page_size_mask`, `split_mem_range`, `adjust_range_page_size_mask`.

use kernmem_base::{Era, Level, PhysAddr, PhysRange};

use super::X86Attrs;
use crate::{Bound, Entry, Reason};

const PAGE: u64 = 1 << 12;
const SIZE_2M: u64 = 1 << 21;
const SIZE_1G: u64 = 1 << 30;

/// Leaf sizes that may be used besides base pages.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PageSizes {
    /// 2 MiB.
    pub m2: bool,
    /// 1 GiB.
    pub g1: bool,
}

impl PageSizes {
    /// Whether a leaf at `level` is allowed.
    #[must_use]
    pub const fn allow(self, level: Level) -> bool {
        match level {
            Level::Pgd | Level::P4d => false,
            Level::Pud => self.g1,
            Level::Pmd => self.m2,
            Level::Pte => true,
        }
    }
}

/// What decides the sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeFacts {
    /// The CPU has leaves of 2 MiB.
    pub pse: bool,
    /// The CPU has leaves of 1 GiB.
    pub gbpages: bool,
    /// `gbpages` or `nogbpages`, else `CONFIG_X86_DIRECT_GBPAGES`.
    pub gbpages_wanted: bool,
    /// `debug_pagealloc=on`, or its default.
    pub debug_pagealloc: bool,
}

/// The sizes, and why larger ones are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeDecision {
    /// What may be used. 1 GiB in use is also what the boot log and `/proc/meminfo` tell.
    pub sizes: PageSizes,
    /// Why there is no 2 MiB leaf.
    pub no_2m: Option<Reason>,
    /// Why there is no 1 GiB leaf.
    pub no_1g: Option<Reason>,
}

/// The leaf sizes of the direct map. The same in all eras.
///
/// | size | used when |
/// |---|---|
/// | 2 MiB | the CPU has it and page-alloc debugging is off |
/// | 1 GiB | 2 MiB is used, the CPU has it, and `nogbpages` does not refuse it |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init.c `probe_page_size_mask`.
#[must_use]
pub const fn page_sizes(facts: SizeFacts) -> SizeDecision {
    let no_2m = if facts.debug_pagealloc {
        Some(Reason::DebugPagealloc)
    } else if facts.pse {
        None
    } else {
        Some(Reason::CpuLacks)
    };
    let no_1g = if no_2m.is_some() {
        no_2m
    } else if !facts.gbpages {
        Some(Reason::CpuLacks)
    } else if facts.gbpages_wanted {
        None
    } else {
        Some(Reason::NoGbpages)
    };
    SizeDecision { sizes: PageSizes { m2: no_2m.is_none(), g1: no_1g.is_none() }, no_2m, no_1g }
}

/// A piece of a range, mapped with one choice of sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRange {
    /// What is mapped.
    pub range: PhysRange,
    /// The leaves it may use.
    pub sizes: PageSizes,
}

const MAX_RANGES: usize = 5;
const NOTHING: MapRange =
    MapRange { range: PhysRange::new(PhysAddr(0), PhysAddr(0)), sizes: PageSizes { m2: false, g1: false } };

/// At most five pieces, ascending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRanges {
    list: [MapRange; MAX_RANGES],
    len: usize,
}

impl MapRanges {
    /// The pieces.
    #[must_use]
    pub fn as_slice(&self) -> &[MapRange] {
        &self.list[..self.len]
    }

    /// No piece.
    pub(crate) const EMPTY: Self = Self { list: [NOTHING; MAX_RANGES], len: 0 };

    /// Adds `[start, end)` unless it is empty, and says where the next piece starts.
    pub(crate) fn push(&mut self, start: u64, end: u64, sizes: PageSizes) -> Option<u64> {
        if start >= end {
            return None;
        }
        self.list[self.len] = MapRange { range: PhysRange::new(PhysAddr(start), PhysAddr(end)), sizes };
        self.len += 1;
        Some(end)
    }

    /// The pieces, to be widened.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [MapRange] {
        &mut self.list[..self.len]
    }

    /// Joins neighbours with equal sizes.
    pub(crate) fn merge(&mut self) {
        let mut kept = 0;
        for index in 1..self.len {
            let next = self.list[index];
            let last = &mut self.list[kept];
            if last.sizes == next.sizes && last.range.end == next.range.start {
                last.range.end = next.range.end;
            } else {
                kept += 1;
                self.list[kept] = next;
            }
        }
        self.len = self.len.min(kept + 1);
    }
}

/// Cuts a range of memory into pieces by the largest leaf that each may use.
///
/// | piece | up to | sizes |
/// |---|---|---|
/// | 1 head | the first 2 MiB boundary | base pages |
/// | 2 | the first 1 GiB boundary | 2 MiB |
/// | 3 | the last 1 GiB boundary | 2 MiB, 1 GiB |
/// | 4 | the last 2 MiB boundary | 2 MiB |
/// | 5 tail | the end | base pages |
///
/// Then a piece without a size is widened to it if the whole leaves around it lie inside one region of memory:
/// `one_region` answers for a range, and says no to everything once the page allocator runs.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init.c `split_mem_range`, `adjust_range_page_size_mask`.
pub fn split_mem_range(range: PhysRange, allowed: PageSizes, one_region: impl Fn(PhysRange) -> bool) -> MapRanges {
    let mut pieces = MapRanges::EMPTY;
    let (base, m2) = (PageSizes::default(), PageSizes { m2: allowed.m2, g1: false });
    let limit = range.end.align_down(PAGE).0;
    let (limit_2m, limit_1g) = (limit & !(SIZE_2M - 1), limit & !(SIZE_1G - 1));
    let mut at = range.start.align_down(PAGE).0;

    let head_end = at.next_multiple_of(SIZE_2M).min(limit);
    at = pieces.push(at, head_end, base).unwrap_or(at);
    let end = at.next_multiple_of(SIZE_1G).min(limit_2m);
    at = pieces.push(at.next_multiple_of(SIZE_2M), end, m2).unwrap_or(at);
    at = pieces.push(at.next_multiple_of(SIZE_1G), limit_1g, allowed).unwrap_or(at);
    at = pieces.push(at.next_multiple_of(SIZE_2M), limit_2m, m2).unwrap_or(at);
    pieces.push(at, limit, base);

    for piece in pieces.as_mut_slice() {
        let widened = |size| widened(piece.range, size).is_some_and(&one_region);
        let m2 = piece.sizes.m2 || (allowed.m2 && widened(SIZE_2M));
        let g1 = piece.sizes.g1 || (allowed.g1 && widened(SIZE_1G));
        piece.sizes = PageSizes { m2, g1 };
    }
    pieces.merge();
    pieces
}

/// The whole leaves of `size` around a range.
pub(crate) fn widened(range: PhysRange, size: u64) -> Option<PhysRange> {
    Some(PhysRange::new(range.start.align_down(size), range.end.align_up(size)?))
}

/// Why a leaf of the direct map is not larger: the decision, or the edge of memory that the next size would cross.
///
/// `memory` is the piece of memory that holds the leaf; `bound` names what an address is the edge of.
pub fn why_not_larger(
    decision: &SizeDecision,
    leaf: PhysRange,
    memory: PhysRange,
    bound: impl FnOnce(PhysAddr) -> Bound,
) -> Reason {
    let (next, refused) = match leaf.size() {
        SIZE_1G.. => return Reason::LargestLeaf,
        SIZE_2M.. => (SIZE_1G, decision.no_1g),
        _ => (SIZE_2M, decision.no_2m),
    };
    if let Some(reason) = refused {
        return reason;
    }
    let start = leaf.start.align_down(next);
    let at = if start < memory.start { memory.start } else { memory.end };
    Reason::Edge { bound: bound(at), at }
}

/// What a step of building the map does with one slot that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotAction {
    /// A table is there: go down.
    Descend,
    /// A leaf is there and may stay: it is counted again.
    Keep,
    /// A leaf is there that is too large now: build a table with these attributes (of a base page) below.
    Rebuild(X86Attrs),
    /// Nothing is there: write a leaf.
    Leaf,
    /// Nothing is there and a leaf would be too large: build a table.
    Table,
}

/// What to do with a slot of `level` that holds `entry`, where `sizes` may be used. The same in all eras.
///
/// A leaf is written without a look at how much of it the range covers (invariant 2).
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `phys_pud_init`, `phys_pmd_init`, `phys_pte_init`.
#[must_use]
pub const fn slot_action(entry: Entry<X86Attrs>, level: Level, sizes: PageSizes) -> SlotAction {
    match entry {
        Entry::Table { .. } => SlotAction::Descend,
        Entry::Leaf { .. } if sizes.allow(level) => SlotAction::Keep,
        Entry::Leaf { attrs, .. } => SlotAction::Rebuild(attrs.large_to_page()),
        Entry::Absent { .. } | Entry::Reserved { .. } if sizes.allow(level) => SlotAction::Leaf,
        Entry::Absent { .. } | Entry::Reserved { .. } => SlotAction::Table,
    }
}

/// Pages set aside in the image for the first page tables.
///
/// | era | regions not drawn | drawn (built) |
/// |---|---|---|
/// | to 5.10 | 6 | 12 |
/// | 6.1 and later, 4 levels built | 6 | 12 |
/// | 6.1 and later, 5 levels built | 8 | 16 |
///
/// 7.2 always builds five levels. 4.14 UNVERIFIED.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init.c `INIT_PGT_BUF_SIZE`.
#[must_use]
pub const fn early_table_pages(era: Era, five_levels_built: bool, randomize_memory: bool) -> u64 {
    let tables = match era {
        Era::V4_14 | Era::V5_10 => 3,
        Era::V6_1 | Era::V6_12 if five_levels_built => 4,
        Era::V6_1 | Era::V6_12 => 3,
        Era::V7_2 => 4,
    };
    if randomize_memory { 4 * tables } else { 2 * tables }
}
