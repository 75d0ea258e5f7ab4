//! The one read-only way to look at a kernel, and the record of its boot.
//!
//! * [`KernelView`]: roots, layout, nodes, sections. The running kernel implements it; a dump will.
//! * [`BootRecord`]: what was decided and logged on the way; it is the witness of a boot.
//! * [`explain`]: why a leaf has its size and its rights, out of the record.
//! * [`census`]: what the tables hold, counted from the tables themselves.
//! * [`entries`]: every entry of a tree, with the format as a value.
//! * [`proc`]: what the files of `/proc` about memory say, as values.
//!
//! Not here: texts (`kernmem-report`).
//!
//! # Invariants
//! 1. Each answer is known, absent with a reason, or an error of the memory that was read: nothing is guessed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod census;
pub mod entries;
pub mod explain;
mod kernel;
pub mod proc;
mod record;
mod view;

pub use kernmem_arch::Format;
pub use record::{BootRecord, MappedRun, Told};
pub use view::{Answer, KernelView, LayoutView, RootKind};
