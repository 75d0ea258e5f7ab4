//! The boot allocator: two sorted lists of regions, memory that exists and memory that is taken.
//!
//! Here: the lists and their operations, the allocation interfaces with the order in which they give up their wishes,
//! the growth of the lists' own storage, the iterators, and the hand-over to the page allocator.
//! Not here: which regions a machine has (`kernmem-firmware`), who asks for memory and when (`kernmem`), what a log
//! line looks like (`kernmem-report`), the bytes of the memory: an allocation is an address, zeroing is the taker's.
//!
//! # Invariants
//! 1. The regions of one list are sorted by base, are not empty, and do not overlap.
//! 2. A region ends at or below [`Limits::address_max`]: the last byte of the address space is in no region.
//! 3. After an operation no two regions around the place of change touch with equal node and flags; up to 6.1 that
//!    holds for the whole list.
//! 4. The storage of a list, once it is no longer the caller's first one, lies in memory that the list of taken
//!    memory covers.
//! 5. Page 0 is never allocated.
//!
//! Locks: none; boot runs on one CPU.
//! Source: Linux 5.10–7.2 mm/memblock.c, include/linux/memblock.h.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc as heap;

mod alloc;
mod edit;
mod error;
mod event;
mod grow;
mod handover;
mod hint;
mod iter;
mod limits;
mod list;
#[cfg(feature = "alloc")]
mod log;
mod mark;
mod memblock;
mod query;
mod region;
mod trim;

pub use alloc::Request;
pub use error::MemblockError;
pub use event::{Api, Dump, Event, Observer};
pub use handover::{Buddy, Chunk, Chunks, HandedOver};
pub use iter::{Frames, FreeRange, FreeRanges, PfnRange};
pub use limits::{Limits, UpTo};
#[cfg(feature = "alloc")]
pub use list::VecArray;
pub use list::{CannotGrow, InlineArray, List, ListKind, RegionArray};
#[cfg(feature = "alloc")]
pub use log::{LoggedEvent, Recorder};
pub use memblock::Memblock;
pub use query::Uncovered;
pub use region::{Flags, Nid, Region};
