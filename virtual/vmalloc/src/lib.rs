//! Areas of kernel addresses: found lowest first, mapped page by page, freed lazily.
//!
//! * [`Early`]: areas that exist before the allocator does; [`Early::init`] turns them into [`Vmalloc`].
//! * [`Vmalloc`]: free, busy and lazily freed addresses, with the operations of Linux on them: `vmalloc`, `vmap`,
//!   `ioremap`, `vfree`, purge.
//! * [`Env`]: what a call works with: tables, frames, TLB, an observer. Lent for the call, never kept.
//! * [`Store`]: the caller's memory for the nodes of the trees.
//! * [`Line`]: what `/proc/vmallocinfo` shows, as values.
//!
//! Not here: blocks of `vm_map_ram`, per-CPU areas from the top, the pools in front of the tree (6.9 and later), and any
//! text.
//!
//! # Invariants
//! 1. Free, busy and lazily freed ranges do not overlap and together are the whole space, addresses 1 to 2^64 - 1.
//! 2. Two free ranges never touch, and no two lazily freed ones do.
//! 3. Every node of a tree knows the largest range below it.
//! 4. An address is reused only after the flush that a purge makes.
//!
//! Source: Linux 6.1 mm/vmalloc.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod area;
mod arena;
mod early;
mod env;
mod error;
mod free;
mod list;
mod lookup;
mod map;
mod modified;
mod rules;
mod search;
mod space;
mod store;
mod trace;
mod tree;
mod vmalloc;

pub use area::{Area, Caller, Request, VmFlags};
pub use early::Early;
pub use env::Env;
pub use error::{Broken, VmallocError};
pub use list::Line;
pub use lookup::{pages_on_nodes, vmalloc_to_pfn};
pub use modified::Modified;
pub use rules::{Huge, Rules, ioremap_align, lazy_max_pages, vmalloc_shift};
#[cfg(feature = "alloc")]
pub use store::VecStore;
pub use store::{Node, Store};
pub use trace::{Call, Trace};
pub use vmalloc::Vmalloc;
