//! Objects smaller than a page: size classes, object caches, large requests, a global allocator.
//!
//! * [`Slab`]: the allocator; [`CpuSlabs`]: one CPU's part of it, on which most requests end without a lock.
//! * [`Env`]: what each request brings: a source of pages, the linear map, and records of pages ([`SlabPages`]).
//! * [`Classes`], [`SlotLayout`], [`slab_order`]: what Linux decides about sizes, by era.
//! * [`Report`], [`Finding`]: what checked caches find.
//! * [`SlabHeap`]: the allocator behind a lock of the caller's, as a program's global allocator.
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
pub use info::CacheInfo;
pub use kmalloc::ZERO_SIZE;
pub use layout::{SlotFacts, SlotLayout, WORD, request_bytes, slot_align, track_bytes};
pub use name::{NAME_BYTES, Name};
pub use order::{MAX_OBJECTS, SLUB_MAX_ORDER, order_for, slab_order};
pub use record::{DescriptorPages, LentPages, RECORD_WORDS, Record, SlabPages};
pub use report::{Area, Damage, Finding, Fix, Report};
pub use slab::{MAX_CPUS, Slab, SlabRules, object_pa};
