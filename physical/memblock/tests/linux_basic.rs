//! The cases of the memblock suite that ships with Linux, file `basic_api`, by name. Expectations are worked out by hand.
//!
//! Source: names and situations of Linux 6.1–7.2 tools/testing/memblock/tests/basic_api.c.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{BASE, ERAS, Mb, SIZE, empty, flat, pairs};
use kernmem_base::{Era, PhysAddr};
use kernmem_memblock::{Flags, ListKind, MemblockError, Nid};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where the suite's many regions lie: 32 KiB each, far apart.
const FAR: u64 = 0x2_0000_0000;
const STEP: u64 = 0x20_0000;

type Operation = fn(&mut Mb, PhysAddr, u64) -> Result<(), MemblockError>;

/// Base and size of regions.
type Regions<'a> = &'a [(u64, u64)];

/// Does `put` for each of `before` and `operation` for each of `ranges`, in each era.
#[track_caller]
fn check(list: ListKind, before: Regions, operation: Operation, ranges: Regions, expected: Regions) {
    for era in ERAS {
        let mut mb = empty(era);
        let put: Operation = match list {
            ListKind::Memory => Mb::add,
            ListKind::Reserved => Mb::reserve,
        };
        for &(base, size) in before {
            put(&mut mb, PhysAddr(base), size).unwrap();
        }
        for &(base, size) in ranges {
            operation(&mut mb, PhysAddr(base), size).unwrap();
        }
        assert_eq!(pairs(mb.list(list).regions()), expected, "{era}");
        assert_eq!(mb.list(list).total_size(), expected.iter().map(|&(_, size)| size).sum::<u64>(), "{era}");
    }
}

#[track_caller]
fn adds(ranges: Regions, expected: Regions) {
    check(ListKind::Memory, &[], Mb::add, ranges, expected);
}

#[track_caller]
fn reserves(ranges: Regions, expected: Regions) {
    check(ListKind::Reserved, &[], Mb::reserve, ranges, expected);
}

#[track_caller]
fn removes(before: Regions, range: (u64, u64), expected: Regions) {
    check(ListKind::Memory, before, Mb::remove, &[range], expected);
}

#[track_caller]
fn frees(before: Regions, range: (u64, u64), expected: Regions) {
    check(ListKind::Reserved, before, Mb::phys_free, &[range], expected);
}

#[test]
fn memblock_initialization_check() {
    for era in ERAS {
        let mb = empty(era);
        for (kind, name) in [(ListKind::Memory, "memory"), (ListKind::Reserved, "reserved")] {
            assert_eq!(kind.name(), name);
            let list = mb.list(kind);
            assert_eq!((list.len(), list.capacity(), list.total_size()), (0, 128, 0));
        }
        assert!(!mb.bottom_up());
        assert_eq!(mb.current_limit(), PhysAddr(u64::MAX));
    }
}

#[test]
fn memblock_add_node_simple_check() {
    for era in ERAS {
        for numa in [true, false] {
            let mut limits = *empty(era).limits();
            limits.numa = numa;
            let mut mb = Mb::new(era, limits, Default::default(), Default::default(), Default::default());
            mb.add_node(PhysAddr(GIB), 16 * MIB, Nid(1), Flags::HOTPLUG).unwrap();
            let region = mb.memory().regions()[0];
            assert_eq!((region.base, region.size, region.flags), (PhysAddr(GIB), 16 * MIB, Flags::HOTPLUG));
            assert_eq!(region.nid, numa.then_some(Nid(1)));
        }
    }
}

#[test]
fn memblock_add_simple_check() {
    adds(&[(GIB, 4 * MIB)], &[(GIB, 4 * MIB)]);
}

#[test]
fn memblock_add_disjoint_check() {
    adds(&[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB)], &[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB)]);
}

#[test]
fn memblock_add_overlap_top_check() {
    adds(&[(512 * MIB, GIB), (256 * MIB, 512 * MIB)], &[(256 * MIB, GIB + 256 * MIB)]);
}

#[test]
fn memblock_add_overlap_bottom_check() {
    adds(&[(128 * MIB, 512 * MIB), (256 * MIB, GIB)], &[(128 * MIB, GIB + 128 * MIB)]);
}

#[test]
fn memblock_add_within_check() {
    adds(&[(8 * MIB, 32 * MIB), (16 * MIB, MIB)], &[(8 * MIB, 32 * MIB)]);
}

#[test]
fn memblock_add_twice_check() {
    adds(&[(16 * KIB, 2 * MIB), (16 * KIB, 2 * MIB)], &[(16 * KIB, 2 * MIB)]);
}

#[test]
fn memblock_add_between_check() {
    adds(&[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB), (GIB + 8 * KIB, 8 * KIB)], &[(GIB, 24 * KIB)]);
}

#[test]
fn memblock_add_near_max_check() {
    adds(&[(u64::MAX - MIB, 2 * MIB)], &[(u64::MAX - MIB, MIB)]);
}

#[test]
fn memblock_reserve_simple_check() {
    reserves(&[(GIB, 4 * MIB)], &[(GIB, 4 * MIB)]);
}

#[test]
fn memblock_reserve_disjoint_check() {
    reserves(&[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB)], &[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB)]);
}

#[test]
fn memblock_reserve_overlap_top_check() {
    reserves(&[(512 * MIB, GIB), (256 * MIB, 512 * MIB)], &[(256 * MIB, GIB + 256 * MIB)]);
}

#[test]
fn memblock_reserve_overlap_bottom_check() {
    reserves(&[(128 * MIB, 512 * MIB), (256 * MIB, GIB)], &[(128 * MIB, GIB + 128 * MIB)]);
}

#[test]
fn memblock_reserve_within_check() {
    reserves(&[(8 * MIB, 32 * MIB), (16 * MIB, MIB)], &[(8 * MIB, 32 * MIB)]);
}

#[test]
fn memblock_reserve_twice_check() {
    reserves(&[(16 * KIB, 2 * MIB), (16 * KIB, 2 * MIB)], &[(16 * KIB, 2 * MIB)]);
}

#[test]
fn memblock_reserve_between_check() {
    reserves(&[(GIB, 8 * KIB), (GIB + 16 * KIB, 8 * KIB), (GIB + 8 * KIB, 8 * KIB)], &[(GIB, 24 * KIB)]);
}

#[test]
fn memblock_reserve_near_max_check() {
    reserves(&[(u64::MAX - MIB, 2 * MIB)], &[(u64::MAX - MIB, MIB)]);
}

#[test]
fn memblock_remove_simple_check() {
    removes(&[(2 * GIB, 4 * MIB), (4 * GIB, 8 * MIB)], (2 * GIB, 4 * MIB), &[(4 * GIB, 8 * MIB)]);
}

#[test]
fn memblock_remove_absent_check() {
    removes(&[(512 * KIB, 4 * MIB)], (64 * MIB, GIB), &[(512 * KIB, 4 * MIB)]);
}

#[test]
fn memblock_remove_overlap_top_check() {
    removes(&[(32 * MIB, 32 * MIB)], (16 * MIB, 32 * MIB), &[(48 * MIB, 16 * MIB)]);
}

#[test]
fn memblock_remove_overlap_bottom_check() {
    removes(&[(2 * MIB, 64 * MIB)], (32 * MIB, 256 * MIB), &[(2 * MIB, 30 * MIB)]);
}

#[test]
fn memblock_remove_within_check() {
    removes(&[(MIB, 4 * MIB)], (2 * MIB, MIB), &[(MIB, MIB), (3 * MIB, 2 * MIB)]);
}

#[test]
fn memblock_remove_only_region_check() {
    removes(&[(2 * GIB, 4 * MIB)], (2 * GIB, 4 * MIB), &[]);
}

#[test]
fn memblock_remove_near_max_check() {
    removes(&[(u64::MAX - 2 * MIB, 2 * MIB)], (u64::MAX - MIB, 2 * MIB), &[(u64::MAX - 2 * MIB, MIB)]);
}

#[test]
fn memblock_remove_overlap_two_check() {
    removes(
        &[(16 * MIB, 32 * MIB), (64 * MIB, 64 * MIB)],
        (32 * MIB, 64 * MIB),
        &[(16 * MIB, 16 * MIB), (96 * MIB, 32 * MIB)],
    );
}

#[test]
fn memblock_free_simple_check() {
    frees(&[(2 * GIB, 4 * MIB), (4 * GIB, 8 * MIB)], (2 * GIB, 4 * MIB), &[(4 * GIB, 8 * MIB)]);
}

#[test]
fn memblock_free_absent_check() {
    frees(&[(512 * KIB, 4 * MIB)], (64 * MIB, GIB), &[(512 * KIB, 4 * MIB)]);
}

#[test]
fn memblock_free_overlap_top_check() {
    frees(&[(32 * MIB, 32 * MIB)], (16 * MIB, 32 * MIB), &[(48 * MIB, 16 * MIB)]);
}

#[test]
fn memblock_free_overlap_bottom_check() {
    frees(&[(2 * MIB, 64 * MIB)], (32 * MIB, 256 * MIB), &[(2 * MIB, 30 * MIB)]);
}

#[test]
fn memblock_free_within_check() {
    frees(&[(MIB, 4 * MIB)], (2 * MIB, MIB), &[(MIB, MIB), (3 * MIB, 2 * MIB)]);
}

#[test]
fn memblock_free_only_region_check() {
    frees(&[(2 * GIB, 4 * MIB)], (2 * GIB, 4 * MIB), &[]);
}

#[test]
fn memblock_free_near_max_check() {
    frees(&[(u64::MAX - 2 * MIB, 2 * MIB)], (u64::MAX - MIB, 2 * MIB), &[(u64::MAX - 2 * MIB, MIB)]);
}

#[test]
fn memblock_free_overlap_two_check() {
    frees(
        &[(16 * MIB, 32 * MIB), (64 * MIB, 64 * MIB)],
        (32 * MIB, 64 * MIB),
        &[(16 * MIB, 16 * MIB), (96 * MIB, 32 * MIB)],
    );
}

#[test]
fn memblock_add_many_check() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.allow_resize();
        for slot in 0..129 {
            mb.add(PhysAddr(FAR + slot * STEP), SIZE).unwrap();
        }
        assert_eq!((mb.memory().len(), mb.memory().capacity()), (129, 256), "{era}");
        assert_eq!(mb.phys_mem_size(), 129 * SIZE);
        // 256 regions of 24 bytes are 1.5 pages; 128 regions were there to search in.
        let array = FAR + 127 * STEP + SIZE - 0x2000;
        assert_eq!(pairs(mb.reserved().regions()), [(array, 0x2000)], "{era}");
        assert_eq!(mb.memory().home().unwrap().start, PhysAddr(array));
    }
}

/// Takes 129 far regions, the one in `last_slot` last, and checks that the grown list went to the top of memory.
#[track_caller]
fn reserve_many(era: Era, last_slot: u64) {
    let mut mb = flat(era);
    mb.allow_resize();
    for slot in (0..129).filter(|&slot| slot != last_slot).chain([last_slot]) {
        mb.reserve(PhysAddr(FAR + slot * STEP), SIZE).unwrap();
    }
    assert_eq!((mb.reserved().len(), mb.reserved().capacity()), (130, 256), "{era}");
    assert_eq!(mb.reserved_size(), 129 * SIZE + 0x2000, "{era}");
    assert_eq!(pairs(&mb.reserved().regions()[..1]), [(BASE + SIZE - 0x2000, 0x2000)], "{era}");
    assert_eq!(mb.reserved().home().unwrap().start, PhysAddr(BASE + SIZE - 0x2000));
}

#[test]
fn memblock_reserve_many_check() {
    for era in ERAS {
        reserve_many(era, 128);
    }
}

#[test]
fn memblock_reserve_all_locations_check() {
    for era in ERAS {
        for slot in 0..129 {
            reserve_many(era, slot);
        }
    }
}

#[test]
fn memblock_reserve_many_may_conflict_check() {
    // Of 32 KiB of free memory the last region takes all but 8 KiB above it or below it.
    for (taken, array) in [((BASE, 0x6000), BASE + 0x6000), ((BASE + 0x2000, 0x6000), BASE)] {
        for era in ERAS {
            let mut mb = flat(era);
            mb.allow_resize();
            for slot in 0..128 {
                mb.reserve(PhysAddr(FAR + slot * STEP), SIZE).unwrap();
            }
            mb.reserve_kern(PhysAddr(taken.0), taken.1).unwrap();
            assert_eq!(mb.reserved().home().unwrap().start, PhysAddr(array), "{era}");
            assert_eq!((mb.reserved().len(), mb.reserved().capacity()), (129, 256), "{era}");
            assert_eq!(pairs(&mb.reserved().regions()[..1]), [(BASE, SIZE)], "{era}");
        }
    }
}

#[test]
fn memblock_set_bottom_up_check() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.set_bottom_up(false);
        assert!(!mb.bottom_up());
        mb.set_bottom_up(true);
        assert!(mb.bottom_up());
    }
}

#[test]
fn memblock_bottom_up_check() {
    for era in ERAS {
        let mut mb = empty(era);
        for bottom_up in [false, true] {
            mb.set_bottom_up(bottom_up);
            assert_eq!(mb.bottom_up(), bottom_up);
        }
    }
}

/// Trims to pages of 4 KiB; the sum of sizes shrinks only by the regions that go.
#[track_caller]
fn trims(before: Regions, expected: Regions, total: u64) {
    for era in ERAS {
        let mut mb = empty(era);
        for &(base, size) in before {
            mb.add(PhysAddr(base), size).unwrap();
        }
        mb.trim_memory(4 * KIB).unwrap();
        assert_eq!(pairs(mb.memory().regions()), expected, "{era}");
        assert_eq!(mb.phys_mem_size(), total, "{era}");
    }
}

#[test]
fn memblock_trim_memory_aligned_check() {
    trims(&[(GIB, 8 * KIB)], &[(GIB, 8 * KIB)], 8 * KIB);
}

#[test]
fn memblock_trim_memory_too_small_check() {
    let stays = (GIB, 8 * KIB);
    trims(&[stays, (GIB + 9 * KIB, 2 * KIB)], &[stays], 8 * KIB);
}

#[test]
fn memblock_trim_memory_unaligned_base_check() {
    let stays = (GIB, 8 * KIB);
    trims(&[stays, (GIB + 18 * KIB, 6 * KIB)], &[stays, (GIB + 20 * KIB, 4 * KIB)], 14 * KIB);
}

#[test]
fn memblock_trim_memory_unaligned_end_check() {
    let stays = (GIB, 8 * KIB);
    trims(&[stays, (GIB + 16 * KIB, 7 * KIB)], &[stays, (GIB + 16 * KIB, 4 * KIB)], 15 * KIB);
}

#[test]
fn memblock_overlaps_region_check() {
    for era in ERAS {
        let mut mb = empty(era);
        mb.reserve(PhysAddr(GIB), 4 * MIB).unwrap();
        let overlaps = |base, size| mb.overlaps_region(ListKind::Reserved, PhysAddr(base), size);
        assert!(!overlaps(GIB - 16 * MIB, MIB), "before");
        assert!(!overlaps(GIB - MIB, MIB), "touching below");
        assert!(overlaps(GIB - MIB, 2 * MIB), "across the start");
        assert!(overlaps(GIB, 4 * MIB), "equal");
        assert!(overlaps(GIB + MIB, MIB), "inside");
        assert!(overlaps(GIB + 3 * MIB, 2 * MIB), "across the end");
        assert!(overlaps(GIB - MIB, 16 * MIB), "around");
        assert!(!overlaps(GIB + 4 * MIB, MIB), "touching above");
        assert!(!overlaps(GIB + 16 * MIB, MIB), "after");
        assert!(!overlaps(GIB + 16 * MIB, u64::MAX), "after, past the end of the address space");
        assert!(mb.is_region_reserved(PhysAddr(GIB + MIB), MIB));
    }
}

#[test]
fn memblock_set_node_check() {
    for era in ERAS {
        let mut mb = flat(era);
        mb.allow_resize();
        // 127 regions of 32 KiB, so that cutting one in three does not fit into 128.
        for slot in 0..127 {
            mb.reserve(PhysAddr(FAR + slot * STEP), SIZE).unwrap();
        }
        let middle = FAR + 64 * STEP;
        mb.set_node(ListKind::Reserved, PhysAddr(middle + 0x2000), 0x1000, Some(Nid(0))).unwrap();
        assert_eq!((mb.reserved().len(), mb.reserved().capacity()), (130, 256), "{era}");
        let parts = [(middle, 0x2000), (middle + 0x2000, 0x1000), (middle + 0x3000, 0x5000)];
        assert_eq!(pairs(&mb.reserved().regions()[65..68]), parts, "{era}");
        let nids: Vec<_> = mb.reserved().regions()[65..68].iter().map(|region| region.nid).collect();
        assert_eq!(nids, [None, Some(Nid(0)), None]);
        mb.set_node(ListKind::Reserved, PhysAddr(middle), SIZE, Some(Nid(0))).unwrap();
        assert_eq!(mb.reserved().len(), 128, "{era}");
        assert_eq!(pairs(&mb.reserved().regions()[65..66]), [(middle, SIZE)], "{era}");
    }
}
