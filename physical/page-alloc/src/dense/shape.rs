//! How a zone is cut into blocks, lines and chunks.
//!
//! Blocks, lines and words are counted from the zone's first chunk, so every aligned range of frames up to a chunk is
//! aligned among them too.

use kernmem_base::Pfn;

use super::word::WORD_FRAMES;
use crate::store::CHUNK_SHIFT;

/// log2 of the frames of a line.
const LINE_SHIFT: u8 = 9;

/// The span of a zone and the orders that its kernel knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// First frame.
    pub start: Pfn,
    /// Past the last frame.
    pub end: Pfn,
    /// The largest order, inclusive; at most [`CHUNK_SHIFT`].
    pub max_order: u8,
    /// The order of a pageblock: 6 to `max_order`.
    pub pageblock_order: u8,
}

impl Shape {
    /// log2 of the frames of a block.
    #[must_use]
    pub const fn block_order(&self) -> u8 {
        if self.pageblock_order < LINE_SHIFT { self.pageblock_order } else { LINE_SHIFT }
    }

    /// The frame that blocks are counted from.
    const fn base(&self) -> u64 {
        self.start.0 >> CHUNK_SHIFT << CHUNK_SHIFT
    }

    /// Chunks of bits.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        if self.end.0 <= self.start.0 {
            return 0;
        }
        (((self.end.0 - 1) >> CHUNK_SHIFT) - (self.start.0 >> CHUNK_SHIFT) + 1) as usize
    }

    /// Blocks.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        if self.end.0 <= self.start.0 {
            return 0;
        }
        ((self.end.0 - 1 - self.base()) >> self.block_order()) as usize + 1
    }

    /// Whether a frame lies in the zone.
    #[must_use]
    pub const fn contains(&self, pfn: Pfn) -> bool {
        self.start.0 <= pfn.0 && pfn.0 < self.end.0
    }
}

/// The same, made ready for the hot paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The number of the first word.
    first: u64,
    /// The words that lie in the zone as a whole.
    inner: (u64, u64),
    /// Blocks.
    blocks: usize,
    /// log2 of the words of a block.
    log_words: u32,
}

impl Cut {
    pub const fn new(shape: &Shape) -> Self {
        let inner = (shape.start.0.div_ceil(WORD_FRAMES), shape.end.0 / WORD_FRAMES);
        let log_words = shape.block_order().saturating_sub(6) as u32;
        Self { first: shape.base() / WORD_FRAMES, inner, blocks: shape.blocks(), log_words }
    }

    /// Blocks.
    pub const fn blocks(&self) -> usize {
        self.blocks
    }

    /// Frames of a block.
    #[inline]
    pub const fn whole(&self) -> u32 {
        64 << self.log_words
    }

    /// Words of a block.
    #[inline]
    pub const fn words(&self) -> usize {
        1 << self.log_words
    }

    /// Whether all frames of a word are the zone's.
    #[inline]
    pub const fn is_inner(&self, number: u64) -> bool {
        self.inner.0 <= number && number < self.inner.1
    }

    /// The first of the words that lie in the zone as a whole, and how many they are.
    pub const fn inner(&self) -> (u64, u64) {
        (self.inner.0, self.inner.1.saturating_sub(self.inner.0))
    }

    /// A word's place: counted from the zone's first.
    #[inline]
    pub const fn place(&self, number: u64) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    /// The number of the word at a place.
    #[inline]
    pub const fn number(&self, place: usize) -> u64 {
        self.first + place as u64
    }

    /// The block of the word at a place.
    #[inline]
    pub const fn block(&self, place: usize) -> usize {
        place >> self.log_words
    }

    /// The block of a frame of the zone.
    #[inline]
    pub const fn block_of(&self, pfn: Pfn) -> usize {
        self.block(self.place(pfn.0 / WORD_FRAMES))
    }

    /// The place of a block's first word.
    #[inline]
    pub const fn first_place(&self, block: usize) -> usize {
        block << self.log_words
    }

    /// The places of a block's words.
    #[inline]
    pub const fn places(&self, block: usize) -> core::ops::Range<usize> {
        self.first_place(block)..self.first_place(block + 1)
    }

    /// The number of the last word of the block that a word is of.
    #[inline]
    pub const fn last_number(&self, number: u64) -> u64 {
        number | ((1 << self.log_words) - 1)
    }

    /// The first frame of a block; at the zone's edge it may lie before the zone.
    #[inline]
    pub const fn block_start(&self, block: usize) -> Pfn {
        Pfn(self.number(self.first_place(block)) * WORD_FRAMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_from_the_first_chunk() {
        let shape = Shape { start: Pfn(0x8_0200), end: Pfn(0x8_8001), max_order: 10, pageblock_order: 9 };
        let cut = Cut::new(&shape);
        assert_eq!((shape.chunks(), shape.blocks(), cut.whole()), (2, 65, 512));
        assert_eq!((cut.block_of(Pfn(0x8_0200)), cut.block_start(64), cut.places(64)), (1, Pfn(0x8_8000), 512..520));
        assert_eq!((cut.is_inner(0x2007), cut.is_inner(0x2008), cut.is_inner(0x2200)), (false, true, false));
        assert_eq!((cut.place(0x2008), cut.number(8), cut.last_number(0x2009)), (8, 0x2008, 0x200f));
        let small = Cut::new(&Shape { pageblock_order: 7, ..shape });
        assert_eq!((small.whole(), small.places(5), small.block_of(Pfn(0x8_0280))), (128, 10..12, 5));
    }
}
