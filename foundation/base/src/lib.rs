//! The words every kernmem crate shares.
//!
//! Here: addresses and ranges, granules, levels and orders, eras, and the traits by which the layers meet a
//! machine: [`PhysRead`] and [`PhysMem`] (tables of entries in physical memory), [`FrameSource`] (frames for
//! tables), [`mod@bulk`] (runs of entries), [`TableNote`] (the word that belongs to a table frame, with its lock), [`Tlb`]
//! (how a flush is paid), [`Cpu`] (the roots that a CPU translates with), [`LinearMem`] (frames reached by pointer).
//! Not here: anything an architecture, a firmware or an era decides.
//!
//! # Invariants
//! 1. Addresses are `u64` inside, on every host: dumps of other machines are read by the same types.
//! 2. A range never wraps: `start + len <= 2^64`, and ranges that may touch the end are inclusive.
//!
//! Source: the terms are those of Linux Documentation/mm and include/linux/mmzone.h.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "heap")]
extern crate alloc;

mod addr;
pub mod bulk;
mod cpu;
mod era;
mod frames;
mod geometry;
mod lent;
mod mem;
mod notes;
mod range;
mod seed;
mod size;
pub mod sync;
mod tlb;

pub use addr::{Pfn, PhysAddr, VirtAddr};
pub use cpu::{Access, Asid, Cpu, CpuId, Half, Privilege};
pub use era::Era;
pub use frames::{Frame, FrameOrigin, FrameSource, NoFrame};
pub use geometry::{Granule, Level, Order};
#[cfg(feature = "heap")]
pub use lent::HeapArena;
pub use lent::{LINEAR_ALIGN, Lent, LinearMem, WordArena};
pub use mem::{BusError, BusFault, PhysMem, PhysRead, Slot, Words};
pub use notes::{Claim, Grave, TableNote};
pub use range::{PhysRange, VirtRange};
pub use seed::Seed;
pub use size::Size;
pub use tlb::{NoTlb, Tlb};
