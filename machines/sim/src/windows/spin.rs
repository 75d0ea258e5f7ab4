//! A lock that a signal handler may take: it neither allocates nor asks the host for more than the CPU.
//!
//! # Invariants
//! 1. `held` is true from a successful exchange until the guard of that exchange is dropped; one guard exists at most.
//! 2. Who holds it touches no window (so the handler never interrupts the holder on its own thread).
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Tries before the CPU is offered to others.
const SPINS: u32 = 64;

/// A value behind a spin lock.
pub(crate) struct Spin<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY:
// 1. The value is reached only through a guard, of which there is one at most (invariant 1), so sharing the lock
//    moves the value from thread to thread at most.
unsafe impl<T: Send + Sync> Sync for Spin<T> {}

impl<T> fmt::Debug for Spin<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spin").finish_non_exhaustive()
    }
}

impl<T> Spin<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Waits until the lock is free and takes it.
    pub(crate) fn lock(&self) -> Held<'_, T> {
        let mut tries = 0_u32;
        // Acquire: pairs with the Release of the guard's drop, so the last holder's writes are seen.
        while self.held.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            tries = tries.wrapping_add(1);
            if tries.is_multiple_of(SPINS) {
                std::thread::yield_now();
            } else {
                spin_loop();
            }
        }
        Held { lock: self }
    }
}

/// The right to use the value, until dropped.
#[derive(Debug)]
pub(crate) struct Held<'a, T> {
    lock: &'a Spin<T>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY:
        // 1. This guard is the only one (invariant 1), and it is borrowed as long as the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY:
        // 1. As in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `lock`.
        self.lock.held.store(false, Ordering::Release);
    }
}
