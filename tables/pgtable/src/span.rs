//! Ranges of addresses against the entries of one table.

use kernmem_arch::LevelShape;
use kernmem_base::{Slot, VirtAddr, VirtRange, bulk};

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

/// The slots of one table that a range touches, taken from the front by runs of like entries.
pub(crate) struct Runs<'s, S> {
    /// Those that were not taken yet.
    slots: &'s [S],
    /// log2 of the bytes that an entry maps.
    shift: u32,
    range: VirtRange,
    /// Where the first of `slots` begins, or the range if that begins inside it.
    va: VirtAddr,
}

impl<'s, S: Slot> Runs<'s, S> {
    #[inline]
    pub(crate) fn new(slots: &'s [S], shape: &LevelShape, range: VirtRange) -> Self {
        let slots = &slots[shape.index(range.start)..=shape.index(range.last)];
        Self { slots, shift: shape.shift, range, va: range.start }
    }

    /// The first entry and its part of the range.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(u64, VirtRange)> {
        Some((self.slots.first()?.peek(), VirtRange { start: self.va, last: self.last_of(1) }))
    }

    /// Where the first entry begins, or the range if that begins inside it.
    #[inline]
    pub(crate) fn va(&self) -> VirtAddr {
        self.va
    }

    /// The last address of the first `count` slots that is in the range.
    #[inline]
    fn last_of(&self, count: usize) -> VirtAddr {
        let bytes = (count as u64) << self.shift;
        VirtAddr((self.va.0 & !0 << self.shift).wrapping_add(bytes - 1)).min(self.range.last)
    }

    /// How many entries from the first on are equal to it but for the bits of `ignored`.
    #[inline]
    pub(crate) fn alike(&self, ignored: u64) -> usize {
        bulk::alike(self.slots, ignored)
    }

    /// The slot of the first entry.
    #[inline]
    pub(crate) fn first(&self) -> &'s S {
        &self.slots[0]
    }

    /// Leaves `count` entries behind.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        self.va = self.last_of(count).wrapping_add(1);
        self.slots = &self.slots[count..];
    }

    /// Takes the first `count` entries, or those before the first of them that belongs to a leaf of `1 << leaf_bits`
    /// entries that reaches over an edge of the range; `None` if that is the first one.
    #[inline]
    pub(crate) fn take_covered(&mut self, count: usize, leaf_bits: u32) -> Option<(&'s [S], VirtRange)> {
        let bytes = 1 << (self.shift + leaf_bits);
        if !self.range.contains(self.va.align_down(bytes)) {
            return None;
        }
        let mut part = VirtRange { start: self.va, last: self.last_of(count) };
        let end = block_around(part.last, bytes);
        let mut count = count;
        if !self.range.contains(end.last) {
            if end.start <= self.va {
                return None;
            }
            count = ((end.start - self.va) >> self.shift) as usize;
            part.last = end.start - 1;
        }
        let (taken, _) = self.slots.split_at(count);
        self.skip(count);
        Some((taken, part))
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
