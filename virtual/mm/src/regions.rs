//! The regions of a space: sorted, apart, and merged wherever two are one.
//!
//! # Invariants
//! 1. Regions are not empty, sorted by address, and share no byte.
//! 2. A change that does not fit the store or the limit changes nothing.
//!
//! Source: Linux 6.1 mm/mmap.c `vma_merge`, `__split_vma`, `unmapped_area_topdown`.

use kernmem_base::{Era, VirtAddr};

use crate::region::united;
use crate::store::Full;
use crate::{Limits, Region, Store};

/// The sorted set of regions.
#[derive(Debug)]
pub struct Regions<S> {
    store: S,
}

impl<S: Store<Region>> Regions<S> {
    /// Takes over a store, and empties it.
    pub(crate) fn new(mut store: S) -> Self {
        while let Some(last) = store.items().len().checked_sub(1) {
            store.take(last);
        }
        Self { store }
    }

    /// All regions, lowest first.
    pub fn as_slice(&self) -> &[Region] {
        self.store.items()
    }

    pub(crate) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn room(&self) -> usize {
        self.store.room()
    }

    /// The position of the first region that ends above `va`.
    pub(crate) fn first_above(&self, va: VirtAddr) -> usize {
        self.as_slice().partition_point(|region| region.end <= va)
    }

    /// The region that holds `va`.
    pub fn find(&self, va: VirtAddr) -> Option<&Region> {
        self.as_slice().get(self.first_above(va)).filter(|region| region.start <= va)
    }

    /// The first region that shares a byte with `[start, end)`.
    pub(crate) fn overlapping(&self, start: VirtAddr, end: VirtAddr) -> Option<&Region> {
        self.as_slice().get(self.first_above(start)).filter(|region| region.start < end)
    }

    /// Adds a region where none is; it merges with the one before it and the one behind it where they are alike.
    pub(crate) fn add(&mut self, era: Era, region: Region) -> Result<(), Full> {
        let at = self.first_above(region.start);
        self.replace(era, at, 0, None, region, None)
    }

    /// Gives `[start, end)`, which lies in the region at `at`, the rights and owners of `part`: the region's rest on
    /// each side stays, and the part merges with a neighbour that is like it.
    pub(crate) fn change(&mut self, era: Era, at: usize, part: Region) -> Result<(), Full> {
        let old = self.as_slice()[at];
        let left = (old.start < part.start).then(|| old.clipped(old.start, part.start));
        let right = (part.end < old.end).then(|| old.clipped(part.end, old.end));
        self.replace(era, at, 1, left, part, right)
    }

    /// Puts `left`, `part`, `right` in the place of `old` regions at `at`.
    fn replace(
        &mut self,
        era: Era,
        at: usize,
        old: usize,
        left: Option<Region>,
        part: Region,
        right: Option<Region>,
    ) -> Result<(), Full> {
        let before = at.checked_sub(1).filter(|_| left.is_none()).map(|at| self.as_slice()[at]);
        let behind = self.as_slice().get(at + old).copied().filter(|_| right.is_none());
        let before = before.filter(|region| region.merges_with(era, &part));
        let behind = behind.filter(|region| region.merges_with(era, &part));
        // Two neighbours that each go with the part may still have two owners.
        let behind = behind.filter(|behind| {
            before.is_none_or(|before| {
                before.anon.group.is_none() || behind.anon.group.is_none() || before.anon.group == behind.anon.group
            })
        });
        let mut merged = part;
        for neighbour in [before, behind].into_iter().flatten() {
            merged.start = merged.start.min(neighbour.start);
            merged.end = merged.end.max(neighbour.end);
            merged.anon = united(merged.anon, neighbour.anon);
        }
        let first = at - usize::from(before.is_some());
        let gone = old + usize::from(before.is_some()) + usize::from(behind.is_some());
        let new = [left, Some(merged), right];
        let count = new.iter().flatten().count();
        if count > gone && self.room() < count - gone {
            return Err(Full);
        }
        for _ in 0..gone {
            self.store.take(first);
        }
        new.into_iter().flatten().enumerate().try_for_each(|(nr, region)| self.store.insert(first + nr, region))
    }

    /// Cuts `[start, end)` out.
    pub(crate) fn cut(&mut self, start: VirtAddr, end: VirtAddr) -> Result<(), Full> {
        let at = self.first_above(start);
        if self.splits(start, end) && self.room() == 0 {
            return Err(Full);
        }
        while let Some(old) = self.overlapping(start, end).copied() {
            let at = self.first_above(start).max(at);
            self.store.take(at);
            let left = Some(old.clipped(old.start, start)).filter(|left| left.start < left.end);
            let right = Some(old.clipped(end, old.end)).filter(|right| right.start < right.end);
            for (nr, rest) in left.into_iter().chain(right).enumerate() {
                self.store.insert(at + nr, rest)?;
            }
        }
        Ok(())
    }

    /// Whether `[start, end)` lies inside one region, with some of it left on each side.
    pub(crate) fn splits(&self, start: VirtAddr, end: VirtAddr) -> bool {
        self.find(start).is_some_and(|region| region.start < start && end < region.end)
    }

    /// Notes that the region at `at` has a page of its own from now on.
    pub(crate) fn own_page(&mut self, at: usize, next_group: &mut u32) {
        let items = self.store.items_mut();
        let region = items[at];
        if region.anon.group.is_some() {
            return;
        }
        let neighbours = [items.get(at + 1), at.checked_sub(1).and_then(|at| items.get(at))];
        let joined = neighbours.into_iter().flatten().find(|other| region.may_join(other));
        let group = joined.and_then(|other| other.anon.group).unwrap_or_else(|| {
            *next_group += 1;
            *next_group
        });
        items[at].anon = crate::region::Anon { group: Some(group), links: 1 };
    }

    /// Adds what a child inherits, behind all others.
    pub(crate) fn push(&mut self, region: Region) -> Result<(), Full> {
        self.store.insert(self.len(), region)
    }

    /// End of the region before `va`, and start of the one behind, or the edges of `[0, top)`.
    pub(crate) fn neighbours(&self, va: VirtAddr, top: VirtAddr) -> (VirtAddr, VirtAddr) {
        let at = self.first_above(va);
        let before = at.checked_sub(1).map_or(VirtAddr(0), |at| self.as_slice()[at].end);
        (before, self.as_slice().get(at).map_or(top, |region| region.start))
    }

    /// Where `bytes` fit: at `hint` if nothing is there, else in the highest gap below `mmap_base`, at its top; else
    /// in the lowest gap from `unmapped_base` up.
    pub(crate) fn search(&self, limits: &Limits, hint: Option<VirtAddr>, bytes: u64) -> Option<VirtAddr> {
        let fits_at = |start: VirtAddr| {
            let end = start.checked_add(bytes).filter(|end| *end <= limits.task_size)?;
            (start >= limits.min_addr && self.overlapping(start, end).is_none()).then_some(start)
        };
        hint.and_then(fits_at)
            .or_else(|| self.search_down(limits.min_addr.max(VirtAddr(4096)), limits.mmap_base, bytes))
            .or_else(|| self.search_up(limits.unmapped_base, limits.task_size, bytes))
    }

    /// The highest start of a gap's last `bytes` in `[low, high)`.
    fn search_down(&self, low: VirtAddr, high: VirtAddr, bytes: u64) -> Option<VirtAddr> {
        let mut top = high;
        for region in self.as_slice().iter().rev() {
            if let Some(start) = fits(region.end.max(low), top, bytes) {
                return Some(VirtAddr(start.1.0 - bytes));
            }
            top = top.min(region.start);
        }
        fits(low, top, bytes).map(|gap| VirtAddr(gap.1.0 - bytes))
    }

    /// The lowest start of a gap in `[low, high)`.
    fn search_up(&self, low: VirtAddr, high: VirtAddr, bytes: u64) -> Option<VirtAddr> {
        let mut bottom = low;
        for region in self.as_slice() {
            if let Some(gap) = fits(bottom, region.start.min(high), bytes) {
                return Some(gap.0);
            }
            bottom = bottom.max(region.end);
        }
        fits(bottom, high, bytes).map(|gap| gap.0)
    }
}

/// The gap `[start, end)` if it holds `bytes`.
fn fits(start: VirtAddr, end: VirtAddr, bytes: u64) -> Option<(VirtAddr, VirtAddr)> {
    (end.0.checked_sub(start.0)? >= bytes).then_some((start, end))
}
