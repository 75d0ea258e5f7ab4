//! The running kernel: what a boot hands over to.
//!
//! * [`memmap`]: page descriptors as memory.

pub mod memmap;
