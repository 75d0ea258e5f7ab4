//! Random requests on the slab allocator beside a plain map of what is live.
//!
//! # Invariants, after each step
//! 1. A live piece has its alignment and at least the bytes that were asked for.
//! 2. Live pieces do not overlap, and each keeps its pattern.
//! 3. What a cleared request gives is zero.
//! 4. At the end, when all is freed and shrunk, every frame is back and every cache is empty.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test stops where an answer is missing")]

use core::ptr::NonNull;
use std::collections::BTreeMap;

use kernmem_base::{CpuId, Era, Granule, HeapArena, Lent, LinearMem, Pfn, Seed};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{Gfp, PageSource};
use kernmem_slab::{
    CacheFlags, CacheId, CacheSpec, Classes, CpuSlabs, Env, KmallocArch, LentPages, Record, Slab, SlabError, SlabRules,
};

const FIRST: Pfn = Pfn(0x100);
const FRAMES: u64 = 192;
const CACHES: usize = 48;
const CPUS: usize = 2;

/// How an allocator is made: bit 0 hardens, bit 1 checks, the rest chooses the era.
fn rules(how: u8) -> SlabRules {
    let era = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2][usize::from(how >> 2) % 4];
    let classes = Classes::new(era, Granule::K4, KmallocArch::X86);
    SlabRules {
        hardening: (how & 1 == 1).then_some(Seed(u64::from(how))),
        flags: if how & 2 == 2 { CacheFlags::CHECKED } else { CacheFlags::NONE },
        ..SlabRules::new(classes, CPUS as u32)
    }
}

struct Live {
    ptr: NonNull<u8>,
    bytes: u64,
    byte: u8,
    cache: Option<CacheId>,
}

struct World {
    slab: Slab<CACHES>,
    cpus: Vec<CpuSlabs<CACHES>>,
    caches: Vec<(CacheId, u32, u32)>,
    live: BTreeMap<u64, Live>,
    next: u8,
}

type PlayEnv<'e> = Env<'e, FramePool, HeapArena, LentPages<'e>>;

/// Plays `words` as requests: what, how large, which.
pub fn play(how: u8, words: &[[u16; 3]]) {
    let records: Vec<Record> = (0..FRAMES).map(|_| Record::default()).collect();
    let arena = HeapArena::new(FIRST.to_phys(Granule::K4).unwrap(), FRAMES * 4096);
    let mut pool = FramePool::new(Granule::K4, FIRST, Pfn(FIRST.0 + FRAMES));
    let records = LentPages::new(FIRST, &records);
    let mut env = Env { pages: &mut pool, mem: &arena, records: &records };
    let mut world = World::new(rules(how));
    for &word in words {
        world.step(&mut env, word);
        world.check(&arena);
    }
    world.finish(&mut env);
    assert_eq!(pool.free_frames(), FRAMES, "invariant 4");
}

impl World {
    fn new(rules: SlabRules) -> Self {
        let mut slab = Slab::new(rules);
        slab.create_kmalloc_caches().unwrap();
        let specs = [("one", 24, 0), ("two", 100, 64), ("three", 700, 0), ("four", 3000, 256)];
        let caches = specs.map(|(name, object, align)| {
            let id = slab.create(&CacheSpec { align, ..CacheSpec::new(name, object) }).unwrap();
            (id, object, align.max(8))
        });
        let cpus = (0..CPUS as u32).map(|id| slab.cpu(CpuId(id), 0).unwrap()).collect();
        Self { slab, cpus, caches: caches.to_vec(), live: BTreeMap::new(), next: 1 }
    }

    fn step(&mut self, env: &mut PlayEnv<'_>, [what, size, which]: [u16; 3]) {
        let cpu = usize::from(what >> 8) % CPUS;
        match what % 16 {
            0..5 => self.kmalloc(env, cpu, sized(size), which & 1 == 1),
            5..8 => self.alloc(env, cpu, usize::from(size) % 4),
            8..12 => self.free(env, cpu, which),
            12 => self.realloc(env, cpu, sized(size), which),
            13 => self.slab.flush(env, &mut self.cpus[cpu]).unwrap(),
            14 => {
                let (id, ..) = self.caches[usize::from(which) % 4];
                self.slab.shrink(env, &mut self.cpus[cpu], id).unwrap();
            }
            _ => self.misuse(env, cpu, which),
        }
    }

    fn add(&mut self, arena: &HeapArena, ptr: NonNull<u8>, bytes: u64, cache: Option<CacheId>) {
        let byte = self.next;
        self.next = self.next % 250 + 1;
        lent(arena, ptr, bytes).fill(0, bytes as usize, byte).unwrap();
        let at = ptr.addr().get() as u64;
        let before = self.live.range(..at + bytes).next_back();
        assert!(before.is_none_or(|(&low, live)| low + live.bytes <= at), "invariant 2");
        self.live.insert(at, Live { ptr, bytes, byte, cache });
    }

    fn kmalloc(&mut self, env: &mut PlayEnv<'_>, cpu: usize, bytes: u64, is_zero: bool) {
        let gfp = if is_zero { Gfp::KERNEL | Gfp::ZERO } else { Gfp::KERNEL };
        let ptr = match self.slab.kmalloc(env, &mut self.cpus[cpu], bytes, gfp) {
            Ok(ptr) => ptr,
            Err(SlabError::NoPages(_)) => return,
            Err(other) => panic!("{other}"),
        };
        assert!(self.slab.ksize(env, ptr).unwrap() >= bytes, "invariant 1");
        let align = if bytes.is_power_of_two() { bytes.clamp(8, 4096) } else { 8 };
        assert_eq!(ptr.addr().get() as u64 % align, 0, "invariant 1: {bytes}");
        if is_zero {
            assert_eq!(lent(env.mem, ptr, bytes).first_other(0, bytes as usize, 0), None, "invariant 3");
        }
        self.add(env.mem, ptr, bytes, None);
    }

    fn alloc(&mut self, env: &mut PlayEnv<'_>, cpu: usize, which: usize) {
        let (id, object, align) = self.caches[which];
        match self.slab.alloc(env, &mut self.cpus[cpu], id, Gfp::KERNEL) {
            Ok(ptr) => {
                assert_eq!(ptr.addr().get() as u64 % u64::from(align), 0, "invariant 1");
                self.add(env.mem, ptr, object.into(), Some(id));
            }
            Err(SlabError::NoPages(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn pick(&self, which: u16) -> Option<u64> {
        let at = usize::from(which) % self.live.len().max(1);
        self.live.keys().nth(at).copied()
    }

    fn free(&mut self, env: &mut PlayEnv<'_>, cpu: usize, which: u16) {
        let Some(live) = self.pick(which).and_then(|at| self.live.remove(&at)) else { return };
        let cpu = &mut self.cpus[cpu];
        match live.cache {
            Some(cache) => self.slab.free(env, cpu, cache, live.ptr).unwrap(),
            None => self.slab.kfree(env, cpu, live.ptr).unwrap(),
        }
    }

    fn realloc(&mut self, env: &mut PlayEnv<'_>, cpu: usize, bytes: u64, which: u16) {
        let Some(at) = self.pick(which).filter(|at| self.live[at].cache.is_none()) else { return };
        let live = self.live.remove(&at).unwrap();
        match self.slab.krealloc(env, &mut self.cpus[cpu], Some(live.ptr), bytes, Gfp::KERNEL) {
            Ok(ptr) => {
                let kept = bytes.min(live.bytes);
                assert_eq!(lent(env.mem, ptr, kept).first_other(0, kept as usize, live.byte), None);
                self.add(env.mem, ptr, bytes, None);
            }
            Err(SlabError::NoPages(_)) => drop(self.live.insert(at, live)),
            Err(other) => panic!("{other}"),
        }
    }

    /// What a user must not do changes nothing.
    fn misuse(&mut self, env: &mut PlayEnv<'_>, cpu: usize, which: u16) {
        let Some(at) = self.pick(which) else { return };
        let live = &self.live[&at];
        let inside = lent(env.mem, live.ptr, live.bytes).ptr(1 + usize::from(which) % 7);
        if let Some(inside) = inside {
            let refused = self.slab.kfree(env, &mut self.cpus[cpu], inside);
            assert!(matches!(refused, Err(SlabError::NotAnObject { .. })), "{refused:?}");
        }
    }

    fn check(&self, arena: &HeapArena) {
        for live in self.live.values() {
            let found = lent(arena, live.ptr, live.bytes).first_other(0, live.bytes as usize, live.byte);
            assert_eq!(found, None, "invariant 2");
        }
    }

    fn finish(mut self, env: &mut PlayEnv<'_>) {
        let ids: Vec<CacheId> = self.slab.slabinfo(env.records).map(|info| info.unwrap().id).collect();
        for &id in &ids {
            let mut sink = |finding| panic!("{finding:?}");
            assert_eq!(self.slab.validate(env, id, &mut sink), Ok(0));
        }
        self.cpus.iter_mut().for_each(|cpu| self.slab.flush(env, cpu).unwrap());
        let active: u64 = self.slab.slabinfo(env.records).map(|info| info.unwrap().active).sum();
        let is_object = |live: &&Live| self.slab.ksize(env, live.ptr).unwrap() <= 8192;
        assert_eq!(active, self.live.values().filter(is_object).count() as u64, "as many objects as are live");
        for (nr, live) in core::mem::take(&mut self.live).into_values().enumerate() {
            self.slab.kfree(env, &mut self.cpus[nr % CPUS], live.ptr).unwrap();
        }
        for cpu in self.cpus {
            self.slab.retire(env, cpu).unwrap();
        }
        let mut cpu = self.slab.cpu(CpuId(0), 0).unwrap();
        ids.iter().for_each(|&id| assert!(self.slab.shrink(env, &mut cpu, id).is_ok()));
        for info in self.slab.slabinfo(env.records) {
            let info = info.unwrap();
            assert_eq!((info.active, info.objects, info.slabs), (0, 0, 0), "invariant 4: {}", info.name);
        }
    }
}

/// Mostly small sizes, some large ones.
fn sized(size: u16) -> u64 {
    match size % 8 {
        0 => u64::from(size >> 3) % 20_000 + 1,
        1 => 8 << ((size >> 3) % 11),
        _ => u64::from(size >> 3) % 300 + 1,
    }
}

fn lent(arena: &HeapArena, ptr: NonNull<u8>, bytes: u64) -> Lent<'_> {
    Lent::new(arena, arena.pa(ptr).unwrap(), bytes).expect("every piece begins at a word, in memory")
}
