//! Every text that Linux would print about its memory, and ours: over `KernelView` and `BootRecord`; what the
//! caller told of its machine is repeated in the boot report alone.
//!
//! * [`ptdump`]: page-table listings, as Linux prints them and in our own forms.
//! * [`boot_log`], [`memblock_log`]: the boot log's lines about memory.
//! * [`boot_report`]: one page about a boot; [`warnings`]: refused words of the command line.
//! * [`regions`]: the regions of an address space by name.
//! * [`lines_of_range`]: a part of a listing.
//! * [`tables`], [`walk`]: page tables in our own forms, and one address followed.
//! * [`layout`]: regions as the kernel's documentation prints them; [`diff`]: two kernels side by side.
//! * [`explain`]: what an address is, and why it is mapped as it is, in one era or in all; [`boot_eras`]: the linear map
//!   in all of them.
//! * [`proc`]: the files of `/proc` and sysfs about memory.
//! * [`hugepages`]: what descriptors of huge pages give back.
//! * [`json`]: answers for programs, streamed.
//!
//! Not here: any rule of Linux but the format of its texts.
//!
//! Source: Linux 5.10–7.2 mm/ptdump.c, arch/arm64/mm/ptdump.c, arch/x86/mm/dump_pagetables.c, mm/memblock.c,
//! mm/page_alloc.c.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot_eras;
pub mod boot_log;
pub mod boot_report;
pub mod diff;
pub mod explain;
pub mod hugepages;
pub mod json;
pub mod layout;
pub mod lines_of_range;
pub mod memblock_log;
pub mod meminfo;
mod mm_init_log;
pub mod proc;
pub mod ptdump;
pub mod regions;
pub mod tables;
pub mod walk;
pub mod warnings;
