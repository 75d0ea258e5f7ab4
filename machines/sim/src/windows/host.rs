//! A reserved slice of the host's address space, filled and emptied in place.
//!
//! # Invariants
//! 1. `[base, base + bytes)` is one mapping or several, all made here, from creation to drop; nobody else maps there.
//! 2. What is filled is a shared mapping of the memory file, never executable; the rest gives no access.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Address space of our own.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY:
// 1. The value owns its addresses (invariant 1); they are the same for every thread.
unsafe impl Send for Reservation {}

// SAFETY:
// 1. Through a shared borrow the mappings change by single system calls, which the host orders.
unsafe impl Sync for Reservation {}

const EMPTY: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

impl Reservation {
    /// Reserves `bytes` bytes, wherever the host has them; they cost one mapping and no memory.
    pub(crate) fn new(bytes: usize) -> Result<Self, Errno> {
        // SAFETY:
        // 1. A null hint without FIXED: the kernel picks free addresses, so no existing mapping is replaced.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), EMPTY)? };
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, bytes })
    }

    /// The first address.
    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes reserved.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place of a host address.
    pub(crate) fn offset(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.base.as_ptr().addr())?;
        (offset < self.bytes).then_some(offset)
    }

    /// The host address of `bytes` bytes from `offset`, if they are all inside.
    pub(crate) fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        if end > self.bytes {
            return None;
        }
        // SAFETY:
        // 1. `offset` is at most `bytes`, checked above: the result is inside the reservation or one past its end.
        Some(unsafe { self.base.add(offset) })
    }

    fn page_at(&self, offset: usize, bytes: usize) -> Result<*mut c_void, Errno> {
        Ok(self.at(offset, bytes).ok_or(Errno::INVAL)?.as_ptr().cast())
    }

    /// Maps `file` from `at` over `[offset, offset + bytes)`, readable, and writable if `write`. One step: other
    /// threads see what was there before or all of it.
    pub(crate) fn fill(
        &self,
        offset: usize,
        bytes: usize,
        file: BorrowedFd<'_>,
        at: u64,
        write: bool,
    ) -> Result<(), Errno> {
        let place = self.page_at(offset, bytes)?;
        let rights = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY:
        // 1. FIXED replaces mappings of this reservation alone: `page_at` checked the bounds (invariant 1).
        // 2. No reference to plain memory points there: windows lend atomics and raw pointers.
        unsafe { mmap(place, bytes, rights, flags, file, at)? };
        Ok(())
    }

    /// Takes every access away from `[offset, offset + bytes)`.
    pub(crate) fn empty(&self, offset: usize, bytes: usize) -> Result<(), Errno> {
        let place = self.page_at(offset, bytes)?;
        // SAFETY:
        // 1. As in `fill`.
        unsafe { mmap_anonymous(place, bytes, ProtFlags::empty(), EMPTY | MapFlags::FIXED)? };
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY:
        // 1. The addresses are ours (invariant 1) and nothing borrows them any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a reservation of our own can be unmapped");
    }
}
