//! One window: pointers and atomic slices that stand for a kernel's addresses.
//!
//! # Invariants
//! 1. Every pointer and slice lies inside the window's reservation, which lives as long as the window.
//! 2. Touching one reaches the frame that the tables name, or ends the process: no access returns anything else.
//! 3. Only atomics and raw pointers are lent, so that aliases and the physical window may be written meanwhile.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::Arc;

use kernmem_base::{Access, PhysAddr, PhysRange, Tlb, VirtAddr, VirtRange};

use super::error::{AccessError, WindowError};
use super::fault::WindowFault;
use super::region::{Limits, Region};
use super::registry::{self, SLOTS, Ticket};
use super::walk::Space;
use crate::Memory;

/// A region that the handler knows. The ticket stands first: it is dropped before the region that it names.
#[derive(Debug)]
pub(crate) struct Opened<'m> {
    _ticket: Ticket,
    region: Box<Region<'m>>,
}

impl<'m> Opened<'m> {
    /// Reserves and registers a region.
    pub(crate) fn new(memory: &'m Memory, range: VirtRange, space: Space, limits: Limits) -> Result<Self, WindowError> {
        let region = Region::new(memory, range, space, limits)
            .map_err(|errno| WindowError::NoAddressSpace { region: range, errno: errno.raw_os_error() })?;
        let region = Box::new(region);
        // SAFETY:
        // 1. The region stays in its box, and both are dropped in the order of the fields: the ticket first.
        let ticket = unsafe { registry::enter(&region) };
        Ok(Self { _ticket: ticket.ok_or(WindowError::TooMany { limit: SLOTS })?, region })
    }

    pub(crate) const fn region(&self) -> &Region<'m> {
        &self.region
    }
}

/// What a window has done since it was opened, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowCounters {
    /// Runs that were mapped, ever.
    pub fills: u64,
    /// Runs that had to go for others, ever; flushed ones are not among them.
    pub evictions: u64,
    /// Runs that are mapped now.
    pub live: usize,
    /// Pages of 4 KiB that are mapped now.
    pub mapped_pages: u64,
}

/// A region of a kernel's address space, seen by the host. Closed on drop.
///
/// An access through it that the tables do not permit ends the process: see the module.
#[derive(Debug)]
pub struct Window<'m> {
    opened: Arc<Opened<'m>>,
}

impl<'m> Window<'m> {
    pub(crate) const fn new(opened: Arc<Opened<'m>>) -> Self {
        Self { opened }
    }

    fn inner(&self) -> &Region<'m> {
        self.opened.region()
    }

    /// The kernel's addresses that it stands for.
    #[must_use]
    pub fn region(&self) -> VirtRange {
        self.inner().range()
    }

    /// Where the host sees `va`; `None` outside. Arithmetic alone: nothing is touched. The pointer is good while the
    /// window is open, for what the tables permit.
    #[must_use]
    pub fn ptr(&self, va: VirtAddr) -> Option<NonNull<u8>> {
        self.inner().ptr(va, 1)
    }

    /// The kernel's address of a pointer into the window; `None` for others.
    #[must_use]
    pub fn va(&self, ptr: NonNull<u8>) -> Option<VirtAddr> {
        self.inner().va(ptr.as_ptr().addr())
    }

    /// The bytes of `range`. Nothing is touched until an element is.
    ///
    /// # Errors
    /// Part of the range lies outside.
    pub fn bytes(&self, range: VirtRange) -> Result<&[AtomicU8], AccessError> {
        let outside = AccessError::Outside { va: range.start };
        let start = self.inner().ptr(range.start, range.size()).ok_or(outside)?;
        // SAFETY:
        // 1. All of the range lies inside the reservation (checked by `ptr`; invariant 1), and is at most as long as
        //    it; the borrow of `self` keeps it.
        // 2. Bytes need no alignment, every value is a byte, and only atomics are lent (invariant 3).
        Ok(unsafe { core::slice::from_raw_parts(start.cast().as_ptr(), range.size() as usize) })
    }

    /// The `count` words of 8 bytes from `va`. Nothing is touched until an element is.
    ///
    /// # Errors
    /// Part of them lies outside, or `va` is no multiple of 8.
    pub fn words(&self, va: VirtAddr, count: usize) -> Result<&[AtomicU64], AccessError> {
        if !va.is_aligned(8) {
            return Err(AccessError::Misaligned { va });
        }
        let outside = AccessError::Outside { va };
        let bytes = (count as u64).checked_mul(8).ok_or(outside)?;
        let start = self.inner().ptr(va, bytes).ok_or(outside)?;
        // SAFETY:
        // 1. As in `bytes`.
        // 2. The reservation starts at a page as the region does, so a multiple of 8 stays one.
        Ok(unsafe { core::slice::from_raw_parts(start.cast().as_ptr(), count) })
    }

    /// Reads `to.len()` bytes from `va`, byte by byte.
    ///
    /// # Errors
    /// Part of them lies outside; nothing was read.
    pub fn read(&self, va: VirtAddr, to: &mut [u8]) -> Result<(), AccessError> {
        let Some(range) = VirtRange::of_size(va, to.len() as u64) else {
            return if to.is_empty() { Ok(()) } else { Err(AccessError::Outside { va }) };
        };
        for (to, from) in to.iter_mut().zip(self.bytes(range)?) {
            // Relaxed: as a CPU's plain load, which also works on memory that is read only.
            *to = from.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes `from` at `va`, byte by byte.
    ///
    /// # Errors
    /// Part of the place lies outside; nothing was written.
    pub fn write(&self, va: VirtAddr, from: &[u8]) -> Result<(), AccessError> {
        let Some(range) = VirtRange::of_size(va, from.len() as u64) else {
            return if from.is_empty() { Ok(()) } else { Err(AccessError::Outside { va }) };
        };
        for (from, to) in from.iter().zip(self.bytes(range)?) {
            // Relaxed: as a CPU's plain store.
            to.store(*from, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads the word at `va`.
    ///
    /// # Errors
    /// It lies outside, or `va` is no multiple of 8; nothing was read.
    pub fn word(&self, va: VirtAddr) -> Result<u64, AccessError> {
        // Relaxed: as in `read`.
        self.words(va, 1)?.first().map(|word| word.load(Ordering::Relaxed)).ok_or(AccessError::Outside { va })
    }

    /// Whether the tables permit an access at `va` now, found by the handler's own walk; what the window still maps
    /// from before does not count. Execution is never permitted: windows hold data.
    ///
    /// # Errors
    /// The fault that a fresh access would meet.
    pub fn probe(&self, va: VirtAddr, access: Access) -> Result<(), WindowFault> {
        self.inner().probe(va, access)
    }

    /// Empties the window over `range`; the tables are asked again there. Whole fills go: more than `range` may be
    /// forgotten, never less. Returns when no thread can use what was mapped any more.
    pub fn flush(&self, range: VirtRange) {
        self.inner().flush(range);
    }

    /// Translates with the tables at `root` from now on, and empties the window: a switch of address spaces.
    pub fn set_root(&self, root: PhysAddr) {
        self.inner().set_root(root);
    }

    /// What the window has done and holds.
    #[must_use]
    pub fn counters(&self) -> WindowCounters {
        let counts = self.inner().counts();
        WindowCounters {
            fills: counts.fills_made,
            evictions: counts.evictions,
            live: counts.fills,
            mapped_pages: counts.bytes / 4096,
        }
    }

    /// The host's view of `bytes` bytes from `va`.
    pub(crate) fn span(&self, va: VirtAddr, bytes: u64) -> Option<NonNull<u8>> {
        self.inner().ptr(va, bytes)
    }

    /// The bank of memory around `pa`.
    pub(crate) fn bank(&self, pa: PhysAddr) -> Option<PhysRange> {
        self.inner().bank(pa)
    }
}

impl Tlb for Window<'_> {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        Window::flush(self, range);
    }
}
