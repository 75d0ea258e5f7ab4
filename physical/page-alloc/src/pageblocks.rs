//! What the pageblocks of a dense zone are meant for, a byte each, and which of them were handed over, a bit each.
//!
//! ```text
//! kinds   0: of the type that zones begin with, movable; n + 1: of migrate type n, counted as in `MigrateType::ALL`
//! known   some frame of it was handed over
//! ```
//!
//! Apart, so that what is handed over as it begins writes bits alone: a map of zeros may be memory that nobody touched.
//!
//! # Invariants
//! 1. Both change under the zone's set-up lock alone.
//! 2. `of_kind` counts the pageblocks of each type but the first one, which is not counted.
//! 3. From the pageblock `typed` on, all are of the type that zones begin with.

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use kernmem_sparse::MigrateType;

use crate::dense::Kinds;
use crate::free_area::KINDS;

/// The type by the low bits.
const KIND_OF: [MigrateType; 8] = {
    let mut kinds = [MigrateType::Movable; 8];
    let mut number = 0;
    while number < KINDS {
        kinds[number + 1] = MigrateType::ALL[number];
        number += 1;
    }
    kinds
};

/// The bytes of one zone.
#[derive(Debug)]
pub(crate) struct Pageblocks<T> {
    kinds: T,
    known: T,
    /// The first pageblock, counted from frame 0.
    first: u64,
    order: u8,
    /// Past the last pageblock that was given a type, counted from the first one.
    typed: AtomicU64,
    of_kind: [AtomicU64; KINDS],
    /// Pageblocks of types that not every request may have.
    special: AtomicU64,
}

/// Pageblocks of `[start, end)`.
pub(crate) const fn count(start: Pfn, end: Pfn, order: u8) -> usize {
    if start.0 >= end.0 { 0 } else { (((end.0 - 1) >> order) - (start.0 >> order) + 1) as usize }
}

/// Bytes for the bits of that many pageblocks.
pub(crate) const fn known_bytes(count: usize) -> usize {
    count.div_ceil(8)
}

impl<T: AsRef<[AtomicU8]>> Kinds for Pageblocks<T> {
    #[inline]
    fn kind(&self, pfn: Pfn) -> MigrateType {
        // Relaxed: who reads it without the set-up lock bears a stale type, and looks again after it acted on it.
        let byte = self.kinds.as_ref().get(self.place(pfn) as usize).map_or(0, |byte| byte.load(Ordering::Relaxed));
        KIND_OF[usize::from(byte % 8)]
    }

    fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        // Relaxed: as a type.
        if self.place(start) >= self.typed.load(Ordering::Relaxed) {
            return end;
        }
        let kind = self.kind(start);
        let mut stop = self.next(start).min(end);
        while stop < end && self.kind(stop) == kind {
            stop = self.next(stop).min(end);
        }
        stop
    }
}

impl<T: AsRef<[AtomicU8]>> Pageblocks<T> {
    /// Movable pageblocks of which nothing is known: both are zeros.
    pub fn new(kinds: T, known: T, start: Pfn, order: u8) -> Self {
        let of_kind = core::array::from_fn(|_| AtomicU64::new(0));
        let (typed, special) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { kinds, known, first: start.0 >> order, order, typed, of_kind, special }
    }

    /// A frame's pageblock, counted from the zone's first.
    #[inline]
    fn place(&self, pfn: Pfn) -> u64 {
        (pfn.0 >> self.order).wrapping_sub(self.first)
    }

    /// Eight bits of `known`; none where there are no pageblocks.
    #[inline]
    fn eight(&self, number: u64) -> u8 {
        // Relaxed: who asks of a frame that it was given learned of it after the bit was written.
        self.known.as_ref().get(number as usize).map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    /// Whether some frame of a frame's pageblock was handed over.
    #[inline]
    pub fn is_known(&self, pfn: Pfn) -> bool {
        let place = self.place(pfn);
        self.eight(place / 8) >> (place % 8) & 1 != 0
    }

    /// The first pageblock of `[start, end)` of which some frame was handed over; `end` if there is none. Both are
    /// beginnings of pageblocks.
    pub fn first_known(&self, start: Pfn, end: Pfn) -> Pfn {
        let (at, stop) = (self.place(start), self.place(end));
        let here = self.eight(at / 8) & 0xff << (at % 8);
        let behind = self.known.as_ref().get((at / 8) as usize + 1..stop.div_ceil(8) as usize).unwrap_or_default();
        let found =
            behind.iter().map(|byte| byte.load(Ordering::Relaxed)).zip(at / 8 + 1..).find(|&(byte, _)| byte != 0);
        match if here != 0 { Some((here, at / 8)) } else { found } {
            Some((byte, eight)) => {
                Pfn((self.first + 8 * eight + u64::from(byte.trailing_zeros())) << self.order).min(end)
            }
            None => end,
        }
    }

    /// Takes note that frames of the pageblocks of `[start, end)` were handed over, or that none is.
    pub fn set_known(&self, start: Pfn, end: Pfn, known: bool) {
        if start >= end {
            return;
        }
        let (first, last) = (self.place(start), self.place(Pfn(end.0 - 1)));
        let (below, above) = (0xff << (first % 8), 0xff >> (7 - last % 8));
        if first / 8 == last / 8 {
            return self.change(first / 8, below & above, known);
        }
        self.change(first / 8, below, known);
        let whole = self.known.as_ref().get((first / 8) as usize + 1..(last / 8) as usize).unwrap_or_default();
        whole.iter().for_each(|byte| byte.store(if known { 0xff } else { 0 }, Ordering::Relaxed));
        self.change(last / 8, above, known);
    }

    fn change(&self, eight: u64, mask: u8, known: bool) {
        if let Some(byte) = self.known.as_ref().get(eight as usize) {
            let others = byte.load(Ordering::Relaxed) & !mask;
            byte.store(if known { others | mask } else { others }, Ordering::Relaxed);
        }
    }

    /// Changes the type of a frame's pageblock; answers what it was.
    pub fn set_kind(&self, pfn: Pfn, kind: MigrateType) -> MigrateType {
        let from = self.kind(pfn);
        let place = self.place(pfn);
        self.typed.fetch_max(place.saturating_add(1), Ordering::Relaxed);
        if let Some(byte) = self.kinds.as_ref().get(place as usize) {
            // Relaxed: a field's index, changed next by a read-modify-write, carries it to the CPU that follows the change.
            byte.store(kind as u8 + 1, Ordering::Relaxed);
        }
        // Relaxed: figures.
        self.of_kind[from as usize].fetch_sub(u64::from(from != MigrateType::Movable), Ordering::Relaxed);
        self.of_kind[kind as usize].fetch_add(u64::from(kind != MigrateType::Movable), Ordering::Relaxed);
        self.special.fetch_sub(u64::from(from >= MigrateType::HighAtomic), Ordering::Relaxed);
        self.special.fetch_add(u64::from(kind >= MigrateType::HighAtomic), Ordering::Relaxed);
        from
    }

    /// Pageblocks of a type other than movable.
    #[inline]
    pub fn of(&self, kind: MigrateType) -> u64 {
        self.of_kind[kind as usize].load(Ordering::Relaxed)
    }

    /// Whether all are unmovable, movable or reclaimable.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.special.load(Ordering::Relaxed) == 0
    }

    /// First frame of the pageblock of a frame.
    pub fn start(&self, pfn: Pfn) -> Pfn {
        Pfn(pfn.0 >> self.order << self.order)
    }

    /// First frame of the pageblock behind that of a frame.
    pub fn next(&self, pfn: Pfn) -> Pfn {
        Pfn(self.start(pfn).0.saturating_add(self.frames()))
    }

    /// Frames of a pageblock.
    pub const fn frames(&self) -> u64 {
        1 << self.order
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn pageblocks_that_were_handed_over_are_known_and_no_others() {
        let bytes = || [const { AtomicU8::new(0) }; 40];
        let blocks = Pageblocks::new(bytes(), bytes(), Pfn(0x1_0600), 9);
        let known = |from: u64, to: u64| (from..to).filter(|nth| blocks.is_known(Pfn(nth << 9))).collect::<Vec<_>>();
        blocks.set_known(Pfn(0x1_0a00), Pfn(0x1_0a01), true);
        blocks.set_known(Pfn(0x1_1000), Pfn(0x1_3000), true);
        blocks.set_known(Pfn(0x1_1400), Pfn(0x1_2a00), false);
        let expected = [0x85, 0x88, 0x89, 0x95, 0x96, 0x97];
        assert_eq!(known(0, 0x200), expected);
        let first = |start: u64, end: u64| blocks.first_known(Pfn(start << 9), Pfn(end << 9)).0 >> 9;
        for start in 0x83..0x98 {
            let next = expected.into_iter().find(|&nth| nth >= start).unwrap_or(0x98);
            assert_eq!((first(start, 0x98), first(start, next)), (next, next));
        }
    }

    #[test]
    fn what_is_alike_is_of_one_type() {
        let blocks = Pageblocks::new([const { AtomicU8::new(0) }; 40], [const { AtomicU8::new(0) }; 40], Pfn(0), 9);
        let alike = |start: u64, end: u64| blocks.alike(Pfn(start << 9), Pfn(end << 9)).0 >> 9;
        assert_eq!(alike(0, 40), 40);
        blocks.set_kind(Pfn(4 << 9), MigrateType::Cma);
        blocks.set_kind(Pfn(5 << 9), MigrateType::Cma);
        blocks.set_kind(Pfn(7 << 9), MigrateType::Movable);
        assert_eq!([alike(0, 40), alike(4, 40), alike(5, 40), alike(6, 40), alike(6, 7)], [4, 6, 6, 40, 7]);
        assert_eq!(blocks.alike(Pfn(1), Pfn(2)), Pfn(2), "parts of a pageblock");
    }
}
