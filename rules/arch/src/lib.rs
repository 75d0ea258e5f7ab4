//! What each architecture decides: entry formats, table shapes, layouts, protections, boot decisions.
//!
//! Pure functions of architecture, era and configuration; no memory is touched, nothing is remembered. Every choice
//! that Linux makes is one function with its table in the comment and its source in the last line, and returns the
//! [`Reason`]s that `explain` reads.
//!
//! * [`EntryFormat`], [`Entry`]: one architecture's page-table entries, every bit kept.
//! * [`UserFormat`], [`Rights`]: the pages of user mode.
//! * [`Format`]: the formats as values.
//! * [`Field`]: the bits of an entry by name.
//! * [`Shape`]: levels, index widths and leaf sizes as data.
//! * [`Reason`]: why a mapping has its size and its rights.
//! * [`arm64`], [`x86`]: a folder for each architecture.
#![no_std]
#![forbid(unsafe_code)]

pub mod arm64;
mod entry;
mod field;
mod formats;
mod reason;
mod shape;
mod user;
pub mod x86;

pub use entry::{EncodeError, Entry, EntryFormat};
pub use field::{Field, named};
pub use formats::{Format, WithFormat};
pub use reason::{Born, Bound, Change, Opt, Reason};
pub use shape::{LeafSize, LevelShape, Shape};
pub use user::{Rights, UserFormat};
