//! One test for each rule by which a request is served from elsewhere, or not at all.
#![allow(clippy::unwrap_used, reason = "a helper of tests may panic")]

mod common;

use common::{Allocator, Cpu, ERAS, PLACEMENTS, cpu, lists, min, one_zone, span, three_zones};
use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::{
    AllocError, CpuPages, Facts, Gfp, HeapStore, PageAllocator, Placement, Topology, Watermarks, ZoneKind, ZoneKinds,
};
use kernmem_sparse::MigrateType;

fn linux(era: Era) -> Facts {
    Facts::of(era, Placement::Linux)
}

/// The kind of zone that a request for a block beyond CPU lists is served from.
fn served(allocator: &Allocator, cpu: &mut Cpu, gfp: Gfp) -> Option<(u32, ZoneKind)> {
    let pfn = allocator.alloc(cpu, None, gfp, Order(10)).ok()?;
    let zone = allocator.zones().map(|zone| zone.span()).find(|span| span.start <= pfn && pfn < span.end)?;
    Some((zone.nid, zone.kind))
}

fn all_served(allocator: &Allocator, cpu: &mut Cpu, gfp: Gfp) -> Vec<ZoneKind> {
    core::iter::from_fn(|| served(allocator, cpu, gfp)).map(|(_, kind)| kind).collect()
}

#[test]
fn normal_falls_back_to_dma32_and_then_to_dma() {
    use ZoneKind::{Dma, Dma32, Normal};
    for placement in PLACEMENTS {
        let allocator = three_zones(Facts::of(Era::V6_1, placement));
        let mut cpu = cpu(&allocator);
        let kinds = all_served(&allocator, &mut cpu, Gfp::KERNEL);
        // 12, 8 and 4 blocks of order 10.
        assert_eq!(kinds, [[Normal; 12].as_slice(), &[Dma32; 8], &[Dma; 4]].concat());
        let none = AllocError::NoMemory { gfp: Gfp::KERNEL, order: Order(0) };
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)), Err(none));
    }
}

#[test]
fn dma_is_served_from_dma_alone_and_dma32_from_both() {
    use ZoneKind::{Dma, Dma32};
    let allocator = three_zones(linux(Era::V6_1));
    let mut first = cpu(&allocator);
    assert_eq!(all_served(&allocator, &mut first, Gfp::DMA), [Dma; 4]);
    let allocator = three_zones(linux(Era::V6_1));
    let mut second = cpu(&allocator);
    assert_eq!(all_served(&allocator, &mut second, Gfp::DMA32), [[Dma32; 8].as_slice(), &[Dma; 4]].concat());
}

#[test]
fn high_memory_falls_back_to_normal_and_then_to_dma() {
    use ZoneKind::{Dma, HighMem, Normal};
    let kinds = ZoneKinds::EMPTY.with(Dma).with(Normal).with(HighMem).with(ZoneKind::Movable);
    let facts = Facts { kinds, ..linux(Era::V6_1) };
    let spans = [span(0, Dma, 0, 0x400), span(0, Normal, 0x400, 0xc00), span(0, HighMem, 0xc00, 0x1000)];
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(1), &spans).unwrap();
    allocator.add_free(0, Pfn(0), Pfn(0x1000)).unwrap();
    let mut cpu = cpu(&allocator);
    assert_eq!(all_served(&allocator, &mut cpu, Gfp::HIGHUSER), [HighMem, Normal, Normal, Dma]);
    assert_eq!(served(&allocator, &mut cpu, Gfp::KERNEL), None);
}

#[test]
fn requests_that_cannot_be_served_say_why() {
    let allocator = three_zones(linux(Era::V6_1));
    let mut cpu = cpu(&allocator);
    let mut alloc = |nid, gfp, order| allocator.alloc(&mut cpu, nid, gfp, Order(order));
    assert_eq!(alloc(None, Gfp(0x3), 0), Err(AllocError::BadGfp(Gfp(0x3))));
    assert_eq!(alloc(None, Gfp(0x18), 0), Err(AllocError::BadGfp(Gfp(0x18))));
    assert_eq!(alloc(Some(1), Gfp::KERNEL, 0), Err(AllocError::BadNode(1)));
    assert_eq!(alloc(None, Gfp::KERNEL, 11), Err(AllocError::TooLarge { order: Order(11) }));
    assert_eq!(allocator.free_frames(), 0x6000);
}

#[test]
fn a_node_that_is_none_is_told_whatever_was_served_before() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_12, placement), 0, 0x8000);
        let mut cpu = cpu(&allocator);
        for nid in [1, u32::MAX - 1, u32::MAX] {
            allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).unwrap();
            let told = allocator.alloc(&mut cpu, Some(nid), Gfp::KERNEL, Order(0));
            assert_eq!(told, Err(AllocError::BadNode(nid)), "{placement:?}");
        }
    }
}

/// Normal has 0x3000 frames; a reserve of 0x2000 lets requests that could use Movable have the rest, and leaves the others
/// alone.
#[test]
fn a_zone_keeps_its_reserve_from_requests_that_could_go_higher() {
    let allocator = three_zones(linux(Era::V6_1));
    let mut cpu = cpu(&allocator);
    allocator.zone(0, ZoneKind::Dma).unwrap().set_reserve(ZoneKind::Normal, 0x1000);
    allocator.zone(0, ZoneKind::Dma32).unwrap().set_reserve(ZoneKind::Normal, 0x1800);
    let kinds = all_served(&allocator, &mut cpu, Gfp::KERNEL);
    // DMA32: 0x2000 - 0x3ff and 0x1c00 - 0x3ff are above 0x1800, 0x1800 - 0x3ff is not. DMA: 0x1000 - 0x3ff is not.
    assert_eq!(kinds, [[ZoneKind::Normal; 12].as_slice(), &[ZoneKind::Dma32; 2]].concat());
    assert_eq!(all_served(&allocator, &mut cpu, Gfp::DMA).len(), 4);
}

/// One zone of 0x4000 frames, min = low = 0x1000. By hand, with x frames left, an order-0 request passes when x > mark:
/// plain 0x1000; urgent (half) 0x800; urgent and not waiting (a quarter of the rest less) 0x600; MEMALLOC to the last.
/// 5.10 knows no request that does not wait by its lack of reclaim alone: the atomic bit says it.
#[test]
fn urgent_requests_go_below_the_watermark_by_their_share() {
    let left = |era: Era, gfp: Gfp| {
        let facts = Facts { thp: false, ..linux(era) };
        let allocator = one_zone(facts, 0, 0x4000);
        min(&allocator, ZoneKind::Normal, 0x1000);
        let mut cpu = cpu(&allocator);
        while allocator.alloc(&mut cpu, None, gfp, Order(0)).is_ok() {}
        allocator.free_frames() + cpu.total()
    };
    let atomic_without_high = Gfp(Gfp::atomic(Era::V5_10).0 & !Gfp::HIGH.0);
    for era in ERAS {
        assert_eq!(left(era, Gfp::KERNEL), 0x1000, "{era}");
        assert_eq!(left(era, Gfp::KERNEL | Gfp::HIGH), 0x800, "{era}");
        assert_eq!(left(era, Gfp::atomic(era)), 0x600, "{era}");
        assert_eq!(left(era, Gfp::KERNEL | Gfp::MEMALLOC), 0, "{era}");
        assert_eq!(left(era, Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC), 0x1000, "{era}");
    }
    // A quarter of the whole in 5.10; nothing at all for a request that is not urgent in later eras.
    assert_eq!(left(Era::V5_10, atomic_without_high), 0xc00);
    assert_eq!(left(Era::V6_1, Gfp::nowait(Era::V6_1)), 0x1000);
}

#[test]
fn the_low_watermark_turns_a_request_to_the_next_zone_and_the_min_one_ends_it() {
    let allocator = three_zones(linux(Era::V6_1));
    let normal = allocator.zone(0, ZoneKind::Normal).unwrap();
    normal.set_watermarks(Watermarks { min: 0x400, low: 0x2000, high: 0x2000, promo: 0x2000 });
    let mut cpu = cpu(&allocator);
    let kinds = all_served(&allocator, &mut cpu, Gfp::KERNEL);
    // Normal while 0x3000 - n * 0x400 - 0x3ff > 0x2000: 4 blocks (the fourth at 0x2400 - 0x3ff = 0x2001). Then DMA32 (8) and
    // DMA (4), and below low: while 0x2000 - n * 0x400 - 0x3ff > 0x400, 7 blocks.
    use ZoneKind::{Dma, Dma32, Normal};
    assert_eq!(kinds, [[Normal; 4].as_slice(), &[Dma32; 8], &[Dma; 4], &[Normal; 7]].concat());
}

fn two_nodes(facts: Facts) -> Allocator {
    let spans = [span(0, ZoneKind::Normal, 0, 0x800), span(1, ZoneKind::Normal, 0x800, 0x1000)];
    let topology = Topology { nodes: 2, distances: &[10, 20, 20, 10], has_cpus: &[], max_numnodes: 64, cpus: 2 };
    let allocator = PageAllocator::new(&mut HeapStore, facts, &topology, &spans).unwrap();
    allocator.add_free(0, Pfn(0), Pfn(0x800)).unwrap();
    allocator.add_free(1, Pfn(0x800), Pfn(0x1000)).unwrap();
    allocator
}

#[test]
fn a_node_without_memory_left_is_helped_by_the_next() {
    for placement in PLACEMENTS {
        let allocator = two_nodes(Facts::of(Era::V6_1, placement));
        let mut cpu = CpuPages::on_heap(CpuId(1), 1, &allocator, 64);
        let nodes: Vec<u32> =
            core::iter::from_fn(|| served(&allocator, &mut cpu, Gfp::KERNEL)).map(|(nid, _)| nid).collect();
        assert_eq!(nodes, [1, 1, 0, 0]);
    }
}

#[test]
fn a_frame_says_its_node_and_whether_it_is_managed() {
    let allocator = two_nodes(linux(Era::V6_1));
    let mut cpu = cpu(&allocator);
    let taken = allocator.alloc(&mut cpu, Some(1), Gfp::KERNEL, Order(3)).unwrap();
    assert_eq!([Pfn(0), taken, Pfn(0x1000)].map(|pfn| allocator.nid_of(pfn)), [Some(0), Some(1), None]);
    // The last frame of a block that somebody has, a free one, one beyond all zones.
    assert!(allocator.manages(Pfn(taken.0 + 7)) && allocator.manages(Pfn(0)) && !allocator.manages(Pfn(0x1000)));
    let with_boot = one_zone(linux(Era::V6_1), 0x200, 0x400);
    assert!(with_boot.manages(Pfn(0x200)) && !with_boot.manages(Pfn(0x1ff)));
}

#[test]
fn this_node_means_no_other() {
    let allocator = two_nodes(linux(Era::V6_1));
    let mut cpu = cpu(&allocator);
    let gfp = Gfp::KERNEL | Gfp::THISNODE;
    let mut alloc = || allocator.alloc(&mut cpu, Some(1), gfp, Order(10));
    assert_eq!([alloc(), alloc()], [Ok(Pfn(0x800)), Ok(Pfn(0xc00))]);
    assert_eq!(alloc(), Err(AllocError::NoMemory { gfp, order: Order(10) }));
    assert_eq!(allocator.free_frames(), 0x800);
}

/// With Normal preferred and DMA32 there, the first pass breaks no movable pageblock for less than a pageblock. Normal has
/// one pageblock of each of two types left; a small unmovable request finds none of its own and goes to DMA32.
#[test]
fn types_are_kept_apart_while_the_zone_below_can_help() {
    for era in ERAS {
        let facts = Facts { thp: false, ..linux(era) };
        let allocator = three_zones(facts);
        let mut cpu = cpu(&allocator);
        // All of Normal is movable and in use but for half a pageblock; 11 largest blocks and a half go.
        for _ in 0..11 {
            allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(10)).unwrap();
        }
        allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)).unwrap();
        allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(8)).unwrap();
        let pfn = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(4)).unwrap();
        assert!((0x1000..0x3000).contains(&pfn.0), "{era}: {pfn:?} is in DMA32");
    }
}

/// The type of the pageblock of a frame.
fn kind(allocator: &Allocator, pfn: u64) -> MigrateType {
    allocator.zones().find_map(|zone| zone.migrate_type(Pfn(pfn))).unwrap()
}

fn free(allocator: &Allocator, order: u8, kind: MigrateType) -> u64 {
    allocator.zones().map(|zone| zone.free_blocks(Order(order), kind)).sum()
}

/// All is movable. Under dense placement an unmovable request takes over the lowest whole pageblock and no more; what it
/// leaves of the first 64 frames stays with the CPU.
#[test]
fn dense_placement_takes_over_one_pageblock() {
    for era in ERAS {
        let allocator = one_zone(Facts::of(era, Placement::Dense), 0, 0x1000);
        let mut cpu = cpu(&allocator);
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(4)), Ok(Pfn(0)));
        let kinds = [0, 0x200, 0x400].map(|pfn| kind(&allocator, pfn));
        assert_eq!(kinds, [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Movable]);
        assert_eq!(cpu.total(), 48);
        let unmovable = [4, 5, 6, 7, 8, 9].map(|order| free(&allocator, order, MigrateType::Unmovable));
        let movable = [9, 10].map(|order| free(&allocator, order, MigrateType::Movable));
        assert_eq!((unmovable, movable), ([0, 0, 1, 1, 1, 0], [1, 3]), "{era}");
    }
}

/// No pageblock is whole, half of each is free: dense placement serves an unmovable request from a movable one and leaves
/// it movable, and raises the watermarks as Linux does.
#[test]
fn dense_placement_takes_words_of_other_types_last() {
    for era in ERAS {
        let allocator = one_zone(Facts { thp: false, ..Facts::of(era, Placement::Dense) }, 0, 0x1000);
        let zone = allocator.zones().next().unwrap();
        zone.set_watermarks(Watermarks { min: 0, low: 0, high: 10_000, promo: 0 });
        let mut cpu = cpu(&allocator);
        for block in (0..0x1000).step_by(0x200) {
            let (start, end) = (Pfn(block), Pfn(block + 0x100));
            allocator.alloc_contig_range(&mut cpu, Gfp::HIGHUSER_MOVABLE, start, end).unwrap();
        }
        let pfn = allocator.alloc(&mut cpu, None, Gfp::KERNEL | Gfp::MEMALLOC, Order(0)).unwrap();
        assert_eq!((pfn, kind(&allocator, pfn.0), zone.boost()), (Pfn(0x100), MigrateType::Movable, 512), "{era}");
        // The rest of the word serves what follows.
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)), Ok(Pfn(0x101)));
    }
}

/// All is movable. An unmovable request takes over the pageblocks of the largest block, and what is left of it is
/// unmovable: both pageblocks of the block change.
#[test]
fn a_whole_pageblock_is_taken_over() {
    for era in ERAS {
        let allocator = one_zone(linux(era), 0, 0x1000);
        let mut cpu = cpu(&allocator);
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(4)), Ok(Pfn(0)));
        assert_eq!([0, 0x200, 0x400].map(|pfn| kind(&allocator, pfn)), {
            use MigrateType::{Movable, Unmovable};
            [Unmovable, Unmovable, Movable]
        });
        let unmovable = [4, 5, 6, 7, 8, 9].map(|order| free(&allocator, order, MigrateType::Unmovable));
        assert_eq!((unmovable, free(&allocator, 10, MigrateType::Movable)), ([1; 6], 3), "{era}");
    }
}

/// A zone of one pageblock, movable, with `used` frames in use by movable pages, as blocks of order 4 beside a hole of
/// CPU lists; then one unmovable request of order 4.
fn part_of_a_pageblock(facts: Facts, used: u64, by: Gfp) -> (MigrateType, Allocator) {
    let allocator = one_zone(facts, 0, 0x200);
    let mut cpu = cpu(&allocator);
    for _ in 0..used / 16 {
        allocator.alloc(&mut cpu, None, by, Order(4)).unwrap();
    }
    allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(4)).unwrap();
    (kind(&allocator, 0), allocator)
}

/// Half a pageblock free is enough; a block less is not, when what is in use is movable.
#[test]
fn half_a_pageblock_free_decides_who_has_it() {
    for era in ERAS {
        let facts = Facts { boost_factor: 0, ..linux(era) };
        let (half, _) = part_of_a_pageblock(facts, 0x100, Gfp::HIGHUSER_MOVABLE);
        assert_eq!(half, MigrateType::Unmovable, "{era}");
        let (less, _) = part_of_a_pageblock(facts, 0x110, Gfp::HIGHUSER_MOVABLE);
        assert_eq!(less, MigrateType::Movable, "{era}");
    }
}

/// 0x110 of 0x200 frames in use, 0xf0 free, the pageblock stays movable. What is free: up to 6.1 all of it moved to the
/// unmovable lists; from 6.12 on the rest of the block that was stolen stays movable.
#[test]
fn what_a_theft_leaves_goes_by_era() {
    let lists_of = |era| {
        let (_, allocator) = part_of_a_pageblock(linux(era), 0x110, Gfp::HIGHUSER_MOVABLE);
        let frames = |kind| (0..=10).map(|order| free(&allocator, order, kind) << order).sum::<u64>();
        (frames(MigrateType::Unmovable), frames(MigrateType::Movable))
    };
    for era in ERAS {
        let expected = if era <= Era::V6_1 { (0xe0, 0) } else { (0, 0xe0) };
        assert_eq!(lists_of(era), expected, "{era}");
    }
}

/// A movable request that finds a small unmovable block takes just that block: nothing is claimed below half the order of
/// a pageblock.
#[test]
fn a_movable_request_claims_no_small_block() {
    for era in ERAS {
        let allocator = one_zone(Facts { grouping: true, ..linux(era) }, 0, 0x200);
        let mut cpu = cpu(&allocator);
        // The pageblock becomes unmovable, and is used up but for one block of order 3.
        let mut orders = [8, 7, 6, 5, 4, 3].into_iter();
        assert!(orders.all(|order| allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(order)).is_ok()));
        allocator.drain(&mut cpu);
        assert_eq!(kind(&allocator, 0), MigrateType::Unmovable);
        let rest = allocator.free_frames();
        allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(0)).unwrap();
        assert_eq!(kind(&allocator, 0), MigrateType::Unmovable, "{era}");
        assert_eq!(allocator.free_frames() + cpu.total() + 1, rest, "{era}");
    }
}

/// The order of types: an unmovable request takes reclaimable before movable pageblocks; a movable one reclaimable before
/// unmovable; a reclaimable one unmovable before movable.
#[test]
fn each_type_has_its_order_of_helpers() {
    use MigrateType::{Movable, Reclaimable, Unmovable};
    let reclaimable = Gfp(Gfp::KERNEL.0 | Gfp::RECLAIMABLE.0);
    let cases = [
        (Gfp::KERNEL, [Reclaimable, Movable]),
        (Gfp::HIGHUSER_MOVABLE, [Reclaimable, Unmovable]),
        (reclaimable, [Unmovable, Movable]),
    ];
    for (gfp, helpers) in cases {
        for placement in PLACEMENTS {
            let allocator = one_zone(Facts { thp: false, ..Facts::of(Era::V6_1, placement) }, 0, 0x800);
            // The first helper has the higher address, so that the order alone decides.
            allocator.set_migrate_type(Pfn(0), Pfn(0x400), helpers[1]).unwrap();
            allocator.set_migrate_type(Pfn(0x400), Pfn(0x800), helpers[0]).unwrap();
            let mut cpu = cpu(&allocator);
            let pfn = allocator.alloc(&mut cpu, None, gfp, Order(9)).unwrap();
            assert!(pfn.0 >= 0x400, "{gfp:?} {placement:?} took {pfn:?}");
        }
    }
}

/// managed = 0x10000 frames, a hundredth is 655. Up to 6.1: 655 + 512 = 1167, so pageblocks are kept while less than that is:
/// three. From 6.12 on: 655 rounded up to 1024: two.
#[test]
fn urgent_requests_keep_pageblocks_up_to_a_hundredth() {
    for era in ERAS {
        let allocator = one_zone(linux(era), 0, 0x1_0000);
        min(&allocator, ZoneKind::Normal, 0x8000);
        let mut cpu = cpu(&allocator);
        // Down to the low watermark with plain requests, so that urgent ones come in by their own pass.
        while allocator.free_frames() > 0x8000 {
            allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(10)).unwrap();
        }
        let urgent: Vec<Pfn> =
            (0..200).map(|_| allocator.alloc(&mut cpu, None, Gfp::atomic(era), Order(4)).unwrap()).collect();
        let zone = allocator.zone(0, ZoneKind::Normal).unwrap();
        let expected = if era <= Era::V6_1 { 3 } else { 2 };
        assert_eq!(zone.reserved_highatomic(), expected * 512, "{era}");
        let kept = zone.pageblocks(Pfn(0), u64::MAX)[MigrateType::HighAtomic as usize];
        assert_eq!(kept, expected, "{era}");
        if era == Era::V5_10 {
            // It merges kept pageblocks with others, and the larger block is found under the other type alone.
            continue;
        }
        // A plain request that finds nothing else releases one pageblock after the other, and gets all of it.
        urgent.into_iter().for_each(|pfn| allocator.free(&mut cpu, pfn, Order(4)).unwrap());
        zone.set_watermarks(Watermarks::default());
        while allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(4)).is_ok() {}
        assert_eq!((zone.reserved_highatomic(), allocator.free_frames()), (0, 0), "{era}");
    }
}

/// Kept pageblocks that are all in use: up to 6.1 their whole size is taken off what a plain request may count on, from 6.12
/// on only what is free in them, which is nothing.
#[test]
fn kept_pageblocks_in_use_hold_plain_requests_back_up_to_6_1() {
    for era in ERAS {
        let allocator = one_zone(linux(era), 0, 0x1_0000);
        min(&allocator, ZoneKind::Normal, 0x8000);
        let mut cpu = cpu(&allocator);
        while allocator.free_frames() > 0x8000 {
            allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(10)).unwrap();
        }
        // 200 blocks of 16 frames: more than three pageblocks.
        for _ in 0..200 {
            allocator.alloc(&mut cpu, None, Gfp::atomic(era), Order(4)).unwrap();
        }
        let zone = allocator.zone(0, ZoneKind::Normal).unwrap();
        assert_eq!(zone.free_highatomic(), 0, "{era}");
        zone.set_watermarks(Watermarks::default());
        while allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).is_ok() {}
        let left = if era <= Era::V6_1 { 3 * 512 } else { 0 };
        assert_eq!(allocator.free_frames(), left, "{era}");
    }
}

/// CMA pageblocks serve movable requests: first while they are more than half of what is free, else last; others never.
#[test]
fn cma_serves_movable_requests_alone() {
    for (era, placement) in ERAS.into_iter().flat_map(|era| PLACEMENTS.map(|placement| (era, placement))) {
        let facts = Facts { cma: true, thp: false, ..Facts::of(era, placement) };
        let allocator = one_zone(facts, 0, 0x1000);
        allocator.set_migrate_type(Pfn(0x800), Pfn(0x1000), MigrateType::Cma).unwrap();
        let zone = allocator.zone(0, ZoneKind::Normal).unwrap();
        assert_eq!((zone.free(), zone.free_cma()), (0x1000, 0x800));
        let mut cpu = cpu(&allocator);
        assert!(
            allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)).unwrap().0 < 0x800,
            "half is not more"
        );
        assert!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)).unwrap().0 >= 0x800);
        let mut others = 0;
        while let Ok(pfn) = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(9)) {
            assert!(pfn.0 < 0x800);
            others += 1;
        }
        assert_eq!((others, zone.free()), (3, zone.free_cma()), "{era} {placement:?}");
        assert!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)).is_ok());
    }
}

#[test]
fn isolated_pageblocks_are_neither_counted_nor_given() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x400);
        let mut cpu = cpu(&allocator);
        allocator.set_migrate_type(Pfn(0), Pfn(0x200), MigrateType::Isolate).unwrap();
        assert_eq!(allocator.free_frames(), 0x200);
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)), Ok(Pfn(0x200)));
        assert!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(0)).is_err());
        allocator.set_migrate_type(Pfn(0), Pfn(0x200), MigrateType::Movable).unwrap();
        assert_eq!(allocator.free_frames(), 0x200);
    }
}

/// high = 10000, factor 15000: at most 15000 are added, 512 for each pageblock that types were mixed in.
#[test]
fn a_mixed_pageblock_boosts_the_watermarks_for_a_while() {
    let allocator = one_zone(Facts { thp: false, ..linux(Era::V6_1) }, 0, 0x8000);
    let zone = allocator.zone(0, ZoneKind::Normal).unwrap();
    zone.set_watermarks(Watermarks { min: 0, low: 0, high: 10_000, promo: 0 });
    let mut cpu = cpu(&allocator);
    let mut taken = Vec::new();
    while let Ok(pfn) = allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(8)) {
        taken.push(pfn);
    }
    // Half of one pageblock comes back, and an unmovable request takes from it.
    allocator.free(&mut cpu, taken[0], Order(8)).unwrap();
    let pfn = allocator.alloc(&mut cpu, None, Gfp::KERNEL | Gfp::MEMALLOC, Order(4));
    assert_eq!((pfn, zone.boost()), (Ok(taken[0]), 512));
    zone.clear_boost();
    assert_eq!(zone.boost(), 0);
}

#[test]
fn a_cpu_gives_its_lists_back_when_it_is_asked() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x400);
        lists(&allocator, 8, 64);
        let mut cpus = [0, 1].map(|cpu| CpuPages::on_heap(CpuId(cpu), 0, &allocator, 64));
        let own = allocator.alloc(&mut cpus[1], None, Gfp::KERNEL, Order(0)).unwrap();
        // A batch, or the rest of 64 frames.
        let kept = if placement == Placement::Linux { 7 } else { 63 };
        assert_eq!(cpus[1].total(), kept);
        assert!(allocator.request_drain(CpuId(1)) && !allocator.request_drain(CpuId(2)));
        assert_eq!(cpus[1].total(), kept, "nobody else touches its lists");
        allocator.answer_requests(&mut cpus[1]);
        assert_eq!((cpus[1].total(), allocator.free_frames()), (0, 0x3ff));
        // A request that finds nothing asks the others.
        allocator.alloc(&mut cpus[1], None, Gfp::KERNEL, Order(0)).unwrap();
        assert!(allocator.alloc(&mut cpus[0], None, Gfp::KERNEL, Order(10)).is_err());
        allocator.answer_requests(&mut cpus[1]);
        assert_eq!(cpus[1].total(), 0);
        allocator.free(&mut cpus[0], own, Order(0)).unwrap();
    }
}

/// batch 8, high 16. The first request brings 8 and takes one. In 5.10 a free that makes 16 gives 8 back at once.
#[test]
fn lists_are_filled_and_emptied_by_the_batch() {
    for era in [Era::V5_10, Era::V6_1] {
        let allocator = one_zone(linux(era), 0, 0x400);
        lists(&allocator, 8, 16);
        let mut cpu = cpu(&allocator);
        let taken: Vec<Pfn> =
            (0..24).map(|_| allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).unwrap()).collect();
        assert_eq!((cpu.total(), allocator.free_frames()), (0, 0x400 - 24));
        for &pfn in &taken[..15] {
            allocator.free(&mut cpu, pfn, Order(0)).unwrap();
        }
        assert_eq!(cpu.total(), 15, "{era}");
        allocator.free(&mut cpu, taken[15], Order(0)).unwrap();
        assert_eq!(cpu.total(), 8, "{era}");
        let zone = allocator.zones().next().unwrap();
        assert_eq!((cpu.count(zone), cpu.high(zone)), (8, 16));
    }
}

/// Orders above 0 have lists from 6.1 on.
#[test]
fn only_the_oldest_era_keeps_single_frames_alone() {
    for era in ERAS {
        let allocator = one_zone(linux(era), 0, 0x400);
        lists(&allocator, 8, 64);
        let mut cpu = cpu(&allocator);
        allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(1)).unwrap();
        // Four blocks of order 1 come for a batch of 8 frames, and one is taken.
        assert_eq!(cpu.total(), if era == Era::V5_10 { 0 } else { 6 }, "{era}");
    }
}

/// batch 8, high between 8 and 32. The first refill lets high grow to 16 and brings 8; the second lets it grow to 24, and
/// brings twice as many: 24 less a batch is room for 16.
#[test]
fn from_6_12_on_lists_grow_with_what_is_asked() {
    for era in [Era::V6_12, Era::V7_2] {
        let allocator = one_zone(linux(era), 0, 0x400);
        let zone = allocator.zones().next().unwrap();
        zone.set_pcp(kernmem_page_alloc::PcpLimits { batch: 8, high_min: 8, high_max: 32 });
        let mut cpu = cpu(&allocator);
        let mut take = || {
            allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).unwrap();
            (cpu.count(zone), cpu.high(zone))
        };
        assert_eq!(take(), (7, 16), "{era}");
        let last = (0..8).map(|_| take()).last();
        assert_eq!(last, Some((15, 24)), "{era}");
    }
}

/// A range that begins inside one pageblock and ends inside the next is of both.
#[test]
fn each_pageblock_that_a_range_touches_gets_its_type() {
    let allocator = one_zone(linux(Era::V6_1), 0, 0x600);
    assert_eq!(allocator.set_migrate_type(Pfn(0x100), Pfn(0x300), MigrateType::Unmovable), Ok(2));
    use MigrateType::{Movable, Unmovable};
    assert_eq!([0, 0x200, 0x400].map(|pfn| kind(&allocator, pfn)), [Unmovable, Unmovable, Movable]);
}

/// Pageblocks that are counted in one call are those whose frames say so one by one, in both placements, whichever frame
/// each is counted by.
#[test]
fn pageblocks_are_counted_as_their_frames_say() {
    let (start, end) = (0x1_0180, 0x4_0000);
    for placement in [Placement::Linux, Placement::Dense] {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), start, end);
        for (from, to, kind) in [(start, 0x1_0181, 0), (0x1_0400, 0x1_0a00, 2), (0x2_7e00, 0x2_8400, 0)] {
            allocator.set_migrate_type(Pfn(from), Pfn(to), MigrateType::ALL[kind]).unwrap();
        }
        let zone = allocator.zones().next().unwrap();
        for first in [start, start + 0x1ff, 0x1_0200, 0x1_0600, 0x2_7f00] {
            for count in [0, 1, 2, 5, 128, 300] {
                let mut expected = [0; 6];
                let frames = (0..count).map(|nth| Pfn(first + nth * 512)).take_while(|pfn| pfn.0 < end);
                frames.for_each(|pfn| expected[zone.migrate_type(pfn).unwrap() as usize] += 1);
                assert_eq!(zone.pageblocks(Pfn(first), count), expected, "{placement:?} {first:#x} {count}");
            }
        }
    }
}
