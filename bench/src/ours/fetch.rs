//! A line of the host's memory, fetched ahead of its use where the host has an instruction for it.
#![allow(unsafe_code)]

/// Has the host fetch the line of `address` into its second cache: many lines may be on their way there, while the few
/// that may be on their way to the first cache are left to the loads that are waited for.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn ahead(address: usize) {
    use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY:
    // 1. A prefetch reads nothing that the program sees, from whatever address, and every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(core::ptr::without_provenance(address)) }
}

/// Nothing: no such instruction is known for this host.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) const fn ahead(_address: usize) {}
