//! Memory of the host, asked for in whole: what stands for the frames of page tables and for records of pages.
//!
//! # Invariants
//! 1. `base` is the start of `bytes` bytes of a live mapping, a multiple of [`ALIGN`], readable and writable, owned by
//!    the region and not changed before it is dropped.
//! 2. A safe method touches words as atomics, or through `&mut self`. Who uses [`Region::base`] for pointers of its own
//!    answers for who else touches those bytes meanwhile.
#![allow(unsafe_code)]

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use kernmem_page_alloc::dense::mem::Line;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Regions begin at a multiple of this: the host's own large page.
pub const ALIGN: usize = 2 << 20;

/// A zeroed piece of the host's memory.
#[derive(Debug)]
pub struct Region {
    mapping: NonNull<u8>,
    mapped: usize,
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY:
// 1. The region owns its mapping (invariant 1) and lends shared borrows of atomics alone (invariant 2).
unsafe impl Send for Region {}

// SAFETY:
// 1. As for `Send`: what safe methods do from several threads is atomic (invariant 2).
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` bytes of zeros, in the host's large pages if it is `large` and the host agrees.
    ///
    /// # Errors
    /// The host has no such memory.
    pub fn new(bytes: usize, large: bool) -> Result<Self, Errno> {
        let (mapping, mapped) = (map(0, bytes + ALIGN)?, bytes + ALIGN);
        let skip = mapping.addr().get().wrapping_neg() % ALIGN;
        // SAFETY:
        // 1. `skip` is less than `ALIGN`, and the mapping is that much longer than `bytes`.
        let base = unsafe { mapping.add(skip) };
        Ok(Self { mapping, mapped, base, bytes }.advised(large))
    }

    /// As [`Region::new`], from the address `start` on, a multiple of [`ALIGN`].
    ///
    /// # Errors
    /// The host has no such memory, or something else lies there.
    pub fn at(start: usize, bytes: usize, large: bool) -> Result<Self, Errno> {
        let base = map(start, bytes)?;
        let region = Self { mapping: base, mapped: bytes, base, bytes };
        if base.addr().get() == start && start.is_multiple_of(ALIGN) {
            Ok(region.advised(large))
        } else {
            Err(Errno::EXIST)
        }
    }

    fn advised(self, large: bool) -> Self {
        if large {
            // SAFETY:
            // 1. The bytes lie in the region's own mapping (invariant 1); the advice changes no contents.
            unsafe { madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxHugepage) }.unwrap_or_default();
        }
        self
    }

    /// Clears the region: all its pages are there afterwards.
    pub fn clear(&mut self) {
        // SAFETY:
        // 1. The bytes lie in the live mapping (invariant 1), and nobody has a cell of it: those borrow the region.
        unsafe { self.base.as_ptr().write_bytes(0, self.bytes) };
    }

    /// Where the region begins.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The `count` 64-bit words from byte `at`, a multiple of 8; `None` if they reach past the end.
    #[inline]
    #[must_use]
    pub fn wide(&self, at: u64, count: usize) -> Option<&[AtomicU64]> {
        self.cells(at, count)
    }

    /// The `count` 32-bit words from byte `at`, a multiple of 4; `None` if they reach past the end.
    #[inline]
    #[must_use]
    pub fn narrow(&self, at: u64, count: usize) -> Option<&[AtomicU32]> {
        self.cells(at, count)
    }

    /// The `count` cells from byte `at`, a multiple of their alignment; `None` if they reach past the end.
    #[inline]
    #[must_use]
    pub fn cells<C: Cell>(&self, at: u64, count: usize) -> Option<&[C]> {
        let last = self.bytes.checked_sub(count.checked_mul(size_of::<C>())?)? as u64;
        if at > last || !at.is_multiple_of(align_of::<C>() as u64) {
            return None;
        }
        // SAFETY:
        // 1. `at` lies in the region, checked above.
        let first = unsafe { self.base.add(at as usize) }.cast::<C>();
        // SAFETY:
        // 1. The cells lie in the live mapping (checked above; invariant 1), aligned as `base` and `at` are: no cell's
        //    alignment is above `ALIGN`.
        // 2. Whatever the bytes say is a cell, and whoever touches them meanwhile does so atomically (`Cell`; invariant 2).
        Some(unsafe { core::slice::from_raw_parts(first.as_ptr(), count) })
    }
}

/// What parts of a region may be lent as.
///
/// # Safety
/// All bits of all values are atomics, any bytes are a value, and the alignment is at most [`ALIGN`].
pub unsafe trait Cell {}

// SAFETY:
// 1. An atomic of one byte, aligned to its size.
unsafe impl Cell for AtomicU8 {}

// SAFETY:
// 1. An atomic of two bytes, aligned to its size.
unsafe impl Cell for AtomicU16 {}

// SAFETY:
// 1. An atomic of four bytes, aligned to its size.
unsafe impl Cell for AtomicU32 {}

// SAFETY:
// 1. An atomic of eight bytes, aligned to its size.
unsafe impl Cell for AtomicU64 {}

// SAFETY:
// 1. Eight atomics of eight bytes, which fill it: its alignment is its size, 64.
unsafe impl Cell for Line {}

/// A fresh mapping of `bytes` bytes, at `hint` if the host has that free.
fn map(hint: usize, bytes: usize) -> Result<NonNull<u8>, Errno> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    let hint = ptr::without_provenance_mut(hint);
    // SAFETY:
    // 1. A hint without FIXED: the host picks free addresses, so no mapping is replaced.
    let start = unsafe { mmap_anonymous(hint, bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
    NonNull::new(start.cast()).ok_or(Errno::NOMEM)
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY:
        // 1. The mapping is this region's own (invariant 1), and no borrow of it outlives `self`.
        unsafe { munmap(self.mapping.as_ptr().cast(), self.mapped) }.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_region_lies_where_it_was_asked_for_or_is_refused() {
        let start = 1 << 40;
        let region = Region::at(start, 8192, false).unwrap();
        assert_eq!((region.base().addr().get(), region.bytes()), (start, 8192));
        assert_eq!(Region::at(start, 8192, false).err(), Some(Errno::EXIST), "taken");
        drop(region);
        assert_eq!(Region::at(start + 8, 8192, false).err(), Some(Errno::EXIST), "no multiple of the host's pages");
        assert!(Region::at(start, 8192, false).is_ok(), "free again");
    }

    #[test]
    fn words_of_both_widths_lie_inside_or_are_refused() {
        let mut region = Region::new(8192, false).unwrap();
        assert_eq!(region.base().addr().get() % ALIGN, 0);
        region.wide(8184, 1).unwrap()[0].store(0x1_0000_0002, Ordering::Relaxed);
        let halves = region.narrow(8184, 2).unwrap();
        assert_eq!((halves[0].load(Ordering::Relaxed), halves[1].load(Ordering::Relaxed)), (2, 1));
        assert!(region.wide(8184, 2).is_none() && region.wide(4, 1).is_none() && region.narrow(2, 1).is_none());
        assert!(region.wide(u64::MAX - 7, 1).is_none() && region.wide(8192, 0).is_some());
        let line = &region.cells::<Line>(8128, 1).unwrap()[0];
        assert_eq!((line.0[7].load(Ordering::Relaxed), size_of::<Line>()), (0x1_0000_0002, 64));
        assert!(region.cells::<Line>(32, 1).is_none() && region.cells::<AtomicU8>(0, 8193).is_none());
        assert_eq!(region.cells::<AtomicU16>(8184, 4).unwrap()[2].load(Ordering::Relaxed), 1);
        region.clear();
        assert!(region.wide(0, 1024).unwrap().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
