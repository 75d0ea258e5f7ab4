//! What each CPU maps for entering the kernel on i386.
//!
//! ```text
//! base                 the interrupt descriptor table, read only, for all
//! base + 4K + cpu*size:
//!   +0x00000  GDT, RW              +0x05000  TSS, 5 pages, RW
//!   +0x02000  entry stack, RW      +0x0a000  debug store, RW               Intel only
//!   +0x04000  double-fault stack   +0x0b000  debug buffers, 32 pages without rights, Intel only
//! ```
//! The pages before the stacks are guards.
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/cpu_entry_area.h, arch/x86/mm/cpu_entry_area.c.

use kernmem_base::VirtAddr;

use crate::x86::cpu_entry_area::{Kind, Part, PartName};

const PAGE: u64 = 4096;
const PARTS: [(PartName, u64, Kind); 8] = [
    (PartName::Gdt, 1, Kind::Rw),
    (PartName::Guard, 1, Kind::Unmapped),
    (PartName::EntryStack, 1, Kind::Rw),
    (PartName::Guard, 1, Kind::Unmapped),
    (PartName::DoubleFault, 1, Kind::Rw),
    (PartName::Tss, 5, Kind::Rw),
    (PartName::DebugStore, 1, Kind::Rw),
    (PartName::DebugBuffers, 32, Kind::NoRights),
];

/// Bytes of one CPU's area.
pub const AREA_BYTES: u64 = 0x2_b000;

/// Bytes of all areas with the page before them (`CPU_ENTRY_AREA_MAP_SIZE`).
#[must_use]
pub const fn bytes(nr_cpus: u64) -> u64 {
    PAGE + nr_cpus * AREA_BYTES
}

/// The parts of one CPU's area, in address order, guards and unmapped parts included. The same in 5.10–7.2.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/cpu_entry_area.c `setup_cpu_entry_area`.
#[must_use]
pub fn parts(intel: bool) -> [Part; 8] {
    let mut offset = 0;
    PARTS.map(|(name, pages, kind)| {
        let is_debug = matches!(name, PartName::DebugStore | PartName::DebugBuffers);
        let kind = if is_debug && !intel { Kind::Unmapped } else { kind };
        let part = Part { name, offset, pages, kind };
        offset += pages * PAGE;
        part
    })
}

/// The per-CPU symbol whose pages are mapped in a part.
#[must_use]
pub const fn symbol(name: PartName) -> Option<&'static str> {
    match name {
        PartName::DoubleFault => Some("doublefault_stack"),
        name => name.symbol(),
    }
}

/// The page of the interrupt descriptor table, read only.
#[must_use]
pub const fn ro_idt(base: VirtAddr) -> VirtAddr {
    base
}

/// The area of CPU `cpu`.
#[must_use]
pub const fn area(base: VirtAddr, cpu: u64) -> VirtAddr {
    base.wrapping_add(PAGE + cpu * AREA_BYTES)
}
