//! i386: formats of two and three levels, and what its address space and boot have of their own.
//!
//! Here: entry formats ([`I386Level2`], [`I386Pae`]), the address space ([`layout`], [`cpu_entry_area`]), how memory is
//! split into low and high ([`low_memory`]), the first tables ([`early`]), the leaves of low memory
//! ([`low_map`]), the landmarks of a listing ([`markers`]), names of bits ([`fields`]).
//! Not here: what is the same rule as on x86-64 ([`crate::x86`]): protections and masks, memory types, changes of rights,
//! the order in which the direct map grows, fixed addresses.

pub mod cpu_entry_area;
pub mod early;
mod fields;
mod format;
pub mod layout;
pub mod low_map;
pub mod low_memory;
mod markers;

pub use fields::fields;
pub use format::{I386Format, I386Level2, I386Pae, SWP_EXCLUSIVE, saved_dirty};
pub use markers::markers;
