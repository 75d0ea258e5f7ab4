//! Which hole is taken: the worked example of a recorded boot, and what the eras do differently.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use common::{CALLER, Flushes, START, fresh, rules};
use kernmem_base::{Era, Granule, NoTlb, VirtAddr, VirtRange};
use kernmem_vmalloc::{Area, Early, Huge, Node, Request, Rules, VecStore, VmFlags, Vmalloc, VmallocError};

const BASE: u64 = 0xffff_c000_0800_0000;

/// arm64 6.1 with 16K pages and 47 bits, its image at a drawn address far above.
fn arm64_16k() -> Vmalloc<VecStore> {
    let rules = Rules {
        era: Era::V6_1,
        granule: Granule::K16,
        start: VirtAddr(BASE),
        end: VirtAddr(0xffff_fbff_f000_0000),
        online_cpus: 2,
        online_nodes: 1,
        ioremap_max_order: 25,
        max_page_order: 11,
        huge: Huge { pud: false, pmd: true, vmalloc: true, io: true },
    };
    let mut early = Early::new(VecStore::new(), rules).unwrap();
    early.add(Area::new(VirtAddr(0xffff_d1f2_8000_0000), 0x184_0000, VmFlags::MAP, CALLER)).unwrap();
    early.init().map_err(|(_, error)| error).unwrap()
}

/// The start and end of what was taken, counted from the start of the range.
fn take(areas: &mut Vmalloc<VecStore>, size: u64, align: u64, flags: VmFlags) -> (u64, u64) {
    let request = Request { align, flags, ..areas.request(size, CALLER) };
    let area = areas.get_vm_area(&mut NoTlb, &request).unwrap();
    areas.audit().unwrap();
    let start = area.start.0 - areas.rules().start.0;
    (start, start + area.size)
}

fn has_hole(areas: &Vmalloc<VecStore>, start: u64, end: u64) -> bool {
    areas.holes().any(|hole| hole.start.0 == BASE + start && hole.end().0 == BASE + end)
}

#[test]
fn the_recorded_start_of_an_arm64_boot_with_16k_pages() {
    let mut areas = arm64_16k();
    let stack = |areas: &mut _| take(areas, 0x4000, 0x8000, VmFlags::ALLOC);
    let window = |areas: &mut _, size| take(areas, size, 1, VmFlags::IOREMAP);
    assert_eq!(stack(&mut areas), (0, 0x8000));
    assert_eq!(stack(&mut areas), (0x8000, 0x1_0000));
    assert_eq!(window(&mut areas, 0x1_0000), (0x1_0000, 0x2_4000));
    assert_eq!(window(&mut areas, 0xf6_0000), (0x100_0000, 0x1f6_4000));
    assert!(has_hole(&areas, 0x2_4000, 0x100_0000));
    assert_eq!(window(&mut areas, 0x1_0000), (0x3_0000, 0x4_4000));
    assert!(has_hole(&areas, 0x2_4000, 0x3_0000));
    assert_eq!(window(&mut areas, 0x1_0000), (0x5_0000, 0x6_4000));
    assert!(has_hole(&areas, 0x4_4000, 0x5_0000));
    // a hole shorter than the search length is taken on the way up ...
    assert_eq!(stack(&mut areas), (0x2_8000, 0x3_0000));
    assert!(has_hole(&areas, 0x2_4000, 0x2_8000));
    // ... and one of the same size skipped on the way down
    assert_eq!(stack(&mut areas), (0x6_8000, 0x7_0000));
    assert_eq!(take(&mut areas, 0x4000, 1, VmFlags::ALLOC), (0x4_4000, 0x4_c000));
}

/// The same boot to its end, in the order of its requests: threads until the drivers come, three pools for devices, each
/// a remap with a page for its bitmap (the first page fits into a gap), three areas that were freed again, the serial
/// line's window, the threads after it, the terminal's buffer. Starts as the recorded kernel printed them.
#[test]
fn the_whole_recorded_boot_with_16k_pages() {
    let mut areas = arm64_16k();
    let stack = |areas: &mut _, at| assert_eq!(take(areas, 0x4000, 0x8000, VmFlags::ALLOC).0, at);
    let page = |areas: &mut _, at| assert_eq!(take(areas, 0x4000, 1, VmFlags::ALLOC).0, at);
    let window = |areas: &mut _, size, at| assert_eq!(take(areas, size, 1, VmFlags::IOREMAP).0, at);
    stack(&mut areas, 0);
    stack(&mut areas, 0x8000);
    window(&mut areas, 0x1_0000, 0x1_0000);
    window(&mut areas, 0xf6_0000, 0x100_0000);
    window(&mut areas, 0x1_0000, 0x3_0000);
    window(&mut areas, 0x1_0000, 0x5_0000);
    stack(&mut areas, 0x2_8000);
    for nr in 0..20 {
        stack(&mut areas, 0x6_8000 + nr * 0x8000);
    }
    for (remap, bitmap) in [(0x10_8000, 0x4_4000), (0x14_c000, 0x19_0000), (0x19_8000, 0x1d_c000)] {
        assert_eq!(take(&mut areas, 0x4_0000, 1, VmFlags::DMA_COHERENT).0, remap);
        page(&mut areas, bitmap);
    }
    for nr in 0..3 {
        page(&mut areas, 0x1e_4000 + nr * 0x8000);
    }
    window(&mut areas, 0x4000, 0x1f_c000);
    for nr in 0..7 {
        stack(&mut areas, 0x20_8000 + nr * 0x8000);
    }
    page(&mut areas, 0x24_0000);
    // what was freed: the second window of 64 KiB, and the three pages, which are one line
    for start in [0x3_0000, 0x1e_4000, 0x1f_4000, 0x1e_c000] {
        areas.free_vm_area(&mut NoTlb, VirtAddr(BASE + start)).unwrap();
    }
    let unpurged: Vec<_> = areas.unpurged().map(|range| (range.start.0 - BASE, range.size())).collect();
    assert_eq!(unpurged, [(0x3_0000, 81920), (0x1e_4000, 98304)]);
    // with the image, which is one area here and five there
    assert_eq!(areas.areas().count(), 41 + 1);
}

#[test]
fn an_exact_hole_is_skipped_by_5_10_and_taken_by_6_1() {
    for (era, expected) in [(Era::V5_10, 0x8000), (Era::V6_1, 0x2000), (Era::V6_12, 0x2000), (Era::V7_2, 0x2000)] {
        let mut areas = fresh(rules(era, 4096), 2048);
        for nr in 0..4 {
            assert_eq!(take(&mut areas, 0x1000, 1, VmFlags::ALLOC).0, nr * 0x2000);
        }
        areas.free_vm_area(&mut NoTlb, VirtAddr(START + 0x2000)).unwrap();
        areas.purge(&mut NoTlb).unwrap();
        // length: 5.10 size + align - 1, 6.1 size for at most a page of alignment; the hole has the very size
        let mut other = areas.clone();
        assert_eq!(take(&mut areas, 0x1000, 0x1000, VmFlags::ALLOC).0, expected, "{era}");
        assert_eq!(take(&mut other, 0x1000, 1, VmFlags::ALLOC).0, 0x2000, "{era}");
    }
}

#[test]
fn a_range_as_long_as_the_area_is_searched_by_its_size_from_6_1_on() {
    let mut areas = fresh(rules(Era::V6_1, 4096), 2048);
    let at = VirtAddr(START + 0x4_0000);
    let exact = Request { start: at, end: at + 0x1_1000, align: 0x1_0000, ..areas.request(0x1_0000, CALLER) };
    assert_eq!(areas.get_vm_area(&mut NoTlb, &exact).unwrap().start, at);
    let space = VmallocError::NoSpace { size: 0x1_1000, start: at, end: at + 0x1_1000 };
    assert_eq!(areas.get_vm_area(&mut NoTlb, &exact), Err(space));
    areas.audit().unwrap();
}

/// Eight holes, of which the fourth is the root, the second has the third as its right child, and the third is as long
/// as the area but has no aligned place for it: the search comes back to the second and must not go down again.
#[test]
fn a_sub_tree_is_not_searched_twice() {
    for era in [Era::V6_1, Era::V6_12, Era::V7_2] {
        let mut early = Early::new(VecStore::new(), rules(era, 4096)).unwrap();
        for (first, end) in [(0, 1), (2, 33), (50, 51), (52, 53), (54, 55), (56, 57), (58, 59)] {
            let start = VirtAddr(START + first * 4096);
            early.add(Area::new(start, (end - first) * 4096, VmFlags::MAP, CALLER)).unwrap();
        }
        let mut areas = early.init().map_err(|(_, error)| error).unwrap();
        assert_eq!(areas.holes().count(), 8);
        let (start, end) = (VirtAddr(START), VirtAddr(START + 0x1_1000));
        let request = Request { start, end, align: 0x1_0000, ..areas.request(0x1_0000, CALLER) };
        let space = VmallocError::NoSpace { size: 0x1_1000, start, end };
        assert_eq!(areas.get_vm_area(&mut NoTlb, &request), Err(space));
    }
}

#[test]
fn freed_addresses_come_back_after_one_flush_that_exhaustion_makes() {
    let mut areas = fresh(rules(Era::V6_1, 8), 1 << 20);
    let mut tlb = Flushes::default();
    let request = areas.request(0x1000, CALLER);
    let all: Vec<VirtAddr> = (0..4).map(|_| areas.get_vm_area(&mut tlb, &request).unwrap().start).collect();
    let full = VmallocError::NoSpace { size: 0x2000, start: VirtAddr(START), end: VirtAddr(START + 0x8000) };
    assert_eq!(areas.get_vm_area(&mut tlb, &request), Err(full));
    assert!(tlb.0.is_empty(), "there was nothing to purge");
    areas.free_vm_area(&mut tlb, all[3]).unwrap();
    areas.free_vm_area(&mut tlb, all[1]).unwrap();
    assert_eq!((areas.lazy_pages(), tlb.0.len()), (4, 0));
    assert_eq!(areas.get_vm_area(&mut tlb, &request).unwrap().start, all[1]);
    // one flush, from the first freed address to the last
    assert_eq!(tlb.0, [VirtRange { start: all[1], last: VirtAddr(START + 0x7fff) }]);
    assert_eq!((areas.lazy_pages(), areas.unpurged().count()), (0, 0));
    areas.audit().unwrap();
}

#[test]
fn more_than_the_allowed_pages_are_purged_at_once() {
    // 2 CPUs and 4K pages: 16384 pages may wait
    let mut areas = fresh(rules(Era::V6_1, 1 << 20), 1 << 21);
    let mut tlb = Flushes::default();
    let request = Request { flags: VmFlags::NO_GUARD, ..areas.request(16384 << 12, CALLER) };
    let large = areas.get_vm_area(&mut tlb, &request).unwrap();
    let small = areas.get_vm_area(&mut tlb, &Request { size: 0x1000, ..request }).unwrap();
    areas.free_vm_area(&mut tlb, large.start).unwrap();
    assert_eq!((areas.lazy_pages(), tlb.0.len()), (16384, 0));
    areas.free_vm_area(&mut tlb, small.start).unwrap();
    assert_eq!((areas.lazy_pages(), tlb.0.len()), (0, 1));
    assert_eq!(areas.vm_unmap_aliases(&mut tlb), None);
    assert_eq!(tlb.0.len(), 1, "nothing waits, nothing is flushed");
}

#[test]
fn early_areas_are_registered_as_each_era_does() {
    let page = |nr: u64| VirtAddr(START + nr * 4096);
    let area = |pages: u64| Area::new(VirtAddr(0), pages * 4096, VmFlags::ALLOC, CALLER);
    // an area stands at page 2; then one page is registered, then two, aligned to two
    let register = |era| {
        let mut early = Early::new(VecStore::new(), rules(era, 64)).unwrap();
        early.add(Area { start: page(2), ..area(2) }).unwrap();
        let first = early.register(area(1), 4096).unwrap();
        (first, early.register(area(2), 8192), early)
    };
    let (first, second, _) = register(Era::V5_10);
    assert_eq!((first, second), (page(0), Err(VmallocError::Overlap { start: page(2) })));
    let (first, second, early) = register(Era::V6_1);
    assert_eq!((first, second), (page(0), Ok(page(4))));
    let areas = early.init().map_err(|(_, error)| error).unwrap();
    areas.audit().unwrap();
    let starts: Vec<_> = areas.areas().map(|area| (area.start, area.size)).collect();
    assert_eq!(starts, [(page(0), 4096), (page(2), 8192), (page(4), 8192)]);
    assert!(areas.holes().any(|hole| hole == VirtRange::of_size(page(1), 4096).unwrap()));
}

#[test]
fn a_lent_slice_runs_out_with_an_error_and_nothing_lost() {
    let mut nodes = [Node::EMPTY; 4];
    let early = Early::new(&mut nodes[..], rules(Era::V6_1, 64)).unwrap();
    let mut areas = early.init().map_err(|(_, error)| error).unwrap();
    let request = areas.request(0x1000, CALLER);
    // one hole; the first area cuts it in two; the second needs a node, and one more must be at hand
    let first = areas.get_vm_area(&mut NoTlb, &request).unwrap();
    assert_eq!(areas.get_vm_area(&mut NoTlb, &request), Err(VmallocError::NoNode));
    areas.audit().unwrap();
    areas.free_vm_area(&mut NoTlb, first.start).unwrap();
    areas.purge(&mut NoTlb).unwrap();
    assert_eq!(areas.holes().count(), 1);
    assert_eq!(areas.get_vm_area(&mut NoTlb, &request).unwrap().start, first.start);
}

#[test]
fn bad_requests_are_named() {
    let mut areas = fresh(rules(Era::V6_1, 64), 128);
    let good = areas.request(0x1000, CALLER);
    let mut ask = |request| areas.get_vm_area(&mut NoTlb, &request);
    assert_eq!(ask(Request { size: 0, ..good }), Err(VmallocError::Zero));
    assert_eq!(ask(Request { size: u64::MAX, ..good }), Err(VmallocError::TooLarge { size: u64::MAX }));
    assert_eq!(ask(Request { align: 3, ..good }), Err(VmallocError::BadAlign { align: 3 }));
    assert_eq!(ask(Request { align: 0, ..good }), Err(VmallocError::BadAlign { align: 0 }));
    let none = Request { end: good.start, ..good };
    assert_eq!(ask(none), Err(VmallocError::BadRange { start: good.start, end: good.start }));
    let size = !0xfff - 0x1000;
    let space = VmallocError::NoSpace { size: size + 0x1000, start: good.start, end: good.end };
    assert_eq!(ask(Request { size, ..good }), Err(space));
    let align = 1 << 63;
    assert!(matches!(ask(Request { align, ..good }), Err(VmallocError::NoSpace { .. })));
    let inside = VirtAddr(START + 128 * 4096);
    assert_eq!(areas.free_vm_area(&mut NoTlb, inside + 1), Err(VmallocError::Misaligned { addr: inside + 1 }));
    let hole = VirtAddr(START);
    assert_eq!(areas.free_vm_area(&mut NoTlb, hole), Err(VmallocError::Nonexistent { addr: hole }));
    areas.audit().unwrap();
}
