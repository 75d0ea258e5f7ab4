//! Walks over the lists.
//!
//! Here: free ranges (memory that nobody took), memory by frames, memory that is mapped.
//! Not here: which free range an allocation picks (`alloc`).
//!
//! Free ranges are the pieces of memory regions between taken regions; the places between taken regions are called
//! gaps, gap `i` lies before taken region `i`, and one more follows the last:
//!
//! ```text
//! taken         [  0  ]      [ 1 ]            [ 2 ]
//! gaps     0            1           2                3
//! memory      [------------------------]  [----------------]
//! free        [          1    ][    2  ]  [ 2 ]     [  3   ]
//! ```
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `__next_mem_range`, `__next_mem_range_rev`, `should_skip_region`.

use kernmem_base::{Era, Pfn, PhysAddr, PhysRange};

use crate::{Flags, Memblock, Nid, Observer, Region, RegionArray};

/// Which memory regions a walk visits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    era: Era,
    nid: Option<Nid>,
    flags: Flags,
    numa: bool,
    movable_node: bool,
}

impl Filter {
    /// Whether a region is passed over.
    ///
    /// | reason | era |
    /// |---|---|
    /// | another node was asked for | all |
    /// | removable, and `movable_node` was given, unless removable memory was asked for | all |
    /// | not mirrored, and mirrored memory was asked for | all |
    /// | not mapped, unless unmapped memory was asked for | all |
    /// | managed by a driver, unless that was asked for | 6.1 and later |
    /// | no scratch, and scratch was asked for | 7.2 |
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `should_skip_region`.
    fn skips(&self, region: &Region) -> bool {
        let has = |flag| region.flags.contains(flag);
        let asked = |flag| self.flags.contains(flag);
        let home = if self.numa { region.nid } else { Some(Nid(0)) };
        let driver_counts = match self.era {
            Era::V4_14 | Era::V5_10 => false,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
        };
        (self.nid.is_some() && self.nid != home)
            || (self.movable_node && has(Flags::HOTPLUG) && !asked(Flags::HOTPLUG))
            || (asked(Flags::MIRROR) && !has(Flags::MIRROR))
            || (has(Flags::NOMAP) && !asked(Flags::NOMAP))
            || (driver_counts && has(Flags::DRIVER_MANAGED) && !asked(Flags::DRIVER_MANAGED))
            || (asked(Flags::KHO_SCRATCH) && !has(Flags::KHO_SCRATCH))
    }
}

/// A piece of free memory inside one region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeRange {
    /// The bytes, not rounded to pages, never empty.
    pub range: PhysRange,
    /// The node of the region.
    pub nid: Option<Nid>,
}

/// Free ranges in ascending or descending order.
#[derive(Clone, Debug)]
pub struct FreeRanges<'a> {
    /// Memory regions still to visit.
    memory: &'a [Region],
    reserved: &'a [Region],
    filter: Filter,
    window: PhysRange,
    descending: bool,
    /// The next gap inside the current memory region.
    gap: Option<usize>,
}

impl FreeRanges<'_> {
    fn gap_range(&self, index: usize) -> PhysRange {
        let start = index.checked_sub(1).map_or(PhysAddr(0), |below| self.reserved[below].end());
        let end = self.reserved.get(index).map_or(PhysAddr(u64::MAX), |above| above.base);
        PhysRange { start, end }
    }

    /// The gap of `piece` that is visited first.
    fn first_gap(&self, piece: PhysRange) -> usize {
        if self.descending {
            self.reserved.partition_point(|taken| taken.end() < piece.end)
        } else {
            self.reserved.partition_point(|taken| taken.base <= piece.start)
        }
    }

    /// Moves to the neighbouring gap if `piece` reaches into it, else to the next memory region.
    fn advance(&mut self, index: usize, piece: PhysRange) {
        let gap = self.gap_range(index);
        self.gap = if self.descending {
            index.checked_sub(1).filter(|_| gap.start > piece.start)
        } else {
            Some(index + 1).filter(|_| gap.end < piece.end)
        };
        if self.gap.is_none() {
            self.leave_region();
        }
    }

    fn leave_region(&mut self) {
        let rest = if self.descending { self.memory.split_last() } else { self.memory.split_first() };
        self.memory = rest.map_or(&[], |(_, rest)| rest);
        self.gap = None;
    }
}

impl Iterator for FreeRanges<'_> {
    type Item = FreeRange;

    fn next(&mut self) -> Option<FreeRange> {
        loop {
            let region = if self.descending { self.memory.last() } else { self.memory.first() }?;
            let piece = region.range().intersect(&self.window);
            if piece.is_empty() || self.filter.skips(region) {
                self.leave_region();
                continue;
            }
            let nid = region.nid;
            let index = self.gap.unwrap_or_else(|| self.first_gap(piece));
            let range = piece.intersect(&self.gap_range(index));
            self.advance(index, piece);
            if !range.is_empty() {
                return Some(FreeRange { range, nid });
            }
        }
    }
}

/// A run of whole frames with its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    /// First frame.
    pub start: Pfn,
    /// One past the last frame.
    pub end: Pfn,
    /// The node of the region.
    pub nid: Option<Nid>,
}

/// A run of frames, where it does not matter whether they are whole.
pub type Frames = PfnRange;

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Free ranges of node `nid` (`None`: any) in regions that `flags` allow, lowest first.
    #[must_use]
    pub fn free_ranges(&self, nid: Option<Nid>, flags: Flags) -> FreeRanges<'_> {
        self.free_ranges_in(self.everything(), nid, flags, false)
    }

    /// As [`Memblock::free_ranges`], highest first.
    #[must_use]
    pub fn free_ranges_rev(&self, nid: Option<Nid>, flags: Flags) -> FreeRanges<'_> {
        self.free_ranges_in(self.everything(), nid, flags, true)
    }

    /// Free ranges inside `window`. Memory regions outside it are not visited.
    pub(crate) fn free_ranges_in(
        &self,
        window: PhysRange,
        nid: Option<Nid>,
        flags: Flags,
        descending: bool,
    ) -> FreeRanges<'_> {
        let first = self.memory.first_ending_above(window.start);
        let last = self.memory.first_from(window.end).max(first);
        FreeRanges {
            memory: &self.memory.regions()[first..last],
            reserved: self.reserved.regions(),
            filter: self.filter(nid, flags),
            window,
            descending,
            gap: None,
        }
    }

    /// Memory of node `nid` (`None`: any) in whole frames, unmapped and removable memory included; regions without a
    /// whole frame are left out.
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `__next_mem_pfn_range`.
    pub fn pfn_ranges(&self, nid: Option<Nid>) -> impl Iterator<Item = PfnRange> + '_ {
        let nid = self.valid_node(nid);
        let wanted = self.memory.regions().iter().filter(move |region| nid.is_none() || region.nid == nid);
        let frames = wanted.map(|region| PfnRange {
            start: self.frame_up(region.base),
            end: self.frame_down(region.end()),
            nid: region.nid,
        });
        frames.filter(|range| range.start < range.end)
    }

    /// Memory regions that belong into the linear map: all but the unmapped ones.
    ///
    /// Source: Linux 5.10–7.2 include/linux/memblock.h `for_each_mem_range`.
    pub fn mapped_regions(&self) -> impl DoubleEndedIterator<Item = &Region> + '_ {
        self.memory.regions().iter().filter(|region| !region.flags.contains(Flags::NOMAP))
    }

    fn everything(&self) -> PhysRange {
        PhysRange { start: PhysAddr(0), end: PhysAddr(self.limits.address_max) }
    }

    fn filter(&self, nid: Option<Nid>, flags: Flags) -> Filter {
        Filter {
            era: self.era,
            nid: self.valid_node(nid),
            flags,
            numa: self.limits.numa,
            movable_node: self.limits.movable_node,
        }
    }
}
