//! A line of memory, fetched ahead of its use where the host has an instruction for it.
#![allow(unsafe_code)]

/// Has the host fetch the line of `address`, whatever lies there, into its second cache: more lines may be on their way
/// there than to the first, where they would hold up loads that are waited for.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
pub fn fetch(address: usize) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY:
    // 1. A prefetch reads nothing that the program sees, faults nowhere, and every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(core::ptr::without_provenance(address)) }
}

/// Nothing: no such instruction is known here.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline]
pub const fn fetch(_address: usize) {}
