//! Limits and sizes that follow from era, page size and KASAN: physical addresses, blocks of the page allocator,
//! stacks, alignments of the image.
//!
//! Not here: which sizes huge pages have (`crate::hugetlb`); sizes of structures, which only a compiled kernel tells.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/memory.h, pgtable-hwdef.h, vmalloc.h; arch/arm64/Kconfig
//! `ARCH_FORCE_MAX_ORDER`.

use kernmem_base::{Era, Granule};

use super::Kasan;
use super::levels::block_shift;

/// What segments of the image start at a multiple of, in bytes (`SEGMENT_ALIGN`).
pub const SEGMENT_ALIGN: u64 = 64 << 10;
/// What the image is loaded at a multiple of, in bytes (`MIN_KIMG_ALIGN`).
pub const IMAGE_ALIGN: u64 = 2 << 20;
/// The largest devicetree, in bytes (`MAX_FDT_SIZE`).
pub const MAX_FDT_BYTES: u64 = 2 << 20;
/// log2 of the smallest part of a section that can be added or removed (`SUBSECTION_SHIFT`).
pub const SUBSECTION_SHIFT: u32 = 21;
/// Physical address bits that any kernel of 6.12 or later may meet (`MAX_POSSIBLE_PHYSMEM_BITS`).
pub const MAX_POSSIBLE_PHYSICAL_BITS: u32 = 52;

/// Bits of a physical address that tables can name (`PHYS_MASK_SHIFT`), for a kernel built for `pa_bits` that has
/// `va_bits_actual` bits of virtual addresses in use.
///
/// With 4K and 16K pages 52 bits need the descriptors of LPA2, which are in use only with 52 bits of virtual addresses;
/// with 64K pages both are independent.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h, kernel-pgtable.h.
#[must_use]
pub const fn physical_bits(granule: Granule, pa_bits: u32, va_bits_actual: u32) -> u32 {
    match granule {
        Granule::K4 | Granule::K16 if va_bits_actual < 52 && pa_bits > 48 => 48,
        Granule::K4 | Granule::K16 | Granule::K64 => pa_bits,
    }
}

/// The largest order of the page allocator in the default configuration with transparent huge pages: 4M, 32M, 512M.
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig `ARCH_FORCE_MAX_ORDER` (5.10, 6.1: `FORCE_MAX_ZONEORDER`, one more).
#[must_use]
pub const fn max_page_order(granule: Granule) -> u32 {
    match granule {
        Granule::K4 => 10,
        Granule::K16 => 11,
        Granule::K64 => 13,
    }
}

/// The order of a block of pages of one migrate type, where huge pages are built in.
///
/// | era | order |
/// |---|---|
/// | to 6.12 | that of a block of one entry above the pages: 9, 11, 13 (4.14 UNVERIFIED) |
/// | 7.2 | the same, at most 10 |
///
/// Source: Linux 5.10–7.2 include/linux/pageblock-flags.h `pageblock_order`.
#[must_use]
pub const fn pageblock_order(era: Era, granule: Granule) -> u32 {
    const MOST: u32 = 10;
    let block = block_shift(granule) - granule.shift();
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => block,
        Era::V7_2 if block > MOST => MOST,
        Era::V7_2 => block,
    }
}

/// log2 of the largest leaf that maps a device (`IOREMAP_MAX_ORDER`).
#[must_use]
pub const fn ioremap_max_shift(granule: Granule) -> u32 {
    match granule {
        Granule::K4 => 30,
        Granule::K16 | Granule::K64 => block_shift(granule),
    }
}

/// Size and alignment of a kernel stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Bytes (`THREAD_SIZE`).
    pub bytes: u64,
    /// What it starts at a multiple of (`THREAD_ALIGN`).
    pub align: u64,
}

/// The stack of a task: 16 KiB, with KASAN 32 KiB; where it lies in vmalloc at least a page, and aligned to twice its
/// size so that one bit of the stack pointer tells an overflow.
///
/// KASAN kernels before 6.1 cannot have stacks in vmalloc, because it has no shadow there.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/memory.h `MIN_THREAD_SHIFT`, `THREAD_ALIGN`.
#[must_use]
pub const fn stack(granule: Granule, kasan: Kasan, in_vmalloc: bool) -> Stack {
    let least = match kasan {
        Kasan::Off => 14,
        Kasan::Generic | Kasan::SwTags => 15,
    };
    if !in_vmalloc {
        return Stack { bytes: 1 << least, align: 1 << least };
    }
    let shift = if least < granule.shift() { granule.shift() } else { least };
    Stack { bytes: 1 << shift, align: 2 << shift }
}

/// How far before the kernel's root the root that maps nothing lies, in bytes (`RESERVED_SWAPPER_OFFSET`).
#[must_use]
pub const fn reserved_root_offset(granule: Granule) -> u64 {
    granule.bytes()
}

/// How far before the kernel's root the root of the entry trampoline lies, in bytes (`TRAMP_SWAPPER_OFFSET`).
#[must_use]
pub const fn trampoline_root_offset(granule: Granule) -> u64 {
    2 * granule.bytes()
}
