//! Address spaces of processes: regions, faults, fork and exit, and the kernel half that all share.
//!
//! Source: Linux 6.1 mm/memory.c, mm/mmap.c; arch/x86/mm/pgtable.c, arch/x86/mm/fault.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
