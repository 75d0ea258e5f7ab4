//! What a kernel is told and what it is made of: command line, configuration, CPU, symbols and structure sizes.
//!
//! Here: one [`Config`] with typed questions, each answered as the era in it would. A value that Linux rejects is a
//! [`Warning`] beside the answer, never an error; words nobody asked about are kept.
//! Not here: what the machine is (`kernmem-firmware`), what follows from the answers (`kernmem-arch`, the boot), the
//! texts of the messages (`kernmem-report`).
//!
//! # Invariants
//! 1. No input panics; a bad value behaves as in Linux.
//! 2. A question that Linux answers differently by era takes the era and matches on all of them.
//!
//! Source: Linux 5.10–7.2 init/main.c, kernel/params.c, lib/cmdline.c.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod btf;
pub mod cmdline;
mod config;
pub mod cpu;
mod given;
mod kconfig;
mod map_options;
mod sizes;
mod symbols;

pub use cmdline::{Answer, CommandLine, CrashKernel, CrashKernelPlan, Rodata, Warning, Word};
pub use config::Config;
pub use cpu::{Arm64Cpu, Cpu, KptiFacts, X86Cpu};
pub use given::Given;
pub use kconfig::KernelConfig;
pub use kernmem_firmware::Arch;
pub use kernmem_firmware::number;
pub use map_options::{MAP_FEATURES, map_options};
pub use sizes::Sizes;
pub use symbols::{Symbol, Symbols};
