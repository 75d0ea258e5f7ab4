//! Several CPUs at once: real threads, each with its own lists.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use std::thread;

use common::{PLACEMENTS, by_order, lists, one_zone};
use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::{CpuPages, Facts, FreeError, Gfp};

#[test]
fn cpus_share_zones_and_lose_nothing() {
    for placement in PLACEMENTS {
        let allocator = one_zone(Facts::of(Era::V6_1, placement), 0, 0x2000);
        lists(&allocator, 8, 32);
        let before = by_order(&allocator);
        thread::scope(|scope| {
            for id in 0..2 {
                let allocator = &allocator;
                scope.spawn(move || {
                    let mut cpu = CpuPages::on_heap(CpuId(id), 0, allocator, 128);
                    let mut own: Vec<(Pfn, Order)> = Vec::new();
                    for turn in 0..4000_usize {
                        let order = Order((turn * 7 % 11 % 6) as u8);
                        match allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, order) {
                            Ok(pfn) if turn % 3 != 0 => own.push((pfn, order)),
                            Ok(pfn) => allocator.free(&mut cpu, pfn, order).unwrap(),
                            Err(_) => {}
                        }
                        if own.len() > 100 {
                            let (pfn, order) = own.swap_remove(turn % own.len());
                            allocator.free(&mut cpu, pfn, order).unwrap();
                        }
                    }
                    own.into_iter().for_each(|(pfn, order)| allocator.free(&mut cpu, pfn, order).unwrap());
                    allocator.drain(&mut cpu);
                });
            }
        });
        assert_eq!((allocator.free_frames(), by_order(&allocator)), (0x2000, before), "{placement:?}");
    }
}

/// Two CPUs give the same block back: one of them is told, whatever the order.
#[test]
fn of_two_who_free_a_block_one_is_told() {
    let allocator = one_zone(Facts::of(Era::V6_1, kernmem_page_alloc::Placement::Linux), 0, 0x400);
    lists(&allocator, 8, 32);
    let mut cpus = [0, 1].map(|id| CpuPages::on_heap(CpuId(id), 0, &allocator, 64));
    for order in [0, 2, 5] {
        for _ in 0..200 {
            let pfn = allocator.alloc(&mut cpus[0], None, Gfp::KERNEL, Order(order)).unwrap();
            let answers: Vec<Result<(), FreeError>> = thread::scope(|scope| {
                let tasks: Vec<_> = cpus
                    .iter_mut()
                    .map(|cpu| (cpu, &allocator))
                    .map(|(cpu, allocator)| scope.spawn(move || allocator.free(cpu, pfn, Order(order))))
                    .collect();
                tasks.into_iter().map(|task| task.join().unwrap()).collect()
            });
            let told = answers.iter().filter(|answer| **answer == Err(FreeError::DoubleFree { pfn })).count();
            assert_eq!((answers.iter().filter(|answer| answer.is_ok()).count(), told), (1, 1), "{answers:?}");
        }
    }
}
