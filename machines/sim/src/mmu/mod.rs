//! The software MMU: walks with every check, a TLB, and what the CPU says of a fault.
//!
//! Here: reading tables in the order of the architecture (`walk`), what is kept of it (`cache`, `links`), one CPU of
//! a known format ([`Mmu`]) or of a format that is a value ([`Vcpu`]), data behind a translation (`data`).
//! Not here: what the bits of an entry mean, which are rules (`MmuFormat` in `kernmem-arch`).
//!
//! # Invariants
//! 1. Every table read and every data read goes through `PhysRead::entry` and is counted on both sides: what a
//!    machine counts is the sum of `references` and `data_reads` of its CPUs, if nobody else reads.
//! 2. The TLB holds only translations that a walk found allowed to be cached: present, accessed, without reserved
//!    bits; they stay usable until a flush covers them, a new root drops them, or room is needed.
//! 3. Rights are checked on every access, a hit or not, under the registers of that moment.
//! 4. A refused access brings no translation into the TLB, and marks no entry: unless somebody changed the tables under
//!    the walk, when the entries above the change may be marked as accessed.
//!
//! Source: Arm ARM D8; Intel SDM volume 3 chapter 4.

mod cache;
mod counters;
mod data;
mod links;
mod unit;
mod vcpu;
mod walk;

pub use cache::{Conflict, TlbShape};
pub use counters::Counters;
pub use data::Interrupted;
pub use unit::{Mmu, Translated};
pub use vcpu::Vcpu;
