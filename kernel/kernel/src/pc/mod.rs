//! What the boot of a PC does, whatever the width of its table entries.
//!
//! * [`reserve`]: what is taken of memory before it is mapped, and after.
//! * [`given`]: what boot gives to the page allocator after the hand-over.
//! * [`cpus`]: how many CPUs may come up.
//!
//! Not here: tables (`x86`, `i386`), changes of rights (`crate::cpa`).
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/setup.c `setup_arch`; init/main.c `kernel_init`.

pub(crate) mod cpus;
pub(crate) mod given;
pub(crate) mod reserve;
