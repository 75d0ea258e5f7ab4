//! What a seed does to arm64, against values that real kernels of each era showed (facts, "KASLR", worked table).

use kernmem_arch::arm64::{FixmapFacts, Kasan, Layout, LayoutFacts, kaslr, linear, va_bits_min};
use kernmem_base::{Era, Granule, VirtAddr};

const SEED: u64 = 0x1b2c_3d4e_5f60_7182;
const OTHER_SEED: u64 = 0x7b2c_3d4e_5f60_a183;
/// Where the memory of every one of these machines begins.
const MEMORY: u64 = 0x4000_0000;
/// Where their images were loaded: at a multiple of 2 MiB.
const TEXT: u64 = 0x4020_0000;

struct Machine {
    era: Era,
    granule: Granule,
    va_bits: u32,
    in_use: u32,
    kasan: Kasan,
    memory_bytes: u64,
    physical_bits: u32,
}

impl Machine {
    const fn new(era: Era, granule: Granule, va_bits: u32) -> Self {
        let kasan = Kasan::Off;
        Self { era, granule, va_bits, in_use: va_bits, kasan, memory_bytes: 3 << 30, physical_bits: 44 }
    }

    /// The displacement of the image, where it is, and where the first byte of memory is in the linear map.
    fn moved(&self, seed: u64) -> (u64, VirtAddr, VirtAddr) {
        let Self { era, granule, va_bits, in_use, kasan, .. } = *self;
        let fixmap = FixmapFacts {
            era,
            granule,
            relocatable: true,
            unmap_at_el0: true,
            ghes: false,
            sdei: false,
            vncr_slots: 0,
        };
        let layout = Layout::new(&LayoutFacts { era, granule, va_bits, va_bits_actual: in_use, kasan, fixmap });
        let moved = kaslr::displacement(era, va_bits_min(granule, va_bits), &layout, TEXT, seed);
        let align = linear::memstart_align(era, granule);
        let region = layout.linear_region_size();
        let offset =
            kaslr::memstart_offset(era, region, self.memory_bytes, self.physical_bits, align, moved.memstart_seed);
        let memstart = (MEMORY & !(align - 1)).wrapping_sub(layout.unused_below()).wrapping_sub(offset);
        (moved.image, layout.kimage.wrapping_add(moved.image), kaslr::linear_address(&layout, memstart, MEMORY))
    }
}

#[track_caller]
fn check(machine: &Machine, seed: u64, displacement: u64, text: u64, memory: u64) {
    let (d, at, first) = machine.moved(seed);
    assert_eq!(format!("{d:x} {:x} {:x}", at.0, first.0), format!("{displacement:x} {text:x} {memory:x}"));
}

#[test]
fn images_and_linear_maps_lie_where_kernels_with_that_seed_had_them() {
    let of = Machine::new;
    let old = Machine { memory_bytes: 2999 << 20, ..of(Era::V5_10, Granule::K4, 48) };
    check(&old, SEED, 0x5d4e_5f60_0000, 0xffff_dd4e_6f60_0000, 0xffff_0d95_c000_0000);
    let six = of(Era::V6_1, Granule::K4, 48);
    check(&six, SEED, 0x5d4e_5f60_0000, 0xffff_dd4e_6760_0000, 0xffff_31a8_c000_0000);
    let kasan = Machine { kasan: Kasan::Generic, ..six };
    check(&kasan, SEED, 0x5d4e_5f60_0000, 0xffff_dd4e_6760_0000, 0xffff_2378_8000_0000);
    let large = Machine { in_use: 48, ..of(Era::V6_1, Granule::K64, 52) };
    check(&large, SEED, 0x5d4e_5f60_0000, 0xffff_dd4e_6760_0000, 0xffff_31a8_e000_0000);
    check(&of(Era::V6_1, Granule::K4, 39), SEED, 0x1e_5f60_0000, 0xffff_ffde_6760_0000, 0xffff_ff80_0000_0000);
    let wide_cpu = Machine { physical_bits: 52, ..of(Era::V6_1, Granule::K16, 47) };
    check(&wide_cpu, SEED, 0x2d4e_5f60_0000, 0xffff_ed4e_6760_0000, 0xffff_8000_0000_0000);
    for machine in [of(Era::V6_12, Granule::K4, 48), Machine { in_use: 48, ..of(Era::V6_12, Granule::K4, 52) }] {
        check(&machine, SEED, 0x262f_a8a0_0000, 0xffff_a630_28a0_0000, 0xffff_31a8_c000_0000);
    }
    check(&of(Era::V7_2, Granule::K4, 48), SEED, 0x262f_a8a0_0000, 0xffff_a630_28a0_0000, 0xffff_0000_0000_0000);
    let lpa2 = Machine { physical_bits: 52, ..of(Era::V6_12, Granule::K4, 52) };
    check(&lpa2, OTHER_SEED, 0x2060_5560_0000, 0xffff_a060_d560_0000, 0xfff0_0000_0000_0000);
    for era in [Era::V6_12, Era::V7_2] {
        let wide_cpu = Machine { physical_bits: 52, ..of(era, Granule::K4, 48) };
        check(&wide_cpu, OTHER_SEED, 0x3dcf_84a0_0000, 0xffff_bdd0_04a0_0000, 0xffff_0000_0000_0000);
    }
}

/// By hand: 0x5d4e5f600000 mod 2 GiB is 0x5f600000.
#[test]
fn an_image_of_5_10_with_kasan_stays_near() {
    let kasan = Machine { kasan: Kasan::Generic, ..Machine::new(Era::V5_10, Granule::K4, 48) };
    assert_eq!(kasan.moved(SEED).0, 0x5f60_0000);
}
