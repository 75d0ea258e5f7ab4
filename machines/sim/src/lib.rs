//! The simulated machine: one memory file, and the physical window through which page tables are read and written.
//!
//! * [`Memory`]: banks of physical memory, backed by one sparse file, so that 64 TiB cost only what is touched.
//! * [`Windows`]: the kernel's virtual regions as host memory, filled by fault from the kernel's own tables.
//!
//! Not here: anything that Linux decides.
//!
//! # Invariants
//! 1. A bank's window maps the file at the bank's own physical address, for as long as the [`Memory`] lives.
//! 2. The window is reached only through `PhysMem`, as atomic slots: the software MMU reads it at any time.
//! 3. Every memory reference that a walk makes is counted where the memory is read ([`Memory::references`]).
#![deny(unsafe_code)]

mod memory;
mod window;
mod windows;

pub use memory::{Memory, MemoryError, ReleaseError};
pub use windows::{
    AccessError, LinearWindow, Window, WindowCounters, WindowError, WindowFault, WindowFaultKind, Windows,
};
