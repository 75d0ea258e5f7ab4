//! Readers of real Linux memory dumps: physical memory as it was, and the notes that came with it.
//!
//! * [`ElfDump`]: an ELF core file of the kernel (kexec, makedumpfile, QEMU), also packed with zstd.
//! * [`Vmcoreinfo`]: what the kernel wrote about itself into the dump.
//! * [`Map`]: which physical addresses the dump holds, and why the others are missing.
//!
//! Not here: page tables (`kernmem-pgtable` walks a dump through `PhysRead` as it walks a live machine).
//!
//! # Invariants
//! 1. No input panics: a damaged file is a [`DumpError`] with the place in the file, or a `BusError` at the address.
//! 2. Memory is answered for only with the bytes of the file: a page that is missing is never zeros.
//! 3. Memory use is bounded by the size of the file, unpacked, without its blocks of zeros.
//!
//! Source: the System V ABI's ELF chapters; Linux 5.10–7.2 fs/proc/vmcore.c, kernel/crash_core.c.
#![forbid(unsafe_code)]

mod bytes;
mod elf;
mod error;
mod header;
mod map;
mod notes;
mod vmcoreinfo;

pub use elf::ElfDump;
pub use error::{DumpError, DumpFault};
pub use header::{Machine, Segment};
pub use map::{Extent, Map, Place};
pub use notes::{Note, Notes, X86Control};
pub use vmcoreinfo::Vmcoreinfo;
