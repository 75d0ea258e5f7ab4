//! A mapped piece of memory: the only unsafe code of the physical window.
//!
//! # Invariants
//! 1. `base` is the start of a live mapping of `bytes` bytes, page aligned, readable and writable, owned by the window.
//! 2. The mapping is never changed or removed before the window is dropped.
//! 3. Nothing but atomics touches the mapping, so shared borrows of it may be written through.
//! 4. A word is not accessed in two widths at the same time: a frame is a table of one format while anybody walks it.
#![allow(unsafe_code)]

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, AtomicU64};
use std::os::fd::BorrowedFd;

use kernmem_base::TableNote;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// A mapping of some memory, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Window {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY:
// 1. The window owns its mapping (invariant 1) and gives out only shared borrows of atomics (invariant 3).
unsafe impl Send for Window {}

// SAFETY:
// 1. As for `Send`: concurrent accesses are atomic.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `bytes` bytes of `file` at `offset`, shared.
    pub(crate) fn of_file(file: BorrowedFd<'_>, offset: u64, bytes: usize) -> Result<Self, Errno> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY:
        // 1. A null hint without FIXED: the kernel picks free addresses, so no existing mapping is replaced.
        let base = unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags, file, offset)? };
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, bytes })
    }

    /// Maps `bytes` zero bytes that cost nothing until they are touched.
    pub(crate) fn of_zeroes(bytes: usize) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY:
        // 1. As in `of_file`.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, bytes })
    }

    /// The words `[first, first + count)`, or `None` if they reach past the window.
    pub(crate) fn words(&self, first: usize, count: usize) -> Option<&[AtomicU64]> {
        let end = first.checked_add(count)?;
        if end > self.bytes / 8 {
            return None;
        }
        // SAFETY:
        // 1. `first` is within the mapping, checked above.
        let start = unsafe { self.base.cast::<AtomicU64>().add(first) };
        // SAFETY:
        // 1. The `count` words lie in the live mapping (checked above; invariant 1), aligned since `base` is.
        // 2. Only atomics touch them while borrowed (invariant 3).
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), count) })
    }

    /// The 32-bit words `[first, first + count)`, or `None` if they reach past the window.
    pub(crate) fn half_words(&self, first: usize, count: usize) -> Option<&[AtomicU32]> {
        let end = first.checked_add(count)?;
        if end > self.bytes / 4 {
            return None;
        }
        // SAFETY:
        // 1. `first` is within the mapping, checked above.
        let start = unsafe { self.base.cast::<AtomicU32>().add(first) };
        // SAFETY:
        // 1. The `count` words lie in the live mapping (checked above; invariant 1), aligned since `base` is.
        // 2. Only atomics touch them while borrowed (invariant 3), and of this width (invariant 4).
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), count) })
    }

    /// Note `index` of a window of notes.
    pub(crate) fn note(&self, index: usize) -> Option<&TableNote> {
        let word = self.words(index, 1)?.first()?;
        // SAFETY:
        // 1. `TableNote` is a transparent wrapper around `AtomicU64`.
        Some(unsafe { &*ptr::from_ref(word).cast::<TableNote>() })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY:
        // 1. The mapping is ours and nothing borrows it any more (invariants 1 and 2).
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a window of our own can be unmapped");
    }
}
