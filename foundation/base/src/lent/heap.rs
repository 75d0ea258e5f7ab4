//! Lent memory on the host's heap, for examples and tests.

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use super::{LINEAR_ALIGN, LinearMem, WordArena};
use crate::{PhysAddr, PhysRange};

/// Host memory that stands for a physical range.
#[derive(Debug)]
pub struct HeapArena {
    words: Box<[AtomicU64]>,
    /// Words in front of the range, so that pointers and addresses agree.
    lead: usize,
    len: usize,
    start: PhysAddr,
}

impl HeapArena {
    /// `bytes` bytes of zeros that stand for the memory at `start`.
    ///
    /// # Panics
    /// `start` or `bytes` is no multiple of 8, or the range ends past the last address.
    #[must_use]
    pub fn new(start: PhysAddr, bytes: u64) -> Self {
        assert!(start.is_aligned(8) && bytes.is_multiple_of(8), "whole words");
        assert!(start.checked_add(bytes).is_some(), "the range ends past the last address");
        let len = (bytes / 8) as usize;
        let words: Box<[AtomicU64]> = (0..len + LINEAR_ALIGN as usize / 8).map(|_| AtomicU64::new(0)).collect();
        let skew = start.0.wrapping_sub(words.as_ptr().addr() as u64) % LINEAR_ALIGN;
        Self { words, lead: skew as usize / 8, len, start }
    }

    /// The range that the memory stands for.
    #[must_use]
    pub fn range(&self) -> PhysRange {
        PhysRange { start: self.start, end: self.start + self.len as u64 * 8 }
    }

    fn arena(&self) -> Option<WordArena<'_>> {
        WordArena::new(&self.words[self.lead..self.lead + self.len], self.start)
    }
}

// SAFETY:
// 1. Every answer is one of a `WordArena` over words that `self` owns and never moves or writes by itself.
unsafe impl LinearMem for HeapArena {
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        self.arena()?.ptr(pa, bytes)
    }

    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr> {
        self.arena()?.pa(ptr)
    }
}
