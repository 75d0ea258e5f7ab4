//! The boot sequence of a kernel's memory subsystem, and the running kernel as one value.
//!
//! [`boot`] takes a machine and a kernel's configuration, goes the way of Linux from firmware's memory map to the
//! finished page tables, and returns a [`Kernel`]. It runs on whatever memory it is lent (`PhysMem`): the simulator,
//! real hardware. A [`Witness`] may listen: it is told each mapping with every reason that bounded it, each change of
//! rights, each table frame, each memblock event and each line that the boot log would have.
//!
//! * [`arm64`]: memory limits, image, linear map, late changes.
//! * [`i386`]: the same with two or three levels of tables, low and high memory.
//! * [`x86`]: firmware map, direct map, image, isolation, late changes.
//! * [`numa`], [`sparse_init`], [`zones`], [`zonelists`], [`takers`]: what both architectures share.
//! * [`kasan`]: shadow that all addresses without shadow of their own share.
//! * [`orders`]: the largest block and pageblocks.
//! * [`hand_over`], [`managed`], [`figures`]: from the boot allocator to the page allocator, what boot gives it later, and
//!   the figures of its zones.
//!
//! Not here: rules (`kernmem-arch`), texts (`kernmem-report`), where memory comes from (`machines/`).
//!
//! # Invariants
//! 1. Steps run in Linux's order, so each takes its memory where Linux's takes it.
//! 2. Nothing is drawn here: random choices are in the configuration (`Given`) or follow from a seed.
//!
//! Source: Linux 6.1 init/main.c `start_kernel`; arch/arm64/kernel/setup.c, arch/x86/kernel/setup.c `setup_arch`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arm64;
mod array_map;
mod boot_pages;
mod cpa;
mod error;
pub mod figures;
mod frames;
pub mod hand_over;
pub mod i386;
mod image;
pub mod kasan;
mod kernel;
pub mod managed;
pub mod movable;
pub mod numa;
pub mod orders;
mod pc;
pub mod running;
pub mod sparse_init;
pub mod takers;
mod witness;
pub mod x86;
pub mod zonelists;
pub mod zones;

pub use boot_pages::{BootPages, CPU_SLOTS};
pub use error::BootError;
pub use frames::EarlyFrames;
pub use image::Image;
pub use kernel::{Boot, Isa, Kernel, Roots, boot, boot_heard, memory_ranges};
pub use witness::{Area, Changed, Freed, HardwareTags, Kept, LogEntry, Mapped, Segment, TableFrame, Witness};
