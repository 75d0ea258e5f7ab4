//! What each CPU maps for entering the kernel: one fixed run of pages per CPU, also in the user's tables.
//!
//! ```text
//! base                 the interrupt descriptor table, read only, for all
//! base + 4K + slot*size:
//!   +0x00000  GDT                    ro      +0x1a000  debug store        RW  Intel only
//!   +0x01000  entry stack            RW      +0x1b000  debug buffers 32   without rights, Intel only
//!   +0x02000  TSS, 5 pages           ro      +0x3b000  (next CPU)
//!   +0x07000  guard, then the exception stacks, each 2 pages and a guard (KASAN: 4 pages)
//! ```
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/cpu_entry_area.h, arch/x86/mm/cpu_entry_area.c.

use kernmem_base::{Era, VirtAddr};

use super::layout::{CPU_ENTRY_AREA, Paging};
use super::prot::{Masks, Prot};
use super::{X86Attrs, bit};

const PAGE: u64 = 4096;
const PARTS: usize = 18;

/// Something in the area of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PartName {
    /// The global descriptor table.
    Gdt,
    /// The stack that an entry from user mode starts on.
    EntryStack,
    /// The task state and the I/O bitmap.
    Tss,
    /// A page that is never mapped.
    Guard,
    /// Stack of double faults.
    DoubleFault,
    /// Stack of non-maskable interrupts.
    Nmi,
    /// Stack of debug exceptions.
    Debug,
    /// Stack of machine checks.
    MachineCheck,
    /// Stack of a hypervisor's exceptions.
    Vc,
    /// Its fall-back.
    Vc2,
    /// Intel's debug store.
    DebugStore,
    /// Buffers of the debug store.
    DebugBuffers,
}

impl PartName {
    /// The per-CPU symbol whose pages are mapped here; none for guards and for pages without memory.
    #[must_use]
    pub const fn symbol(self) -> Option<&'static str> {
        match self {
            Self::Gdt => Some("gdt_page"),
            Self::EntryStack => Some("entry_stack_storage"),
            Self::Tss => Some("cpu_tss_rw"),
            Self::DoubleFault | Self::Nmi | Self::Debug | Self::MachineCheck => Some("exception_stacks"),
            Self::DebugStore => Some("cpu_debug_store"),
            Self::Guard | Self::Vc | Self::Vc2 | Self::DebugBuffers => None,
        }
    }
}

/// The rights of a part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Read only.
    Ro,
    /// Writable.
    Rw,
    /// Entries that are not present but not empty: tables are made ready for buffers that come later.
    NoRights,
    /// Never mapped.
    Unmapped,
}

/// A run of pages in the area of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is.
    pub name: PartName,
    /// Bytes from the start of the CPU's area.
    pub offset: u64,
    /// Its length in pages.
    pub pages: u64,
    /// Its rights.
    pub kind: Kind,
}

/// What decides the area's shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaFacts {
    /// KASAN doubles the exception stacks.
    pub kasan: bool,
    /// The CPU is Intel's.
    pub intel: bool,
    /// An encrypted guest that handles its hypervisor's exceptions.
    pub sev_es: bool,
}

/// Bytes of an exception stack.
#[must_use]
pub const fn exception_stack_bytes(kasan: bool) -> u64 {
    if kasan { 4 * PAGE } else { 2 * PAGE }
}

/// Bytes of one CPU's area.
#[must_use]
pub const fn area_bytes(kasan: bool) -> u64 {
    0x7000 + stacks_bytes(kasan) + 33 * PAGE
}

/// Bytes of the exception stacks with their guards.
#[must_use]
pub const fn stacks_bytes(kasan: bool) -> u64 {
    7 * PAGE + 6 * exception_stack_bytes(kasan)
}

/// The parts of one CPU's area, in address order, guards and unmapped parts included. The same in 5.10–7.2.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/cpu_entry_area.c `setup_cpu_entry_area`.
#[must_use]
pub const fn parts(facts: AreaFacts) -> [Part; PARTS] {
    const STACKS: [PartName; 6] =
        [PartName::DoubleFault, PartName::Nmi, PartName::Debug, PartName::MachineCheck, PartName::Vc, PartName::Vc2];
    let stack_pages = exception_stack_bytes(facts.kasan) / PAGE;
    let mut parts = [part(PartName::Guard, 1, Kind::Unmapped); PARTS];
    parts[0] = part(PartName::Gdt, 1, Kind::Ro);
    parts[1] = part(PartName::EntryStack, 1, Kind::Rw);
    parts[2] = part(PartName::Tss, 5, Kind::Ro);
    let mut stack = 0;
    while stack < STACKS.len() {
        let mapped = stack < 4 || facts.sev_es;
        // parts 3, 5, 7, … are the guards before each stack, the last guard follows the last stack
        parts[4 + 2 * stack] = part(STACKS[stack], stack_pages, if mapped { Kind::Rw } else { Kind::Unmapped });
        stack += 1;
    }
    parts[16] = part(PartName::DebugStore, 1, if facts.intel { Kind::Rw } else { Kind::Unmapped });
    parts[17] = part(PartName::DebugBuffers, 32, if facts.intel { Kind::NoRights } else { Kind::Unmapped });
    let (mut index, mut offset) = (0, 0);
    while index < PARTS {
        parts[index].offset = offset;
        offset += parts[index].pages * PAGE;
        index += 1;
    }
    parts
}

const fn part(name: PartName, pages: u64, kind: Kind) -> Part {
    Part { name, offset: 0, pages, kind }
}

/// The attributes of a part's pages; none if nothing is written there.
///
/// Present pages are global if the CPU can, also under page-table isolation: both roots share the tables.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/cpu_entry_area.c `cea_set_pte`.
#[must_use]
pub const fn attrs(kind: Kind, era: Era, masks: Masks, pge: bool) -> Option<X86Attrs> {
    let prot = match kind {
        Kind::Ro => masks.kernel(era, Prot::KernelRo),
        Kind::Rw => masks.kernel(era, Prot::Kernel),
        Kind::NoRights => return Some(Prot::UserNone.raw(era)),
        Kind::Unmapped => return None,
    };
    Some(if pge { X86Attrs(prot.0 | bit::GLOBAL) } else { prot })
}

/// The page of the interrupt descriptor table, read only.
pub const RO_IDT: VirtAddr = CPU_ENTRY_AREA;

/// The first CPU's area.
pub const PER_CPU: VirtAddr = VirtAddr(CPU_ENTRY_AREA.0 + PAGE);

/// Slots that can be drawn.
#[must_use]
pub const fn slots(kasan: bool) -> u64 {
    ((1 << Paging::P4D_SHIFT) - PAGE) / area_bytes(kasan)
}

/// The area in slot `slot`.
#[must_use]
pub const fn area(slot: u64, kasan: bool) -> VirtAddr {
    PER_CPU.wrapping_add(slot * area_bytes(kasan))
}

/// Bytes reserved for all areas (`CPU_ENTRY_AREA_MAP_SIZE`).
///
/// | era | size |
/// |---|---|
/// | to 6.1 | one page and the areas of all possible CPUs (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | the whole 512 GiB |
///
/// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_areas.h `CPU_ENTRY_AREA_MAP_SIZE`.
#[must_use]
pub const fn map_bytes(era: Era, kasan: bool, nr_cpus: u64) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => PAGE + nr_cpus * area_bytes(kasan),
        Era::V6_12 | Era::V7_2 => 1 << Paging::P4D_SHIFT,
    }
}

/// Whether a CPU's slot is drawn; otherwise it is the CPU's number.
///
/// | era | drawn |
/// |---|---|
/// | to 6.1 | never |
/// | 6.12, 7.2 | where the image is randomised |
///
/// Source: Linux 6.12 arch/x86/mm/cpu_entry_area.c `init_cea_offsets`.
#[must_use]
pub const fn slots_are_drawn(era: Era, kaslr_enabled: bool) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => kaslr_enabled,
    }
}
