//! Fixed addresses: one page each, counted down from the top.
//!
//! ```text
//! index  0 … [511 vsyscall page, and counting goes on at 512, where it is built]
//!        debug port, early console, [OHCI], [local APIC], [IO-APICs], [local kmaps], [paravirt], [GHES x 2]
//!        end of the permanent ones
//!        512 boot-time mappings that share one table, [TXT]
//!        end of all
//! ```
//!
//! i386 leaves index 0 empty, has 1024 entries in a table without PAE, and after the boot-time mappings one more for the
//! test of write protection.
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/fixmap.h `enum fixed_addresses`.

use kernmem_base::{VirtAddr, VirtRange};

use super::layout::{FIXADDR_TOP, VSYSCALL};

/// Boot-time mappings in a group.
pub const BTMAP_PAGES: u32 = 64;
/// Groups of boot-time mappings.
pub const BTMAP_SLOTS: u32 = 8;
/// All boot-time mappings.
pub const BTMAPS: u32 = BTMAP_PAGES * BTMAP_SLOTS;
/// Middle tables under the fixmap that are built into the image.
pub const PMD_NUM: u32 = 2;
/// The topmost of them: its slot in the fixmap's own directory.
pub const PMD_TOP: u32 = 507;

const PAGE: u64 = 4096;
const TABLE_ENTRIES: u32 = 512;

/// What the configuration says about fixed addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FixmapFacts {
    /// `CONFIG_X86_VSYSCALL_EMULATION`.
    pub vsyscall: bool,
    /// `CONFIG_PROVIDE_OHCI1394_DMA_INIT`.
    pub ohci1394: bool,
    /// `CONFIG_X86_LOCAL_APIC`.
    pub local_apic: bool,
    /// `MAX_IO_APICS` where `CONFIG_X86_IO_APIC`: 128 on x86-64; else 0.
    pub io_apics: u32,
    /// Pages for local kernel mappings: 16 a CPU with `CONFIG_KMAP_LOCAL` (forced by a debug option here), else 0.
    pub kmap_local: u32,
    /// `CONFIG_PARAVIRT_XXL`.
    pub paravirt: bool,
    /// `CONFIG_ACPI_APEI_GHES`.
    pub ghes: bool,
    /// `CONFIG_INTEL_TXT`.
    pub txt: bool,
}

/// What i386 has of its own among the fixed addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Narrow {
    /// `__FIXADDR_TOP`: the page with index 0, which stays empty.
    pub top: VirtAddr,
    /// Entries of a page table.
    pub table_entries: u32,
    /// `CONFIG_PCI_MMCONFIG`.
    pub pcie_mcfg: bool,
}

/// The index of each fixed address; an address that is not built has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixmap {
    /// The page with index 0.
    pub top: VirtAddr,
    /// The vsyscall page.
    pub vsyscall: Option<u32>,
    /// EHCI debug port.
    pub dbgp: u32,
    /// Early console.
    pub earlycon: u32,
    /// FireWire controller for debugging.
    pub ohci1394: Option<u32>,
    /// The local APIC.
    pub local_apic: Option<u32>,
    /// The first IO-APIC.
    pub io_apic: Option<u32>,
    /// The last IO-APIC that has a place.
    pub io_apic_last: Option<u32>,
    /// The first page for local kernel mappings.
    pub kmap_begin: Option<u32>,
    /// One past the last permanent address.
    pub end_permanent: u32,
    /// Index of the last (lowest) boot-time mapping's neighbour at the top: the smallest index of them.
    pub btmap_end: u32,
    /// The largest index of the boot-time mappings.
    pub btmap_begin: u32,
    /// One past the last of all.
    pub end: u32,
}

impl Fixmap {
    /// Counts the fixed addresses of one configuration.
    #[must_use]
    pub const fn new(facts: &FixmapFacts) -> Self {
        let vsyscall = if facts.vsyscall { Some(((FIXADDR_TOP.0 - VSYSCALL.0) / PAGE) as u32) } else { None };
        let first = match vsyscall {
            Some(index) => index + 1,
            None => 0,
        };
        let counted =
            Self::count(facts, first, Narrow { top: FIXADDR_TOP, table_entries: TABLE_ENTRIES, pcie_mcfg: false });
        Self { vsyscall, ..counted }
    }

    /// Counts the fixed addresses of an i386 kernel.
    #[must_use]
    pub const fn narrow(facts: &FixmapFacts, narrow: Narrow) -> Self {
        let counted = Self::count(facts, 1, narrow);
        Self { end: counted.end + 1, ..counted } // the test of write protection
    }

    /// Counts from index `first` on.
    const fn count(facts: &FixmapFacts, first: u32, narrow: Narrow) -> Self {
        let dbgp = first;
        let earlycon = dbgp + 1;
        let mut next = earlycon + 1;
        let ohci1394 = take(&mut next, facts.ohci1394 as u32);
        let local_apic = take(&mut next, facts.local_apic as u32);
        let io_apic = take(&mut next, facts.io_apics);
        let io_apic_last = if facts.io_apics == 0 { None } else { Some(next - 1) };
        let kmap_begin = take(&mut next, facts.kmap_local);
        next += narrow.pcie_mcfg as u32 + facts.paravirt as u32 + 2 * facts.ghes as u32;
        let btmap_end = align_boot_time(next, narrow.table_entries);
        let end = btmap_end + BTMAPS + facts.txt as u32;
        Self {
            top: narrow.top,
            vsyscall: None,
            dbgp,
            earlycon,
            ohci1394,
            local_apic,
            io_apic,
            io_apic_last,
            kmap_begin,
            end_permanent: next,
            btmap_end,
            btmap_begin: btmap_end + BTMAPS - 1,
            end,
        }
    }

    /// The page with `index`.
    #[must_use]
    pub const fn address(&self, index: u32) -> VirtAddr {
        VirtAddr(self.top.0 - index as u64 * PAGE)
    }

    /// `FIXADDR_START`: the page below the permanent ones, as Linux counts.
    #[must_use]
    pub const fn start(&self) -> VirtAddr {
        self.address(self.end_permanent)
    }

    /// `FIXADDR_TOT_START`: the page below all of them.
    #[must_use]
    pub const fn total_start(&self) -> VirtAddr {
        self.address(self.end)
    }

    /// The addresses of the boot-time mappings.
    #[must_use]
    pub const fn boot_time(&self) -> VirtRange {
        let (start, top) = (self.address(self.btmap_begin), self.address(self.btmap_end));
        VirtRange { start, last: VirtAddr(top.0 + (PAGE - 1)) }
    }
}

/// Takes `count` indices; none if there is nothing to take.
const fn take(next: &mut u32, count: u32) -> Option<u32> {
    let first = *next;
    *next += count;
    if count == 0 { None } else { Some(first) }
}

/// The first index of the boot-time mappings: moved up to a table's boundary unless they share a table anyway.
const fn align_boot_time(end: u32, table_entries: u32) -> u32 {
    if (end ^ (end + BTMAPS - 1)) >= table_entries { end + BTMAPS - end % BTMAPS } else { end }
}
