//! Who may still be walking: an epoch, and one lent slot for each CPU.
//!
//! Here: [`CpuSlot`], which a CPU marks while it walks without a lock; [`Epochs`], which tell when all walks that could
//! have met a table are over.
//! Not here: which tables wait (`cpu.rs`).
//!
//! # Invariants
//! 1. A CPU that walks has in its slot an epoch that it read before it marked the slot.
//! 2. The epoch goes from e to e + 1 only after every slot was seen empty or at e.
//! 3. A table that was unlinked before its owner read the epoch as e, by [`Epochs::now`], is out of everybody's reach
//!    once the epoch is e + 2.
//!
//! # Why 3 holds
//! All accesses to a slot but its emptying, and all accesses to the epoch but the one in [`Epochs::enter`], are
//! exchanges, so each sees the newest value and hands on what the ones before it released.
//! A walk that read an epoch of e + 1 or later has acquired it from an advance that came after the owner's `now`: it
//! sees the unlinked entry.
//! So only walks that read e or earlier matter, and the second advance, from e + 1, looked at their slots: if the walk
//! had begun and not ended, it found an epoch other than e + 1 and gave up; if it had ended, the look acquired its
//! end; if it had not begun, its beginning acquires the look, which comes after the first advance and so after the
//! unlinking.
//! In the last case a walk of the same slot may lie between look and beginning, and the look may have met it, at
//! e + 1: that one sees the unlinked entry by the first rule, and the later one comes after it.

use core::fmt;

use kernmem_base::sync::atomic::{AtomicU64, Ordering};

/// What a slot holds while its CPU walks nothing.
const OUTSIDE: u64 = 0;

/// The first epoch.
const FIRST: u64 = 1;

/// One CPU's place: lent by the caller, two cache lines wide so that no CPU writes next to another.
#[derive(Debug)]
#[repr(align(128))]
pub struct CpuSlot {
    /// The epoch in which the CPU's walk began, or [`OUTSIDE`].
    epoch: AtomicU64,
    /// Whether a handle has the slot.
    taken: AtomicU64,
    /// The dead tables that the last handle left: address of the first one plus one, or 0.
    left: AtomicU64,
}

impl Default for CpuSlot {
    fn default() -> Self {
        Self { epoch: AtomicU64::new(OUTSIDE), taken: AtomicU64::new(0), left: AtomicU64::new(0) }
    }
}

impl CpuSlot {
    /// Takes the slot for one handle. Returns what the last handle left, or nothing if a handle has the slot.
    pub(super) fn take(&self) -> Option<u64> {
        // Acquire: partner of `leave_behind`, whose words are read.
        let taken = self.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        // Relaxed: written before `taken` was released.
        taken.is_ok().then(|| self.left.swap(0, Ordering::Relaxed))
    }

    /// Gives the slot back, with a word for the next handle.
    pub(super) fn leave_behind(&self, left: u64) {
        // Relaxed: released by the next line.
        self.left.store(left, Ordering::Relaxed);
        // Release: partner of `take`.
        self.taken.store(0, Ordering::Release);
    }

    /// Ends the walk.
    pub(super) fn leave(&self) {
        // Release: partner of the exchange in `advance`: what was read in the walk was read before it ended.
        self.epoch.store(OUTSIDE, Ordering::Release);
    }
}

/// The epoch, and the slots of all CPUs that may walk.
pub(super) struct Epochs<'e> {
    now: Alone,
    slots: &'e [CpuSlot],
}

/// Keeps the epoch, which all CPUs read and few write, off other lines.
#[repr(align(128))]
struct Alone(AtomicU64);

impl fmt::Debug for Epochs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl<'e> Epochs<'e> {
    /// Forgets what an earlier use of the slots left.
    pub(super) fn new(slots: &'e mut [CpuSlot]) -> Self {
        slots.fill_with(CpuSlot::default);
        Self { now: Alone(AtomicU64::new(FIRST)), slots }
    }

    pub(super) const fn slots(&self) -> &'e [CpuSlot] {
        self.slots
    }

    /// Begins a walk of the CPU that has `slot`.
    pub(super) fn enter(&self, slot: &CpuSlot) {
        // Acquire: partner of the exchange in `advance`: the walk sees what was unlinked before.
        let now = self.now.0.load(Ordering::Acquire);
        // An exchange, Acquire and Release: partner of the one in `advance`. Whichever comes second sees the other.
        slot.epoch.swap(now, Ordering::AcqRel);
    }

    /// The epoch, not older than anything that the caller did before.
    pub(super) fn now(&self) -> u64 {
        // An exchange that changes nothing, Release: partner of the one in `advance`, which comes before or after it.
        // Acquire: partner of the same, for who goes by the answer.
        self.now.0.fetch_add(0, Ordering::AcqRel)
    }

    /// Advances the epoch if no walk of an earlier one goes on, from `now` as the caller saw it last. Returns the epoch.
    pub(super) fn advance(&self, now: u64) -> u64 {
        for slot in self.slots {
            // An exchange that changes nothing, Acquire: partner of `leave`. Acquire and Release: partner of `enter`.
            let seen = slot.epoch.fetch_add(0, Ordering::AcqRel);
            if seen != OUTSIDE && seen != now {
                return now;
            }
        }
        // AcqRel: partner of itself, of `now` and of `enter`. Acquire on failure: somebody else has advanced it.
        match self.now.0.compare_exchange(now, now + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => now + 1,
            Err(seen) => seen,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_walk_lets_the_epoch_advance_once_and_no_further() {
        let mut slots = [CpuSlot::default(), CpuSlot::default()];
        let epochs = Epochs::new(&mut slots);
        let begun = epochs.now();
        epochs.enter(&epochs.slots()[1]);
        let next = epochs.advance(begun);
        assert_eq!((next, epochs.advance(next)), (begun + 1, begun + 1));
        epochs.slots()[1].leave();
        assert_eq!(epochs.advance(next), begun + 2);
    }

    #[test]
    fn who_advances_from_an_old_epoch_learns_the_new_one() {
        let mut slots = [CpuSlot::default()];
        let epochs = Epochs::new(&mut slots);
        let begun = epochs.now();
        assert_eq!((epochs.advance(begun), epochs.advance(begun)), (begun + 1, begun + 1));
    }

    #[test]
    fn a_slot_has_one_handle_and_keeps_what_it_left() {
        let slot = CpuSlot::default();
        assert_eq!((slot.take(), slot.take()), (Some(0), None));
        slot.leave_behind(7);
        assert_eq!(slot.take(), Some(7));
    }
}
