//! Ranges of addresses against the entries of one table.

use kernmem_arch::{EntryFormat, LevelShape};
use kernmem_base::{VirtAddr, VirtRange};

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
