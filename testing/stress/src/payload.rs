//! What owners write into their frames: one word a frame, written when it is taken and looked at when it is given back.
//!
//! # Invariants
//! 1. A word is touched by the frame's owner alone, as `Owners` has it: who was given a frame, between its
//!    compare-and-exchange that took it and the one that gives it up.

use core::sync::atomic::{AtomicU32, Ordering};

use kernmem_base::Pfn;

use crate::broken::What;
use crate::word::Word;

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

/// What an allocator must not do: a frame passes between two threads, to and fro, by stores and loads that order nothing.
/// The books are right, so with `--cfg tsan` it is ThreadSanitizer alone that sees it. Often, and while both threads live:
/// it keeps a short history, and may miss a single pass.
pub fn hand_on_unordered() {
    const PASSES: u32 = 1000;
    let (payload, turn) = (Payload::new(1), AtomicU32::new(0));
    let passes = |first: u32| {
        for pass in (first..PASSES).step_by(2) {
            // Relaxed, as the store below: this is the fault.
            while turn.load(Ordering::Relaxed) != pass {
                core::hint::spin_loop();
            }
            payload.write(Pfn(0), 1, pass);
            turn.store(pass + 1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| passes(1));
        passes(0);
    });
}
