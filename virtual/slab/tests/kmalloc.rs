//! Requests by size: classes, alignment, large blocks, reallocation, errors, and what the listing says.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::ptr::NonNull;

use common::{FIRST, Machine, booted, lent, moved, with, x86};
use kernmem_base::{CpuId, Era, Granule, LinearMem, Order, Pfn, Seed};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PageSource};
use kernmem_slab::{
    CacheFlags, CacheSpec, Env, LentPages, NodePages, Slab, SlabError, SlabRules, ZERO_SIZE, object_pa,
};

#[test]
fn a_request_is_served_by_the_smallest_class_and_aligned_to_a_power_of_two() {
    let mut machine = Machine::new(256);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        for (bytes, usable) in [(1, 8), (9, 16), (65, 96), (97, 128), (150, 192), (1000, 1024), (8192, 8192)] {
            let ptr = slab.kmalloc(env, &mut cpu, bytes, Gfp::KERNEL).unwrap();
            assert_eq!(slab.ksize(env, ptr), Ok(usable), "{bytes}");
            let align = if usable == 96 || usable == 192 { 8 } else { usable };
            assert!(object_pa(env.mem, ptr).unwrap().is_aligned(align), "{bytes}");
            assert_eq!(ptr.addr().get() as u64 % align, 0);
        }
    });
}

#[test]
fn no_bytes_have_an_address_and_cost_nothing() {
    let mut machine = Machine::new(4);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    let frames = machine.free_frames();
    with(&mut machine, |env| {
        let ptr = slab.kmalloc(env, &mut cpu, 0, Gfp::KERNEL).unwrap();
        assert_eq!((ptr.addr().get(), slab.ksize(env, ptr)), (ZERO_SIZE, Ok(0)));
        assert_eq!(slab.kfree(env, &mut cpu, ptr), Ok(()));
    });
    assert_eq!(machine.free_frames(), frames);
}

#[test]
fn large_requests_are_blocks_of_pages() {
    let mut machine = Machine::new(2048);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    let frames = machine.free_frames();
    with(&mut machine, |env| {
        let ptr = slab.kmalloc(env, &mut cpu, 8193, Gfp::KERNEL).unwrap();
        assert_eq!(slab.ksize(env, ptr), Ok(16384));
        assert_eq!(slab.pages_on(0), NodePages { reclaimable: 0, unreclaimable: 4 });
        assert!(object_pa(env.mem, ptr).unwrap().is_aligned(16384));
        let inside = moved(env.mem, ptr, 8);
        assert!(matches!(slab.kfree(env, &mut cpu, inside), Err(SlabError::NotAnObject { .. })));
        let second_page = moved(env.mem, ptr, 4096);
        assert!(matches!(slab.kfree(env, &mut cpu, second_page), Err(SlabError::NotOurs { .. })));
        assert_eq!(slab.kfree(env, &mut cpu, ptr), Ok(()));
        assert!(matches!(slab.kfree(env, &mut cpu, ptr), Err(SlabError::NotOurs { .. })));
        let most = slab.kmalloc(env, &mut cpu, 4 << 20, Gfp::KERNEL).unwrap();
        assert_eq!(slab.pages_on(0).unreclaimable, 1024);
        assert_eq!(slab.kfree(env, &mut cpu, most), Ok(()));
        assert_eq!(slab.pages_on(0), NodePages::default());
        let bytes = (4 << 20) + 1;
        assert_eq!(slab.kmalloc(env, &mut cpu, bytes, Gfp::KERNEL), Err(SlabError::TooLarge { bytes }));
    });
    assert_eq!(machine.free_frames(), frames);
}

#[test]
fn cleared_memory_is_zero_after_it_was_used() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        for bytes in [64, 8192, 20_000] {
            let ptr = slab.kmalloc(env, &mut cpu, bytes, Gfp::KERNEL).unwrap();
            lent(env.mem, ptr, bytes).fill(0, bytes as usize, 0xee).unwrap();
            slab.kfree(env, &mut cpu, ptr).unwrap();
            let again = slab.kzalloc(env, &mut cpu, bytes, Gfp::KERNEL).unwrap();
            assert_eq!(again, ptr, "the last freed is the first taken");
            assert_eq!(lent(env.mem, again, bytes).first_other(0, bytes as usize, 0), None);
            slab.kfree(env, &mut cpu, again).unwrap();
        }
    });
}

#[test]
fn reallocation_keeps_the_contents() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        let first = slab.krealloc(env, &mut cpu, None, 100, Gfp::KERNEL).unwrap();
        lent(env.mem, first, 128).write(0, &[7; 128]).unwrap();
        assert_eq!(slab.krealloc(env, &mut cpu, Some(first), 128, Gfp::KERNEL), Ok(first));
        let second = slab.krealloc(env, &mut cpu, Some(first), 20_000, Gfp::KERNEL).unwrap();
        assert_ne!(second, first);
        assert_eq!(lent(env.mem, second, 128).first_other(0, 128, 7), None);
        assert!(matches!(slab.kfree(env, &mut cpu, first), Err(SlabError::DoubleFree { .. })));
        let gone = slab.krealloc(env, &mut cpu, Some(second), 0, Gfp::KERNEL).unwrap();
        assert_eq!(gone.addr().get(), ZERO_SIZE);
    });
}

#[test]
fn what_is_no_object_is_refused() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        let ptr = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        for bytes in [1, 8, 63] {
            let inside = moved(env.mem, ptr, bytes);
            assert!(matches!(slab.kfree(env, &mut cpu, inside), Err(SlabError::NotAnObject { .. })));
        }
        let nobodys = env.mem.ptr(env.mem.range().end - 4096, 1).unwrap();
        assert!(matches!(slab.kfree(env, &mut cpu, nobodys), Err(SlabError::NotOurs { .. })));
        assert!(matches!(slab.kfree(env, &mut cpu, NonNull::dangling()), Err(SlabError::NotOurs { .. })));
        assert_eq!(slab.kfree(env, &mut cpu, ptr), Ok(()));
        assert!(matches!(slab.kfree(env, &mut cpu, ptr), Err(SlabError::DoubleFree { .. })));
    });
}

#[test]
fn families_keep_their_memory_apart() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        for (gfp, name) in [
            (Gfp::KERNEL, "kmalloc-64"),
            (Gfp::KERNEL | Gfp::RECLAIMABLE, "kmalloc-rcl-64"),
            (Gfp::KERNEL | Gfp::DMA, "dma-kmalloc-64"),
            (Gfp::KERNEL | Gfp::ACCOUNT, "kmalloc-64"),
        ] {
            let before = slab.kmalloc_cache(64, gfp).unwrap();
            let info = slab.slabinfo(env.records).map(Result::unwrap).find(|info| info.id == before).unwrap();
            assert_eq!(info.name.as_str(), name);
            slab.kmalloc(env, &mut cpu, 64, gfp).unwrap();
        }
    });
}

#[test]
fn the_listing_counts_what_cpus_hold_as_used() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    with(&mut machine, |env| {
        let cache = slab.create(&CacheSpec::new("things", 200)).unwrap();
        let one = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap();
        let info = slab.slabinfo(env.records).next().unwrap().unwrap();
        // 200 bytes: 20 objects a page; the CPU has all of them.
        assert_eq!((info.name.as_str(), info.slot, info.per_slab, info.pages), ("things", 200, 20, 1));
        assert_eq!((info.active, info.objects, info.slabs), (20, 20, 1));
        slab.flush(env, &mut cpu).unwrap();
        let info = slab.slabinfo(env.records).next().unwrap().unwrap();
        assert_eq!((info.active, info.objects, info.slabs), (1, 20, 1));
        slab.free(env, &mut cpu, cache, one).unwrap();
        assert_eq!(slab.shrink(env, &mut cpu, cache), Ok(1));
    });
}

#[test]
fn every_failure_of_the_page_source_is_told_and_nothing_is_lost() {
    let sizes = [8, 64, 96, 200, 1024, 4000, 8192, 9000, 40_000];
    for hardening in [None, Some(Seed(7))] {
        for limit in 0.. {
            let mut machine = Machine::new(512);
            let frames = machine.free_frames();
            machine.pool.fail_after(Some(limit));
            let (mut slab, mut cpu) = booted(SlabRules { hardening, ..x86(Era::V6_1) });
            let failures = with(&mut machine, |env| {
                let (mut live, mut failures) = (Vec::new(), 0);
                for bytes in sizes.into_iter().cycle().take(90) {
                    match slab.kmalloc(env, &mut cpu, bytes, Gfp::KERNEL) {
                        Ok(ptr) => live.push(ptr),
                        Err(SlabError::NoPages(_)) => failures += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                assert_eq!(slab.free_bulk(env, &mut cpu, &live), Ok(()));
                slab.retire(env, cpu).unwrap();
                let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
                let ids: Vec<_> = slab.slabinfo(env.records).map(|info| info.unwrap().id).collect();
                for id in ids {
                    slab.shrink(env, &mut cpu, id).unwrap();
                }
                failures
            });
            assert_eq!(machine.free_frames(), frames, "limit {limit}");
            if failures == 0 {
                assert!(limit > 10, "the sweep met failures");
                break;
            }
        }
    }
}

/// 1024-byte slots come sixteen to a slab of four pages on two CPUs.
#[test]
fn pages_of_caches_that_can_shrink_are_counted_apart() {
    let mut machine = Machine::new(256);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    let flags = CacheFlags::RECLAIM_ACCOUNT | CacheFlags::NO_MERGE;
    let spec = CacheSpec { flags, ..CacheSpec::new("inode", 1024) };
    let cache = slab.create(&spec).unwrap();
    with(&mut machine, |env| {
        let first = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap();
        let other = slab.kmalloc(env, &mut cpu, 1024, Gfp::KERNEL).unwrap();
        assert_eq!(slab.pages_on(0), NodePages { reclaimable: 4, unreclaimable: 4 });
        slab.kfree(env, &mut cpu, first).unwrap();
        slab.kfree(env, &mut cpu, other).unwrap();
        slab.destroy(env, &mut cpu, cache).unwrap();
        assert_eq!(slab.pages_on(0), NodePages { reclaimable: 0, unreclaimable: 4 });
    });
    assert_eq!(slab.pages_on(7), NodePages::default());
}

#[test]
fn a_slab_falls_back_to_the_least_order() {
    // 8 frames, of which the first is taken: no block of order 3 is left.
    let mut machine = Machine::new(8);
    let (mut slab, mut cpu) = booted(x86(Era::V6_1));
    let odd = machine.pool.take_frame().unwrap();
    with(&mut machine, |env| {
        // kmalloc-2k wants order 3 on two CPUs; the largest free block has order 2.
        let ptr = slab.kmalloc(env, &mut cpu, 2048, Gfp::KERNEL).unwrap();
        assert_eq!(slab.ksize(env, ptr), Ok(2048));
        let id = slab.kmalloc_cache(2048, Gfp::KERNEL).unwrap();
        let info = slab.slabinfo(env.records).map(Result::unwrap).find(|info| info.id == id).unwrap();
        assert_eq!((info.objects, info.slabs, info.per_slab), (2, 1, 16));
        assert_eq!(slab.pages_on(0), NodePages { reclaimable: 0, unreclaimable: 1 });
    });
    assert_eq!(odd.pfn(Granule::K4), common::FIRST);
}

/// A source whose frames are all of node 1.
struct OtherNode<'a>(&'a mut FramePool);

impl PageSource for OtherNode<'_> {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.0.alloc_on(nid, gfp, order)
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.0.alloc_contig(nid, gfp, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.0.free(pfn, order)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        self.0.adopt(pfn)
    }

    fn nid_of(&self, _pfn: Pfn) -> Option<u32> {
        Some(1)
    }

    fn free_frames(&self) -> u64 {
        self.0.free_frames()
    }
}

/// A CPU of node 0 gets pages of node 1: they are booked where they are, and taken off the same books.
#[test]
fn pages_are_booked_on_their_own_node() {
    let mut machine = Machine::new(256);
    let mut slab = Slab::<64, 2>::new(x86(Era::V6_1));
    slab.create_kmalloc_caches().unwrap();
    let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
    let records = LentPages::new(FIRST, &machine.records);
    let mut env = Env { pages: &mut OtherNode(&mut machine.pool), mem: &machine.arena, records: &records };
    let large = slab.kmalloc(&mut env, &mut cpu, 8193, Gfp::KERNEL).unwrap();
    let small = slab.kmalloc(&mut env, &mut cpu, 8, Gfp::KERNEL).unwrap();
    // Four pages of the large request, and a slab of one.
    assert_eq!((slab.pages_on(0).unreclaimable, slab.pages_on(1).unreclaimable), (0, 5));
    slab.kfree(&mut env, &mut cpu, large).unwrap();
    slab.kfree(&mut env, &mut cpu, small).unwrap();
    let cache = slab.kmalloc_cache(8, Gfp::KERNEL).unwrap();
    slab.shrink(&mut env, &mut cpu, cache).unwrap();
    assert_eq!([slab.pages_on(0), slab.pages_on(1)], [NodePages::default(); 2]);
}
