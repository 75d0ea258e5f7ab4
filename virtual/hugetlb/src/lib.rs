//! Pools of huge pages, and giving the memory of their descriptors back.
//!
//! * [`Pool`]: the huge pages of one size: in number, free, reserved, surplus.
//! * [`Vmemmap`], [`hvo`]: the descriptors of a huge page share one frame, and their own go back to the page
//!   allocator; before the page is dissolved they get frames again.
//! * [`Env`]: what each call works with.
//!
//! Not here: the words of a command line (`kernmem-config`), where gigantic pages of boot come from (`kernmem`), how
//! programs map huge pages.
//!
//! # Invariants
//! 1. A pool never holds a page whose descriptors are shared without knowing it ([`HugePage::optimized`]).
//! 2. A page leaves a pool for the page allocator only with descriptors of its own.
//!
//! Source: Linux 6.1 mm/hugetlb.c, mm/hugetlb_vmemmap.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod env;
mod error;
pub mod hvo;
mod list;
mod pool;

pub use env::{Env, Vmemmap};
pub use error::{HvoError, PoolError};
pub use list::{Full, HugePage, LentList, PageList};
pub use pool::{Counts, Pool, Resized};
