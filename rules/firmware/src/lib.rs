//! What firmware tells a kernel about its machine, read from the forms in which people have it.
//!
//! Here: the flattened devicetree, the e820 map and the affinity lines of a boot log, `/proc/iomem`; each ends in one
//! [`Machine`]. The firmware map's own arithmetic (sanitising, `mem=`, `memmap=`) is here too, because Linux does it
//! before anything else knows memory.
//! Not here: files, compression and descriptions in TOML (`kernmem-source`), the meaning of other words of the command
//! line (`kernmem-config`), what the boot allocator makes of the banks.
//!
//! # Invariants
//! 1. No input panics, and time and memory are bounded by the input's length.
//! 2. What Linux tolerates is tolerated; what it would not survive is a typed error with its place.
//!
//! Source: Devicetree Specification 0.4 chapter 5; Linux 5.10–7.2 drivers/of/fdt.c, arch/x86/kernel/e820.c.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bootlog;
pub mod devicetree;
pub mod e820;
pub mod iomem;
mod machine;
pub mod number;

pub use devicetree::{Devicetree, TreeError, TreeFault};
pub use e820::{E820Entry, E820Table, E820Type, NumaBlock};
pub use machine::{Arch, Bank, Machine, Reserved, TreeShape};
