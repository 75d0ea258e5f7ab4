//! Two recorded boots as sequences of calls: the addresses and sums are those that the real kernels printed.
//!
//! arm64: Linux 6.1, 4K pages, QEMU virt with 4 GiB, `rodata=off memblock=debug`. x86-64: Linux 6.1, QEMU pc with
//! 4 GiB, no KASLR.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{Mb, empty, pairs};
use kernmem_base::{Era, Order, PhysAddr};
use kernmem_memblock::{Api, Buddy, Event, Flags, ListKind, LoggedEvent, MemblockError, Nid, Request, UpTo};

const PAGE: u64 = 0x1000;
const NODE: Option<Nid> = Some(Nid(0));

fn add(mb: &mut Mb, first: u64, last: u64) {
    mb.add(PhysAddr(first), last + 1 - first).unwrap();
}

fn reserve(mb: &mut Mb, first: u64, last: u64) {
    mb.reserve(PhysAddr(first), last + 1 - first).unwrap();
}

fn free(mb: &mut Mb, first: u64, last: u64) {
    mb.phys_free(PhysAddr(first), last + 1 - first).unwrap();
}

#[track_caller]
fn at(found: Result<PhysAddr, MemblockError>, expected: u64) {
    assert_eq!(found, Ok(PhysAddr(expected)));
}

/// First and last byte of each taken region.
fn taken(mb: &Mb) -> Vec<(u64, u64)> {
    mb.reserved().regions().iter().map(|region| (region.base.0, region.end().0 - 1)).collect()
}

/// Rows up to 15, the state of the dump.
fn arm64_to_the_dump() -> Mb {
    let mut mb = empty(Era::V6_1);
    reserve(&mut mb, 0x4820_0000, 0x482f_ffff);
    add(&mut mb, 0x4000_0000, 0x1_3fff_ffff);
    mb.remove(PhysAddr(1 << 48), u64::MAX).unwrap();
    mb.remove(PhysAddr(0x8000_4000_0000), u64::MAX).unwrap();
    add(&mut mb, 0x4800_0000, 0x4800_0fff);
    reserve(&mut mb, 0x4800_0000, 0x4800_0fff);
    reserve(&mut mb, 0x4021_0000, 0x406d_ffff);
    let table_page = |mb: &mut Mb| mb.phys_alloc_range(PAGE, PAGE, PhysAddr(0), UpTo::NOLEAKTRACE);
    for page in (0x1_3fff_7000..=0x1_3fff_f000u64).rev().step_by(0x1000) {
        at(table_page(&mut mb), page);
    }
    free(&mut mb, 0x406c_c000, 0x406d_0fff);
    for page in [0x1_3fff_6000, 0x1_3fff_5000, 0x1_3fff_4000] {
        at(table_page(&mut mb), page);
    }
    mb.allow_resize();
    at(mb.alloc(41468, 8), 0x1_3ffe_9e00);
    at(mb.alloc(256, PAGE), 0x1_3ffe_9000);
    free(&mut mb, 0x1_3ffe_9000, 0x1_3ffe_90ff);
    at(mb.alloc(256, PAGE), 0x1_3ffe_9000);
    mb.set_node(ListKind::Memory, PhysAddr(0), 0x1_4000_0000, NODE).unwrap();
    at(mb.phys_alloc_try_nid(0x25c0, 64, NODE), 0x1_3ffe_6a40);
    at(mb.alloc(65536, 64), 0x1_3ffd_6a40);
    at(mb.alloc_node(PAGE, 64, Nid(0)), 0x1_3ffd_5a40);
    let section = Request::new(1792, 64).from(PhysAddr(0x1_3800_0000)).up_to(UpTo(0x1_4000_0000)).on(NODE);
    at(mb.alloc_try_nid(section), 0x1_3ffe_9700);
    let memmap = Request::new(0x400_0000, 0x20_0000).from(PhysAddr(0x4000_0000)).on(NODE);
    at(mb.alloc_exact_nid_raw(memmap), 0x1_3be0_0000);
    let table = Request::new(PAGE, PAGE).from(PhysAddr(0x4000_0000)).on(NODE);
    at(mb.alloc_try_nid_raw(table), 0x1_3ffd_4000);
    at(mb.alloc_try_nid_raw(table), 0x1_3ffd_3000);
    mb
}

#[test]
fn arm64_reaches_the_recorded_dump() {
    let mb = arm64_to_the_dump();
    let expected = [
        (0x4021_0000, 0x406c_bfff),
        (0x406d_1000, 0x406d_ffff),
        (0x4800_0000, 0x4800_0fff),
        (0x4820_0000, 0x482f_ffff),
        (0x1_3be0_0000, 0x1_3fdf_ffff),
        (0x1_3ffd_3000, 0x1_3ffd_4fff),
        (0x1_3ffd_5a40, 0x1_3ffe_90ff),
        (0x1_3ffe_9700, 0x1_3fff_3ffb),
        (0x1_3fff_4000, 0x1_3fff_ffff),
    ];
    assert_eq!(taken(&mb), expected);
    assert_eq!(mb.reserved_size(), 0x45f_7fbc);
    assert_eq!(pairs(mb.memory().regions()), [(0x4000_0000, 0x1_0000_0000)]);
}

#[test]
fn arm64_goes_on_to_the_hand_over() {
    let mut mb = arm64_to_the_dump();
    at(mb.alloc(64, 64), 0x1_3ffe_96c0);
    at(mb.alloc(51, 64), 0x1_3ffe_9680);
    at(mb.alloc(51, 64), 0x1_3ffe_9640);
    at(mb.alloc(PAGE, PAGE), 0x1_3ffd_2000);
    at(mb.alloc(PAGE, 64), 0x1_3ffd_1000);
    at(mb.alloc(114_688, PAGE), 0x1_3ffb_5000);
    mb.phys_free(PhysAddr(0x1_3ffc_3000), 0).unwrap();
    mb.phys_free(PhysAddr(0x1_3ffd_1000), 0).unwrap();
    let places = [
        (8, 0x1_3ffe_9600),
        (8, 0x1_3ffe_95c0),
        (8, 0x1_3ffe_9580),
        (16, 0x1_3ffe_9540),
        (272, 0x1_3ffe_9400),
        (128, 0x1_3ffe_9380),
        (1024, 0x1_3ffd_5640),
        (1032, 0x1_3ffd_5200),
        (256, 0x1_3ffe_9280),
    ];
    for (size, place) in places {
        at(mb.alloc(size, 64), place);
    }
    free(&mut mb, 0x1_3ffd_2000, 0x1_3ffd_2fff);
    free(&mut mb, 0x1_3ffd_1000, 0x1_3ffd_1fff);
    at(mb.alloc(10, 64), 0x1_3ffe_9240);
    mb.phys_free(PhysAddr(0x1_3ffe_9240), 10).unwrap();
    at(mb.alloc(4_194_304, 64), 0x1_3ba0_0000);
    at(mb.alloc(2_097_152, 64), 0x1_3b80_0000);
    at(mb.alloc_low(67_108_864, PAGE), 0xfbff_f000);
    at(mb.alloc(786_432, 64), 0x1_3fef_5000);
    at(mb.alloc(32, 64), 0x1_3ffe_9240);
    let done = mb.hand_over(Buddy { max_order: Order(10), max_low: None }).unwrap();
    assert_eq!(done.nr_free_pages() * 4, 4_050_092);
    let below_4g = done.chunks().filter(|chunk| chunk.start.0 < 0x10_0000).map(|chunk| 1u64 << chunk.order.0);
    assert_eq!(below_4g.sum::<u64>(), 768_564);
}

#[test]
fn an_allocation_tells_its_request_and_then_what_it_took() {
    let mut mb = arm64_to_the_dump();
    let events = &mb.observer().0;
    let size = 0x400_0000;
    let expected = [
        Event::Alloc {
            api: Api::ExactNidRaw,
            size,
            align: 0x20_0000,
            nid: NODE,
            from: PhysAddr(0x4000_0000),
            max: UpTo::ACCESSIBLE,
        },
        Event::Reserve { base: PhysAddr(0x1_3be0_0000), size, nid: None, flags: Flags::NONE },
    ];
    let at = events.len() - 6;
    assert_eq!(events[at..at + 2], expected.map(LoggedEvent::Plain));
}

/// Rows up to 14.
#[test]
fn x86_reaches_the_recorded_dumps() {
    let mut mb = empty(Era::V6_1);
    reserve(&mut mb, 0x100_0000, 0x1df_ffff);
    reserve(&mut mb, 0, 0xffff);
    reserve(&mut mb, 0xbffd_f000, 0xbffd_ffff);
    reserve(&mut mb, 0x9_f000, 0xf_ffff);
    reserve(&mut mb, 0xf_5ba0, 0xf_5baf);
    reserve(&mut mb, 0xf_5bb0, 0xf_5c77);
    reserve(&mut mb, 0x1e0_0000, 0x1e0_ffff);
    add(&mut mb, 0x1000, 0x9_fbff);
    add(&mut mb, 0x10_0000, 0xbffd_ffff);
    add(&mut mb, 0x1_0000_0000, 0x1_3fff_ffff);
    mb.trim_memory(PAGE).unwrap();
    assert_eq!(pairs(&mb.memory().regions()[..1]), [(0x1000, 0x9_e000)]);
    assert_eq!(mb.phys_mem_size(), 0xfff7_ec00); // the part of a page stays counted
    let expected = [(0, 0xffff), (0x9_f000, 0xf_ffff), (0x100_0000, 0x1e0_ffff), (0xbffd_f000, 0xbffd_ffff)];
    assert_eq!(taken(&mb), expected);
    assert_eq!(mb.reserved_size(), 0xe8_2000);

    mb.set_current_limit(PhysAddr(0x10_0000));
    at(mb.phys_alloc_range(24576, PAGE, PhysAddr(0), UpTo(0x10_0000)), 0x9_9000);
    reserve(&mut mb, 0, 0xf_ffff);
    let top = mb.phys_alloc_range(0x20_0000, 0x20_0000, PhysAddr(0x10_0000), UpTo(0x1_4000_0000));
    at(top, 0x1_3fe0_0000);
    free(&mut mb, 0x1_3fe0_0000, 0x1_3fff_ffff);
    for page in [0x1_3fff_f000, 0x1_3fff_e000, 0x1_3fff_d000] {
        at(mb.phys_alloc_range(PAGE, PAGE, PhysAddr(0x1_2000_0000), UpTo(0x1_4000_0000)), page);
    }
    mb.set_current_limit(PhysAddr(0x1_4000_0000));
    reserve(&mut mb, 0xbffe_0000, 0xbffe_1b32);
    mb.set_node(ListKind::Memory, PhysAddr(0), 0x1_4000_0000, NODE).unwrap();
    mb.set_node(ListKind::Reserved, PhysAddr(0), 0x1_4000_0000, NODE).unwrap();
    at(mb.phys_alloc_try_nid(0x4000, PAGE, NODE), 0x1_3fff_9000);
    let expected = [
        (0, 0xf_ffff),
        (0x100_0000, 0x1e0_ffff),
        (0xbffd_f000, 0xbffe_1b32),
        (0x1_3fff_9000, 0x1_3fff_cfff),
        (0x1_3fff_d000, 0x1_3fff_ffff),
    ];
    assert_eq!(taken(&mb), expected);
    assert_eq!(mb.reserved_size(), 0xf1_9b33);

    at(mb.alloc(16384, 64), 0x1_3fff_5000);
    at(mb.alloc_node(PAGE, 64, Nid(0)), 0x1_3fff_4000);
    let section = Request::new(1792, 64).from(PhysAddr(0x1_3800_0000)).up_to(UpTo(0x1_4000_0000)).on(NODE);
    at(mb.alloc_try_nid(section), 0x1_3fff_3900);
    let memmap = Request::new(0x400_0000, 0x20_0000).from(PhysAddr(0x100_0000)).on(NODE);
    at(mb.alloc_exact_nid_raw(memmap), 0x1_3be0_0000);
    let table = Request::new(PAGE, PAGE).from(PhysAddr(0x100_0000)).on(NODE);
    at(mb.alloc_try_nid_raw(table), 0x1_3fff_2000);
    at(mb.alloc_try_nid_raw(table), 0x1_3fff_1000);
    for (size, place) in [(73, 0x1_3fff_3880), (75, 0x1_3fff_3800), (512, 0x1_3fff_3600)] {
        at(mb.alloc(size, 64), place);
    }
    at(mb.alloc(46, 64), 0x1_3fff_35c0);
    at(mb.alloc(46, 64), 0x1_3fff_3580);
    at(mb.alloc(PAGE, PAGE), 0x1_3fff_0000);
    at(mb.alloc(PAGE, 64), 0x1_3ffe_f000);
    at(mb.alloc(0x20_0000, 0x20_0000), 0x1_3bc0_0000);
    free(&mut mb, 0x1_3bc2_9000, 0x1_3bcf_ffff);
    free(&mut mb, 0x1_3bd2_9000, 0x1_3bdf_ffff);
    at(mb.alloc(0x40_0000, 64), 0x1_3b80_0000);
    at(mb.alloc(0x20_0000, 64), 0x1_3b60_0000);
}

/// 7.2 keeps what the kernel took apart from what firmware owns, and knows the nodes of both.
#[test]
fn x86_7_2_reaches_the_recorded_second_dump() {
    let mut mb = empty(Era::V7_2);
    mb.reserve_kern(PhysAddr(0x100_0000), 0xad_4000).unwrap();
    reserve(&mut mb, 0, 0xffff);
    mb.reserve_kern(PhysAddr(0xbffd_f000), PAGE).unwrap();
    reserve(&mut mb, 0x9_f000, 0xf_ffff);
    mb.reserve_kern(PhysAddr(0x1ad_4000), 0x1_0000).unwrap();
    add(&mut mb, 0x1000, 0x9_fbff);
    add(&mut mb, 0x10_0000, 0xbffd_ffff);
    add(&mut mb, 0x1_0000_0000, 0x1_3fff_ffff);
    mb.trim_memory(PAGE).unwrap();
    mb.mark_kho_scratch(PhysAddr(0), 0x10_0000).unwrap();
    assert_eq!(mb.reserved_size(), 0xb5_6000);
    at(mb.phys_alloc_range(24576, PAGE, PhysAddr(0), UpTo(0x10_0000)), 0x9_9000);
    reserve(&mut mb, 0, 0xf_ffff);
    for page in [0x1_3fff_f000, 0x1_3fff_e000, 0x1_3fff_d000] {
        at(mb.phys_alloc_range(PAGE, PAGE, PhysAddr(0x1_2000_0000), UpTo(0x1_4000_0000)), page);
    }
    reserve(&mut mb, 0xbffe_0000, 0xbffe_1b32);
    mb.clear_kho_scratch(PhysAddr(0), 0x10_0000).unwrap();
    mb.set_node(ListKind::Memory, PhysAddr(0), 0x1_4000_0000, NODE).unwrap();
    mb.set_node(ListKind::Reserved, PhysAddr(0x1000), 0x1_3fff_f000, NODE).unwrap();
    at(mb.phys_alloc_try_nid(0x4040, 64, NODE), 0x1_3fff_8fc0);
    let found: Vec<_> = mb.reserved().regions().iter().map(|r| (r.base.0, r.size, r.nid, r.flags.bits())).collect();
    let expected = [
        (0, 0x1000, None, 0),
        (0x1000, 0x9_8000, NODE, 0),
        (0x9_9000, 0x6000, NODE, 0x20),
        (0x9_f000, 0x6_1000, NODE, 0),
        (0x100_0000, 0xae_4000, NODE, 0x20),
        (0xbffd_f000, 0x1000, NODE, 0x20),
        (0xbffe_0000, 0x1b33, NODE, 0),
        (0x1_3fff_8fc0, 0x7040, NODE, 0x20),
    ];
    assert_eq!(found, expected);
    assert_eq!(mb.reserved_size(), 0xbe_db73);
    at(mb.alloc(73, 64), 0x1_3fff_8f40);
    at(mb.alloc(75, 64), 0x1_3fff_8ec0);
    at(mb.alloc(512, 64), 0x1_3fff_8cc0);
    at(mb.alloc(16384, 64), 0x1_3fff_4cc0);
    at(mb.alloc_node(PAGE, 64, Nid(0)), 0x1_3fff_3cc0);
    let section = Request::new(2816, 64).from(PhysAddr(0x1_3800_0000)).up_to(UpTo(0x1_4000_0000)).on(NODE);
    at(mb.alloc_try_nid(section), 0x1_3fff_31c0);
    let block = |size| Request::new(size, size).from(PhysAddr(0x100_0000)).on(NODE);
    for (size, place) in
        [(PAGE, 0x1_3fff_2000), (PAGE, 0x1_3fff_1000), (2 << 20, 0x1_3fc0_0000), (2 << 20, 0x1_3fa0_0000)]
    {
        at(mb.alloc_try_nid_raw(block(size)), place);
    }
}
