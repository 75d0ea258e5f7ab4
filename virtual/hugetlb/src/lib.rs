//! Pools of huge pages, and giving the memory of their descriptors back.
//!
//! Source: Linux 6.1 mm/hugetlb.c, mm/hugetlb_vmemmap.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
