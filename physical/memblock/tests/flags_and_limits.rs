//! What the suite that ships with Linux leaves out: flags, limits, growth that fails, events, eras, the hand-over.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{BASE, ERAS, Mb, SIZE, empty, flat, nodes, pairs};
use kernmem_base::{Era, Granule, Order, Pfn, PhysAddr};
use kernmem_memblock::{
    Api, Buddy, Event, Flags, InlineArray, Limits, ListKind, LoggedEvent, Memblock, MemblockError, Nid, Recorder,
    Region, Request, UpTo, VecArray,
};

const PAGE: u64 = 0x1000;

fn pa(offset: u64) -> PhysAddr {
    PhysAddr(BASE + offset)
}

fn since(era: Era, eras: &[Era]) -> bool {
    eras.contains(&era)
}

fn plain(mb: &mut Mb) -> Vec<Event<'static>> {
    let logged = core::mem::take(&mut mb.observer().0);
    logged
        .into_iter()
        .filter_map(|event| if let LoggedEvent::Plain(event) = event { Some(event) } else { None })
        .collect()
}

#[test]
fn a_limit_keeps_what_is_not_mapped() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.mark_nomap(pa(0x6000), 0x1000).unwrap();
        mb.reserve(pa(0x7000), 0x1000).unwrap();
        mb.mem_limit_remove_map(0x4000).unwrap();
        assert_eq!(pairs(mb.memory().regions()), [(BASE, 0x4000), (BASE + 0x6000, 0x1000)]);
        assert!(mb.reserved().is_empty());

        let mut mb = flat(era);
        mb.mark_nomap(pa(0x6000), 0x1000).unwrap();
        mb.enforce_memory_limit(0x4000).unwrap();
        assert_eq!(pairs(mb.memory().regions()), [(BASE, 0x4000)]);
    }
}

#[test]
fn limits_of_zero_or_beyond_memory_do_nothing() {
    for era in ERAS {
        let mut mb = flat(era);
        for limit in [0, SIZE + 1] {
            mb.enforce_memory_limit(limit).unwrap();
            mb.mem_limit_remove_map(limit).unwrap();
        }
        mb.cap_memory_range(pa(0), 0).unwrap();
        assert_eq!(pairs(mb.memory().regions()), [(BASE, SIZE)]);
    }
}

#[test]
fn a_pair_that_a_cap_left_stays_from_6_12_on() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.mark_nomap(pa(0x1000), 0x2000).unwrap();
        mb.cap_memory_range(pa(0), 0x2000).unwrap();
        let split = [(BASE, 0x1000), (BASE + 0x1000, 0x1000), (BASE + 0x2000, 0x1000)];
        assert_eq!(pairs(mb.memory().regions()), split, "{era}");
        mb.add(pa(0x10_0000), 0x1000).unwrap();
        let stays = since(era, &[Era::V6_12, Era::V7_2]);
        assert_eq!(mb.memory().len(), if stays { 4 } else { 3 }, "{era}");
    }
}

#[test]
fn a_cap_before_any_memory_warns_since_6_1() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.cap_memory_range(pa(0), SIZE).unwrap();
        let warned = plain(&mut mb) == [Event::CapWithoutMemory];
        assert_eq!(warned, since(era, &[Era::V6_1, Era::V6_12, Era::V7_2]), "{era}");
    }
}

#[test]
fn mirrored_memory_counts_without_the_option_only_in_5_10() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.mark_mirror(pa(0), 0x1000).unwrap();
        let found = mb.alloc(64, 64).unwrap();
        assert_eq!(found, if era == Era::V5_10 { pa(0xfc0) } else { pa(0x7fc0) }, "{era}");
    }
}

#[test]
fn mirrored_memory_is_given_up_before_the_minimum() {
    for era in ERAS {
        let limits = Limits { kernelcore_mirror: true, ..*empty(era).limits() };
        let mut mb = Mb::new(era, limits, Default::default(), Default::default(), Recorder::default());
        mb.add(pa(0), SIZE).unwrap();
        mb.mark_mirror(pa(0), 0x1000).unwrap();
        plain(&mut mb);
        assert_eq!(mb.alloc_from(64, 64, pa(0x4000)), Ok(pa(0x7fc0)), "{era}");
        let events = plain(&mut mb);
        let from = pa(0x4000);
        let request = Event::Alloc { api: Api::TryNid, size: 64, align: 64, nid: None, from, max: UpTo::ACCESSIBLE };
        assert_eq!(events[..2], [request, Event::MirrorExhausted { size: 64 }]);
        assert!(matches!(events[2], Event::Reserve { .. }));
    }
}

#[test]
fn a_minimum_that_is_given_up_does_not_repeat_the_request() {
    for era in ERAS {
        let mut mb = flat(era);
        plain(&mut mb);
        mb.alloc_from(0x100, 64, pa(0x7fff)).unwrap();
        let events = plain(&mut mb);
        assert!(matches!(events[..], [Event::Alloc { .. }, Event::Reserve { .. }]), "{era}: {events:?}");
    }
}

#[test]
fn who_logs_what_depends_on_the_era() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.add_node(pa(0), SIZE, Nid(0), Flags::NONE).unwrap();
        assert_eq!(plain(&mut mb).len(), usize::from(era != Era::V5_10));
        mb.phys_alloc(64, 64).unwrap();
        assert_eq!(plain(&mut mb).len(), if era == Era::V5_10 { 1 } else { 2 }, "{era}");
        mb.phys_alloc_try_nid(64, 64, Some(Nid(0))).unwrap();
        let (nid, flags) = if era == Era::V7_2 { (Some(Nid(0)), Flags::RSRV_KERN) } else { (None, Flags::NONE) };
        assert_eq!(plain(&mut mb), [Event::Reserve { base: pa(0x7f80), size: 64, nid, flags }], "{era}");
        mb.set_node(ListKind::Memory, pa(0), SIZE, Some(Nid(1))).unwrap();
        mb.mark_hotplug(pa(0), SIZE).unwrap();
        assert_eq!(plain(&mut mb), []);
        mb.dump_all();
        assert!(matches!(&mb.observer().0[..], [LoggedEvent::Dump { memory, .. }] if memory.len() == 1));
    }
}

#[test]
fn removable_memory_is_avoided_only_with_movable_node() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.mark_hotplug(pa(0x4000), 0x4000).unwrap();
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x7fc0)));
        mb.set_movable_node(true);
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x3fc0)));
        mb.set_movable_node(false);
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x7f80)));
        mb.set_movable_node(true);
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x3f80)));
        mb.clear_hotplug(pa(0x4000), 0x4000).unwrap();
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x7f40)));
    }
}

#[test]
fn driver_managed_memory_is_avoided_since_6_1() {
    for era in ERAS {
        let mut mb = flat(era);
        let added = mb.add_node(pa(0x10_0000), SIZE, Nid(0), Flags::DRIVER_MANAGED);
        if era == Era::V5_10 {
            assert_eq!(added, Err(MemblockError::UnknownFlag { flags: Flags::DRIVER_MANAGED, era }));
        } else {
            added.unwrap();
        }
        assert_eq!(mb.alloc(64, 64), Ok(pa(0x7fc0)));
    }
}

#[test]
fn scratch_memory_is_all_there_is_when_asked_for() {
    let mut mb = flat(Era::V7_2);
    mb.mark_kho_scratch(pa(0x1000), 0x1000).unwrap();
    mb.set_scratch_only(true);
    assert_eq!(mb.alloc(64, 64), Ok(pa(0x1fc0)));
    mb.set_scratch_only(false);
    assert_eq!(mb.alloc(64, 64), Ok(pa(0x7fc0)));
    let late = MemblockError::UnknownFlag { flags: Flags::KHO_SCRATCH, era: Era::V6_12 };
    assert_eq!(flat(Era::V6_12).mark_kho_scratch(pa(0), PAGE), Err(late));
}

#[test]
fn what_is_taken_and_what_the_kernel_took() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.reserve(pa(0), 0x1000).unwrap();
        mb.alloc(0x2000, 64).unwrap();
        assert_eq!(mb.reserved_size(), 0x3000);
        assert_eq!(mb.estimated_nr_free_pages(), if era == Era::V7_2 { 6 } else { 5 }, "{era}");
    }
}

#[test]
fn a_search_sees_single_regions() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.mark_nomap(pa(0x4000), 0x1000).unwrap();
        assert!(mb.is_memory(pa(0x4fff)) && !mb.is_map_memory(pa(0x4fff)) && mb.is_map_memory(pa(0x5000)));
        assert!(!mb.is_memory(pa(SIZE)) && !mb.is_memory(PhysAddr(0)));
        assert!(mb.is_region_memory(pa(0), 0x4000) && !mb.is_region_memory(pa(0), 0x4001));
        assert_eq!((mb.start_of_dram(), mb.end_of_dram()), (pa(0), pa(SIZE)));
        assert_eq!(mb.mapped_regions().count(), 2);
        assert_eq!(mb.pfn_ranges(None).count(), 3);
    }
}

#[test]
fn frames_of_a_node_are_whole() {
    let mut mb = empty(Era::V6_1);
    mb.add_node(PhysAddr(0x1800), 0x2800, Nid(1), Flags::NONE).unwrap();
    mb.add_node(PhysAddr(0x8400), 0x400, Nid(1), Flags::NONE).unwrap();
    mb.add_node(PhysAddr(0xa000), 0x1fff, Nid(2), Flags::NONE).unwrap();
    let frames: Vec<_> = mb.pfn_ranges(Some(Nid(1))).map(|range| (range.start.0, range.end.0)).collect();
    assert_eq!(frames, [(2, 4)]);
    let all: Vec<_> = mb.pfn_ranges(None).map(|range| (range.start.0, range.end.0, range.nid)).collect();
    assert_eq!(all, [(2, 4, Some(Nid(1))), (0xa, 0xb, Some(Nid(2)))]);
}

#[test]
fn memory_without_a_node_is_found() {
    let mut mb = flat(Era::V6_12);
    mb.set_node(ListKind::Memory, pa(0), 0x6000, Some(Nid(0))).unwrap();
    assert!(mb.validate_numa_coverage(0x2000).is_ok());
    let missing = mb.validate_numa_coverage(0x1fff).unwrap_err();
    assert_eq!((missing.bytes, missing.total), (0x2000, SIZE));
    assert_eq!(plain(&mut mb).last(), Some(&Event::Uncovered { bytes: 0x2000, total: SIZE }));
}

#[test]
fn page_0_is_never_handed_out() {
    for era in ERAS {
        for bottom_up in [false, true] {
            let mut mb = empty(era);
            mb.add(PhysAddr(0), 0x2000).unwrap();
            mb.set_bottom_up(bottom_up);
            assert_eq!(mb.alloc(PAGE, PAGE), Ok(PhysAddr(PAGE)));
            assert!(matches!(mb.alloc(PAGE, PAGE), Err(MemblockError::NoMemory { size: PAGE, .. })));
        }
    }
}

#[test]
fn input_that_makes_no_sense_is_an_error() {
    for era in ERAS {
        let mut mb = flat(era);
        assert_eq!(mb.alloc(64, 3), Err(MemblockError::BadAlignment { align: 3 }));
        assert_eq!(mb.trim_memory(0), Err(MemblockError::BadAlignment { align: 0 }));
        assert_eq!(mb.find_in_range(PhysAddr(0), UpTo::ANYWHERE, 64, 3), None);
        assert!(mb.alloc(u64::MAX, 64).is_err());
        assert!(mb.alloc(64, 1 << 63).is_err());
        mb.add(PhysAddr(u64::MAX), u64::MAX).unwrap();
        mb.reserve(PhysAddr(u64::MAX - 1), u64::MAX).unwrap();
        mb.phys_free(PhysAddr(0), u64::MAX).unwrap();
        assert!(mb.reserved().is_empty());
        assert!(!mb.is_region_memory(PhysAddr(u64::MAX), u64::MAX));
        assert!(!mb.is_region_reserved(PhysAddr(u64::MAX), u64::MAX));
    }
}

#[test]
fn no_alignment_means_a_cache_line() {
    let mut mb = flat(Era::V6_1);
    assert_eq!(mb.alloc(1, 0), Ok(pa(0x7fc0)));
    assert_eq!(mb.alloc(1, 1), Ok(pa(0x7fff)));
}

/// Fills the list of taken memory of an allocator with room for four regions.
fn crowded(era: Era) -> Memblock<InlineArray<4>, Recorder> {
    let limits = Limits::new_64bit(Granule::K4);
    let mut mb = Memblock::new(era, limits, InlineArray::new(), InlineArray::new(), Recorder::default());
    mb.add(pa(0), SIZE).unwrap();
    for slot in 0..4 {
        mb.reserve(pa(slot * 0x100), 0x80).unwrap();
    }
    mb
}

#[test]
fn a_full_list_that_may_not_grow_fails_the_call() {
    for era in ERAS {
        let mut mb = crowded(era);
        let full = MemblockError::CannotResize { list: ListKind::Reserved, capacity: 4 };
        assert_eq!(mb.reserve(pa(0x4000), 0x80), Err(full));
        // Linux up to 6.1 takes this for "not found", later ones stop.
        let fatal = since(era, &[Era::V6_12, Era::V7_2]);
        assert_eq!(mb.alloc(0x80, 64) == Err(full), fatal, "{era}");
        mb.allow_resize();
        let fixed = MemblockError::FixedArray { list: ListKind::Reserved, capacity: 4 };
        assert_eq!(mb.reserve(pa(0x4000), 0x80), Err(fixed));
        assert_eq!(mb.reserved().len(), 4);
    }
}

#[test]
fn a_place_that_could_not_be_taken_is_found_again() {
    for era in ERAS {
        let array = || VecArray::with_capacity(4);
        let mut mb = Mb::new(era, Limits::new_64bit(Granule::K4), array(), array(), Recorder::default());
        mb.add(pa(0), SIZE).unwrap();
        for slot in 0..4 {
            mb.reserve(pa(slot * 0x100), 0x80).unwrap();
        }
        assert!(mb.alloc(0x80, 64).is_err());
        mb.allow_resize();
        assert_eq!(mb.alloc(0x80, 64), Ok(pa(0x7f80)), "{era}");
    }
}

#[test]
fn a_list_does_not_grow_into_what_starts_at_0() {
    for era in ERAS {
        let array = || VecArray::with_capacity(2);
        let mut mb = Mb::new(era, Limits::new_64bit(Granule::K4), array(), array(), Recorder::default());
        mb.add(PhysAddr(0), 0x4000).unwrap();
        mb.reserve(pa(0), 1).unwrap();
        mb.reserve(pa(2), 1).unwrap();
        mb.allow_resize();
        let full = MemblockError::NoRoomForArray { list: ListKind::Reserved, entries: 4 };
        assert_eq!(mb.reserve(PhysAddr(0), 0x4000), Err(full), "{era}");
    }
}

#[test]
fn a_list_without_room_in_memory_says_so() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.allow_resize();
        for slot in 0..128 {
            mb.reserve(PhysAddr(slot * 0x2000), 0x1000).unwrap();
        }
        plain(&mut mb);
        let full = MemblockError::NoRoomForArray { list: ListKind::Reserved, entries: 256 };
        assert_eq!(mb.reserve(PhysAddr(0x1000_0000), 0x80), Err(full));
        assert_eq!(plain(&mut mb)[1], Event::DoubleFailed { list: ListKind::Reserved, from: 128, to: 256 });
    }
}

#[test]
fn a_second_growth_gives_the_first_storage_back() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.add(pa(0), 1 << 20).unwrap();
        mb.allow_resize();
        for slot in 0..300 {
            mb.reserve(PhysAddr(slot * 0x2000), 0x1000).unwrap();
        }
        assert_eq!(mb.reserved().capacity(), 512);
        let top = BASE + (1 << 20);
        let storage: Vec<_> = pairs(mb.reserved().regions()).split_off(300);
        assert_eq!(storage, [(top - 0x5000, 0x3000)], "{era}");
        let events = plain(&mut mb);
        let base = PhysAddr(top - 0x5000);
        let doubled = Event::Doubled { list: ListKind::Reserved, entries: 512, base, size: 512 * 24 };
        let at = events.iter().position(|event| *event == doubled).unwrap();
        assert_eq!(events[at + 1], Event::Free { base: PhysAddr(top - 0x2000), size: 0x2000 });
    }
}

#[test]
fn nodes_do_not_exist_without_numa() {
    for era in ERAS {
        let limits = Limits { numa: false, ..Limits::new_64bit(Granule::K4) };
        let mut mb = Mb::new(era, limits, Default::default(), Default::default(), Recorder::default());
        mb.add_node(pa(0), 0x4000, Nid(0), Flags::NONE).unwrap();
        mb.add_node(pa(0x4000), 0x4000, Nid(1), Flags::NONE).unwrap();
        mb.set_node(ListKind::Memory, pa(0), 0x1000, Some(Nid(3))).unwrap();
        assert_eq!(mb.memory().regions(), [Region { base: pa(0), size: SIZE, ..Region::default() }]);
        assert_eq!(mb.alloc_exact_nid_raw(Request::new(64, 64).on(Some(Nid(0)))), Ok(pa(0x7fc0)));
        assert!(mb.alloc_exact_nid_raw(Request::new(64, 64).on(Some(Nid(1)))).is_err());
    }
}

#[test]
fn a_node_beyond_the_last_is_no_node() {
    let mut mb = nodes(Era::V6_12);
    assert_eq!(mb.alloc_exact_nid_raw(Request::new(64, 64).on(Some(Nid(16)))), Ok(pa(0x7fc0)));
}

#[test]
fn the_hand_over_gives_aligned_chunks_and_marks_the_rest() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.add_node(PhysAddr(0), 0x10_0000, Nid(1), Flags::HOTPLUG).unwrap();
        mb.reserve(PhysAddr(0x2_3000), 0x800).unwrap();
        mb.mark_nomap(PhysAddr(0x8_0000), 0x1800).unwrap();
        mb.set_movable_node(true);
        let done = mb.hand_over(Buddy { max_order: Order(4), max_low: Some(Pfn(0xa8)) }).unwrap();
        let chunks: Vec<_> = done.chunks().map(|chunk| (chunk.start.0, chunk.order.0)).collect();
        let expected = [
            (0x00, 4),
            (0x10, 4),
            (0x20, 1),
            (0x22, 0),
            (0x24, 2),
            (0x28, 3),
            (0x30, 4),
            (0x40, 4),
            (0x50, 4),
            (0x60, 4),
            (0x70, 4),
            (0x82, 1),
            (0x84, 2),
            (0x88, 3),
            (0x90, 4),
            (0xa0, 3),
        ];
        assert_eq!(chunks, expected, "{era}");
        assert_eq!(done.nr_free_pages(), 0x23 + 0x5c + 0x26);
        assert!(done.chunks().all(|chunk| chunk.nid == Some(Nid(1))));
        let marked: Vec<_> = done.reserved_frames().map(|range| (range.start.0, range.end.0)).collect();
        let nomap = since(era, &[Era::V6_1, Era::V6_12, Era::V7_2]);
        assert_eq!(marked, if nomap { vec![(0x23, 0x24), (0x80, 0x82)] } else { vec![(0x23, 0x24)] }, "{era}");
        let knows_node = done.reserved().regions()[0].nid.is_some();
        assert_eq!(knows_node, since(era, &[Era::V6_12, Era::V7_2]), "{era}");
    }
}

#[test]
fn a_taker_that_initialises_its_descriptors_is_left_alone_since_6_12() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.reserve(pa(0), 0x1000).unwrap();
        let marked = mb.reserved_mark_noinit(pa(0), 0x1000);
        assert_eq!(marked.is_ok(), since(era, &[Era::V6_12, Era::V7_2]), "{era}");
        let done = mb.hand_over(Buddy { max_order: Order(10), max_low: None }).unwrap();
        assert_eq!(done.reserved_frames().count(), usize::from(marked.is_err()));
    }
}

/// A 64 TiB machine of 16 nodes takes 100,000 pages for tables while its lists are long.
#[test]
fn many_pages_are_taken_quickly() {
    for era in ERAS {
        let array = || VecArray::with_capacity(8192);
        let mut mb = Mb::new(era, Limits::new_64bit(Granule::K4), array(), array(), Recorder::default());
        for node in 0..16 {
            mb.add_node(PhysAddr((node + 1) << 42), 1 << 42, Nid(node as u32), Flags::NONE).unwrap();
        }
        // 4096 holes too small for a page, at the top where every search begins.
        for slot in 1..=4096u64 {
            mb.reserve(PhysAddr((17 << 42) - slot * 0x2000), 0x1800).unwrap();
        }
        for page in 0..100_000u64 {
            let expected = (17 << 42) - 4096 * 0x2000 - (page + 1) * PAGE;
            let found = mb.phys_alloc(PAGE, PAGE).unwrap();
            assert_eq!(found.0, expected);
        }
        for page in 0..100_000u64 {
            let request = Request::new(PAGE, PAGE).on(Some(Nid(3)));
            assert_eq!(mb.alloc_exact_nid_raw(request).unwrap().0, (5 << 42) - (page + 1) * PAGE);
        }
    }
}
