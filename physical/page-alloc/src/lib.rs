//! The page allocator: nodes, zones, free blocks by order and migrate type, and what is asked of them.
//!
//! * [`Gfp`]: what an allocation may do, as Linux writes it.
//! * [`PageAllocator`]: the zones of all nodes behind their locks; [`CpuPages`]: the lists of one CPU; [`Pages`]: both, as
//!   one CPU passes them on.
//! * [`Facts`], [`ZoneSpan`], [`Topology`]: what an allocator is made from; [`Placement`]: in which order blocks are taken.
//! * [`dense`]: which frames of a zone are free, shared by all CPUs without a lock, and what a CPU keeps of it.
//! * [`FallbackOrders`]: the nodes as each node asks them.
//! * [`Zone`]: the figures of one zone, for rules and reports.
//! * [`PageSource`]: how the layers above ask for frames.
//! * [`store`]: memory for the allocator's own records, lent by the caller; `HeapStore` (feature `alloc`) lends from the
//!   heap.
//! * `pool` (feature `alloc`): a plain source for examples, tests and fault sweeps.
//!
//! Source: Linux 6.1 mm/page_alloc.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod allocator;
mod buddy;
mod census;
mod contig;
mod deferred;
pub mod dense;
mod dense_requests;
mod drain;
mod facts;
mod fallback;
mod fielded;
pub mod figures;
mod free_area;
mod gfp;
mod ground;
mod handover;
#[cfg(all(feature = "alloc", not(loom)))]
mod heap;
mod highatomic;
mod holes;
mod hotplug;
mod kinds;
mod listed;
mod pageblocks;
mod pages;
mod pcp;
mod placed;
#[cfg(feature = "alloc")]
pub mod pool;
mod source;
pub mod store;
mod watermark;
mod zone;
mod zonelist;

pub use allocator::{PageAllocator, needs};
pub use census::Census;
pub use drain::DrainRequest;
pub use facts::{BuildError, Facts, Topology, ZoneSpan};
pub use free_area::Placement;
pub use gfp::{BadGfp, Gfp, GfpFacts, LateBit};
pub use handover::AddError;
#[cfg(all(feature = "alloc", not(loom)))]
pub use heap::{HeapStates, HeapStore, HeapWords};
pub use kinds::{MAX_ZONES, ZoneKind, ZoneKinds};
pub use pages::Pages;
pub use pcp::{CpuPages, PcpSet, PcpSlot};
pub use source::{AllocError, FreeError, PageSource};
pub use watermark::Watermarks;
pub use zone::{PcpLimits, Zone};
pub use zonelist::FallbackOrders;
