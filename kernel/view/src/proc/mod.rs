//! What the files of `/proc` and sysfs about memory say, as values: plain numbers that a live kernel, a dump or a
//! recording can fill.
//!
//! | file | value |
//! |---|---|
//! | `/proc/buddyinfo` | [`BuddyInfo`] |
//! | `/proc/pagetypeinfo` | [`PageTypeInfo`] |
//! | `/proc/zoneinfo` | [`ZoneInfo`] |
//! | `/proc/meminfo` | [`MemInfo`] |
//! | `/proc/iomem` | [`IoMem`] |
//! | `/proc/vmallocinfo` | [`VmallocInfo`] |
//! | `/proc/slabinfo` | [`SlabInfo`] |
//! | `/sys/devices/system/memory` | [`MemoryBlocks`] |
//!
//! Here too: [`parse`], which reads the texts back; [`arm64_iomem_of_boot`] and [`x86_iomem_of_boot`], which make the
//! part of `/proc/iomem` that follows from memory and image.
//! [`OfBoot`] fills what a boot settles, [`OfRunning`] what a running kernel knows, [`LiveZones`] the zones among it.
//! Not here: how the texts look (`kernmem-report`), where the numbers come from.
//!
//! # Invariants
//! 1. A counter that nobody counts is 0 and is printed: which counters there are follows from era and configuration.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c, fs/proc/meminfo.c, kernel/resource.c, mm/vmalloc.c, mm/slab_common.c.

mod buddy;
mod counters;
mod iomem;
mod iomem_boot;
mod live;
mod meminfo;
mod memory_blocks;
mod of_boot;
mod of_running;
pub mod parse;
mod slab;
mod vmalloc;
mod zoneinfo;

pub use buddy::{BuddyInfo, BuddyRow, PageTypeBlocks, PageTypeFree, PageTypeInfo, PageTypeNode};
pub use counters::{CounterKind, Counters, NodeCounter, NumaCounter, TextConfig, ZoneCounter};
pub use iomem::{IoMem, Resource};
pub use iomem_boot::{
    CRASH_KERNEL, FirmwareEntry, Named, Segment, X86_SEGMENTS, arm64_iomem_of_boot, arm64_segments, x86_iomem_of_boot,
};
pub use kernmem_page_alloc::ZoneKind;
pub use kernmem_sparse::MigrateType;
pub use live::LiveZones;
pub use meminfo::{MemField, MemInfo};
pub use memory_blocks::{BlockState, MemoryBlock, MemoryBlocks};
pub use of_boot::OfBoot;
pub use of_running::{OfRunning, Settled};
pub use slab::{SlabInfo, SlabRow};
pub use vmalloc::{Shown, VmWords, VmallocInfo, VmallocLine, VmallocUse};
pub use zoneinfo::{Pageset, PopulatedZone, ZoneInfo, ZoneText};
