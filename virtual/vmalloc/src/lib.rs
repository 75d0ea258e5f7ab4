//! Areas of kernel addresses: found lowest first, mapped page by page, freed lazily.
//!
//! Source: Linux 6.1 mm/vmalloc.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
