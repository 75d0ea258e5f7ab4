//! The virtual address space of i386: where each region lies, by table format, split, era and configuration.
//!
//! ```text
//! 0                     programs
//! PAGE_OFFSET           low memory, with the image in it
//! high_memory + 8 MiB   vmalloc, with modules in it          } known once low memory is
//! PKMAP_BASE - 8 KiB    its end
//! PKMAP_BASE            pages of high memory, one table
//! LDT_BASE              local descriptor tables, one table
//! CPU_ENTRY_AREA        CPU entry areas
//! FIXADDR_TOT_START     fixed addresses, to FIXADDR_TOP
//! ```
//! All from the top down, each region at a boundary of a leaf above the last level.
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_32_areas.h, pgtable_32.h, page_32_types.h, cpu_entry_area.h.

use kernmem_base::{Era, Level, Pfn, PhysAddr, VirtAddr, VirtRange};

use super::cpu_entry_area;
use super::{I386Level2, I386Pae};
use crate::x86::fixmap::{Fixmap, FixmapFacts, Narrow};
use crate::{EntryFormat, Format, Shape};

const PAGE: u64 = 1 << 12;
/// Between the end of low memory and vmalloc (`VMALLOC_OFFSET`).
pub const VMALLOC_OFFSET: u64 = 8 << 20;
/// What low memory leaves to vmalloc unless `vmalloc=` says otherwise.
pub const VMALLOC_RESERVE: u64 = 128 << 20;
/// The page below which fixed addresses begin, unless `reservetop=` moves it.
pub const FIXADDR_TOP: VirtAddr = VirtAddr(0xffff_f000);
/// Bytes that the image may use (`KERNEL_IMAGE_SIZE`).
pub const KERNEL_IMAGE_SIZE: u64 = 512 << 20;
/// Bytes of a kernel stack, and of an interrupt stack.
pub const THREAD_SIZE: u64 = 8 << 10;
/// Bits of a virtual address.
pub const VIRTUAL_BITS: u32 = 32;

/// Entries of which format the kernel uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Paging {
    /// 32-bit entries in two levels.
    Level2,
    /// 64-bit entries in three levels.
    Pae,
}

impl Paging {
    /// The format of the tables.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::Level2 => Format::I386Level2,
            Self::Pae => Format::I386Pae,
        }
    }

    /// Levels, index widths and leaf sizes.
    #[must_use]
    pub fn shape(self) -> &'static Shape {
        match self {
            Self::Level2 => I386Level2::shape(),
            Self::Pae => I386Pae::shape(),
        }
    }

    /// Bytes of a leaf above the last level, and of what one page table maps (`PMD_SIZE`).
    #[must_use]
    pub const fn large(self) -> u64 {
        match self {
            Self::Level2 => 4 << 20,
            Self::Pae => 2 << 20,
        }
    }

    /// Entries of a page table.
    #[must_use]
    pub const fn table_entries(self) -> u64 {
        self.large() / PAGE
    }

    /// log2 of the bytes that one entry of the root maps (`PGDIR_SHIFT`).
    #[must_use]
    pub const fn root_shift(self) -> u32 {
        match self {
            Self::Level2 => 22,
            Self::Pae => 30,
        }
    }

    /// Bits of a physical address that the memory map covers.
    #[must_use]
    pub const fn physmem_bits(self) -> u32 {
        match self {
            Self::Level2 => 32,
            Self::Pae => 36,
        }
    }

    /// Bits of a frame address in an entry (`__PHYSICAL_MASK_SHIFT`).
    #[must_use]
    pub const fn physical_mask_bits(self) -> u32 {
        match self {
            Self::Level2 => 32,
            Self::Pae => 52,
        }
    }

    /// One past the highest frame that firmware's map may tell of (`MAX_ARCH_PFN`).
    #[must_use]
    pub const fn max_arch_pfn(self) -> Pfn {
        match self {
            Self::Level2 => Pfn(1 << 20),
            Self::Pae => Pfn(1 << 24),
        }
    }

    /// Pages of high memory that are mapped for everyone at once (`LAST_PKMAP`): one table without PAE, and with it.
    #[must_use]
    pub const fn pkmap_pages(self) -> u64 {
        self.table_entries()
    }
}

/// How the address space is split between programs and the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// 3 GiB for programs.
    G3,
    /// 2.75 GiB for programs, so that the kernel maps 1 GiB of memory; not with PAE.
    G3Opt,
    /// 2 GiB for programs.
    G2,
    /// Just less than 2 GiB for programs; not with PAE.
    G2Opt,
    /// 1 GiB for programs.
    G1,
}

impl Split {
    /// All splits with the name of the option that chooses each.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::G3, "VMSPLIT_3G"),
        (Self::G3Opt, "VMSPLIT_3G_OPT"),
        (Self::G2, "VMSPLIT_2G"),
        (Self::G2Opt, "VMSPLIT_2G_OPT"),
        (Self::G1, "VMSPLIT_1G"),
    ];

    /// Where the kernel's part begins. The same in all eras.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/Kconfig `PAGE_OFFSET`.
    #[must_use]
    pub const fn page_offset(self) -> VirtAddr {
        VirtAddr(match self {
            Self::G3 => 0xc000_0000,
            Self::G3Opt => 0xb000_0000,
            Self::G2 => 0x8000_0000,
            Self::G2Opt => 0x7800_0000,
            Self::G1 => 0x4000_0000,
        })
    }
}

/// What era, configuration and command line say about the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutFacts {
    /// The branch.
    pub era: Era,
    /// The format of the tables.
    pub paging: Paging,
    /// The split.
    pub split: Split,
    /// `CONFIG_HIGHMEM`.
    pub highmem: bool,
    /// `CONFIG_NR_CPUS`.
    pub nr_cpus: u64,
    /// `CONFIG_X86_LOCAL_APIC`.
    pub local_apic: bool,
    /// `CONFIG_X86_IO_APIC`.
    pub io_apic: bool,
    /// `CONFIG_PCI_MMCONFIG`.
    pub pcie_mcfg: bool,
    /// `CONFIG_PROVIDE_OHCI1394_DMA_INIT`.
    pub ohci1394: bool,
    /// `CONFIG_PARAVIRT` pages at boot.
    pub paravirt: bool,
    /// `CONFIG_ACPI_APEI_GHES`.
    pub ghes: bool,
    /// `CONFIG_INTEL_TXT`.
    pub txt: bool,
    /// Bytes that `reservetop=` keeps free at the top; 0 without it.
    pub reserved_top: u64,
    /// Bytes that `vmalloc=` asks for, if it does.
    pub vmalloc: Option<u64>,
    /// `CONFIG_PHYSICAL_START`.
    pub physical_start: u64,
    /// `CONFIG_PHYSICAL_ALIGN`.
    pub physical_align: u64,
}

/// IO-APICs that may have a fixed address.
pub const MAX_IO_APICS: u32 = 64;

/// Pages for mappings that belong to one CPU.
///
/// | era | pages of a CPU |
/// |---|---|
/// | to 5.10 | 20, also without high memory (4.14 UNVERIFIED) |
/// | 6.1 and later | 16, with high memory |
///
/// Source: Linux 5.10 arch/x86/include/asm/kmap_types.h `KM_TYPE_NR`; 6.1 include/asm-generic/kmap_size.h.
#[must_use]
pub const fn kmap_pages(era: Era, highmem: bool, nr_cpus: u64) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 => 20 * nr_cpus,
        Era::V6_1 | Era::V6_12 | Era::V7_2 if highmem => 16 * nr_cpus,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 0,
    }
}

/// Where each region of one kernel lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The branch.
    pub era: Era,
    /// The format of the tables.
    pub paging: Paging,
    /// High memory is built in.
    pub highmem: bool,
    /// CPUs that the kernel was built for.
    pub nr_cpus: u64,
    /// Physical address 0 in low memory's map; the image lies in it too.
    pub page_offset: VirtAddr,
    /// First byte of the CPU entry areas.
    pub cpu_entry_area: VirtAddr,
    /// Local descriptor tables.
    pub ldt: VirtRange,
    /// First byte of the pages of high memory that are mapped for everyone; named without high memory too.
    pub pkmap_base: VirtAddr,
    /// One past the last byte of vmalloc.
    pub vmalloc_end: VirtAddr,
    /// Most bytes of low memory (`MAXMEM`).
    pub max_low_bytes: u64,
    /// One past the last byte of low memory (`high_memory`).
    pub high_memory: VirtAddr,
    /// Where the image is linked.
    pub text_link: VirtAddr,
}

impl Layout {
    /// The layout and the fixed addresses of a kernel with as much low memory as fits.
    ///
    /// `reservetop=` moves everything down by whole leaves; `vmalloc=` takes its size, and the gap before vmalloc, from
    /// low memory.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_32_areas.h; arch/x86/mm/pgtable.c `reserve_top_address`;
    /// arch/x86/mm/pgtable_32.c `parse_vmalloc`.
    #[must_use]
    pub const fn new(facts: &LayoutFacts) -> (Self, Fixmap) {
        let large = facts.paging.large();
        let top = match facts.reserved_top {
            0 => FIXADDR_TOP,
            bytes => VirtAddr((((1 << VIRTUAL_BITS) - bytes) & !(large - 1)) - PAGE),
        };
        let fixmap = fixmap(facts, top);
        let entry_bytes = cpu_entry_area::bytes(facts.nr_cpus);
        let cpu_entry_area = below(fixmap.total_start(), entry_bytes, large);
        let ldt_start = below(cpu_entry_area, PAGE, large);
        let pkmap_base = below(ldt_start, PAGE, large);
        let vmalloc_end = VirtAddr(if facts.highmem { pkmap_base.0 } else { ldt_start.0 } - 2 * PAGE);
        let page_offset = facts.split.page_offset();
        let reserve = match facts.vmalloc {
            Some(bytes) => bytes + VMALLOC_OFFSET,
            None => VMALLOC_RESERVE,
        };
        let max_low_bytes = (vmalloc_end.0 - page_offset.0).saturating_sub(reserve);
        let layout = Self {
            era: facts.era,
            paging: facts.paging,
            highmem: facts.highmem,
            nr_cpus: facts.nr_cpus,
            page_offset,
            cpu_entry_area,
            ldt: VirtRange { start: ldt_start, last: VirtAddr(ldt_start.0 + (large - 1)) },
            pkmap_base,
            vmalloc_end,
            max_low_bytes,
            high_memory: VirtAddr(page_offset.0 + max_low_bytes),
            text_link: VirtAddr(page_offset.0 + facts.physical_start.next_multiple_of(facts.physical_align)),
        };
        (layout, fixmap)
    }

    /// The same with low memory that ends before frame `max_low_pfn`.
    #[must_use]
    pub const fn with_low_memory(self, max_low_pfn: Pfn) -> Self {
        Self { high_memory: VirtAddr(self.page_offset.0 + max_low_pfn.0 * PAGE), ..self }
    }

    /// First byte of vmalloc, and of modules.
    #[must_use]
    pub const fn vmalloc_start(&self) -> VirtAddr {
        VirtAddr(self.high_memory.0 + VMALLOC_OFFSET)
    }

    /// `pa` in low memory's map.
    #[must_use]
    pub const fn direct(&self, pa: PhysAddr) -> VirtAddr {
        self.page_offset.wrapping_add(pa.0)
    }

    /// The CPU entry areas of all CPUs, with the page of the interrupt descriptor table before them.
    #[must_use]
    pub const fn cpu_entry_areas(&self) -> VirtRange {
        let last = self.cpu_entry_area.0 + cpu_entry_area::bytes(self.nr_cpus) - 1;
        VirtRange { start: self.cpu_entry_area, last: VirtAddr(last) }
    }

    /// The first root slot of the kernel (`KERNEL_PGD_BOUNDARY`).
    #[must_use]
    pub const fn kernel_root_boundary(&self) -> u64 {
        self.page_offset.0 >> self.paging.root_shift()
    }

    /// Root slots of a table (`PTRS_PER_PGD`).
    #[must_use]
    pub const fn root_entries(&self) -> u64 {
        1 << (VIRTUAL_BITS - self.paging.root_shift())
    }

    /// The kernel's addresses.
    #[must_use]
    pub const fn kernel_half(&self) -> VirtRange {
        VirtRange { start: self.page_offset, last: VirtAddr((1 << VIRTUAL_BITS) - 1) }
    }

    /// Every address.
    #[must_use]
    pub const fn all() -> VirtRange {
        VirtRange { start: VirtAddr(0), last: VirtAddr((1 << VIRTUAL_BITS) - 1) }
    }

    /// The level at which tables of the kernel half are given to other roots.
    #[must_use]
    pub const fn synchronised_level() -> Level {
        Level::Pmd
    }
}

/// The highest boundary of a leaf with `bytes` between it and `end`.
const fn below(end: VirtAddr, bytes: u64, large: u64) -> VirtAddr {
    VirtAddr((end.0 - bytes) & !(large - 1))
}

/// Whether PCI's memory-mapped configuration has a fixed address, where it is built.
///
/// | era | yes |
/// |---|---|
/// | to 5.10 | always (4.14 UNVERIFIED) |
/// | 6.1 and later | with pages for local kernel mappings |
const fn has_mcfg(facts: &LayoutFacts) -> bool {
    match facts.era {
        Era::V4_14 | Era::V5_10 => facts.pcie_mcfg,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => facts.pcie_mcfg && facts.highmem,
    }
}

const fn fixmap(facts: &LayoutFacts, top: VirtAddr) -> Fixmap {
    Fixmap::narrow(
        &FixmapFacts {
            vsyscall: false,
            ohci1394: facts.ohci1394,
            local_apic: facts.local_apic,
            io_apics: if facts.io_apic { MAX_IO_APICS } else { 0 },
            kmap_local: kmap_pages(facts.era, facts.highmem, facts.nr_cpus) as u32,
            paravirt: facts.paravirt,
            ghes: facts.ghes,
            txt: facts.txt,
        },
        Narrow { top, table_entries: facts.paging.table_entries() as u32, pcie_mcfg: has_mcfg(facts) },
    )
}
