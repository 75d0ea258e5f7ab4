//! One region of a space: a range of addresses with equal rights, and whether two are one.
//!
//! Here: private anonymous memory. Not here: files, shared memory, stacks that grow.
//!
//! Source: Linux 6.1 mm/mmap.c `can_vma_merge_before`, `is_mergeable_anon_vma`, `anon_vma_compatible`.

use kernmem_arch::UserRights;
use kernmem_base::{Era, VirtAddr, VirtRange};

/// Who may own the pages of a region: Linux's `anon_vma`, as far as merging asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Anon {
    /// The group that the region's own pages belong to; `None` until its first own page.
    pub group: Option<u32>,
    /// Groups whose pages it may hold: its own, and those of each ancestor. 0 as long as there is no group.
    pub links: u16,
}

impl Anon {
    /// Whether the region was never inherited through a fork since it had a page.
    const fn is_singular(self) -> bool {
        self.links == 1
    }
}

/// A range of addresses that a program may use, `[start, end)`, in whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// First byte.
    pub start: VirtAddr,
    /// One past the last byte.
    pub end: VirtAddr,
    /// What the program may do.
    pub rights: UserRights,
    /// Whether its memory counts against what the kernel has promised: since it could first be written, for good.
    pub accounted: bool,
    /// Who may own its pages.
    pub anon: Anon,
}

impl Region {
    /// A new region without pages.
    #[must_use]
    pub fn new(start: VirtAddr, end: VirtAddr, rights: UserRights) -> Self {
        Self { start, end, rights, accounted: rights.write, anon: Anon::default() }
    }

    /// Its addresses; `None` if it is empty.
    #[must_use]
    pub const fn range(&self) -> Option<VirtRange> {
        VirtRange::until(self.start, self.end)
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// The part of it in `[start, end)`.
    #[must_use]
    pub fn clipped(self, start: VirtAddr, end: VirtAddr) -> Self {
        Self { start: self.start.max(start), end: self.end.min(end), ..self }
    }

    /// The same region with other rights; memory that may be written counts from then on.
    #[must_use]
    pub const fn with_rights(self, rights: UserRights) -> Self {
        Self { rights, accounted: self.accounted || rights.write, ..self }
    }

    /// Whether this region, an existing neighbour that touches `range`, may become one with it.
    #[must_use]
    pub fn merges_with(&self, era: Era, range: &Self) -> bool {
        let touches = self.end == range.start || range.end == self.start;
        touches
            && self.rights == range.rights
            && self.accounted == range.accounted
            && groups_merge(era, self.anon, range.anon)
    }

    /// Whether a first page of this region may join the group of `other`, its neighbour: they may become one later,
    /// when a change of rights makes them equal.
    #[must_use]
    pub fn may_join(&self, other: &Self) -> bool {
        let touches = self.end == other.start || other.end == self.start;
        touches && self.accounted == other.accounted && other.anon.is_singular()
    }
}

/// Whether the pages of an existing `neighbour` and of a `range` beside it may lie in one region.
///
/// Equal groups always may. Where one of the two has no group:
///
/// | era | may if |
/// |---|---|
/// | to 6.12 | the neighbour has exactly one: so it is the range that has none (4.14 UNVERIFIED) |
/// | 7.2 | the one that has any has exactly one (UNVERIFIED but by the names of its own tests) |
///
/// Source: Linux 6.1 mm/mmap.c `is_mergeable_anon_vma`; 7.2 mm/vma.c `is_mergeable_anon_vma`.
fn groups_merge(era: Era, neighbour: Anon, range: Anon) -> bool {
    if neighbour.group == range.group {
        return true;
    }
    if neighbour.group.is_some() && range.group.is_some() {
        return false;
    }
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => neighbour.is_singular(),
        Era::V7_2 => neighbour.is_singular() || range.is_singular(),
    }
}

/// The owners of two regions that become one.
pub(crate) fn united(one: Anon, other: Anon) -> Anon {
    if one.group.is_some() { one } else { other }
}
