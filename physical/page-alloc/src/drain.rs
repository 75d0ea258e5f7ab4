//! A request that a CPU gives back what its lists hold: one flag, set by anybody, answered by its owner.
//!
//! # Invariants
//! 1. A request that was made is answered once by the owner's next slow path, however many made it.

use kernmem_base::sync::atomic::{AtomicBool, Ordering};

/// The flag of one CPU.
#[derive(Debug, Default)]
pub struct DrainRequest(AtomicBool);

impl DrainRequest {
    /// Asks.
    pub fn ask(&self) {
        // Release pairs with the Acquire of `take`: what the asker did before is seen by the owner who drains. A swap and no
        // store, so that all changes of the flag are in one order that the model checker follows too.
        self.0.swap(true, Ordering::Release);
    }

    /// Whether somebody asked since the last time; by the owner alone.
    #[inline]
    pub fn take(&self) -> bool {
        // Relaxed: the owner looks first, since nearly always nobody asked; what it misses now it sees the next time.
        // Acquire pairs with the Release of `ask`.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}
