//! Boot decisions of i386 against values worked out by hand.

use kernmem_arch::i386::early::{EarlyMap, early_map};
use kernmem_arch::i386::layout::Paging;
use kernmem_arch::i386::low_map;
use kernmem_arch::i386::low_memory::{LowFacts, LowMemory, LowWarning, split};
use kernmem_arch::x86::direct_map::PageSizes;
use kernmem_arch::x86::prot::Prot;
use kernmem_base::{Era, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};

const MIB: u64 = 1 << 20;
/// Pages of a mebibyte.
const PAGES: u64 = 256;
const M2: PageSizes = PageSizes { m2: true, g1: false };
const BASE: PageSizes = PageSizes { m2: false, g1: false };

/// Low memory of 882 MiB at most, the usual split of 3 GiB.
const USUAL: LowFacts = LowFacts {
    era: Era::V6_1,
    max_pfn: Pfn(512 * PAGES),
    most_low: Pfn(882 * PAGES),
    highmem: true,
    highmem_64g: true,
    asked: None,
};

/// Ends of low and of all memory, and high memory, all in MiB.
fn mebibytes(low: LowMemory) -> (u64, u64, u64, Option<LowWarning>) {
    (low.max_low.0 / PAGES, low.max.0 / PAGES, low.high_pages / PAGES, low.warning)
}

fn asked(max: u64, asked: Option<u64>) -> (u64, u64, u64, Option<LowWarning>) {
    let asked = asked.map(|mebibytes| mebibytes * PAGES);
    mebibytes(split(&LowFacts { max_pfn: Pfn(max * PAGES), asked, ..USUAL }))
}

#[test]
fn memory_that_fits_is_low_unless_highmem_says_otherwise() {
    assert_eq!(asked(512, None), (512, 512, 0, None));
    assert_eq!(asked(882, None), (882, 882, 0, None));
    assert_eq!(asked(512, Some(0)), (512, 512, 0, None));
    assert_eq!(asked(512, Some(300)), (212, 512, 300, None));
}

#[test]
fn highmem_leaves_64_mebibytes_of_low_memory() {
    assert_eq!(asked(512, Some(448)), (64, 512, 448, None));
    assert_eq!(asked(512, Some(449)), (512, 512, 0, Some(LowWarning::TooLittleLeft)));
    assert_eq!(asked(512, Some(511)), (512, 512, 0, Some(LowWarning::TooLittleLeft)));
    assert_eq!(asked(512, Some(512)), (512, 512, 0, Some(LowWarning::BiggerThanMemory)));
}

#[test]
fn memory_that_does_not_fit_is_high_and_highmem_cuts_it() {
    assert_eq!(asked(2048, None), (882, 2048, 1166, None));
    assert_eq!(asked(2048, Some(300)), (882, 1182, 300, None));
    assert_eq!(asked(2048, Some(1166)), (882, 2048, 1166, None));
    assert_eq!(asked(2048, Some(1167)), (882, 2048, 0, Some(LowWarning::BiggerThanAvailable)));
    assert_eq!(asked(2048, Some(0)), (882, 882, 0, None));
}

#[test]
fn a_kernel_without_high_memory_uses_low_memory_alone() {
    let without = |max: u64, asked: Option<u64>| {
        let facts = LowFacts { max_pfn: Pfn(max * PAGES), highmem: false, highmem_64g: false, asked, ..USUAL };
        mebibytes(split(&facts))
    };
    assert_eq!(without(512, None), (512, 512, 0, None));
    assert_eq!(without(512, Some(100)), (512, 512, 0, Some(LowWarning::NotBuilt)));
    assert_eq!(without(2048, None), (882, 882, 0, Some(LowWarning::NotBuilt)));
}

#[test]
fn frames_above_4_gibibytes_are_used_by_kernels_for_64_until_6_12() {
    for era in Era::ALL {
        for highmem_64g in [false, true] {
            let low = split(&LowFacts { era, max_pfn: Pfn(6144 * PAGES), highmem_64g, ..USUAL });
            let expected = match (era, highmem_64g) {
                (Era::V7_2, _) | (_, false) => (4096, Some(LowWarning::Above4G)),
                _ => (6144, None),
            };
            assert_eq!((low.max.0 / PAGES, low.warning), expected, "{era:?}, 64G {highmem_64g}");
            assert_eq!(low.max_low, USUAL.most_low);
        }
    }
}

fn pieces(start: u64, end: u64, paging: Paging, large: bool, one_region: bool) -> Vec<(u64, u64, PageSizes)> {
    let range = PhysRange::new(PhysAddr(start), PhysAddr(end));
    let pieces = low_map::split(range, paging, large, PhysAddr(512 * MIB), |_| one_region);
    let all = pieces.as_slice().iter();
    all.map(|piece| (piece.range.start.0, piece.range.end.0, piece.sizes)).collect()
}

#[test]
fn the_first_large_leaf_of_memory_is_never_large() {
    assert_eq!(pieces(0, 16 * MIB, Paging::Pae, true, false), [(0, 2 * MIB, BASE), (2 * MIB, 16 * MIB, M2)]);
    assert_eq!(pieces(0, 16 * MIB, Paging::Level2, true, false), [(0, 4 * MIB, BASE), (4 * MIB, 16 * MIB, M2)]);
    assert_eq!(pieces(0, MIB, Paging::Pae, true, false), [(0, MIB, BASE)]);
}

#[test]
fn ends_between_boundaries_are_base_pages_unless_memory_goes_on() {
    let (start, end) = (5 * MIB, 21 * MIB);
    assert_eq!(
        pieces(start, end, Paging::Level2, true, false),
        [(start, 8 * MIB, BASE), (8 * MIB, 20 * MIB, M2), (20 * MIB, end, BASE)]
    );
    assert_eq!(pieces(start, end, Paging::Level2, true, true), [(start, end, M2)]);
    assert_eq!(pieces(start, end, Paging::Level2, false, true), [(start, end, BASE)]);
}

#[test]
fn a_leaf_is_not_widened_past_low_memory() {
    assert_eq!(
        pieces(500 * MIB, 511 * MIB, Paging::Level2, true, true),
        [(500 * MIB, 511 * MIB, M2)],
        "4M leaves end with low memory"
    );
    assert_eq!(
        pieces(508 * MIB, 513 * MIB, Paging::Level2, true, true),
        [(508 * MIB, 512 * MIB, M2), (512 * MIB, 513 * MIB, BASE)]
    );
}

#[test]
fn leaves_of_the_image_are_executable_until_its_init_memory_ends() {
    let (text, init_end) = (VirtAddr(0xc100_0000), VirtAddr(0xc1a0_0000));
    let leaf = |start: u64, bytes: u64| VirtRange { start: VirtAddr(start), last: VirtAddr(start + bytes - 1) };
    let page = |start| low_map::prot(leaf(start, 4096), false, text, init_end);
    let large = |start| low_map::prot(leaf(start, 4 * MIB), true, text, init_end);
    assert_eq!([page(0xc0ff_f000), page(0xc100_0000)], [Prot::Kernel, Prot::KernelExec]);
    assert_eq!([page(0xc1a0_0000), page(0xc1a0_1000)], [Prot::KernelExec, Prot::Kernel]);
    assert_eq!([large(0xc0c0_0000), large(0xc100_0000)], [Prot::KernelLarge, Prot::KernelLargeExec]);
    assert_eq!([large(0xc180_0000), large(0xc1c0_0000)], [Prot::KernelLargeExec, Prot::KernelLarge]);
}

/// An image that ends at 28 MiB, of a kernel with a quarter of the address space.
#[test]
fn the_first_map_holds_the_image_and_tables_for_all_low_memory() {
    let (end, low_pages) = (PhysAddr(28 * MIB), 1 << 18);
    let pae = EarlyMap { mapped_end: PhysAddr(32 * MIB), tables: 16 };
    assert_eq!(early_map(Paging::Pae, end, low_pages), pae);
    let two = EarlyMap { mapped_end: PhysAddr(32 * MIB), tables: 8 };
    assert_eq!(early_map(Paging::Level2, end, low_pages), two);
}
