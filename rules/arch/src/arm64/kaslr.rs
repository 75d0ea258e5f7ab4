//! What a seed does to the places of the image and of the linear map.

use kernmem_base::{Era, VirtAddr};

use super::Layout;

/// What a seed decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Displacement {
    /// Added to the address at which the image is linked.
    pub image: u64,
    /// The 16 bits that move the linear map; 0 leaves it in place.
    pub memstart_seed: u16,
}

/// The displacement that `seed` gives to an image whose first byte lies at physical `text_phys`.
///
/// | era | image | linear map |
/// |---|---|---|
/// | 4.14 | low bits of the seed in the lower half of vmalloc; with KASAN mod 4 GiB (UNVERIFIED) | top 16 bits |
/// | 5.10 | 2^(Vmin-3) + seed mod 2^(Vmin-2), in 2 MiB steps; with KASAN mod 2 GiB | top 16 bits |
/// | 6.1 | the same | low 16 bits of the sum |
/// | 6.12 | the seed scaled into the middle of vmalloc | low 16 bits |
/// | 7.2 | the same | none |
///
/// The place within 2 MiB is that of the physical address.
///
/// Source: Linux 5.10 arch/arm64/kernel/kaslr.c `kaslr_early_init`; 6.1, 6.12, 7.2 arch/arm64/kernel/pi/kaslr_early.c.
#[must_use]
pub const fn displacement(era: Era, va_bits_min: u32, layout: &Layout, text_phys: u64, seed: u64) -> Displacement {
    const STEP: u64 = 2 << 20;
    let quarter = 1u64 << (va_bits_min - 2);
    match era {
        Era::V4_14 => {
            let offset = near(layout, seed & (quarter - 1), 4 << 30);
            Displacement { image: place(offset, text_phys), memstart_seed: (seed >> 48) as u16 }
        }
        Era::V5_10 => {
            let offset = near(layout, quarter / 2 + (seed & (quarter - 1) & !(STEP - 1)), 2 << 30);
            Displacement { image: place(offset, text_phys), memstart_seed: (seed >> 48) as u16 }
        }
        Era::V6_1 => {
            let offset = quarter / 2 + (seed & (quarter - 1));
            Displacement { image: place(offset, text_phys), memstart_seed: offset as u16 }
        }
        Era::V6_12 | Era::V7_2 => {
            let range = (layout.vmalloc_end.0 - layout.kimage.0) / 2;
            let offset = range / 2 + ((range as u128 * seed as u128) >> 64) as u64;
            let memstart_seed = if matches!(era, Era::V7_2) { 0 } else { seed as u16 };
            Displacement { image: place(offset, text_phys), memstart_seed }
        }
    }
}

/// `offset` cut to what lies near the modules' shadow, which a KASAN kernel of these eras needs.
const fn near(layout: &Layout, offset: u64, range: u64) -> u64 {
    if layout.kasan.is_some() { offset % range } else { offset }
}

/// `offset` in steps of 2 MiB, at the place within them that `text_phys` has.
const fn place(offset: u64, text_phys: u64) -> u64 {
    const STEP: u64 = 2 << 20;
    offset & !(STEP - 1) | text_phys & (STEP - 1)
}

/// How far `memstart` moves down, in bytes: a multiple of `align`.
///
/// | era | range in which it moves |
/// |---|---|
/// | 4.14, 5.10 | what the linear map leaves beside memory |
/// | 6.1, 6.12 | what it leaves beside the CPU's whole physical address space; nothing if that is larger |
/// | 7.2 | none |
///
/// Source: Linux 5.10–6.12 arch/arm64/mm/init.c `arm64_memblock_init`.
#[must_use]
pub const fn memstart_offset(
    era: Era,
    linear_region_size: u64,
    dram_size: u64,
    physical_bits: u32,
    align: u64,
    seed: u16,
) -> u64 {
    let range = match era {
        Era::V4_14 | Era::V5_10 => linear_region_size.wrapping_sub(dram_size),
        Era::V6_1 | Era::V6_12 => match linear_region_size.checked_sub(1 << physical_bits) {
            Some(range) => range,
            None => return 0,
        },
        Era::V7_2 => return 0,
    };
    if seed == 0 || range < align {
        return 0;
    }
    align * (((range / align) * seed as u64) >> 16)
}

/// The linear address of physical `pa` when physical `memstart` lies at the start of the region; `memstart` may have
/// been moved below zero.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/memory.h `__phys_to_virt`.
#[must_use]
pub const fn linear_address(layout: &Layout, memstart: u64, pa: u64) -> VirtAddr {
    VirtAddr(pa.wrapping_sub(memstart) | layout.page_offset.0)
}
