//! What a window has mapped: runs in address order, in a list that never grows beyond its cap.
//!
//! # Invariants
//! 1. Fills do not overlap and stand in address order.
//! 2. The list's memory is taken when it is made: inserting up to the cap allocates nothing.

use kernmem_base::{VirtAddr, VirtRange};

/// One mapped run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fill {
    pub range: VirtRange,
    pub write: bool,
    /// Never used twice in the process; a later fill has a larger number.
    pub id: u64,
}

/// The fills of one window.
#[derive(Debug)]
pub(crate) struct Fills {
    sorted: Vec<Fill>,
    cap: usize,
}

impl Fills {
    /// No fills, room for `cap`.
    pub(crate) fn new(cap: usize) -> Self {
        Self { sorted: Vec::with_capacity(cap), cap }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.sorted.len() >= self.cap
    }

    pub(crate) const fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Bytes in all fills.
    pub(crate) fn bytes(&self) -> u64 {
        self.sorted.iter().map(|fill| fill.range.size()).sum()
    }

    /// Index of the first fill that ends at or behind `va`.
    fn index(&self, va: VirtAddr) -> usize {
        self.sorted.partition_point(|fill| fill.range.last < va)
    }

    /// The fill that holds `va`.
    pub(crate) fn at(&self, va: VirtAddr) -> Option<Fill> {
        self.sorted.get(self.index(va)).filter(|fill| fill.range.contains(va)).copied()
    }

    /// The addresses of `region` around `va` that no fill holds, provided that none holds `va`.
    pub(crate) fn gap(&self, va: VirtAddr, region: VirtRange) -> VirtRange {
        let index = self.index(va);
        let before = index.checked_sub(1).and_then(|index| self.sorted.get(index));
        let start = before.map_or(region.start, |fill| VirtAddr(fill.range.last.0 + 1));
        let last = self.sorted.get(index).map_or(region.last, |fill| VirtAddr(fill.range.start.0 - 1));
        VirtRange { start, last }
    }

    /// Takes in a fill that overlaps no other. Refuses it when the list is full.
    pub(crate) fn insert(&mut self, fill: Fill) -> bool {
        if self.is_full() {
            return false;
        }
        let index = self.index(fill.range.start);
        self.sorted.insert(index, fill);
        true
    }

    /// The fill that came first.
    pub(crate) fn oldest(&self) -> Option<Fill> {
        self.sorted.iter().min_by_key(|fill| fill.id).copied()
    }

    /// The addresses from the first to the last fill that shares a byte with `range`.
    pub(crate) fn hull(&self, range: VirtRange) -> Option<VirtRange> {
        let touched = self.sorted.get(self.touched(range))?;
        Some(VirtRange { start: touched.first()?.range.start, last: touched.last()?.range.last })
    }

    /// Forgets the fills that share a byte with `range`; returns how many.
    pub(crate) fn remove(&mut self, range: VirtRange) -> usize {
        let touched = self.touched(range);
        self.sorted.drain(touched).count()
    }

    fn touched(&self, range: VirtRange) -> core::ops::Range<usize> {
        let first = self.index(range.start);
        let end = self.sorted.partition_point(|fill| fill.range.start <= range.last);
        first..end.max(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> VirtRange {
        VirtRange { start: VirtAddr(start), last: VirtAddr(last) }
    }

    fn filled() -> Fills {
        let mut fills = Fills::new(3);
        for (start, id) in [(0x5000, 7), (0x1000, 8), (0x3000, 5)] {
            assert!(fills.insert(Fill { range: range(start, start + 0xfff), write: true, id }));
        }
        fills
    }

    #[test]
    fn gaps_end_at_the_neighbours_and_at_the_region() {
        let fills = filled();
        let region = range(0, 0x7fff);
        assert_eq!(fills.gap(VirtAddr(0x2800), region), range(0x2000, 0x2fff));
        assert_eq!(fills.gap(VirtAddr(0x0), region), range(0, 0xfff));
        assert_eq!(fills.gap(VirtAddr(0x6000), region), range(0x6000, 0x7fff));
        assert_eq!(fills.at(VirtAddr(0x3fff)).map(|fill| fill.id), Some(5));
        assert_eq!(fills.at(VirtAddr(0x4000)), None);
    }

    #[test]
    fn a_full_list_takes_nothing_and_names_its_oldest() {
        let mut fills = filled();
        assert!(!fills.insert(Fill { range: range(0x7000, 0x7fff), write: false, id: 9 }));
        assert_eq!(fills.oldest().map(|fill| fill.range.start), Some(VirtAddr(0x3000)));
        assert_eq!((fills.len(), fills.bytes()), (3, 0x3000));
    }

    #[test]
    fn a_range_removes_each_fill_that_it_touches_and_no_other() {
        let mut fills = filled();
        assert_eq!(fills.hull(range(0x1fff, 0x3000)), Some(range(0x1000, 0x3fff)));
        assert_eq!(fills.hull(range(0x2000, 0x2fff)), None);
        assert_eq!(fills.remove(range(0x2000, 0x2fff)), 0);
        assert_eq!(fills.remove(range(0x1fff, 0x3000)), 2);
        assert_eq!((fills.len(), fills.remove(VirtRange::ALL), fills.len()), (1, 1, 0));
    }
}
