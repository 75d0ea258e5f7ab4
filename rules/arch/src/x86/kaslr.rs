//! Where randomisation puts the three large regions and the image: arithmetic on drawn numbers.
//!
//! Not here: drawing, and the choice of physical memory for the image, which a loader makes.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/kaslr.c `kernel_randomize_memory`,
//! arch/x86/boot/compressed/kaslr.c `find_random_virt_addr`.

use kernmem_base::{Era, Pfn, PhysAddr, Seed, VirtAddr};

use super::layout::{Bases, CPU_ENTRY_AREA, Paging, START_KERNEL_MAP};

/// What decides whether anything is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switches {
    /// `CONFIG_RANDOMIZE_MEMORY`.
    pub randomize_memory: bool,
    /// The loader did not see `nokaslr`.
    pub loader_flag: bool,
    /// `CONFIG_KASAN`.
    pub kasan: bool,
}

impl Switches {
    /// `kaslr_enabled`: the image, and from 6.12 on the CPU entry areas.
    #[must_use]
    pub const fn image(self) -> bool {
        self.randomize_memory && self.loader_flag
    }

    /// `kaslr_memory_enabled`: the three regions; a KASAN kernel leaves them.
    #[must_use]
    pub const fn regions(self) -> bool {
        self.image() && !self.kasan
    }
}

/// What the arithmetic of the regions needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionFacts {
    /// The branch.
    pub era: Era,
    /// Levels in use.
    pub paging: Paging,
    /// One past the last frame of RAM.
    pub max_pfn: Pfn,
    /// `CONFIG_RANDOMIZE_MEMORY_PHYSICAL_PADDING`, TiB: 10 with memory hotplug, else 0.
    pub padding_tb: u64,
    /// `CONFIG_ZONE_DEVICE`.
    pub zone_device: bool,
    /// Bytes of a page descriptor.
    pub struct_page_bytes: u64,
}

/// The regions after the draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Regions {
    /// Where they are.
    pub bases: Bases,
    /// Last byte of physical memory that the direct map can hold.
    pub physmem_last: PhysAddr,
}

/// Three numbers from one seed of ours: Linux draws from a generator that its timers and CPU seed, so a recorded kernel's
/// bases are given instead.
#[must_use]
pub fn draws(seed: u64) -> [u64; 3] {
    let mut seed = Seed(seed);
    core::array::from_fn(|_| seed.draw())
}

const TB_SHIFT: u32 = 40;
const GIB: u64 = 1 << 30;

impl RegionFacts {
    /// Sizes of direct map, vmalloc and vmemmap in TiB.
    ///
    /// | era | direct map trimmed to the memory there is |
    /// |---|---|
    /// | to 5.10 | always (4.14 UNVERIFIED) |
    /// | 6.1 and later | unless device memory may come later |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/kaslr.c `kernel_randomize_memory`.
    #[must_use]
    pub const fn sizes_tb(&self) -> [u64; 3] {
        let whole = 1u64 << (self.paging.physmem_bits() - TB_SHIFT);
        let memory = (self.max_pfn.0 << 12).div_ceil(1 << TB_SHIFT) + self.padding_tb;
        let trim = match self.era {
            Era::V4_14 | Era::V5_10 => true,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => !self.zone_device,
        };
        let direct = if trim && memory < whole { memory } else { whole };
        let vmemmap = ((direct << (TB_SHIFT - 12)) * self.struct_page_bytes).div_ceil(1 << TB_SHIFT);
        [direct, self.paging.vmalloc_tb(), vmemmap]
    }

    /// The regions for three drawn 64-bit numbers.
    ///
    /// | era | end of physical memory |
    /// |---|---|
    /// | to 5.10 | not narrowed |
    /// | 6.1 and later | what fits below the start of vmalloc's share |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/kaslr.c `kernel_randomize_memory`.
    #[must_use]
    pub const fn place(&self, draws: [u64; 3]) -> Regions {
        let sizes = self.sizes_tb();
        let mut bases = [0; 3];
        let mut va = Bases::fixed(self.era, self.paging).page_offset.0;
        let mut remain = CPU_ENTRY_AREA.0 - va - ((sizes[0] + sizes[1] + sizes[2]) << TB_SHIFT);
        let mut physmem_last = (1 << self.paging.physmem_bits()) - 1;
        let mut region = 0;
        while region < 3 {
            let share = remain / (3 - region as u64);
            let gap = (draws[region] % (share + 1)) & !(GIB - 1);
            va += gap;
            bases[region] = va;
            va += sizes[region] << TB_SHIFT;
            if region == 0 {
                physmem_last = match self.era {
                    Era::V4_14 | Era::V5_10 => physmem_last,
                    Era::V6_1 | Era::V6_12 | Era::V7_2 => va - 1 - bases[0],
                };
            }
            va = (va + 1).next_multiple_of(GIB);
            remain -= gap;
            region += 1;
        }
        let [page_offset, vmalloc, vmemmap] = bases;
        Regions {
            bases: Bases { page_offset: VirtAddr(page_offset), vmalloc: VirtAddr(vmalloc), vmemmap: VirtAddr(vmemmap) },
            physmem_last: PhysAddr(physmem_last),
        }
    }
}

/// The virtual address of the image for one drawn number; it does not depend on the physical one.
///
/// `load` is where an image that is not moved lies, `image_bytes` its size in memory, `region` the image region's.
///
/// Source: Linux 5.10–7.2 arch/x86/boot/compressed/kaslr.c `find_random_virt_addr`.
#[must_use]
pub const fn image_address(load: u64, image_bytes: u64, region: u64, align: u64, draw: u64) -> VirtAddr {
    let slots = 1 + (region - load - image_bytes) / align;
    VirtAddr(START_KERNEL_MAP.0 + load + draw % slots * align)
}

/// What is added to the distance from `__START_KERNEL_map` to reach physical memory (`phys_base`).
#[must_use]
pub const fn phys_base(text_phys: PhysAddr, text_virt: VirtAddr) -> u64 {
    text_phys.0.wrapping_sub(text_virt.0 - START_KERNEL_MAP.0)
}
