//! Caches: names, aliases, destruction, remote frees, limits of lists.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::ptr::NonNull;

use common::{Machine, TestSlab, with, x86};
use kernmem_base::{CpuId, Era, Seed};
use kernmem_page_alloc::Gfp;
use kernmem_slab::{CacheFlags, CacheSpec, SlabError, SlabRules, min_partial};

fn spec(name: &str, object: u32, flags: CacheFlags) -> CacheSpec<'_> {
    CacheSpec { flags, ..CacheSpec::new(name, object) }
}

#[test]
fn caches_of_like_shape_merge() {
    let mut slab = TestSlab::new(x86(Era::V6_1));
    let first = slab.create(&spec("a", 192, CacheFlags::NONE)).unwrap();
    assert_eq!(slab.create(&spec("b", 190, CacheFlags::NONE)), Ok(first), "190 rounds to 192");
    assert_ne!(slab.create(&spec("c", 184, CacheFlags::NONE)), Ok(first), "a word would be wasted");
    assert_ne!(slab.create(&spec("d", 192, CacheFlags::ACCOUNT)), Ok(first), "another account");
    assert_ne!(slab.create(&spec("e", 192, CacheFlags::TYPESAFE_BY_RCU)), Ok(first));
    assert_ne!(slab.create(&spec("f", 192, CacheFlags::POISON)), Ok(first));
    let aligned = CacheSpec { align: 128, ..CacheSpec::new("g", 192) };
    assert_ne!(slab.create(&aligned), Ok(first), "192 is no multiple of 128");
    let mut apart = TestSlab::new(SlabRules { merge: false, ..x86(Era::V6_1) });
    let first = apart.create(&spec("a", 192, CacheFlags::NONE)).unwrap();
    assert_ne!(apart.create(&spec("b", 192, CacheFlags::NONE)), Ok(first));
}

#[test]
fn an_alias_keeps_the_cache_alive() {
    let mut machine = Machine::new(16);
    let mut slab = TestSlab::new(x86(Era::V6_1));
    let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
    let cache = slab.create(&spec("a", 192, CacheFlags::NONE)).unwrap();
    slab.create(&spec("b", 192, CacheFlags::NONE)).unwrap();
    with(&mut machine, |env| {
        slab.destroy(env, &mut cpu, cache).unwrap();
        assert!(slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).is_ok());
    });
}

#[test]
fn names_and_shapes_are_checked() {
    let mut slab = TestSlab::new(x86(Era::V6_1));
    slab.create(&spec("a", 64, CacheFlags::NONE)).unwrap();
    assert_eq!(slab.create(&spec("a", 128, CacheFlags::NONE)), Err(SlabError::BadName));
    assert_eq!(slab.create(&spec("", 128, CacheFlags::NONE)), Err(SlabError::BadName));
    assert!(matches!(slab.create(&spec("b", 0, CacheFlags::NONE)), Err(SlabError::BadShape { .. })));
    assert!(matches!(slab.create(&spec("c", 64 << 20, CacheFlags::NONE)), Err(SlabError::BadShape { .. })));
    let odd = CacheSpec { align: 24, ..CacheSpec::new("d", 64) };
    assert!(matches!(slab.create(&odd), Err(SlabError::BadShape { .. })));
    let names = ["e", "f", "g"];
    let mut small = kernmem_slab::Slab::<2>::new(SlabRules { merge: false, ..x86(Era::V6_1) });
    let made = names.map(|name| small.create(&spec(name, 64, CacheFlags::NONE)).map(|id| id.index()));
    assert_eq!(made, [Ok(0), Ok(1), Err(SlabError::NoPlace)]);
}

#[test]
fn a_handle_is_given_once() {
    let mut machine = Machine::new(16);
    let mut slab = TestSlab::new(x86(Era::V6_1));
    let cpu = slab.cpu(CpuId(3), 0).unwrap();
    assert!(matches!(slab.cpu(CpuId(3), 0), Err(SlabError::BadCpu(CpuId(3)))));
    assert!(matches!(slab.cpu(CpuId(4), 1), Err(SlabError::BadCpu(_))), "there is one node");
    assert!(matches!(slab.cpu(CpuId(1024), 0), Err(SlabError::BadCpu(_))));
    with(&mut machine, |env| slab.retire(env, cpu)).unwrap();
    assert!(slab.cpu(CpuId(3), 0).is_ok());
}

#[test]
fn objects_that_another_cpu_freed_come_back_to_the_owner() {
    for hardening in [None, Some(Seed(3))] {
        let mut machine = Machine::new(16);
        let mut slab = TestSlab::new(SlabRules { hardening, ..x86(Era::V6_1) });
        let (mut one, mut two) = (slab.cpu(CpuId(0), 0).unwrap(), slab.cpu(CpuId(1), 0).unwrap());
        let cache = slab.create(&spec("a", 512, CacheFlags::NONE)).unwrap();
        with(&mut machine, |env| {
            // 512 bytes, two CPUs: 16 objects a slab. CPU 0 has them all.
            let all: Vec<NonNull<u8>> =
                (0..16).map(|_| slab.alloc(env, &mut one, cache, Gfp::KERNEL).unwrap()).collect();
            assert_eq!(one.try_alloc(env.mem, env.records, cache), Ok(None));
            // CPU 1 meets the cache, then frees what is CPU 0's without the allocator.
            let own = slab.alloc(env, &mut two, cache, Gfp::KERNEL).unwrap();
            for &ptr in &all[4..8] {
                assert_eq!(two.try_free(env.mem, env.records, ptr), Ok(true));
            }
            let double = two.try_free(env.mem, env.records, all[7]);
            assert!(matches!(double, Err(SlabError::DoubleFree { .. })));
            let again: Vec<_> = (0..4).map(|_| one.try_alloc(env.mem, env.records, cache).unwrap().unwrap()).collect();
            assert_eq!(again, [all[7], all[6], all[5], all[4]], "last freed, first taken");
            assert_eq!(one.try_alloc(env.mem, env.records, cache), Ok(None));
            slab.kfree(env, &mut two, own).unwrap();
            slab.free_bulk(env, &mut two, &all).unwrap();
            slab.flush(env, &mut one).unwrap();
            slab.destroy(env, &mut two, cache).unwrap();
        });
        assert_eq!(machine.free_frames(), 16);
    }
}

#[test]
fn remote_frees_into_a_slab_on_a_partial_list_are_counted_when_it_is_drained() {
    let mut machine = Machine::new(32);
    let mut slab = TestSlab::new(x86(Era::V6_1));
    let (mut one, mut two) = (slab.cpu(CpuId(0), 0).unwrap(), slab.cpu(CpuId(1), 0).unwrap());
    let cache = slab.create(&spec("a", 512, CacheFlags::NONE)).unwrap();
    with(&mut machine, |env| {
        let all: Vec<_> = (0..33).map(|_| slab.alloc(env, &mut one, cache, Gfp::KERNEL).unwrap()).collect();
        // The first slab is full and nobody's; freeing one object puts it on CPU 1's partial list.
        slab.kfree(env, &mut two, all[0]).unwrap();
        // CPU 0 frees into it from afar, CPU 1 on its own.
        assert_eq!(one.try_free(env.mem, env.records, all[1]), Ok(true));
        assert_eq!(two.try_free(env.mem, env.records, all[2]), Ok(true));
        slab.flush(env, &mut two).unwrap();
        let info = slab.slabinfo(env.records).next().unwrap().unwrap();
        // Three slabs of 16; three objects of the first are free and listed, CPU 0 has the rest.
        assert_eq!((info.slabs, info.objects, info.active), (3, 48, 45));
        slab.free_bulk(env, &mut one, &all[3..]).unwrap();
        slab.flush(env, &mut one).unwrap();
        slab.destroy(env, &mut two, cache).unwrap();
    });
    assert_eq!(machine.free_frames(), 32);
}

#[test]
fn a_node_keeps_a_few_empty_slabs() {
    let mut machine = Machine::new(64);
    // 7.2 has no partial lists of CPUs: what is freed goes to the node at once.
    let mut slab = TestSlab::new(x86(Era::V7_2));
    let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
    let cache = slab.create(&spec("a", 256, CacheFlags::NONE)).unwrap();
    assert_eq!(min_partial(256), 5, "log2 is 8, half of it 4");
    with(&mut machine, |env| {
        let all: Vec<_> = (0..160).map(|_| slab.alloc(env, &mut cpu, cache, Gfp::KERNEL).unwrap()).collect();
        slab.free_bulk(env, &mut cpu, &all).unwrap();
        let info = slab.slabinfo(env.records).next().unwrap().unwrap();
        // Ten slabs; the CPU has the last. A slab that becomes empty as one of five on the list is given back, so that
        // four stay there.
        assert_eq!((info.slabs, info.active), (5, 16));
        assert_eq!(slab.shrink(env, &mut cpu, cache), Ok(5));
    });
    assert_eq!(machine.free_frames(), 64);
}

#[test]
fn bulk_requests_give_what_there_is() {
    let mut machine = Machine::new(2);
    let mut slab = TestSlab::new(x86(Era::V6_1));
    let mut cpu = slab.cpu(CpuId(0), 0).unwrap();
    let cache = slab.create(&spec("a", 256, CacheFlags::NONE)).unwrap();
    with(&mut machine, |env| {
        let mut out = [NonNull::dangling(); 40];
        assert_eq!(slab.alloc_bulk(env, &mut cpu, cache, Gfp::KERNEL, &mut out), Ok(32));
        let empty = slab.alloc_bulk(env, &mut cpu, cache, Gfp::KERNEL, &mut out[32..]);
        assert!(matches!(empty, Err(SlabError::NoPages(_))));
        assert_eq!(slab.free_bulk(env, &mut cpu, &out[..32]), Ok(()));
        assert!(matches!(slab.free_bulk(env, &mut cpu, &out[31..32]), Err((0, SlabError::DoubleFree { .. }))));
    });
}
