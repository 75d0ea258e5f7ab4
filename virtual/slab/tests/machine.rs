//! What the machine may be: records in page descriptors, several nodes, memory that is missing, pointers that were
//! overwritten.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::sync::atomic::{AtomicU64, Ordering};

use common::{FIRST, Machine, lent, with, x86};
use kernmem_base::{BusError, BusFault, CpuId, Era, Granule, HeapArena, Pfn, PhysAddr, Seed};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_slab::{CacheSpec, DescriptorPages, Env, LentPages, Record, Slab, SlabError, SlabRules};
use kernmem_sparse::{DESCRIPTOR_WORDS, Descriptors};

/// A memory map: page descriptors from `FIRST` on, whose other words have other users.
struct MemMap(Vec<[AtomicU64; DESCRIPTOR_WORDS]>);

impl Descriptors for MemMap {
    fn words(&self, pfn: Pfn) -> Result<&[AtomicU64], BusError> {
        let hole = BusError { pa: PhysAddr(pfn.0 << 12), fault: BusFault::Hole };
        let at = pfn.0.checked_sub(FIRST.0).ok_or(hole)?;
        self.0.get(at as usize).map(|words| &words[..]).ok_or(hole)
    }
}

#[test]
fn records_may_live_in_page_descriptors() {
    // Every word has something in it already: what stands in a descriptor of a page of nobody must not mislead.
    let words = |frame: u64| core::array::from_fn(|word| AtomicU64::new(frame << 8 | word as u64 | 0xabcd << 48));
    let map = MemMap((0..64).map(words).collect());
    let (arena, mut pool) = (
        HeapArena::new(FIRST.to_phys(Granule::K4).unwrap(), 64 << 12),
        FramePool::new(Granule::K4, FIRST, Pfn(FIRST.0 + 64)),
    );
    let mut env = Env { pages: &mut pool, mem: &arena, records: &DescriptorPages(&map) };
    let mut slab = Slab::<64>::new(x86(Era::V6_1));
    slab.create_kmalloc_caches().unwrap();
    let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
    let sizes = [8, 96, 2048, 8192, 10_000];
    let live: Vec<_> = sizes.map(|bytes| slab.kmalloc(&mut env, &mut cpu, bytes, Gfp::KERNEL).unwrap()).to_vec();
    slab.free_bulk(&mut env, &mut cpu, &live).unwrap();
    let ids: Vec<_> = slab.slabinfo(env.records).map(|info| info.unwrap().id).collect();
    for id in ids {
        slab.shrink(&mut env, &mut cpu, id).unwrap();
    }
    assert_eq!(pool.free_frames(), 64);
    for (frame, words) in map.0.iter().enumerate() {
        for word in [0, 6, 7] {
            assert_eq!(words[word].load(Ordering::Relaxed), (frame << 8 | word) as u64 | 0xabcd << 48);
        }
    }
}

#[test]
fn a_node_in_need_takes_another_nodes_free_objects() {
    let mut machine = Machine::new(1);
    let mut slab = Slab::<4, 2>::new(x86(Era::V6_1));
    let (mut far, mut near) = (slab.cpu(CpuId(0), 1).unwrap(), slab.cpu(CpuId(1), 0).unwrap());
    let cache = slab.create(&CacheSpec::new("a", 256)).unwrap();
    with(&mut machine, |env| {
        let first = slab.alloc(env, &mut far, cache, Gfp::KERNEL).unwrap();
        let nothing = slab.alloc(env, &mut near, cache, Gfp::KERNEL);
        assert!(matches!(nothing, Err(SlabError::NoPages(_))), "the other CPU keeps its slab");
        slab.flush(env, &mut far).unwrap();
        let second = slab.alloc(env, &mut near, cache, Gfp::KERNEL).unwrap();
        slab.free(env, &mut near, cache, first).unwrap();
        slab.free(env, &mut near, cache, second).unwrap();
        slab.destroy(env, &mut near, cache).unwrap();
    });
    assert_eq!(machine.free_frames(), 1);
}

#[test]
fn frames_without_record_or_memory_are_given_back() {
    let start = FIRST.to_phys(Granule::K4).unwrap();
    let records: Vec<Record> = (0..64).map(|_| Record::default()).collect();
    for (recorded, reached) in [(8, 64), (64, 8)] {
        let arena = HeapArena::new(start, reached << 12);
        let mut pool = FramePool::new(Granule::K4, FIRST, Pfn(FIRST.0 + 64));
        let known = LentPages::new(FIRST, &records[..recorded]);
        let mut slab = Slab::<64>::new(x86(Era::V6_1));
        slab.create_kmalloc_caches().unwrap();
        let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
        let mut live = Vec::new();
        let mut env = Env { pages: &mut pool, mem: &arena, records: &known };
        let why = loop {
            match slab.kmalloc(&mut env, &mut cpu, 8192, Gfp::KERNEL) {
                Ok(ptr) => live.push(ptr),
                Err(why) => break why,
            }
        };
        assert!(matches!(why, SlabError::NoRecord { .. } | SlabError::NoMemory { .. }), "{why}");
        let large = slab.kmalloc(&mut env, &mut cpu, 40_000, Gfp::KERNEL).unwrap_err();
        assert!(matches!(large, SlabError::NoRecord { .. } | SlabError::NoMemory { .. }), "{large}");
        slab.free_bulk(&mut env, &mut cpu, &live).unwrap();
        let id = slab.kmalloc_cache(8192, Gfp::KERNEL).unwrap();
        slab.shrink(&mut env, &mut cpu, id).unwrap();
        assert_eq!(pool.free_frames(), 64);
    }
}

#[test]
fn an_overwritten_free_pointer_is_never_followed() {
    for hardening in [None, Some(Seed(4))] {
        let mut machine = Machine::new(16);
        let mut slab = Slab::<4>::new(SlabRules { hardening, ..x86(Era::V6_1) });
        let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
        let cache = slab.create(&CacheSpec::new("a", 64)).unwrap();
        with(&mut machine, |env| {
            let kept = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap();
            let object = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap();
            slab.free(env, &mut cpu, cache, object).unwrap();
            // The free pointer of 64 bytes lies in the middle.
            lent(env.mem, object, 64).set_word(32, 0x4141_4141_4141_4141).unwrap();
            let broken = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL);
            assert!(matches!(broken, Err(SlabError::BrokenChain { slab }) if slab == FIRST), "{broken:?}");
            let other = slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap();
            assert_ne!(other.addr().get() >> 12, object.addr().get() >> 12);
            slab.free(env, &mut cpu, cache, kept).unwrap();
            slab.free(env, &mut cpu, cache, other).unwrap();
        });
    }
}
