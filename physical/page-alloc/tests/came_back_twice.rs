//! Frames that come back twice to one CPU, by calls of different kinds: the second time is told at once or when the CPU
//! looks at what it put aside, and no frame has two owners afterwards.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use std::collections::HashSet;

use common::{PLACEMENTS, cpu, lists, one_zone};
use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::{CpuPages, Facts, FreeError, Gfp, HeapStore, PageAllocator};

const GFP: Gfp = Gfp::HIGHUSER_MOVABLE;

struct Case {
    allocator: PageAllocator<HeapStore>,
    cpu: CpuPages<HeapStore>,
}

impl Case {
    fn alloc(&mut self, order: u8) -> Pfn {
        self.allocator.alloc(&mut self.cpu, None, GFP, Order(order)).unwrap()
    }

    fn free(&mut self, pfn: Pfn, order: u8) -> Result<(), FreeError> {
        self.allocator.free(&mut self.cpu, pfn, Order(order))
    }
}

/// Plays a case under both placements. It ends with a block that came back twice, and what the second call said.
fn check(play: impl Fn(&mut Case) -> Result<(), FreeError>) {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_12, placement), 0, 0x8000);
        lists(&allocator, 63, 1024);
        let cpu = cpu(&allocator);
        let mut case = Case { allocator, cpu };
        let said = play(&mut case).and_then(|()| case.allocator.check_frees(&mut case.cpu));
        assert!(
            matches!(said, Err(FreeError::DoubleFree { .. } | FreeError::WrongOrder { .. })),
            "{placement:?}: {said:?}"
        );
        let mut taken = HashSet::new();
        for order in [9, 3, 1, 0] {
            while let Ok(pfn) = case.allocator.alloc(&mut case.cpu, None, GFP, Order(order)) {
                (pfn.0..pfn.0 + (1 << order))
                    .for_each(|frame| assert!(taken.insert(frame), "{frame:#x} has two owners"));
            }
        }
    }
}

#[test]
fn by_a_bulk_call_and_singly() {
    check(|case| {
        let pfn = case.alloc(0);
        case.allocator.free_bulk(&mut case.cpu, &[pfn]).unwrap();
        case.free(pfn, 0)
    });
}

#[test]
fn as_a_range_over_what_is_open() {
    check(|case| {
        let pfn = case.alloc(0);
        case.free(pfn, 0).unwrap();
        case.allocator.free_contig(&mut case.cpu, pfn, 1)
    });
}

#[test]
fn by_a_range_and_singly() {
    check(|case| {
        let pfn = case.alloc(0);
        case.allocator.free_contig(&mut case.cpu, pfn, 1).unwrap();
        case.free(pfn, 0)
    });
}

#[test]
fn singly_and_as_a_block() {
    check(|case| {
        let before: Vec<Pfn> = (0..400).map(|_| case.alloc(0)).collect();
        before[..3].iter().for_each(|&pfn| case.free(pfn, 0).unwrap());
        let block = case.alloc(9);
        case.allocator.split(&case.cpu, block, Order(9)).unwrap();
        (block.0..block.0 + 512).for_each(|frame| case.free(Pfn(frame), 0).unwrap());
        case.free(block, 9)
    });
}

#[test]
fn by_a_bulk_call_and_as_a_block() {
    check(|case| {
        let block = case.alloc(9);
        case.allocator.split(&case.cpu, block, Order(9)).unwrap();
        let frames: Vec<Pfn> = (block.0..block.0 + 512).map(Pfn).collect();
        case.allocator.free_bulk(&mut case.cpu, &frames).unwrap();
        case.free(block, 9)
    });
}

#[test]
fn as_a_block_and_singly_into_a_word_that_is_open() {
    check(|case| {
        let frames: Vec<Pfn> = (0..64).map(|_| case.alloc(0)).collect();
        let first = *frames.iter().min().unwrap();
        assert!(frames.iter().all(|pfn| pfn.0 / 64 == first.0 / 64), "one word");
        (1..64).for_each(|nth| assert!(frames.contains(&Pfn(first.0 + nth))));
        case.allocator.free_contig(&mut case.cpu, first, 64).unwrap();
        case.free(Pfn(first.0 + 5), 0)
    });
}

/// A word whose frames go out singly and as small blocks is open once.
#[test]
fn as_a_small_block_and_singly() {
    check(|case| {
        let frames: Vec<Pfn> = (0..64).map(|_| case.alloc(0)).collect();
        case.allocator.free_bulk(&mut case.cpu, &frames[..32]).unwrap();
        let pair = case.alloc(1);
        case.free(pair, 1).unwrap();
        case.free(pair, 0)
    });
}

/// The same where another CPU gave a part of the open word to the field.
#[test]
fn as_a_small_block_of_the_word_that_is_open() {
    check(|case| {
        let frames: Vec<Pfn> = (0..64).map(|_| case.alloc(0)).collect();
        let mut other = CpuPages::on_heap(kernmem_base::CpuId(1), 0, &case.allocator, 64);
        case.allocator.free_bulk(&mut other, &frames[..32]).unwrap();
        let pair = case.alloc(1);
        case.free(pair, 1).unwrap();
        let _ = case.alloc(0);
        case.free(pair, 1)
    });
}
