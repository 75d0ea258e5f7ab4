//! Memory lent to a subsystem: frames that this program reaches by pointer.
//!
//! # Invariants
//! 1. A pointer of a [`LinearMem`] is valid for the bytes that were asked for as long as their frames belong to the
//!    caller.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use crate::PhysAddr;

/// Physical memory that this program reaches by pointer: a kernel's linear map.
///
/// # Safety
/// For every answer of `ptr` the `bytes` bytes behind the pointer are readable and writable memory, backed by the
/// frames at `pa`, while the caller owns those frames; equal addresses give equal pointers; `pa` undoes `ptr`.
pub unsafe trait LinearMem {
    /// Where this program sees the `bytes` bytes at `pa`; `None` if not all of them are memory.
    fn ptr(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>>;

    /// The physical address behind a pointer that [`LinearMem::ptr`] gave, or that points into such memory.
    fn pa(&self, ptr: NonNull<u8>) -> Option<PhysAddr>;
}
