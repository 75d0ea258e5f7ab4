//! Locks and atomics: the one place that says which ones these crates are built on.
//!
//! Here: [`Ranked`], a spin lock with its rank in its type; [`Held`], the ranks that one CPU holds; [`Once`], a value that is
//! written once; the atomics of [`atomic`]; [`spin_loop`], what a CPU does between two looks at a lock.
//! Under `cfg(loom)` all of them are those of the model checker, and nothing else changes.
//! Not here: which ranks there are (`LOCKS.md`).
//!
//! # Invariants
//! 1. Debug builds: a CPU takes a lock only while every rank that its [`Held`] names is lower.
//! 2. A guard gives back the rank that it found, so guards that are dropped in the reverse order of their making leave
//!    [`Held`] as it was.

#[cfg(loom)]
mod explore;

use core::cell::Cell;
use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(loom)]
pub use explore::explore;

#[cfg(loom)]
pub use loom::sync::atomic;

#[cfg(not(loom))]
pub use core::sync::atomic;

#[cfg(loom)]
pub use loom::hint::spin_loop;

#[cfg(not(loom))]
pub use core::hint::spin_loop;

#[cfg(not(loom))]
pub use spin::Once;

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use spin::{Mutex, MutexGuard};

/// The locks that one CPU holds: the highest rank, and the name of its lock.
#[derive(Clone, Debug, Default)]
pub struct Held {
    top: Cell<Option<(u8, &'static str)>>,
}

impl Held {
    /// The highest rank that is held, and the name of its lock.
    #[must_use]
    pub fn top(&self) -> Option<(u8, &'static str)> {
        self.top.get()
    }
}

/// A spin lock of rank `RANK` around a `T`.
pub struct Ranked<const RANK: u8, T> {
    name: &'static str,
    lock: Mutex<T>,
}

impl<const RANK: u8, T> Ranked<RANK, T> {
    /// An open lock.
    #[must_use]
    pub fn new(name: &'static str, value: T) -> Self {
        Self { name, lock: Mutex::new(value) }
    }

    /// Waits for the lock, on behalf of the CPU that `held` belongs to.
    ///
    /// # Panics
    /// In debug builds, if the CPU holds a lock of this rank or a higher one: an order that can stand still for ever.
    pub fn lock<'l>(&'l self, held: &'l Held) -> RankedGuard<'l, RANK, T> {
        let before = held.top.get();
        if let Some((rank, name)) = before {
            debug_assert!(rank < RANK, "lock {} of rank {RANK} is taken under lock {name} of rank {rank}", self.name);
        }
        let guard = self.wait();
        held.top.set(Some((RANK, self.name)));
        RankedGuard { guard, held: Some((held, before)) }
    }

    /// Waits for the lock on behalf of somebody who holds no other lock, which nothing checks: for reports and
    /// bring-up, where no CPU's token is at hand.
    pub fn lock_alone(&self) -> RankedGuard<'_, RANK, T> {
        RankedGuard { guard: self.wait(), held: None }
    }

    #[cfg(not(loom))]
    fn wait(&self) -> MutexGuard<'_, T> {
        self.lock.lock()
    }

    #[cfg(loom)]
    fn wait(&self) -> MutexGuard<'_, T> {
        match self.lock.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The value, by the one who owns the lock.
    #[cfg(not(loom))]
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<const RANK: u8, T> fmt::Debug for Ranked<RANK, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranked").field("name", &self.name).field("rank", &RANK).finish_non_exhaustive()
    }
}

/// The lock is held while this lives.
pub struct RankedGuard<'l, const RANK: u8, T> {
    guard: MutexGuard<'l, T>,
    held: Option<(&'l Held, Option<(u8, &'static str)>)>,
}

impl<const RANK: u8, T> fmt::Debug for RankedGuard<'_, RANK, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankedGuard").field("rank", &RANK).finish_non_exhaustive()
    }
}

impl<const RANK: u8, T> Deref for RankedGuard<'_, RANK, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<const RANK: u8, T> DerefMut for RankedGuard<'_, RANK, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<const RANK: u8, T> Drop for RankedGuard<'_, RANK, T> {
    fn drop(&mut self) {
        if let Some((held, before)) = self.held {
            held.top.set(before);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_higher_rank_under_a_lower_one_is_fine_and_forgotten_afterwards() {
        let (outer, inner, held) =
            (Ranked::<10, u8>::new("outer", 1), Ranked::<30, u8>::new("inner", 2), Held::default());
        {
            let low = outer.lock(&held);
            *inner.lock(&held) += *low;
            assert_eq!(held.top(), Some((10, "outer")));
        }
        assert_eq!(held.top(), None);
        assert_eq!(*inner.lock_alone(), 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock outer of rank 10 is taken under lock inner of rank 30")]
    fn a_lower_rank_under_a_higher_one_names_both() {
        let (outer, inner, held) =
            (Ranked::<10, u8>::new("outer", 1), Ranked::<30, u8>::new("inner", 2), Held::default());
        let _inner = inner.lock(&held);
        drop(outer.lock(&held));
    }
}
