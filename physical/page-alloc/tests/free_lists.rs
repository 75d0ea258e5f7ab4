//! Linux's order of lists, worked by hand, and the hand-over from boot.

mod common;

use common::{ERAS, PLACEMENTS, by_order, counts, cpu, lists, one_zone, span};
use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::{AddError, Facts, FreeError, Gfp, HeapStore, PageAllocator, Placement, Topology, ZoneKind};
use kernmem_sparse::MigrateType;

/// An order above those that CPU lists hold, so that each call reaches the zone.
const ORDER: Order = Order(4);

/// `[0, 0x400)` is one block of order 10.
/// Taking order 4 halves it down: the upper halves 0x200, 0x100, 0x80, 0x40, 0x20, 0x10 of orders 9, 8, 7, 6, 5, 4 go to
/// their lists. The next two requests take 0x10, then the lower half of 0x20, leaving 0x30.
#[test]
fn a_block_is_halved_and_the_lower_half_is_given() {
    for era in ERAS {
        let allocator = one_zone(Facts::of(era, Placement::Linux), 0, 0x400);
        let mut cpu = cpu(&allocator);
        let taken: Vec<u64> =
            (0..4).map(|_| allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, ORDER).unwrap().0).collect();
        assert_eq!(taken, [0, 0x10, 0x20, 0x30], "{era}");
        assert_eq!(by_order(&allocator), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0], "{era}");
    }
}

/// Six blocks of order 4 are taken, 0 to 0x50. 0x10 is freed: its buddy 0 is in use, and of the block of order 5 that both
/// would make, the buddy 0x20 is not free: head. Then 0x30, for the same reason: head. The list is 0x30, 0x10.
/// Then 0x50: its buddy 0x40 is in use; the block 0x40 of order 5 would have the buddy 0x60, which is free: tail.
/// The list is 0x30, 0x10, 0x50, and is taken from its head.
#[test]
fn a_block_that_will_probably_merge_goes_to_the_tail() {
    for era in ERAS {
        let allocator = one_zone(Facts::of(era, Placement::Linux), 0, 0x400);
        let mut cpu = cpu(&allocator);
        for expected in (0..6).map(|at| at * 0x10) {
            assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, ORDER), Ok(Pfn(expected)), "{era}");
        }
        for pfn in [0x10, 0x30, 0x50] {
            allocator.free(&mut cpu, Pfn(pfn), ORDER).unwrap();
        }
        for expected in [0x30, 0x10, 0x50] {
            assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, ORDER), Ok(Pfn(expected)), "{era}");
        }
    }
}

/// By hand: 0x400 frames are free; of the 0x400 behind them, which boot has in use, the second half stays so and the first
/// becomes free. All 0x800 are managed, 0x600 free, and what stays in use is given back as single frames.
#[test]
fn what_boot_keeps_is_managed_and_not_free() {
    for (era, placement) in ERAS.into_iter().flat_map(|era| PLACEMENTS.map(|placement| (era, placement))) {
        let spans = [span(0, ZoneKind::Normal, 0, 0x800)];
        let facts = Facts::of(era, placement);
        let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(2), &spans).unwrap();
        allocator.add_free(0, Pfn(0), Pfn(0x400)).unwrap();
        let mut cpu = cpu(&allocator);
        allocator.adopt_taken(&cpu, Pfn(0x600), Pfn(0x800)).unwrap();
        for (pfn, error) in [
            (Pfn(0x3ff), AddError::Known { pfn: Pfn(0x3ff) }),
            (Pfn(0x600), AddError::Known { pfn: Pfn(0x600) }),
            (Pfn(0x800), AddError::NoZone { pfn: Pfn(0x800) }),
        ] {
            assert_eq!(allocator.adopt_taken(&cpu, pfn, Pfn(pfn.0 + 1)), Err(error), "{era}");
        }
        allocator.free_reserved(&mut cpu, Pfn(0x400), Pfn(0x600)).unwrap();
        allocator.drain(&mut cpu);
        assert_eq!((allocator.free_frames(), allocator.managed()), (0x600, 0x800), "{era}");
        allocator.free_contig(&mut cpu, Pfn(0x600), 0x200).unwrap();
        assert_eq!((allocator.free_frames(), allocator.managed()), (0x800, 0x800), "{era}");
        assert_eq!(allocator.zones().next().unwrap().nr_free(Order(10)), 2, "{era}");
    }
}

/// The same steps under dense placement: the lowest block that fits, whatever came last, once the CPU keeps nothing.
#[test]
fn dense_placement_takes_the_lowest_block() {
    let allocator = one_zone(Facts::of(Era::V6_1, Placement::Dense), 0, 0x400);
    let mut cpu = cpu(&allocator);
    for expected in (0..6).map(|at| at * 0x10) {
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, ORDER), Ok(Pfn(expected)));
    }
    for pfn in [0x50, 0x30, 0x10] {
        allocator.free(&mut cpu, Pfn(pfn), ORDER).unwrap();
    }
    allocator.drain(&mut cpu);
    // By hand: 0x10, 0x30, 0x50 and 0x60 to 0x80 are free, then 0x80, 0x100, 0x200.
    assert_eq!(by_order(&allocator), [0, 0, 0, 0, 3, 1, 0, 1, 1, 1, 0]);
    for expected in [0x10, 0x30, 0x50] {
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, ORDER), Ok(Pfn(expected)));
    }
}

/// What dense placement tells of misuse: frames that are free, that were never handed over, that begin no block of such a
/// size. Orders are not recorded: a part of a block may come back, and the rest later.
#[test]
fn dense_placement_tells_misuse_frame_by_frame() {
    let spans = [span(0, ZoneKind::Normal, 0, 0x1000)];
    let facts = Facts::of(Era::V6_1, Placement::Dense);
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(2), &spans).unwrap();
    // Boot keeps [0x33, 0x40) and everything from 0x800 on.
    allocator.add_free(0, Pfn(0), Pfn(0x33)).unwrap();
    allocator.add_free(0, Pfn(0x40), Pfn(0x800)).unwrap();
    lists(&allocator, 4, 64);
    let mut cpus = [0, 1].map(|id| kernmem_page_alloc::CpuPages::on_heap(kernmem_base::CpuId(id), 0, &allocator, 0));
    let block = allocator.alloc(&mut cpus[0], None, Gfp::HIGHUSER_MOVABLE, Order(4)).unwrap();
    let single = allocator.alloc(&mut cpus[0], None, Gfp::HIGHUSER_MOVABLE, Order(0)).unwrap();
    let misuse = [
        (Pfn(0x33), Order(0), FreeError::Foreign { pfn: Pfn(0x33) }),
        (Pfn(0x900), Order(2), FreeError::Foreign { pfn: Pfn(0x900) }),
        (Pfn(0x1000), Order(0), FreeError::Foreign { pfn: Pfn(0x1000) }),
        (Pfn(0x30), Order(4), FreeError::Foreign { pfn: Pfn(0x33) }),
        (Pfn(0x600), Order(9), FreeError::DoubleFree { pfn: Pfn(0x600) }),
        (Pfn(0x601), Order(9), FreeError::DoubleFree { pfn: Pfn(0x601) }),
        (Pfn(block.0 + 1), Order(1), FreeError::WrongOrder { pfn: Pfn(block.0 + 1), order: Order(1) }),
        (Pfn(block.0), Order(11), FreeError::WrongOrder { pfn: block, order: Order(11) }),
    ];
    let managed = allocator.managed();
    for (pfn, order, error) in misuse {
        assert_eq!(allocator.free(&mut cpus[0], pfn, order), Err(error));
    }
    // Half of the block, then a quarter of it once more, then the other half.
    allocator.free(&mut cpus[0], block, Order(3)).unwrap();
    let twice = FreeError::DoubleFree { pfn: block };
    assert_eq!(allocator.free(&mut cpus[0], block, Order(2)), Err(twice));
    allocator.free(&mut cpus[0], Pfn(block.0 + 8), Order(3)).unwrap();
    // The same CPU is told when it looks; where another CPU has it already, whoever brings it to the field second is told.
    allocator.free(&mut cpus[0], single, Order(0)).unwrap();
    let again = allocator.free(&mut cpus[0], single, Order(0)).and_then(|()| allocator.check_frees(&mut cpus[0]));
    assert_eq!(again, Err(FreeError::DoubleFree { pfn: single }));
    assert_eq!(allocator.free(&mut cpus[1], single, Order(0)), Ok(()));
    cpus.iter_mut().for_each(|cpu| allocator.drain(cpu));
    let other = allocator.alloc(&mut cpus[1], None, Gfp::HIGHUSER_MOVABLE, Order(7)).unwrap();
    assert_eq!(allocator.free(&mut cpus[1], other, Order(7)), Err(FreeError::DoubleFree { pfn: single }));
    cpus.iter_mut().for_each(|cpu| allocator.drain(cpu));
    assert_eq!((allocator.free_frames(), allocator.managed()), (managed, managed));
}

/// A frame that boot keeps, in the middle of frames that come and go: to give it back is foreign at any moment.
#[test]
fn a_frame_that_boot_keeps_is_foreign_whatever_its_neighbours_do() {
    let spans = [span(0, ZoneKind::Normal, 0, 0x400)];
    let facts = Facts::of(Era::V6_12, Placement::Dense);
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(2), &spans).unwrap();
    let kept = |pfn: u64| pfn % 0x40 == 0x11;
    for word in (0..0x400).step_by(0x40) {
        allocator.add_free(0, Pfn(word), Pfn(word + 0x11)).unwrap();
        allocator.add_free(0, Pfn(word + 0x12), Pfn(word + 0x40)).unwrap();
    }
    lists(&allocator, 4, 64);
    let mut cpu = cpu(&allocator);
    let tell = |cpu: &mut common::Cpu| {
        for pfn in (0..0x400).filter(|&pfn| kept(pfn)).map(Pfn) {
            assert_eq!(allocator.free(cpu, pfn, Order(0)), Err(FreeError::Foreign { pfn }));
            let pair = Pfn(pfn.0 - 1);
            assert!(allocator.free(cpu, pair, Order(1)).is_err(), "half of it is boot's");
        }
    };
    let mut taken = Vec::new();
    while let Ok(pfn) = allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(taken.len() as u8 % 2)) {
        assert!(!kept(pfn.0));
        taken.push((pfn, Order(taken.len() as u8 % 2)));
        tell(&mut cpu);
    }
    for (nth, (pfn, order)) in taken.iter().copied().enumerate() {
        allocator.free(&mut cpu, pfn, order).unwrap();
        tell(&mut cpu);
        if nth % 3 == 0 {
            let again = allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, order).unwrap();
            tell(&mut cpu);
            allocator.free(&mut cpu, again, order).unwrap();
        }
        tell(&mut cpu);
    }
    allocator.drain(&mut cpu);
    assert_eq!(allocator.free_frames(), 0x400 - 0x10);
}

/// `[3, 0x1403)` by hand: 3 (order 0), 4 (2), 8 (3), 0x10 … 0x200 (4 … 9), then 0x400, 0x800, 0xc00, 0x1000 (10), and at
/// the end 0x1400 (1), 0x1402 (0).
#[test]
fn a_range_is_handed_over_in_the_largest_aligned_blocks() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 3, 0x1403);
        assert_eq!(by_order(&allocator), [2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4], "{placement:?}");
        assert_eq!((allocator.managed(), allocator.free_frames()), (0x1400, 0x1400));
        assert_eq!(allocator.add_free(0, Pfn(0x400), Pfn(0x800)), Err(AddError::Known { pfn: Pfn(0x400) }));
        assert_eq!(allocator.add_free(0, Pfn(0x1402), Pfn(0x1403)), Err(AddError::Known { pfn: Pfn(0x1402) }));
        assert_eq!(allocator.add_free(0, Pfn(0x1403), Pfn(0x1404)), Err(AddError::NoZone { pfn: Pfn(0x1403) }));
    }
}

/// Boot appends, so the blocks of the largest order come out in the order in which they were handed over, and a block that
/// comes back is taken before those that were never touched.
#[test]
fn deferred_blocks_are_the_tail_of_their_list() {
    let facts = Facts { thp: false, ..Facts::of(Era::V6_1, Placement::Linux) };
    let spans = [common::span(0, kernmem_page_alloc::ZoneKind::Normal, 0, 0x4000)];
    let topology = kernmem_page_alloc::Topology::flat(1);
    let allocator =
        kernmem_page_alloc::PageAllocator::new(&mut kernmem_page_alloc::HeapStore, facts, &topology, &spans).unwrap();
    for (start, end) in [(0x2000, 0x3000), (0, 0x800)] {
        allocator.add_free(0, Pfn(start), Pfn(end)).unwrap();
    }
    let mut cpu = cpu(&allocator);
    let mut take =
        |allocator: &common::Allocator| allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(10)).unwrap().0;
    assert_eq!([take(&allocator), take(&allocator)], [0x2000, 0x2400]);
    let mut other = common::cpu(&allocator);
    allocator.free(&mut other, Pfn(0x2000), Order(10)).unwrap();
    assert_eq!([0; 5].map(|_| take(&allocator)), [0x2000, 0x2800, 0x2c00, 0, 0x400]);
    assert_eq!(allocator.free_frames(), 0);
}

/// Two halves of a largest block, handed over one after the other, merge and stand behind what was deferred before.
#[test]
fn a_merge_at_hand_over_goes_behind_the_deferred_blocks() {
    let facts = Facts { thp: false, ..Facts::of(Era::V6_1, Placement::Linux) };
    let spans = [common::span(0, kernmem_page_alloc::ZoneKind::Normal, 0, 0x4000)];
    let topology = kernmem_page_alloc::Topology::flat(1);
    let allocator =
        kernmem_page_alloc::PageAllocator::new(&mut kernmem_page_alloc::HeapStore, facts, &topology, &spans).unwrap();
    for (start, end) in [(0, 0x200), (0x1000, 0x1400), (0x200, 0x400), (0x2000, 0x2400)] {
        allocator.add_free(0, Pfn(start), Pfn(end)).unwrap();
    }
    let mut cpu = cpu(&allocator);
    let taken = [0; 3].map(|_| allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(10)).unwrap().0);
    assert_eq!(taken, [0x1000, 0, 0x2000]);
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x1000);
        let knows_blocks = placement == Placement::Linux;
        lists(&allocator, 4, 8);
        let mut cpu = cpu(&allocator);
        let block = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(2)).unwrap();
        let single = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).unwrap();
        let before = (counts(&allocator), cpu.total());
        let wrong = FreeError::WrongOrder { pfn: block, order: Order(1) };
        assert!(!knows_blocks || allocator.free(&mut cpu, block, Order(1)) == Err(wrong));
        let inside = Pfn(block.0 + 1);
        let wrong = FreeError::WrongOrder { pfn: inside, order: Order(0) };
        assert!(!knows_blocks || allocator.free(&mut cpu, inside, Order(0)) == Err(wrong));
        let foreign = Pfn(0x1000);
        assert_eq!(allocator.free(&mut cpu, foreign, Order(0)), Err(FreeError::Foreign { pfn: foreign }));
        let free = Pfn(0xc00);
        let twice = |cpu: &mut common::Cpu, pfn| {
            // Dense placement looks at a single frame later.
            let answer = allocator.free(cpu, pfn, Order(0)).and_then(|()| allocator.check_frees(cpu));
            assert_eq!(answer, Err(FreeError::DoubleFree { pfn }));
        };
        twice(&mut cpu, free);
        assert_eq!((counts(&allocator), cpu.total()), before, "{placement:?}");
        assert_eq!(allocator.free(&mut cpu, single, Order(0)), Ok(()));
        assert_eq!(allocator.free(&mut cpu, single, Order(0)), Err(FreeError::DoubleFree { pfn: single }));
        allocator.drain(&mut cpu);
        twice(&mut cpu, single);
        assert_eq!(allocator.free(&mut cpu, block, Order(2)), Ok(()));
    }
}

#[test]
fn what_boot_used_is_counted_when_it_is_freed() {
    for placement in PLACEMENTS {
        let facts = Facts::of(Era::V6_1, placement);
        let spans = [common::span(0, kernmem_page_alloc::ZoneKind::Normal, 0, 0x1000)];
        let topology = kernmem_page_alloc::Topology::flat(1);
        let mut store = kernmem_page_alloc::HeapStore;
        let allocator = kernmem_page_alloc::PageAllocator::new(&mut store, facts, &topology, &spans).unwrap();
        allocator.add_free(0, Pfn(0x400), Pfn(0x1000)).unwrap();
        let mut cpu = cpu(&allocator);
        allocator.free_reserved(&mut cpu, Pfn(0), Pfn(0x400)).unwrap();
        assert_eq!(allocator.free_reserved(&mut cpu, Pfn(0), Pfn(1)), Err(AddError::Known { pfn: Pfn(0) }));
        allocator.drain(&mut cpu);
        assert_eq!((allocator.managed(), allocator.free_frames()), (0x1000, 0x1000));
        assert_eq!(by_order(&allocator)[10], 4, "{placement:?}");
    }
}

#[test]
fn sixty_four_terabytes_are_ready_at_once() {
    for placement in PLACEMENTS {
        let frames = 1 << 34;
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, frames);
        assert_eq!((allocator.managed(), allocator.free_frames()), (frames, frames));
        let zone = allocator.zones().next().unwrap();
        assert_eq!(zone.free_blocks(Order(10), MigrateType::Movable), frames >> 10);
        let mut cpu = cpu(&allocator);
        assert_eq!(allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(5)), Ok(Pfn(0)));
        let far = Pfn(frames - 512);
        allocator.alloc_contig_range(&mut cpu, Gfp::HIGHUSER_MOVABLE, far, Pfn(frames)).unwrap();
        assert_eq!(allocator.free_frames(), frames - 512 - 32);
    }
}

/// A CMA pageblock beside a movable one: two blocks of order 9. When the movable one was taken and comes back, 5.10 makes
/// one block of both on Linux's lists; later eras, and dense placement in every era, keep them apart.
#[test]
fn pageblocks_of_two_uses_merge_in_the_oldest_era_alone() {
    for (era, placement) in ERAS.into_iter().flat_map(|era| PLACEMENTS.map(|placement| (era, placement))) {
        let facts = Facts { cma: true, thp: false, ..Facts::of(era, placement) };
        let allocator = one_zone(facts, 0, 0x400);
        allocator.set_migrate_type(Pfn(0), Pfn(0x200), MigrateType::Cma).unwrap();
        let mut cpu = cpu(&allocator);
        let pfn = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(9)).unwrap();
        assert_eq!(pfn, Pfn(0x200), "an unmovable request stays out of CMA");
        allocator.free(&mut cpu, pfn, Order(9)).unwrap();
        allocator.drain(&mut cpu);
        let merges = era == Era::V5_10 && placement == Placement::Linux;
        let expected = if merges { [0, 1] } else { [2, 0] };
        assert_eq!(by_order(&allocator)[9..], expected, "{era} {placement:?}");
    }
}

/// Two zones of a node over one range, as mirrored memory makes them: each frame is handed to the zone that is named, and
/// comes back to it.
#[test]
fn overlapping_zones_keep_their_own_frames() {
    use kernmem_page_alloc::{HeapStore, PageAllocator, Topology, ZoneKind};
    let facts = Facts::of(Era::V6_1, Placement::Linux);
    let spans = [ZoneKind::Normal, ZoneKind::Movable].map(|kind| common::span(0, kind, 0, 0x1000));
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(1), &spans).unwrap();
    allocator.add_free_to(0, ZoneKind::Normal, Pfn(0), Pfn(0x400)).unwrap();
    allocator.add_free_to(0, ZoneKind::Movable, Pfn(0x400), Pfn(0x1000)).unwrap();
    let outside = allocator.add_free_to(0, ZoneKind::Movable, Pfn(0x400), Pfn(0x1001));
    assert_eq!(outside, Err(AddError::NoZone { pfn: Pfn(0x1000) }));
    let mut cpu = cpu(&allocator);
    let pfn = allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(5)).unwrap();
    assert_eq!(pfn, Pfn(0x400));
    allocator.free(&mut cpu, pfn, Order(5)).unwrap();
    let free = [ZoneKind::Normal, ZoneKind::Movable].map(|kind| allocator.zone(0, kind).unwrap().free());
    assert_eq!(free, [0x400, 0xc00]);
}
