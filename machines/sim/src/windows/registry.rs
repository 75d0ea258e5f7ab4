//! The process's windows by host address: the one global of the simulator, since a signal handler has no argument.
//!
//! # Protocol
//! A slot's `region` is null, or a region that lives. The handler pins a slot before it loads `region` and unpins it
//! when it is done; who takes a region out stores null and then waits until no pin is left. Both use sequentially
//! consistent accesses, so one of the two sees the other: the handler null, or the leaver the pin.
//!
//! # Invariants
//! 1. `region` points to a region from [`enter`] until the [`Ticket`] is dropped, and the region outlives its ticket.
//! 2. `start` and `bytes` of a slot are constant while `region` is not null; who has a pointer into a window got it
//!    after both were stored.
#![allow(unsafe_code)]

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::region::Region;

/// Windows of a process.
pub(crate) const SLOTS: usize = 256;

struct Slot {
    /// Someone holds the slot's ticket.
    taken: AtomicBool,
    start: AtomicUsize,
    bytes: AtomicUsize,
    region: AtomicPtr<Region<'static>>,
    pins: AtomicUsize,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        region: AtomicPtr::new(ptr::null_mut()),
        pins: AtomicUsize::new(0),
    }
}; SLOTS];

/// A region's place in the registry, given up on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    slot: usize,
}

/// Enters a region; `None` if the registry is full.
///
/// # Safety
/// The region is not moved, and not dropped before the ticket.
pub(crate) unsafe fn enter(region: &Region<'_>) -> Option<Ticket> {
    // Acquire: pairs with the Release of a ticket's drop, so the slot's last use is over.
    let is_free = |slot: &Slot| slot.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let index = TABLE.iter().position(is_free)?;
    let slot = TABLE.get(index)?;
    let (start, bytes) = region.host();
    // Relaxed: ordered before the handler's loads by whatever gave the thread its pointer (invariant 2).
    slot.start.store(start, Ordering::Relaxed);
    slot.bytes.store(bytes, Ordering::Relaxed);
    // SeqCst: see the protocol.
    slot.region.store(ptr::from_ref(region).cast_mut().cast(), Ordering::SeqCst);
    Some(Ticket { slot: index })
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(slot) = TABLE.get(self.slot) else { return };
        // SeqCst: see the protocol.
        slot.region.store(ptr::null_mut(), Ordering::SeqCst);
        while slot.pins.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        slot.bytes.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `enter`.
        slot.taken.store(false, Ordering::Release);
    }
}

/// Calls `serve` with the region that holds the host address, if there is one. For the handler: no lock, no memory.
pub(crate) fn with<T>(address: usize, serve: impl FnOnce(&Region<'_>) -> T) -> Option<T> {
    let near = |slot: &&Slot| {
        // Relaxed: only a hint; a window that `address` belongs to is seen (invariant 2), others are checked below.
        let (start, bytes) = (slot.start.load(Ordering::Relaxed), slot.bytes.load(Ordering::Relaxed));
        address.wrapping_sub(start) < bytes
    };
    for slot in TABLE.iter().filter(near) {
        // SeqCst: see the protocol.
        slot.pins.fetch_add(1, Ordering::SeqCst);
        let region = slot.region.load(Ordering::SeqCst);
        // SAFETY:
        // 1. Not null: the region was entered and its ticket not dropped, or dropped and still waiting for this pin
        //    (the protocol); it lives until then (invariant 1). It is only borrowed until the pin is taken back.
        // 2. A region is shared between threads as it is: all of its fields are `Sync`.
        let region = unsafe { region.as_ref() };
        if let Some(region) = region.filter(|region| region.va(address).is_some()) {
            let answer = serve(region);
            slot.pins.fetch_sub(1, Ordering::SeqCst);
            return Some(answer);
        }
        slot.pins.fetch_sub(1, Ordering::SeqCst);
    }
    None
}
