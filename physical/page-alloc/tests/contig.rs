//! Contiguous ranges, exact sizes, bulk calls and the sources that the layers above use.

mod common;

use common::{PLACEMENTS, by_order, cpu, lists, one_zone};
use kernmem_base::{Era, FrameOrigin, FrameSource, Level, Order, Pfn, PhysAddr};
use kernmem_page_alloc::{AllocError, Facts, FreeError, Gfp, PageSource};

#[test]
fn a_range_in_use_names_the_first_frame_in_the_way() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x2000);
        let mut cpu = cpu(&allocator);
        allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, Pfn(0x500), Pfn(0x501)).unwrap();
        let before = by_order(&allocator);
        let busy = Err(AllocError::Busy { pfn: Pfn(0x500) });
        assert_eq!(allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, Pfn(0x13), Pfn(0x1001)), busy);
        assert_eq!(by_order(&allocator), before, "{placement:?}");
        let beyond = Err(AllocError::Busy { pfn: Pfn(0x2000) });
        assert_eq!(allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, Pfn(0x1000), Pfn(0x2001)), beyond);
        allocator.free_contig(&mut cpu, Pfn(0x500), 1).unwrap();
        assert_eq!(by_order(&allocator)[10], 8);
        assert_eq!(allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, Pfn(0x13), Pfn(0x1001)), Ok(()));
        // By hand: 0x10..0x13, 0x1001 .. 0x1400 and the parts below 0x10 stay free.
        assert_eq!(by_order(&allocator), [2, 2, 1, 1, 2, 1, 1, 1, 1, 1, 3]);
    }
}

#[test]
fn pages_in_one_piece_are_larger_than_any_block() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0x400, 0x3000);
        let mut cpu = cpu(&allocator);
        let taken = allocator.alloc_contig_pages(&mut cpu, None, Gfp::KERNEL, 0x1000, 0x1000).unwrap();
        assert_eq!(taken, Pfn(0x1000), "{placement:?}");
        let second = allocator.alloc_contig_pages(&mut cpu, None, Gfp::KERNEL, 0x1000, 0x1000);
        assert_eq!(second, Ok(Pfn(0x2000)));
        let third = allocator.alloc_contig_pages(&mut cpu, None, Gfp::KERNEL, 0x1000, 0x1000);
        assert_eq!(third, Err(AllocError::NoMemory { gfp: Gfp::KERNEL, order: Order(12) }));
        assert_eq!(allocator.free_frames(), 0xc00);
        allocator.free(&mut cpu, Pfn(0x1234), Order(0)).unwrap();
        let twice = allocator.free_contig(&mut cpu, Pfn(0x1000), 0x1000);
        assert_eq!(twice, Err(FreeError::DoubleFree { pfn: Pfn(0x1234) }));
        allocator.free_contig(&mut cpu, Pfn(0x2000), 0x1000).unwrap();
        allocator.drain(&mut cpu);
        assert_eq!(allocator.free_frames(), 0xc00 + 0x1001);
    }
}

/// Frames in the way at all distances; a range is the lowest that a search frame by frame finds.
#[test]
fn a_piece_is_the_lowest_that_is_free() {
    let busy: Vec<u64> = (1..40).map(|nth| 0x400 + nth * (nth + 1) / 2 * 7).collect();
    let end = 0x400 + 0x2400;
    for placement in PLACEMENTS {
        for (frames, align) in
            [(1, 1), (60, 1), (64, 64), (65, 3), (130, 128), (200, 8), (270, 1), (0x400, 0x200), (3000, 1)]
        {
            let allocator = one_zone(Facts::of(Era::V6_1, placement), 0x400, end);
            let mut cpu = cpu(&allocator);
            for &pfn in &busy {
                allocator.alloc_contig_range(&mut cpu, Gfp::KERNEL, Pfn(pfn), Pfn(pfn + 1)).unwrap();
            }
            let is_free = |start: &u64| busy.iter().all(|pfn| !(*start..start + frames).contains(pfn));
            let lowest = (0x400..=end - frames).filter(|start| start % align == 0).find(is_free);
            let taken = allocator.alloc_contig_pages(&mut cpu, None, Gfp::KERNEL, frames, align);
            assert_eq!(taken.ok().map(|pfn| pfn.0), lowest, "{frames} frames by {align}, {placement:?}");
        }
    }
}

/// 5 pages of 4096 bytes for 20000 bytes: a block of 8, of which 3 go back.
#[test]
fn exact_sizes_keep_no_more_than_they_need() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x400);
        let mut cpu = cpu(&allocator);
        let pfn = allocator.alloc_exact(&mut cpu, None, Gfp::KERNEL, 20_000).unwrap();
        allocator.drain(&mut cpu);
        assert_eq!((pfn.0 % 8, allocator.free_frames()), (0, 0x400 - 5));
        allocator.free_exact(&mut cpu, pfn, 20_000).unwrap();
        allocator.drain(&mut cpu);
        assert_eq!(by_order(&allocator)[10], 1);
        let none = Err(AllocError::TooLarge { order: Order(0) });
        assert_eq!(allocator.alloc_exact(&mut cpu, None, Gfp::KERNEL, 0), none);
    }
}

#[test]
fn a_bulk_call_fills_the_slice_or_says_how_far_it_came() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x400);
        lists(&allocator, 16, 64);
        let mut cpu = cpu(&allocator);
        let mut out = [Pfn(u64::MAX); 0x500];
        assert_eq!(allocator.alloc_bulk(&mut cpu, None, Gfp::KERNEL, &mut out[..100]), 100);
        assert_eq!(allocator.alloc_bulk(&mut cpu, None, Gfp::KERNEL, &mut out[100..]), 0x400 - 100);
        assert_eq!(allocator.free_frames() + cpu.total(), 0);
        let mut frames = out[..0x400].to_vec();
        frames.sort();
        assert!(frames.iter().map(|pfn| pfn.0).eq(0..0x400), "each frame came once");
        assert_eq!(allocator.free_bulk(&mut cpu, &out[..0x400]), Ok(()));
        assert_eq!(allocator.free_bulk(&mut cpu, &out[..1]), Err(FreeError::DoubleFree { pfn: out[0] }));
        allocator.drain(&mut cpu);
        assert_eq!(by_order(&allocator)[10], 1);
    }
}

#[test]
fn the_view_of_a_cpu_is_a_source_of_pages_and_of_frames_for_tables() {
    let allocator = one_zone(Facts::of(Era::V6_1, kernmem_page_alloc::Placement::Dense), 0x100, 0x400);
    let mut cpu = cpu(&allocator);
    let mut pages = allocator.pages(&mut cpu);
    let frame = pages.take(Level::Pte).unwrap();
    // Unmovable among movable: the largest block is taken over, 0x200.
    assert_eq!((frame.pa, frame.origin), (PhysAddr(0x20_0000), FrameOrigin::PageAllocator));
    assert_eq!(pages.free_frames(), 0x2ff);
    pages.give_back(frame.pa);
    assert_eq!(pages.free_frames(), 0x300);
    // A block given back frame by frame.
    let block = pages.alloc(Gfp::KERNEL, Order(9)).unwrap();
    let frames: Vec<Pfn> = (block.0..block.0 + 512).map(Pfn).collect();
    pages.free_bulk(&frames).unwrap();
    let piece = PageSource::alloc_contig(&mut pages, None, Gfp::KERNEL, 512).unwrap();
    PageSource::free_contig(&mut pages, piece, 512).unwrap();
    assert_eq!(pages.free_frames(), 0x300);
    while pages.alloc(Gfp::KERNEL, Order(0)).is_ok() {}
    assert!(pages.take(Level::Pgd).is_err());
}

/// The last number that a frame can have has no successor; each call says that it knows no such frame.
#[test]
fn the_last_number_of_all_is_a_foreign_frame() {
    let allocator = one_zone(Facts::of(Era::V6_1, PLACEMENTS[0]), 0, 0x400);
    let mut cpu = cpu(&allocator);
    let pfn = Pfn(u64::MAX);
    let foreign = Err(FreeError::Foreign { pfn });
    assert_eq!(allocator.free(&mut cpu, pfn, Order(0)), foreign);
    assert_eq!(allocator.free_exact(&mut cpu, pfn, 8192), foreign);
    assert_eq!(allocator.free_contig(&mut cpu, pfn, 2), foreign);
    assert_eq!(allocator.pages(&mut cpu).adopt(pfn), foreign);
    assert!(!allocator.manages(pfn) && allocator.nid_of(pfn).is_none());
}
