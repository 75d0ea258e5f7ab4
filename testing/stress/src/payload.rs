//! What owners write into their frames: one word a frame, written when it is taken and looked at when it is given back.
//!
//! Built with `--cfg tsan` the words are plain memory, so that ThreadSanitizer reports an allocator that hands a frame from
//! one CPU to the next without an order between them. In every other build they are atomics.
//!
//! # Invariants
//! 1. A word is touched by the frame's owner alone, as `Owners` has it: who was given a frame, between its compare-and-exchange
//!    that took it and the one that gives it up.

#[cfg(not(tsan))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::{AtomicU32, Ordering};

use kernmem_base::Pfn;

use crate::broken::What;

/// What an owner writes.
const fn mark(pfn: u64, owner: u32) -> u64 {
    pfn << 32 | owner as u64
}

/// The words of all frames.
#[derive(Debug)]
pub(crate) struct Payload(Vec<Word>);

impl Payload {
    pub fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| Word::default()).collect())
    }

    /// The owner writes into its frames.
    pub fn write(&self, pfn: Pfn, frames: u64, owner: u32) {
        for frame in pfn.0..pfn.0 + frames {
            if let Some(word) = self.0.get(frame as usize) {
                word.set(mark(frame, owner));
            }
        }
    }

    /// Looks whether the frames hold what `owner` wrote.
    pub fn check(&self, pfn: Pfn, frames: u64, owner: u32) -> Result<(), What> {
        let is_own = |frame: &u64| self.0.get(*frame as usize).is_some_and(|word| word.get() == mark(*frame, owner));
        match (pfn.0..pfn.0 + frames).find(|frame| !is_own(frame)) {
            Some(frame) => Err(What::Overwritten { pfn: Pfn(frame) }),
            None => Ok(()),
        }
    }
}

/// What an allocator must not do: a frame passes from one thread to another by a store and a load that order nothing. The
/// books are right, so with `--cfg tsan` it is ThreadSanitizer alone that sees it.
pub fn hand_on_unordered() {
    let (payload, owner) = (Payload::new(1), AtomicU32::new(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            payload.write(Pfn(0), 1, 1);
            // Relaxed: this is the fault.
            owner.store(2, Ordering::Relaxed);
        });
        // Relaxed: this is the fault.
        while owner.load(Ordering::Relaxed) != 2 {
            core::hint::spin_loop();
        }
        payload.write(Pfn(0), 1, 2);
    });
}

/// One word.
#[cfg(not(tsan))]
#[derive(Debug, Default)]
struct Word(AtomicU64);

#[cfg(not(tsan))]
impl Word {
    fn set(&self, value: u64) {
        // Relaxed: the order between owners is the allocator's to give.
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Relaxed: as `set`.
        self.0.load(Ordering::Relaxed)
    }
}

/// One word of plain memory.
#[cfg(tsan)]
#[derive(Debug, Default)]
struct Word(core::cell::UnsafeCell<u64>);

// SAFETY:
// 1. A word is touched by its frame's owner alone (invariant 1), so never by two threads between which the allocator
//    made no order. An allocator that makes none is what this build is to find, and ThreadSanitizer tells it.
#[cfg(tsan)]
unsafe impl Sync for Word {}

#[cfg(tsan)]
impl Word {
    fn set(&self, value: u64) {
        // SAFETY:
        // 1. The cell is alive and aligned, and the caller owns the frame (invariant 1).
        unsafe { self.0.get().write(value) }
    }

    fn get(&self) -> u64 {
        // SAFETY:
        // 1. As in `set`; the cell holds a number from the beginning.
        unsafe { self.0.get().read() }
    }
}
