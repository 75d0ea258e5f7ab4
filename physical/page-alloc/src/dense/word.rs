//! Arithmetic on 64 frames at a time.

use kernmem_base::Pfn;

/// Frames of one word.
pub(super) const WORD_FRAMES: u64 = 64;

/// 64 aligned frames, and which of them are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Word {
    /// The first frame's number divided by 64.
    pub number: u64,
    /// Bit n is frame `64 * number + n`.
    pub mask: u64,
}

impl Word {
    /// The aligned block of `2^order` frames at `pfn`; `order` is at most 6.
    #[must_use]
    pub const fn of(pfn: Pfn, order: u8) -> Self {
        Self { number: pfn.0 / WORD_FRAMES, mask: block_mask(order) << (pfn.0 % WORD_FRAMES) }
    }

    /// A single frame.
    #[must_use]
    #[inline]
    pub const fn single(pfn: Pfn) -> Self {
        Self { number: pfn.0 / WORD_FRAMES, mask: 1 << (pfn.0 % WORD_FRAMES) }
    }

    /// A frame and others of its word.
    #[must_use]
    #[inline]
    pub(super) const fn joined(frame: u64, others: u64) -> Self {
        Self { number: frame / WORD_FRAMES, mask: 1 << (frame % WORD_FRAMES) | others }
    }

    /// All frames that are meant but the lowest.
    #[inline]
    pub(super) const fn others(self) -> u64 {
        self.mask & self.mask.wrapping_sub(1)
    }

    /// The first frame of the 64.
    #[must_use]
    pub const fn start(self) -> Pfn {
        Pfn(self.number * WORD_FRAMES)
    }

    /// The lowest frame that is meant; meaningless if none is.
    #[must_use]
    pub const fn first(self) -> Pfn {
        Pfn(self.number * WORD_FRAMES + self.mask.trailing_zeros() as u64)
    }

    /// How many frames are meant.
    #[must_use]
    #[inline]
    pub const fn frames(self) -> u32 {
        ones(self.mask)
    }
}

/// Set bits: most often there is one, and counting more takes many steps where the machine has no instruction for it.
#[inline]
pub(super) const fn ones(mask: u64) -> u32 {
    if mask & mask.wrapping_sub(1) == 0 { (mask != 0) as u32 } else { many(mask) }
}

#[cold]
const fn many(mask: u64) -> u32 {
    mask.count_ones()
}

/// The lowest `2^order` bits, by order.
const BLOCK: [u64; 7] = [1, 3, 0xf, 0xff, 0xffff, 0xffff_ffff, !0];

/// The lowest `2^order` bits; `order` is at most 6.
#[inline]
pub(super) const fn block_mask(order: u8) -> u64 {
    BLOCK[order as usize]
}

/// Multiples of `2^order`, as bits.
pub(super) const ALIGNED: [u64; 7] =
    [!0, 0x5555_5555_5555_5555, 0x1111_1111_1111_1111, 0x0101_0101_0101_0101, 0x0001_0001_0001_0001, 0x1_0000_0001, 1];

/// The places of aligned runs of `2^order` set bits: each is the run's first bit. `order` is at most 6.
#[inline]
pub(super) const fn runs(bits: u64, order: u8) -> u64 {
    let mut found = bits;
    if order > 0 {
        found &= found >> 1;
    }
    if order > 1 {
        found &= found >> 2;
    }
    if order > 2 {
        found &= found >> 4;
    }
    if order > 3 {
        found &= found >> 8;
    }
    if order > 4 {
        found &= found >> 16;
    }
    if order > 5 {
        found &= found >> 32;
    }
    found & ALIGNED[order as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_begin_at_multiples_of_their_length() {
        assert_eq!(runs(0b1110, 1), 0b100, "1 and 2 are no pair: it would begin at an odd frame");
        assert_eq!(runs(0xff00, 3), 0x100);
        assert_eq!(runs(0xff80, 3), 0x100);
        assert_eq!(runs(0x7f80, 3), 0);
        assert_eq!((runs(!0, 6), runs(!1, 6)), (1, 0));
        assert_eq!(runs(0xffff_ffff_0000_0000, 5), 1 << 32);
    }

    #[test]
    fn bits_are_counted() {
        assert_eq!((ones(0), ones(1), ones(1 << 63), ones(0b101), ones(!0)), (0, 1, 1, 2, 64));
    }

    #[test]
    fn a_block_knows_its_word() {
        let word = Word::of(Pfn(0x1_2348), 3);
        assert_eq!(word, Word { number: 0x48d, mask: 0xff << 8 });
        assert_eq!((word.start(), word.first(), word.frames()), (Pfn(0x1_2340), Pfn(0x1_2348), 8));
        assert_eq!((word.others(), Word::joined(0x1_2348, 0xfe << 8)), (0xfe << 8, word));
    }
}
