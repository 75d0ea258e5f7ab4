//! The regions of the kernel's half of the address space, by era, page size and address bits.
//!
//! ```text
//!  4.14     KASAN | modules | vmalloc (image) | fixmap | PCI I/O | vmemmap | linear map
//!  5.10     linear map | KASAN | BPF | modules | vmalloc (image) | fixmap | PCI I/O | vmemmap
//!  6.1      linear map (KASAN in its top) | modules | vmalloc (image) | fixmap | PCI I/O | vmemmap
//!  6.12 on  linear map (KASAN in its top) | modules | vmalloc (image) | vmemmap | PCI I/O | fixmap
//! ```
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/memory.h, pgtable.h; 4.14 from headers derived from it (UNVERIFIED).

use kernmem_base::{Era, Granule, Level, VirtAddr};

use super::{Fixmap, FixmapFacts, Geometry};
use crate::kasan::{Kasan, ShadowMap};

/// What decides the layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutFacts {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// Configured virtual address bits.
    pub va_bits: u32,
    /// Bits in use: fewer than configured on a CPU that lacks 52.
    pub va_bits_actual: u32,
    /// KASAN's mode.
    pub kasan: Kasan,
    /// Slots of the fixmap.
    pub fixmap: FixmapFacts,
}

/// Where each region lies; ends are exclusive, and 0 stands for 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Bits in use.
    pub va_bits_actual: u32,
    /// Start of the linear map's region.
    pub page_offset: VirtAddr,
    /// End of the linear map's region.
    pub page_end: VirtAddr,
    /// KASAN's shadow.
    pub kasan: Option<(VirtAddr, VirtAddr)>,
    /// The arithmetic of that shadow.
    pub shadow_map: Option<ShadowMap>,
    /// The BPF JIT region of 5.10.
    pub bpf: Option<(VirtAddr, VirtAddr)>,
    /// Start of the module region.
    pub modules_start: VirtAddr,
    /// End of the module region.
    pub modules_end: VirtAddr,
    /// Where the image is linked; also the start of vmalloc.
    pub kimage: VirtAddr,
    /// End of vmalloc.
    pub vmalloc_end: VirtAddr,
    /// Lowest permanent fixmap slot.
    pub fixaddr_start: VirtAddr,
    /// Lowest fixmap slot of all.
    pub fixaddr_tot_start: VirtAddr,
    /// Top of the fixmap.
    pub fixaddr_top: VirtAddr,
    /// Start of the PCI I/O window.
    pub pci_io_start: VirtAddr,
    /// End of the PCI I/O window.
    pub pci_io_end: VirtAddr,
    /// First struct page: that of the first byte of the linear map's region.
    pub vmemmap_start: VirtAddr,
    /// End of the memory map's region.
    pub vmemmap_end: VirtAddr,
    /// Slots of the fixmap.
    pub fixmap: Fixmap,
}

const MIB: u64 = 1 << 20;
/// log2 of the bytes of a page descriptor (`STRUCT_PAGE_MAX_SHIFT`).
pub const STRUCT_PAGE_SHIFT: u32 = 6;

/// `-2^bits`.
const fn minus_pow2(bits: u32) -> u64 {
    !0 << bits
}

/// The fewest address bits that a kernel of this configuration can run with.
///
/// Source: Linux 6.12 arch/arm64/include/asm/memory.h `VA_BITS_MIN`.
#[must_use]
pub const fn va_bits_min(granule: Granule, va_bits: u32) -> u32 {
    match (va_bits, granule) {
        (52, Granule::K16) => 47,
        (52, _) => 48,
        _ => va_bits,
    }
}

/// The address bits that a kernel of this page size can be configured with.
///
/// | page | all eras | more |
/// |---|---|---|
/// | 4K | 39, 48 | 52 from 6.12 on |
/// | 16K | 36, 47, 48 | 52 from 6.12 on |
/// | 64K | 42, 48 | 52 from 5.10 on |
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig `ARM64_VA_BITS`; 4.14 UNVERIFIED.
#[must_use]
pub const fn va_bits_choices(era: Era, granule: Granule) -> &'static [u32] {
    match (granule, era) {
        (Granule::K4, Era::V4_14 | Era::V5_10 | Era::V6_1) => &[39, 48],
        (Granule::K4, Era::V6_12 | Era::V7_2) => &[39, 48, 52],
        (Granule::K16, Era::V4_14 | Era::V5_10 | Era::V6_1) => &[36, 47, 48],
        (Granule::K16, Era::V6_12 | Era::V7_2) => &[36, 47, 48, 52],
        (Granule::K64, Era::V4_14) => &[42, 48],
        (Granule::K64, Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2) => &[42, 48, 52],
    }
}

/// Bytes of an entry of the PUD level; of a root entry where that level is folded.
const fn pud_size(granule: Granule, va_bits: u32) -> u64 {
    match Geometry::of(granule.shift(), va_bits) {
        Some(geometry) => 1 << geometry.shift(Level::Pud),
        None => panic!("the address bits are a choice of this page size"),
    }
}

/// Whether a kernel with this page size and these address bits can have the shadow.
///
/// | era | generic | by tags |
/// |---|---|---|
/// | 4.14 (UNVERIFIED) | not 16K with 48 bits | never |
/// | 5.10, 6.1 | not 16K with 48 bits | the same |
/// | 6.12, 7.2 | always | always |
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig `HAVE_ARCH_KASAN`, `HAVE_ARCH_KASAN_SW_TAGS`.
#[must_use]
pub const fn has_kasan(era: Era, granule: Granule, va_bits: u32, kasan: Kasan) -> bool {
    let wide = !(matches!(granule, Granule::K16) && va_bits == 48);
    match (kasan, era) {
        (Kasan::Off, _) | (Kasan::Generic | Kasan::SwTags, Era::V6_12 | Era::V7_2) => true,
        (Kasan::SwTags, Era::V4_14) => false,
        (Kasan::Generic, Era::V4_14) | (Kasan::Generic | Kasan::SwTags, Era::V5_10 | Era::V6_1) => wide,
    }
}

/// What is added to an address, divided by the scale, to reach its shadow: `KASAN_SHADOW_OFFSET`, cut to 64 bits.
/// `None` without a shadow.
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig `KASAN_SHADOW_OFFSET`.
#[must_use]
pub const fn kasan_shadow_offset(facts: &LayoutFacts) -> Option<u64> {
    match ShadowMap::ending_at(facts.kasan, shadow_end(facts)) {
        Some(map) => Some(map.offset),
        None => None,
    }
}

/// End of the shadow, exclusive: where the shadow of the last address ends.
///
/// | era | end |
/// |---|---|
/// | 4.14, 5.10 | an eighth (a sixteenth) of the address space above its middle |
/// | 6.1 and later | its middle |
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig `KASAN_SHADOW_OFFSET`, include/asm/memory.h `KASAN_SHADOW_END`.
const fn shadow_end(facts: &LayoutFacts) -> VirtAddr {
    let bits = va_bits_min(facts.granule, facts.va_bits);
    let middle = minus_pow2(bits - 1);
    match (facts.era, facts.kasan.scale()) {
        (Era::V4_14 | Era::V5_10, Some(scale)) => VirtAddr(middle.wrapping_add(1 << (bits - scale))),
        (Era::V4_14 | Era::V5_10, None) | (Era::V6_1 | Era::V6_12 | Era::V7_2, _) => VirtAddr(middle),
    }
}

impl Layout {
    /// The layout of one kernel.
    #[must_use]
    pub const fn new(facts: &LayoutFacts) -> Self {
        match facts.era {
            Era::V4_14 => Self::before_the_flip(facts),
            Era::V5_10 | Era::V6_1 => Self::vmemmap_on_top(facts),
            Era::V6_12 | Era::V7_2 => Self::fixmap_on_top(facts),
        }
    }

    /// 4.14: the linear map is the upper half.
    const fn before_the_flip(facts: &LayoutFacts) -> Self {
        let fixmap = Fixmap::new(&facts.fixmap);
        let bottom = minus_pow2(facts.va_bits);
        let shadow = match facts.kasan {
            Kasan::Off => 0,
            Kasan::Generic | Kasan::SwTags => 1 << (facts.va_bits - 3),
        };
        let modules = bottom + shadow;
        let page_offset = minus_pow2(facts.va_bits - 1);
        let vmemmap_size = 1 << (facts.va_bits - facts.granule.shift() - 1 + STRUCT_PAGE_SHIFT);
        let vmemmap = page_offset - vmemmap_size;
        let pci_end = vmemmap - 2 * MIB;
        let fixaddr_top = VirtAddr(pci_end - 16 * MIB - 2 * MIB);
        Self {
            va_bits_actual: facts.va_bits,
            page_offset: VirtAddr(page_offset),
            page_end: VirtAddr(0),
            kasan: if shadow == 0 { None } else { Some((VirtAddr(bottom), VirtAddr(modules))) },
            shadow_map: ShadowMap::ending_at(facts.kasan, VirtAddr(modules)),
            bpf: None,
            modules_start: VirtAddr(modules),
            modules_end: VirtAddr(modules + 128 * MIB),
            kimage: VirtAddr(modules + 128 * MIB),
            vmalloc_end: VirtAddr(page_offset - pud_size(facts.granule, facts.va_bits) - vmemmap_size - (64 << 10)),
            fixaddr_start: fixmap.address(fixaddr_top, fixmap.permanent),
            fixaddr_tot_start: fixmap.address(fixaddr_top, fixmap.total),
            fixaddr_top,
            pci_io_start: VirtAddr(pci_end - 16 * MIB),
            pci_io_end: VirtAddr(pci_end),
            vmemmap_start: VirtAddr(vmemmap),
            vmemmap_end: VirtAddr(page_offset),
            fixmap,
        }
    }

    /// 5.10 and 6.1: linear map low, memory map at the top.
    const fn vmemmap_on_top(facts: &LayoutFacts) -> Self {
        let fixmap = Fixmap::new(&facts.fixmap);
        let (page_offset, page_end, kasan) = Self::linear_and_shadow(facts);
        let middle = minus_pow2(va_bits_min(facts.granule, facts.va_bits) - 1);
        let vmemmap_size = middle.wrapping_sub(page_offset) >> (facts.granule.shift() - STRUCT_PAGE_SHIFT);
        let old = matches!(facts.era, Era::V5_10);
        let vmemmap = if old {
            0u64.wrapping_sub(vmemmap_size + 2 * MIB)
        } else {
            minus_pow2(facts.va_bits - (facts.granule.shift() - STRUCT_PAGE_SHIFT))
        };
        let (pci_gap, fix_gap) = if old { (2 * MIB, 2 * MIB) } else { (8 * MIB, 8 * MIB) };
        let pci_end = vmemmap - pci_gap;
        let pci_start = pci_end - 16 * MIB;
        let fixaddr_top = VirtAddr(pci_start - fix_gap);
        let low = match kasan {
            Some((_, end)) if old => end.0,
            _ => middle,
        };
        let bpf_size = if old { 128 * MIB } else { 0 };
        let modules = low + bpf_size;
        let vmalloc_end = if old {
            0u64.wrapping_sub(pud_size(facts.granule, facts.va_bits) + vmemmap_size + (64 << 10))
        } else {
            vmemmap - 256 * MIB
        };
        Self {
            va_bits_actual: facts.va_bits_actual,
            page_offset: VirtAddr(page_offset),
            page_end: VirtAddr(page_end),
            kasan,
            shadow_map: ShadowMap::ending_at(facts.kasan, shadow_end(facts)),
            bpf: if old { Some((VirtAddr(low), VirtAddr(modules))) } else { None },
            modules_start: VirtAddr(modules),
            modules_end: VirtAddr(modules + 128 * MIB),
            kimage: VirtAddr(modules + 128 * MIB),
            vmalloc_end: VirtAddr(vmalloc_end),
            fixaddr_start: fixmap.address(fixaddr_top, fixmap.permanent),
            fixaddr_tot_start: fixmap.address(fixaddr_top, fixmap.total),
            fixaddr_top,
            pci_io_start: VirtAddr(pci_start),
            pci_io_end: VirtAddr(pci_end),
            vmemmap_start: VirtAddr(vmemmap),
            vmemmap_end: VirtAddr(vmemmap.wrapping_add(vmemmap_size)),
            fixmap,
        }
    }

    /// 6.12 and 7.2: memory map, PCI I/O and fixmap at the top.
    const fn fixmap_on_top(facts: &LayoutFacts) -> Self {
        let fixmap = Fixmap::new(&facts.fixmap);
        let (page_offset, page_end, kasan) = Self::linear_and_shadow(facts);
        let middle = minus_pow2(va_bits_min(facts.granule, facts.va_bits) - 1);
        let vmemmap_size = (middle.wrapping_sub(page_offset) >> facts.granule.shift()) << STRUCT_PAGE_SHIFT;
        let vmemmap_end = minus_pow2(30);
        let vmemmap = vmemmap_end - vmemmap_size;
        let unused_bytes = minus_pow2(facts.va_bits_actual).wrapping_sub(page_offset);
        let unused = (unused_bytes >> facts.granule.shift()) << STRUCT_PAGE_SHIFT;
        let modules = middle;
        let fixaddr_top = VirtAddr(0u64.wrapping_sub(8 * MIB));
        Self {
            va_bits_actual: facts.va_bits_actual,
            page_offset: VirtAddr(page_offset),
            page_end: VirtAddr(page_end),
            kasan,
            shadow_map: ShadowMap::ending_at(facts.kasan, shadow_end(facts)),
            bpf: None,
            modules_start: VirtAddr(modules),
            modules_end: VirtAddr(modules + 2048 * MIB),
            kimage: VirtAddr(modules + 2048 * MIB),
            vmalloc_end: VirtAddr(vmemmap + unused - 8 * MIB),
            fixaddr_start: fixmap.address(fixaddr_top, fixmap.permanent),
            fixaddr_tot_start: fixmap.address(fixaddr_top, fixmap.total),
            fixaddr_top,
            pci_io_start: VirtAddr(vmemmap_end + 8 * MIB),
            pci_io_end: VirtAddr(vmemmap_end + 24 * MIB),
            vmemmap_start: VirtAddr(vmemmap),
            vmemmap_end: VirtAddr(vmemmap_end),
            fixmap,
        }
    }

    /// After the flip: start and end of the linear map's region, and the shadow.
    const fn linear_and_shadow(facts: &LayoutFacts) -> (u64, u64, Option<(VirtAddr, VirtAddr)>) {
        let page_offset = minus_pow2(facts.va_bits);
        let old = matches!(facts.era, Era::V4_14 | Era::V5_10);
        let bits = if old { facts.va_bits_actual } else { va_bits_min(facts.granule, facts.va_bits) };
        let middle = minus_pow2(bits - 1);
        let Some(scale) = facts.kasan.scale() else { return (page_offset, middle, None) };
        let end = shadow_end(facts).0;
        let start = end.wrapping_sub(1 << (facts.va_bits_actual - scale));
        (page_offset, if old { middle } else { start }, Some((VirtAddr(start), VirtAddr(end))))
    }

    /// Bytes of the linear map's region below the bits in use: not 0 where a kernel of 52 bits runs with fewer.
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/mm/init.c `arm64_memblock_init`.
    #[must_use]
    pub const fn unused_below(&self) -> u64 {
        if self.page_end.0 == 0 { 0 } else { minus_pow2(self.va_bits_actual).wrapping_sub(self.page_offset.0) }
    }

    /// The first address of the linear map's region that the bits in use reach.
    #[must_use]
    pub const fn first_linear(&self) -> VirtAddr {
        VirtAddr(self.page_offset.0.wrapping_add(self.unused_below()))
    }

    /// The page descriptor of that address.
    ///
    /// Source: Linux 6.12, 7.2 arch/arm64/mm/ptdump.c `ptdump_init`.
    #[must_use]
    pub const fn vmemmap_in_use(&self) -> VirtAddr {
        let pages = self.unused_below() >> self.fixmap.granule().shift();
        VirtAddr(self.vmemmap_start.0.wrapping_add(pages << STRUCT_PAGE_SHIFT))
    }

    /// Bytes of physical memory that the linear map can hold.
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/mm/init.c `arm64_memblock_init`.
    #[must_use]
    pub const fn linear_region_size(&self) -> u64 {
        let start = if self.page_end.0 == 0 { self.page_offset.0 } else { minus_pow2(self.va_bits_actual) };
        self.page_end.0.wrapping_sub(start)
    }
}
