//! The simulated machine: one memory file, and the physical window through which page tables are read and written.
//!
//! * [`Memory`]: banks of physical memory, backed by one sparse file, so that 64 TiB cost only what is touched.
//! * [`Mmu`], [`Vcpu`]: the software MMU of a CPU with its TLB, for a known format and for a format as a value.
//! * [`Cpus`]: all CPUs of a machine, and how they flush each other's TLBs.
//! * [`Scheduler`]: tasks on CPUs in a drawn, repeatable order; or on threads ([`on_threads`]).
//! * [`Windows`]: the kernel's virtual regions as host memory, filled by fault from the kernel's own tables.
//!
//! Not here: anything that Linux decides.
//!
//! # Invariants
//! 1. A bank's window maps the file at the bank's own physical address, for as long as the [`Memory`] lives.
//! 2. The window is reached only through `PhysMem`, as atomic slots: the software MMU reads it at any time.
//! 3. Every memory reference that a walk makes is counted where the memory is read ([`Memory::references`]).
#![deny(unsafe_code)]

mod cpus;
mod memory;
mod mmu;
mod scheduler;
mod window;
mod windows;

pub use cpus::{CpuHandle, Cpus, ShootDowns};
pub use memory::{Memory, MemoryError, ReleaseError};
pub use mmu::{Conflict, Counters, Interrupted, Mmu, TlbShape, Translated, Vcpu};
pub use scheduler::{Bound, Progress, Schedule, Scheduler, Stuck, Task, on_threads};
pub use windows::{
    AccessError, LinearWindow, Window, WindowCounters, WindowError, WindowFault, WindowFaultKind, Windows,
};
