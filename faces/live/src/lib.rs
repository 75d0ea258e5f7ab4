//! A running kernel on the simulated machine.
//!
//! * [`boot`]: a boot in the memory of the simulated machine.
//! * [`Live`]: kernel, memory, windows and CPUs as one value; pointers that it gives reach the frames that the kernel's
//!   tables name.
//! * [`Flush`]: one flush for all that may hold translations: the CPUs' TLBs and the windows.
//! * [`Program`]: what a program does: reads and writes through a CPU, with faults that the kernel deals with.
//! * [`ProcFile`], [`Live::proc`]: files of `/proc` of this moment.
//!
//! Not here: rules of Linux (the layers above), arguments and output (`faces/cli`).
//!
//! # Invariants
//! 1. Whatever changes the kernel's tables is flushed in the TLBs of all CPUs and in all windows.
#![forbid(unsafe_code)]

mod boot;
mod error;
mod flush;
mod live;
mod proc;
mod program;

pub use boot::boot;
pub use error::LiveError;
pub use flush::Flush;
pub use live::{Live, Options};
pub use proc::{ProcError, ProcFile, proc_text};
pub use program::{Program, Tally};
