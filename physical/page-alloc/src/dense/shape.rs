//! How a zone is cut into blocks, lines and chunks.
//!
//! Blocks, lines and words are counted from the zone's first chunk, so every aligned range of frames up to a chunk is
//! aligned among them too.

use kernmem_base::Pfn;

use crate::store::CHUNK_SHIFT;

/// log2 of the frames of a line.
pub(super) const LINE_SHIFT: u32 = 9;

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
        if self.pageblock_order < LINE_SHIFT as u8 { self.pageblock_order } else { LINE_SHIFT as u8 }
    }

    /// Frames of a block.
    pub(super) const fn block_frames(&self) -> u32 {
        1 << self.block_order()
    }

    /// The frame that blocks are counted from.
    pub(super) const fn base(&self) -> u64 {
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

    /// The block of a frame of the zone.
    pub(super) const fn block(&self, pfn: Pfn) -> usize {
        ((pfn.0 - self.base()) >> self.block_order()) as usize
    }

    /// The first frame of a block.
    pub(super) const fn block_start(&self, block: usize) -> Pfn {
        Pfn(self.base() + ((block as u64) << self.block_order()))
    }

    /// The line that a block's bits are in, and the first of its words there.
    pub(super) const fn line(&self, block: usize) -> (usize, usize) {
        let word = block << (self.block_order() - 6);
        (word / 8, word % 8)
    }

    /// Words of a block.
    pub(super) const fn words(&self) -> usize {
        1 << (self.block_order() - 6)
    }

    /// The number of a block's first word, as [`super::Word::number`] counts.
    pub(super) const fn first_word(&self, block: usize) -> u64 {
        self.block_start(block).0 / 64
    }

    /// The block of a word of the zone.
    pub(super) const fn block_of_word(&self, number: u64) -> usize {
        ((number - self.base() / 64) >> (self.block_order() - 6)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_from_the_first_chunk() {
        let shape = Shape { start: Pfn(0x8_0200), end: Pfn(0x8_8001), max_order: 10, pageblock_order: 9 };
        assert_eq!((shape.base(), shape.chunks(), shape.blocks()), (0x8_0000, 2, 65));
        assert_eq!((shape.block(Pfn(0x8_0200)), shape.block_start(64), shape.line(64)), (1, Pfn(0x8_8000), (64, 0)));
        let small = Shape { pageblock_order: 7, ..shape };
        assert_eq!((small.words(), small.line(5), small.block_of_word(0x8_0280 / 64)), (2, (1, 2), 5));
    }
}
