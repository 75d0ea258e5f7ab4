//! A field's memory on the heap: chunks of lines are allocated when they are opened.

use alloc::boxed::Box;
use alloc::vec::Vec;

use kernmem_base::sync::Once;
use kernmem_base::sync::atomic::{AtomicU16, AtomicU64};

use super::Shape;
use super::mem::{CHUNK_LINES, Line, Mem, Needs};
use crate::heap::zeros;

/// Memory for one zone.
#[derive(Debug)]
pub struct HeapMem {
    chunks: Vec<Once<Box<[Line; CHUNK_LINES]>>>,
    entries: Vec<AtomicU16>,
    index: Vec<AtomicU64>,
}

impl HeapMem {
    /// Memory for a zone of that shape.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let needs = Needs::of(shape);
        Self {
            chunks: (0..shape.chunks()).map(|_| Once::new()).collect(),
            entries: zeros(needs.entries, 0, AtomicU16::new),
            index: zeros(needs.index, 0, AtomicU64::new),
        }
    }
}

impl Mem for HeapMem {
    #[inline]
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        Some(&self.chunks.get(chunk)?.get()?[..])
    }

    #[inline]
    fn line(&self, line: usize) -> Option<&Line> {
        self.chunks.get(line / CHUNK_LINES)?.get().map(|chunk| &chunk[line % CHUNK_LINES])
    }

    #[inline]
    fn entries(&self) -> &[AtomicU16] {
        &self.entries
    }

    #[inline]
    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.index.get(word)
    }

    fn open(&self, chunk: usize) -> bool {
        let Some(place) = self.chunks.get(chunk) else { return false };
        place.call_once(|| Box::new(core::array::from_fn(|_| Line::default())));
        true
    }
}
