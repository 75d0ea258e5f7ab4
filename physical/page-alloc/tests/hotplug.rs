//! Memory that goes offline and comes back.

mod common;

use common::{ERAS, PLACEMENTS, by_order, counts, cpu, lists, one_zone};
use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::{AddError, AllocError, Facts, FreeError, Gfp};
use kernmem_sparse::MigrateType;

/// A section of 0x8000 frames at each of 0, 0x8000 and 0x1_0000.
const FRAMES: u64 = 0x1_8000;
const START: Pfn = Pfn(0x8000);
const END: Pfn = Pfn(0x1_0000);

#[test]
fn a_section_that_is_offline_is_nobodys_and_comes_back_whole() {
    for (era, placement) in ERAS.into_iter().flat_map(|era| PLACEMENTS.map(|placement| (era, placement))) {
        let allocator = one_zone(Facts::of(era, placement), 0, FRAMES);
        lists(&allocator, 8, 64);
        let mut cpu = cpu(&allocator);
        let before = counts(&allocator);
        allocator.offline(&mut cpu, START, END).unwrap();
        assert_eq!((allocator.managed(), allocator.free_frames()), (FRAMES - 0x8000, FRAMES - 0x8000), "{placement:?}");
        assert!(!allocator.manages(START) && !allocator.manages(Pfn(END.0 - 1)) && allocator.manages(END));
        for pfn in [START, Pfn(END.0 - 1)] {
            assert_eq!(allocator.free(&mut cpu, pfn, Order(0)), Err(FreeError::Foreign { pfn }));
        }
        assert_eq!(allocator.offline(&mut cpu, START, END), Err(AllocError::Busy { pfn: START }));
        let mut taken = Vec::new();
        while let Ok(pfn) = allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(9)) {
            assert!(pfn < START || pfn >= END, "{pfn:?} is offline");
            taken.push(pfn);
        }
        assert_eq!(taken.len() as u64, (FRAMES - 0x8000) / 512);
        taken.into_iter().for_each(|pfn| allocator.free(&mut cpu, pfn, Order(9)).unwrap());
        allocator.drain(&mut cpu);
        allocator.online(START, END).unwrap();
        assert_eq!((allocator.managed(), counts(&allocator)), (FRAMES, before), "{era} {placement:?}");
        let beyond = Err(AddError::NoZone { pfn: Pfn(FRAMES) });
        assert_eq!(allocator.online(Pfn(FRAMES - 1), Pfn(FRAMES + 1)), beyond);
        assert_eq!(allocator.online(START, END), Err(AddError::Known { pfn: START }));
    }
}

/// One frame of the section in use: it is named, and all is as it was.
#[test]
fn a_frame_in_use_keeps_its_section_online() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_12, placement), 0, FRAMES);
        let mut cpu = cpu(&allocator);
        let busy = Pfn(0xabcd);
        allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, busy, Pfn(busy.0 + 1)).unwrap();
        let before = by_order(&allocator);
        assert_eq!(allocator.offline(&mut cpu, START, END), Err(AllocError::Busy { pfn: busy }));
        let beyond = Err(AllocError::Busy { pfn: Pfn(FRAMES) });
        assert_eq!(allocator.offline(&mut cpu, END, Pfn(FRAMES + 1)), beyond);
        assert_eq!((allocator.managed(), by_order(&allocator)), (FRAMES, before), "{placement:?}");
        allocator.free(&mut cpu, busy, Order(0)).unwrap();
        allocator.offline(&mut cpu, START, END).unwrap();
        assert_eq!((allocator.managed(), allocator.free_frames()), (FRAMES - 0x8000, FRAMES - 0x8000));
    }
}

/// What the own lists hold is given back first; what another CPU's hold is asked for.
#[test]
fn frames_in_cpu_lists_are_no_obstacle_for_long() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x400);
        lists(&allocator, 8, 64);
        let mut own = cpu(&allocator);
        let pfn = allocator.alloc(&mut own, None, Gfp::KERNEL, Order(0)).unwrap();
        allocator.free(&mut own, pfn, Order(0)).unwrap();
        let mut other = kernmem_page_alloc::CpuPages::on_heap(kernmem_base::CpuId(1), 0, &allocator, 64);
        let refused = allocator.offline(&mut other, Pfn(0), Pfn(0x400));
        assert!(matches!(refused, Err(AllocError::Busy { .. })), "{placement:?} {refused:?}");
        allocator.answer_requests(&mut own);
        assert_eq!(allocator.offline(&mut other, Pfn(0), Pfn(0x400)), Ok(()));
        assert_eq!((allocator.managed(), allocator.free_frames()), (0, 0));
    }
}

/// New memory is movable: whatever the pageblocks were before.
#[test]
fn pageblocks_come_back_movable() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, FRAMES);
        allocator.set_migrate_type(START, END, MigrateType::Reclaimable).unwrap();
        let mut cpu = cpu(&allocator);
        allocator.offline(&mut cpu, START, END).unwrap();
        allocator.online(START, END).unwrap();
        let zone = allocator.zones().next().unwrap();
        assert_eq!(zone.migrate_type(START), Some(MigrateType::Movable), "{placement:?}");
        assert_eq!(zone.free_blocks(Order(10), MigrateType::Movable), FRAMES >> 10);
    }
}
