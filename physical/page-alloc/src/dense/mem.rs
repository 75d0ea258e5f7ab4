//! The memory of one zone's field, lent by the caller.
//!
//! ```text
//! lines     512 bits each       in chunks of 64, opened on demand
//! entries   16 bits a block     there from the beginning
//! index     64-bit words        there from the beginning
//! ```
//!
//! # Invariants
//! 1. Memory of all zeros says "nothing here": no frame is free.
//! 2. A line that was opened stays where it is.

use kernmem_base::sync::atomic::{AtomicU16, AtomicU64};

use super::Shape;
use super::index::Trees;

#[cfg(all(feature = "alloc", not(loom)))]
pub use super::heap::HeapMem;

/// Lines of a chunk.
pub const CHUNK_LINES: usize = 64;

/// Words of a line.
pub(super) const LINE_WORDS: usize = 8;

/// The bits of 512 frames: one line of a cache.
#[repr(align(64))]
#[derive(Debug, Default)]
pub struct Line(pub [AtomicU64; LINE_WORDS]);

/// What a field of some shape needs if all of it were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Lines, a multiple of [`CHUNK_LINES`].
    pub lines: usize,
    /// Entries.
    pub entries: usize,
    /// Words of the index.
    pub index: usize,
}

impl Needs {
    /// What a zone of that shape needs.
    #[must_use]
    pub fn of(shape: &Shape) -> Self {
        let blocks = shape.blocks();
        Self { lines: shape.chunks() * CHUNK_LINES, entries: blocks, index: Trees::new(blocks).words() }
    }

    /// The same in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.lines * 64 + self.entries * 2 + self.index * 8
    }
}

/// A lender.
pub trait Mem {
    /// The lines of a chunk; `None` where it is not open.
    fn chunk(&self, chunk: usize) -> Option<&[Line]>;

    /// A line; `None` where its chunk is not open.
    #[inline]
    fn line(&self, line: usize) -> Option<&Line> {
        self.chunk(line / CHUNK_LINES)?.get(line % CHUNK_LINES)
    }

    /// The entries of all blocks.
    fn entries(&self) -> &[AtomicU16];

    /// The entry of a block; `None` behind the last one.
    #[inline]
    fn entry(&self, block: usize) -> Option<&AtomicU16> {
        self.entries().get(block)
    }

    /// A word of the index; `None` behind the last one.
    fn index(&self, word: usize) -> Option<&AtomicU64>;

    /// Opens a chunk of lines, all zero; false if there is no memory for it. Opening twice is no error.
    fn open(&self, chunk: usize) -> bool;
}

/// A field's memory in pieces that the caller lends, all of them zero.
#[derive(Clone, Copy, Debug)]
pub struct LentMem<'m> {
    lines: &'m [Line],
    entries: &'m [AtomicU16],
    index: &'m [AtomicU64],
}

impl<'m> LentMem<'m> {
    /// Lends memory; [`Needs::of`] says how much. What is missing is never opened.
    #[must_use]
    pub const fn new(lines: &'m [Line], entries: &'m [AtomicU16], index: &'m [AtomicU64]) -> Self {
        Self { lines, entries, index }
    }
}

impl Mem for LentMem<'_> {
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        self.lines.get(chunk * CHUNK_LINES..(chunk + 1) * CHUNK_LINES)
    }

    #[inline]
    fn line(&self, line: usize) -> Option<&Line> {
        self.lines.get(line)
    }

    #[inline]
    fn entries(&self) -> &[AtomicU16] {
        self.entries
    }

    #[inline]
    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.index.get(word)
    }

    fn open(&self, chunk: usize) -> bool {
        (chunk + 1) * CHUNK_LINES <= self.lines.len()
    }
}
