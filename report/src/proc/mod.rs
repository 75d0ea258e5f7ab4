//! The files of `/proc` and sysfs about memory, as Linux prints them.
//!
//! Each printer takes the value of `kernmem_view::proc`, and the era where the text differs.
//! Not here: the values, and readers of the texts.
//!
//! # Invariants
//! 1. Blanks at the ends of lines are part of a text: what a kernel prints is printed.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c, fs/proc/meminfo.c, kernel/resource.c, mm/vmalloc.c, mm/slab_common.c,
//! drivers/base/memory.c.

mod buddy;
mod iomem;
mod meminfo;
mod memory_blocks;
mod slab;
mod vmalloc;
mod zoneinfo;

pub use buddy::{buddyinfo, pagetypeinfo};
pub use iomem::iomem;
pub use meminfo::meminfo;
pub use memory_blocks::{block_size_bytes, memory_blocks};
pub use slab::slabinfo;
pub use vmalloc::vmallocinfo;
pub use zoneinfo::zoneinfo;
