//! The page allocator: nodes, zones, free blocks by order and migrate type, and what is asked of them.
//!
//! * [`Gfp`]: what an allocation may do, as Linux writes it.
//! * [`PageSource`]: how the layers above ask for frames.
//! * [`pool`] (feature `alloc`): a plain source for examples, tests and fault sweeps.
//!
//! Source: Linux 6.1 mm/page_alloc.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod figures;
mod gfp;
#[cfg(feature = "alloc")]
pub mod pool;
mod source;

pub use gfp::Gfp;
pub use source::{AllocError, FreeError, PageSource};
