//! Objects smaller than a page: size classes, object caches, large requests, a global allocator.
//!
//! Source: Linux 6.1 mm/slub.c, mm/slab_common.c.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
