//! i386: formats of two and three levels, and what its address space and boot have of their own.
//!
//! Here: entry formats ([`I386Level2`], [`I386Pae`]).
//! Not here: what is the same rule as on x86-64 (`x86`): protections and masks, memory types, changes of rights, the
//! order in which the linear map grows, names of bits.

mod format;

pub use format::{I386Level2, I386Pae, saved_dirty};
