//! Two CPUs as two threads: the allocator behind a lock, their handles without.
//!
//! Each thread takes objects, marks them, hands some to the other, and frees what it got: the frees of objects of the
//! other's slabs go through the remote chains while their owner allocates.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::ptr::NonNull;
use std::sync::{Mutex, mpsc};
use std::thread;

use common::{CACHES, FIRST, Machine, lent, x86};
use kernmem_base::{CpuId, Era, HeapArena, LinearMem, PhysAddr, Seed};
use kernmem_page_alloc::Gfp;
use kernmem_page_alloc::pool::FramePool;
use kernmem_slab::{CacheId, CacheSpec, CpuSlabs, Env, LentPages, Slab, SlabRules};

struct Shared<'m> {
    slab: Mutex<(Slab<CACHES>, &'m mut FramePool)>,
    arena: &'m HeapArena,
    records: LentPages<'m>,
    cache: CacheId,
}

const STEPS: u64 = 20_000;

impl Shared<'_> {
    /// First without the lock, then with it.
    fn alloc(&self, cpu: &mut CpuSlabs<CACHES>) -> NonNull<u8> {
        if let Some(ptr) = cpu.try_alloc(self.arena, &self.records, self.cache).unwrap() {
            return ptr;
        }
        let (slab, pool) = &mut *self.slab.lock().unwrap();
        let mut env = Env { pages: *pool, mem: self.arena, records: &self.records };
        slab.alloc(&mut env, cpu, self.cache, Gfp::KERNEL).unwrap()
    }

    fn free(&self, cpu: &mut CpuSlabs<CACHES>, ptr: NonNull<u8>) {
        if cpu.try_free(self.arena, &self.records, ptr).unwrap() {
            return;
        }
        let (slab, pool) = &mut *self.slab.lock().unwrap();
        let mut env = Env { pages: *pool, mem: self.arena, records: &self.records };
        slab.kfree(&mut env, cpu, ptr).unwrap();
    }

    fn mark(&self, ptr: NonNull<u8>, value: u64) {
        let object = lent(self.arena, ptr, 64);
        (0..8).for_each(|word| object.set_word(word * 8, value).unwrap());
    }

    fn check(&self, ptr: NonNull<u8>, value: u64) {
        let object = lent(self.arena, ptr, 64);
        (0..8).for_each(|word| assert_eq!(object.word(word * 8), Some(value)));
    }

    fn run(&self, cpu: &mut CpuSlabs<CACHES>, out: mpsc::SyncSender<(u64, u64)>, from: &mpsc::Receiver<(u64, u64)>) {
        let mut seed = Seed(u64::from(cpu.id().0) + 1);
        let mut live: Vec<(NonNull<u8>, u64)> = Vec::new();
        for _ in 0..STEPS {
            let drawn = seed.draw();
            match drawn % 8 {
                0..4 => {
                    let ptr = self.alloc(cpu);
                    self.mark(ptr, drawn);
                    live.push((ptr, drawn));
                }
                4..6 if !live.is_empty() => {
                    let (ptr, value) = live.swap_remove(drawn as usize / 8 % live.len());
                    self.check(ptr, value);
                    self.free(cpu, ptr);
                }
                6 if !live.is_empty() => {
                    let (ptr, value) = live.swap_remove(drawn as usize / 8 % live.len());
                    let pa = self.arena.pa(ptr).unwrap().0;
                    if out.try_send((pa, value)).is_err() {
                        live.push((ptr, value));
                    }
                }
                _ => from.try_iter().for_each(|piece| self.take(cpu, piece)),
            }
            if live.len() > 500 {
                live.drain(..).for_each(|(ptr, value)| {
                    self.check(ptr, value);
                    self.free(cpu, ptr);
                });
            }
        }
        drop(out);
        from.iter().for_each(|piece| self.take(cpu, piece));
        live.into_iter().for_each(|(ptr, _)| self.free(cpu, ptr));
    }

    /// Frees an object that the other CPU took.
    fn take(&self, cpu: &mut CpuSlabs<CACHES>, (pa, value): (u64, u64)) {
        let ptr = self.arena.ptr(PhysAddr(pa), 64).unwrap();
        self.check(ptr, value);
        self.free(cpu, ptr);
    }
}

fn play(hardening: Option<Seed>, era: Era) {
    let mut machine = Machine::new(256);
    let mut slab = Slab::<CACHES>::new(SlabRules { hardening, ..x86(era) });
    let cache = slab.create(&CacheSpec::new("shared", 64)).unwrap();
    let mut cpus = [0, 1].map(|id| slab.cpu(CpuId(id), 0).unwrap());
    let Machine { pool, arena, records } = &mut machine;
    let shared = Shared { slab: Mutex::new((slab, pool)), arena, records: LentPages::new(FIRST, records), cache };
    let ((to_one, from_two), (to_two, from_one)) = (mpsc::sync_channel(64), mpsc::sync_channel(64));
    let [one, two] = &mut cpus;
    let shared_ref = &shared;
    thread::scope(|scope| {
        scope.spawn(move || shared_ref.run(one, to_two, &from_two));
        scope.spawn(move || shared_ref.run(two, to_one, &from_one));
    });
    let (slab, pool) = &mut *shared.slab.lock().unwrap();
    let mut env = Env { pages: *pool, mem: shared.arena, records: &shared.records };
    cpus.iter_mut().for_each(|cpu| slab.flush(&mut env, cpu).unwrap());
    let info = slab.slabinfo(env.records).next().unwrap().unwrap();
    assert_eq!(info.active, 0, "every object is free once");
    slab.destroy(&mut env, &mut cpus[0], cache).unwrap();
}

#[test]
fn two_threads_free_each_others_objects() {
    for era in [Era::V6_1, Era::V7_2] {
        for hardening in [None, Some(Seed(5))] {
            play(hardening, era);
        }
    }
}
