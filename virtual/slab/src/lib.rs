//! Objects smaller than a page: size classes, object caches, large requests, a global allocator.
//!
//! * [`Slab`]: the allocator; [`CpuSlabs`]: one CPU's part of it, on which most requests end without a lock.
//! * [`Env`]: what each request brings: a source of pages, the linear map, and records of pages ([`SlabPages`]).
//! * [`Classes`], [`SlotLayout`], [`slab_order`]: what Linux decides about sizes, by era.
//! * [`Report`], [`Finding`]: what checked caches find.
//! * [`SlabHeap`]: the allocator behind a lock of the caller's, as a program's global allocator.
//!
//! ```
//! use kernmem_base::{CpuId, Era, Granule, HeapArena, Pfn};
//! use kernmem_page_alloc::{Gfp, pool::FramePool};
//! use kernmem_slab::{Classes, Env, KmallocArch, LentPages, Record, Slab, SlabRules};
//!
//! # fn main() -> Result<(), kernmem_slab::SlabError> {
//! let first = Pfn(0x100);
//! let records: Vec<Record> = (0..64).map(|_| Record::default()).collect();
//! let mut env = Env {
//!     pages: &mut FramePool::new(Granule::K4, first, Pfn(0x140)),
//!     mem: &HeapArena::new(kernmem_base::PhysAddr(0x10_0000), 64 << 12),
//!     records: &LentPages::new(first, &records),
//! };
//! let classes = Classes::new(Era::V6_1, Granule::K4, KmallocArch::X86);
//! let mut slab = Slab::<64>::new(SlabRules::new(classes, 2));
//! slab.create_kmalloc_caches()?;
//! let mut cpu = slab.cpu(CpuId(0), 0)?;
//! let ptr = slab.kmalloc(&mut env, &mut cpu, 100, Gfp::KERNEL)?;
//! assert_eq!(slab.ksize(&env, ptr)?, 128);
//! slab.kfree(&mut env, &mut cpu, ptr)?;
//! # Ok(())
//! # }
//! ```
//!
//! Source: Linux 6.1 mm/slub.c, mm/slab_common.c.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod cache;
mod chain;
mod checked;
mod class;
mod cpu;
mod env;
mod error;
mod flags;
mod global;
mod info;
mod kmalloc;
mod layout;
mod list;
mod name;
mod order;
mod record;
mod report;
mod slab;
mod slow;

pub use cache::{CacheId, CacheSpec, cpu_partial_slabs, min_partial};
pub use class::{CLASSES, Classes, Families, Family, KmallocArch};
pub use cpu::CpuSlabs;
pub use env::Env;
pub use error::SlabError;
pub use flags::CacheFlags;
pub use global::{Heap, HeapLock, SlabHeap};
pub use info::{CacheInfo, NodePages};
pub use kmalloc::ZERO_SIZE;
pub use layout::{SlotFacts, SlotLayout, WORD, request_bytes, slot_align, track_bytes};
pub use name::{NAME_BYTES, Name};
pub use order::{MAX_OBJECTS, SLUB_MAX_ORDER, order_for, slab_order};
pub use record::{DescriptorPages, LentPages, RECORD_WORDS, Record, SlabPages};
pub use report::{Area, Damage, Finding, Fix, Report};
pub use slab::{MAX_CPUS, Slab, SlabRules, object_pa};
