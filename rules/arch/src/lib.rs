//! What each architecture decides: entry formats, table shapes, layouts, protections, boot decisions.
//!
//! Pure functions of architecture, era and configuration; no memory is touched, nothing is remembered. Every choice
//! that Linux makes is one function with its table in the comment and its source in the last line, and returns the
//! [`Reason`]s that `explain` reads.
//!
//! * [`EntryFormat`], [`Entry`]: one architecture's page-table entries, every bit kept.
//! * [`UserFormat`], [`UserRights`]: the pages of user mode.
//! * [`Format`]: the formats as values.
//! * [`MmuFormat`]: what an MMU does with the entries; [`Fault`]: what it says when it refuses; [`Rights`].
//! * [`Field`]: the bits of an entry by name.
//! * [`Shape`]: levels, index widths and leaf sizes as data.
//! * [`Reason`]: why a mapping has its size and its rights.
//! * [`kasan`]: the arithmetic of KASAN's shadow.
//! * [`hugetlb`]: sizes of huge pages, and what their descriptors give back.
//! * [`arm64`], [`x86`], [`i386`]: a folder for each architecture; what i386 shares with x86-64 is in [`x86`].
#![no_std]
#![forbid(unsafe_code)]

pub mod arm64;
mod entry;
mod fault;
mod field;
mod formats;
pub mod hugetlb;
pub mod i386;
pub mod kasan;
mod mmu;
mod reason;
mod rights;
mod shape;
mod user;
pub mod x86;

pub use entry::{EncodeError, Entry, EntryFormat};
pub use fault::{Fault, FaultKind, Refusal, Syndrome};
pub use field::{Field, named};
pub use formats::{Format, WithFormat};
pub use mmu::MmuFormat;
pub use reason::{Born, Bound, Change, Opt, Reason};
pub use rights::Rights;
pub use shape::{LeafSize, LevelShape, Shape};
pub use user::{UserFormat, UserRights};
