//! A word that one thread at a time has: atomic, or plain memory where ThreadSanitizer is to see whether that is so.
//!
//! Built with `--cfg tsan` it is plain memory, and whatever hands it from one thread to the next without an order is
//! reported. In every other build it is an atomic.
//!
//! # Invariants
//! 1. A word is touched by its owner alone: who has the frame, or the cursor, that it belongs to.

#[cfg(not(tsan))]
use core::sync::atomic::{AtomicU64, Ordering};

/// One word.
#[cfg(not(tsan))]
#[derive(Debug, Default)]
pub(crate) struct Word(AtomicU64);

#[cfg(not(tsan))]
impl Word {
    pub fn set(&self, value: u64) {
        // Relaxed: the order between owners is that of what hands the word on.
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        // Relaxed: as `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// One word of plain memory.
#[cfg(tsan)]
#[derive(Debug, Default)]
pub(crate) struct Word(core::cell::UnsafeCell<u64>);

// SAFETY:
// 1. A word is touched by its owner alone (invariant 1), so never by two threads between which nothing made an order.
//    What makes none is what this build is to find, and ThreadSanitizer tells it.
#[cfg(tsan)]
unsafe impl Sync for Word {}

#[cfg(tsan)]
impl Word {
    pub fn set(&self, value: u64) {
        // SAFETY:
        // 1. The cell is alive and aligned, and the caller owns it (invariant 1).
        unsafe { self.0.get().write(value) }
    }

    pub fn get(&self) -> u64 {
        // SAFETY:
        // 1. As in `set`; the cell holds a number from the beginning.
        unsafe { self.0.get().read() }
    }
}
