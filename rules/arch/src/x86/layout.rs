//! The virtual address space of x86-64: where each region lies, by paging mode, era and configuration.
//!
//! ```text
//! 4 levels              5 levels
//! 0x0000000000000000    0x0000000000000000   user half
//! 0xffff800000000000    0xff00000000000000   guard hole: a hypervisor's
//! 0xffff880000000000    0xff10000000000000   local descriptor tables (isolation): one root slot
//! 0xffff888000000000    0xff11000000000000   direct map            } these three may be drawn:
//! 0xffffc90000000000    0xffa0000000000000   vmalloc               } `kaslr`
//! 0xffffea0000000000    0xffd4000000000000   vmemmap               }
//! 0xffffec0000000000    0xffdffc0000000000   KASAN shadow, to 0xfffffc0000000000
//! 0xfffffe0000000000 on, both: CPU entry areas, espfix, EFI, kernel image, modules, fixmap
//! ```
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_64_types.h, page_64_types.h, kasan.h;
//! Documentation/arch/x86/x86_64/mm.rst.

use kernmem_base::{Era, Granule, Pfn, PhysAddr, VirtAddr, VirtRange};

/// Levels of tables in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Paging {
    /// 48-bit virtual addresses.
    Level4,
    /// 57-bit virtual addresses.
    Level5,
}

/// What decides how many levels a kernel runs with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagingFacts {
    /// `CONFIG_X86_5LEVEL`.
    pub built: bool,
    /// The CPU has `la57`.
    pub la57: bool,
    /// `no5lvl` was told.
    pub no5lvl: bool,
}

impl Paging {
    /// The levels that a kernel runs with: a kernel for five goes on with four where it has to.
    ///
    /// | era | five levels |
    /// |---|---|
    /// | to 6.12 | where they are built, the CPU has them and the command line does not refuse them (4.14 UNVERIFIED) |
    /// | 7.2 | always built, else the same |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/boot/compressed/pgtable_64.c `paging_prepare`, `configure_5level_paging`.
    #[must_use]
    pub const fn choose(era: Era, facts: PagingFacts) -> Self {
        let built = match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => facts.built,
            Era::V7_2 => true,
        };
        if built && facts.la57 && !facts.no5lvl { Self::Level5 } else { Self::Level4 }
    }

    /// One past the last frame that the kernel can use (`MAX_ARCH_PFN`).
    #[must_use]
    pub const fn max_arch_pfn(self) -> Pfn {
        Pfn(1 << (self.physmem_bits() - Granule::K4.shift()))
    }

    /// log2 of the bytes of a root slot.
    #[must_use]
    pub const fn root_shift(self) -> u32 {
        match self {
            Self::Level4 => 39,
            Self::Level5 => 48,
        }
    }

    /// Bits of an address of the user half (`__VIRTUAL_MASK_SHIFT`).
    #[must_use]
    pub const fn user_bits(self) -> u32 {
        match self {
            Self::Level4 => 47,
            Self::Level5 => 56,
        }
    }

    /// Bits of a physical address that the memory map covers (`MAX_PHYSMEM_BITS`).
    #[must_use]
    pub const fn physmem_bits(self) -> u32 {
        match self {
            Self::Level4 => 46,
            Self::Level5 => 52,
        }
    }

    /// Size of the vmalloc region in TiB.
    #[must_use]
    pub const fn vmalloc_tb(self) -> u64 {
        match self {
            Self::Level4 => 32,
            Self::Level5 => 12_800,
        }
    }

    /// log2 of the bytes that an entry of the level below the root maps in software's eyes (`P4D_SHIFT`).
    pub const P4D_SHIFT: u32 = 39;

    /// The first address of the kernel half.
    #[must_use]
    pub const fn kernel_half(self) -> VirtAddr {
        VirtAddr(!0 << self.user_bits())
    }

    /// The address of a root slot counted from the end of the address space.
    const fn root_slot_from_end(self, slots: u64) -> u64 {
        (slots << self.root_shift()).wrapping_neg()
    }
}

/// The bases that may be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bases {
    /// `page_offset_base`: physical address 0 in the direct map.
    pub page_offset: VirtAddr,
    /// `vmalloc_base`.
    pub vmalloc: VirtAddr,
    /// `vmemmap_base`: the descriptor of frame 0.
    pub vmemmap: VirtAddr,
}

impl Bases {
    /// The bases of a kernel that draws none.
    ///
    /// | era | direct map, 4 levels |
    /// |---|---|
    /// | 4.14 | 0xffff880000000000 (UNVERIFIED: the slot of the descriptor tables did not exist yet) |
    /// | 5.10 and later | 0xffff888000000000 |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/page_64_types.h, pgtable_64_types.h `__PAGE_OFFSET_BASE_L4`.
    #[must_use]
    pub const fn fixed(era: Era, paging: Paging) -> Self {
        let page_offset = match (paging, era) {
            (Paging::Level4, Era::V4_14) => 0xffff_8800_0000_0000,
            (Paging::Level4, Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2) => 0xffff_8880_0000_0000,
            (Paging::Level5, Era::V4_14) => 0xff10_0000_0000_0000,
            (Paging::Level5, Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2) => 0xff11_0000_0000_0000,
        };
        let (vmalloc, vmemmap) = match paging {
            Paging::Level4 => (0xffff_c900_0000_0000, 0xffff_ea00_0000_0000),
            Paging::Level5 => (0xffa0_0000_0000_0000, 0xffd4_0000_0000_0000),
        };
        Self { page_offset: VirtAddr(page_offset), vmalloc: VirtAddr(vmalloc), vmemmap: VirtAddr(vmemmap) }
    }

    /// Whether a kernel with `paging` can have drawn these: whole gigabytes, in this order, with room for vmalloc.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/kaslr.c `kernel_randomize_memory`.
    #[must_use]
    pub const fn can_be_drawn(&self, era: Era, paging: Paging) -> bool {
        const GIB: u64 = 1 << 30;
        let [direct, vmalloc, vmemmap] = [self.page_offset.0, self.vmalloc.0, self.vmemmap.0];
        let is_whole = direct % GIB == 0 && vmalloc % GIB == 0 && vmemmap % GIB == 0;
        let in_order = Self::fixed(era, paging).page_offset.0 <= direct && direct < vmalloc;
        let has_room = match vmalloc.checked_add(paging.vmalloc_tb() << 40) {
            Some(end) => end <= vmemmap && vmemmap < CPU_ENTRY_AREA.0,
            None => false,
        };
        is_whole && in_order && has_room
    }
}

/// What era, CPU and configuration say about the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutFacts {
    /// The branch.
    pub era: Era,
    /// Levels in use.
    pub paging: Paging,
    /// `CONFIG_RANDOMIZE_BASE`: the image may move, and its region is larger.
    pub randomize_base: bool,
    /// `CONFIG_KASAN` (generic).
    pub kasan: bool,
    /// `CONFIG_KMSAN`: three quarters of the vmalloc region are metadata.
    pub kmsan: bool,
    /// `CONFIG_DEBUG_KMAP_LOCAL_FORCE_MAP`: a larger fixmap, fewer modules.
    pub force_kmap_local: bool,
    /// `CONFIG_PHYSICAL_START`.
    pub physical_start: u64,
    /// `CONFIG_PHYSICAL_ALIGN`.
    pub physical_align: u64,
}

/// Where `__START_KERNEL_map` is.
pub const START_KERNEL_MAP: VirtAddr = VirtAddr(0xffff_ffff_8000_0000);
/// First byte of the CPU entry areas: p4d slot −4.
pub const CPU_ENTRY_AREA: VirtAddr = VirtAddr((4u64 << Paging::P4D_SHIFT).wrapping_neg());
/// First byte of the espfix stacks: p4d slot −2.
pub const ESPFIX: VirtAddr = VirtAddr((2u64 << Paging::P4D_SHIFT).wrapping_neg());
/// Where EFI run-time mappings begin to grow down: 4 GiB below the end.
pub const EFI_START: VirtAddr = VirtAddr((4u64 << 30).wrapping_neg());
/// Where they must stop: 68 GiB below the end.
pub const EFI_END: VirtAddr = VirtAddr((68u64 << 30).wrapping_neg());
/// The fixed address with index 0.
pub const FIXADDR_TOP: VirtAddr = VirtAddr(0xffff_ffff_ff7f_f000);
/// The vsyscall page, whether built or not.
pub const VSYSCALL: VirtAddr = VirtAddr(0xffff_ffff_ff60_0000);
/// What an address, divided by eight, is moved by to reach its shadow.
pub const KASAN_SHADOW_OFFSET: u64 = 0xdfff_fc00_0000_0000;
/// log2 of the bytes that one byte of shadow describes.
pub const KASAN_SHADOW_SCALE_SHIFT: u32 = 3;
/// log2 of the bytes of a section of the memory map.
pub const SECTION_SIZE_BITS: u32 = 27;
/// Bits of a frame address in an entry.
pub const PHYSICAL_MASK_SHIFT: u32 = 52;
/// The legacy hole: frames that are mapped whatever the firmware map says, with everything below.
pub const ISA_HOLE: (PhysAddr, PhysAddr) = (PhysAddr(0xa_0000), PhysAddr(0x10_0000));
/// log2 of the largest leaf that maps a device.
pub const IOREMAP_MAX_SHIFT: u32 = 30;
/// Pages of the pool for early tables.
pub const EARLY_DYNAMIC_TABLES: usize = 64;
/// End of the memory that every boot maps first, and the lowest address that the direct map's order starts at.
pub const ISA_END: PhysAddr = ISA_HOLE.1;

/// Where each region of one kernel lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The branch.
    pub era: Era,
    /// Levels in use.
    pub paging: Paging,
    /// Last byte of the user half.
    pub user_last: VirtAddr,
    /// The hole left to a hypervisor.
    pub guard_hole: VirtRange,
    /// The root slot of remapped descriptor tables; none in 4.14 (UNVERIFIED).
    pub ldt: Option<VirtRange>,
    /// Physical address 0 in the direct map.
    pub page_offset: VirtAddr,
    /// First byte of vmalloc.
    pub vmalloc_start: VirtAddr,
    /// Last byte of vmalloc (Linux's `VMALLOC_END` is inclusive here).
    pub vmalloc_last: VirtAddr,
    /// Last byte of the whole region, KMSAN's metadata included (`VMEMORY_END`).
    pub vmemory_last: VirtAddr,
    /// The descriptor of frame 0.
    pub vmemmap: VirtAddr,
    /// KASAN's shadow, if built.
    pub kasan_shadow: Option<VirtRange>,
    /// First byte of the CPU entry areas.
    pub cpu_entry_area: VirtAddr,
    /// First byte of the espfix stacks.
    pub espfix: VirtAddr,
    /// Where EFI mappings begin to grow down.
    pub efi_start: VirtAddr,
    /// Where they must stop.
    pub efi_end: VirtAddr,
    /// `__START_KERNEL_map`.
    pub start_kernel_map: VirtAddr,
    /// Bytes from there on that the image may use.
    pub kernel_image_size: u64,
    /// Where the image is linked (`__START_KERNEL`).
    pub text_link: VirtAddr,
    /// First byte of modules.
    pub modules_start: VirtAddr,
    /// One past the last byte of modules.
    pub modules_end: VirtAddr,
    /// Last byte of physical memory that the direct map can hold, before any draw.
    pub physmem_last: PhysAddr,
    /// Bytes of a kernel stack, and of an interrupt stack.
    pub thread_size: u64,
}

impl Layout {
    /// The layout for `bases`, drawn or fixed.
    ///
    /// | era | last byte of the region that vmalloc is part of |
    /// |---|---|
    /// | 5.10 | vmalloc's (KMSAN does not exist) |
    /// | 6.1 and later | with KMSAN vmalloc is its first quarter |
    ///
    /// | build | image region | modules from |
    /// |---|---|---|
    /// | image may be moved | 1 GiB | 0xffffffffc0000000 |
    /// | not | 512 MiB | 0xffffffffa0000000 |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_64_types.h, page_64_types.h, kasan.h.
    #[must_use]
    pub const fn new(facts: &LayoutFacts, bases: Bases) -> Self {
        let paging = facts.paging;
        let slot = 1u64 << paging.root_shift();
        let half = paging.kernel_half();
        let ldt_start = paging.root_slot_from_end(240);
        let ldt = match facts.era {
            Era::V4_14 => None,
            Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                Some(VirtRange { start: VirtAddr(ldt_start), last: VirtAddr(ldt_start + slot - 1) })
            }
        };
        let vmalloc_size = paging.vmalloc_tb() << 40;
        let usable = if facts.kmsan { vmalloc_size >> 2 } else { vmalloc_size };
        let kernel_image_size = if facts.randomize_base { 1 << 30 } else { 512 << 20 };
        let load = facts.physical_start.next_multiple_of(facts.physical_align);
        let kmap: u64 = if facts.force_kmap_local { 0xffff_ffff_fe00_0000 } else { 0xffff_ffff_ff00_0000 };
        let shadow_start = KASAN_SHADOW_OFFSET.wrapping_add(half.0 >> KASAN_SHADOW_SCALE_SHIFT);
        let shadow_size = 1 << (paging.user_bits() - KASAN_SHADOW_SCALE_SHIFT);
        let shadow = VirtRange { start: VirtAddr(shadow_start), last: VirtAddr(shadow_start + (shadow_size - 1)) };
        Self {
            era: facts.era,
            paging,
            user_last: VirtAddr((1 << paging.user_bits()) - 1),
            guard_hole: VirtRange { start: half, last: VirtAddr(ldt_start - 1) },
            ldt,
            page_offset: bases.page_offset,
            vmalloc_start: bases.vmalloc,
            vmalloc_last: VirtAddr(bases.vmalloc.0 + (usable - 1)),
            vmemory_last: VirtAddr(bases.vmalloc.0 + (vmalloc_size - 1)),
            vmemmap: bases.vmemmap,
            kasan_shadow: if facts.kasan { Some(shadow) } else { None },
            cpu_entry_area: CPU_ENTRY_AREA,
            espfix: ESPFIX,
            efi_start: EFI_START,
            efi_end: EFI_END,
            start_kernel_map: START_KERNEL_MAP,
            kernel_image_size,
            text_link: VirtAddr(START_KERNEL_MAP.0 + load),
            modules_start: VirtAddr(START_KERNEL_MAP.0 + kernel_image_size),
            modules_end: VirtAddr(kmap),
            physmem_last: PhysAddr((1 << paging.physmem_bits()) - 1),
            thread_size: if facts.kasan { 32 << 10 } else { 16 << 10 },
        }
    }

    /// The last user address plus one (`TASK_SIZE_MAX`): the half less one page.
    #[must_use]
    pub const fn task_size_max(&self) -> u64 {
        self.user_last.0 + 1 - Granule::K4.bytes()
    }

    /// One past the last address that a program gets unasked (`DEFAULT_MAP_WINDOW`), also with five levels.
    #[must_use]
    pub const fn default_map_window() -> u64 {
        (1 << Paging::Level4.user_bits()) - Granule::K4.bytes()
    }

    /// `pa` in the direct map.
    #[must_use]
    pub const fn direct(&self, pa: PhysAddr) -> VirtAddr {
        self.page_offset.wrapping_add(pa.0)
    }

    /// The descriptor of a frame, `struct_page_bytes` each.
    #[must_use]
    pub const fn descriptor(&self, pfn: Pfn, struct_page_bytes: u64) -> VirtAddr {
        self.vmemmap.wrapping_add(pfn.0.wrapping_mul(struct_page_bytes))
    }

    /// The physical address of an address in the image, whose memory was moved by `phys_base`.
    #[must_use]
    pub const fn image_phys(&self, va: VirtAddr, phys_base: u64) -> PhysAddr {
        PhysAddr(va.0.wrapping_sub(self.start_kernel_map.0).wrapping_add(phys_base))
    }

    /// The root slot of `va`.
    #[must_use]
    pub const fn root_slot(&self, va: VirtAddr) -> u64 {
        va.0 >> self.paging.root_shift() & 0x1ff
    }

    /// The first root slot that a new address space copies from the kernel's (`KERNEL_PGD_BOUNDARY`).
    #[must_use]
    pub const fn kernel_root_boundary(&self) -> u64 {
        self.root_slot(self.page_offset)
    }

    /// The shadow of `va`.
    #[must_use]
    pub const fn kasan_shadow_of(&self, va: VirtAddr) -> VirtAddr {
        VirtAddr(KASAN_SHADOW_OFFSET.wrapping_add(va.0 >> KASAN_SHADOW_SCALE_SHIFT))
    }
}
