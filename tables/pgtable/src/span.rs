//! Ranges of addresses against the entries of one table.

use kernmem_arch::{EntryFormat, LevelShape};
use kernmem_base::{PhysAddr, PhysMem, Slot, VirtAddr, VirtRange, bulk};

use crate::error::Stopped;

/// The slots of one table that `range` touches, each with its part of the range. The range lies in one table.
pub(crate) fn over<'s, S>(
    slots: &'s [S],
    shape: &LevelShape,
    range: VirtRange,
) -> impl Iterator<Item = (&'s S, VirtRange)> {
    let bytes = shape.bytes();
    let mut va = range.start;
    slots[shape.index(range.start)..=shape.index(range.last)].iter().map(move |slot| {
        let part = VirtRange { start: va, last: VirtAddr(va.0 | (bytes - 1)).min(range.last) };
        va = part.last.wrapping_add(1);
        (slot, part)
    })
}

/// The entries of one table that a range touches, from the front by runs of like ones.
pub(crate) struct Runs<'s, S> {
    /// Up to the last entry that the range touches.
    slots: &'s [S],
    /// Which of `slots` was not dealt with yet.
    at: usize,
    /// log2 of the bytes that an entry maps.
    shift: u32,
    range: VirtRange,
    /// Where the entry `at` begins, or the range if that begins inside it.
    va: VirtAddr,
}

impl<'s, S: Slot> Runs<'s, S> {
    #[inline]
    pub(crate) fn new(slots: &'s [S], shape: &LevelShape, range: VirtRange) -> Self {
        let (at, slots) = (shape.index(range.start), &slots[..=shape.index(range.last)]);
        Self { slots, at, shift: shape.shift, range, va: range.start }
    }

    /// The next entry and its part of the range.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(u64, VirtRange)> {
        Some((self.slots.get(self.at)?.peek(), self.part(1)))
    }

    /// Where the next entry begins, or the range if that begins inside it.
    #[inline]
    pub(crate) fn va(&self) -> VirtAddr {
        self.va
    }

    /// What the next `count` entries map of the range.
    #[inline]
    pub(crate) fn part(&self, count: usize) -> VirtRange {
        let bytes = (count as u64) << self.shift;
        let end = VirtAddr((self.va.0 & !0 << self.shift).wrapping_add(bytes - 1));
        VirtRange { start: self.va, last: end.min(self.range.last) }
    }

    /// The slot of the next entry.
    #[inline]
    pub(crate) fn first(&self) -> &'s S {
        &self.slots[self.at]
    }

    /// The slots of the next `count` entries.
    #[inline]
    pub(crate) fn next(&self, count: usize) -> &'s [S] {
        &self.slots[self.at..][..count]
    }

    /// Goes past `count` entries.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        self.va = self.part(count).last.wrapping_add(1);
        self.at += count;
    }

    /// Goes past the entries that are equal to the next one but for the bits of `ignored`, `most` of them at most.
    #[inline]
    pub(crate) fn skip_alike(&mut self, ignored: u64, most: usize) {
        self.skip(bulk::alike(&self.slots[self.at..], ignored).min(most));
    }

    /// How many of the next entries belong to leaves of `1 << leaf_bits` entries that lie wholly in the range.
    #[inline]
    pub(crate) fn covered(&self, leaf_bits: u32) -> usize {
        let bits = self.shift + leaf_bits;
        let left = self.slots.len() - self.at;
        let last = block_around(self.range.last, 1 << bits);
        if !self.range.contains(self.va.align_down(1 << bits)) {
            return 0;
        }
        if last.last == self.range.last {
            return left;
        }
        left.saturating_sub(1 + ((self.range.last - last.start) >> self.shift) as usize)
    }

    /// Makes the next entries, those that are equal but for the bits of `ignored`, `entry & keep | set`, `count` of them
    /// at most. Returns what they map.
    #[inline]
    pub(crate) fn rewrite<M: PhysMem>(
        &mut self,
        mem: &M,
        table: PhysAddr,
        count: usize,
        ignored: u64,
        change: (u64, u64),
    ) -> Result<(usize, VirtRange), Stopped> {
        let run = (self.at, count);
        let count = mem.rewrite::<S>(table, run, ignored, change).map_err(Stopped::at(self.va))?;
        let part = self.part(count);
        (self.at, self.va) = (self.at + count, part.last.wrapping_add(1));
        Ok((count, part))
    }
}

/// The naturally aligned block of `bytes`, a power of two, around `va`.
pub(crate) const fn block_around(va: VirtAddr, bytes: u64) -> VirtRange {
    VirtRange { start: va.align_down(bytes), last: VirtAddr(va.0 | (bytes - 1)) }
}

/// The addresses of the leaf around `va`, or of its whole contiguous group.
pub(crate) const fn leaf_around(va: VirtAddr, shape: &LevelShape, is_contiguous: bool) -> VirtRange {
    block_around(va, if is_contiguous { shape.bytes() << shape.contiguous_bits } else { shape.bytes() })
}

/// Whether every byte of `inner` is in `outer`.
pub(crate) const fn covers(outer: VirtRange, inner: VirtRange) -> bool {
    outer.contains(inner.start) && outer.contains(inner.last)
}

/// Whether one root table translates the whole of `range`: its ends agree above the translated bits.
pub(crate) fn is_in_one_root<F: EntryFormat>(range: VirtRange) -> bool {
    (range.start.0 ^ range.last.0) >> F::shape().va_bits() == 0
}
