//! Linux's KUnit suite `slub_test` on our checked caches: the same damage, the same number of findings.
//!
//! Linux counts each report and each repair; `Slab::validate` returns the same count. The three tests about freeing
//! after a grace period have no counterpart: nothing here waits for readers. Freeing from a context that may not take a
//! lock has none either: the allocator takes no lock.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod common;

use core::ptr::NonNull;

use common::{Machine, TestCpu, TestSlab, booted, checked, moved, with, x86};
use kernmem_base::{Era, HeapArena, Lent, LinearMem};
use kernmem_page_alloc::Gfp;
use kernmem_slab::{Area, CacheFlags, CacheId, CacheSpec, Damage, Finding, Report, SlabError};

/// Findings of one check.
fn validate(slab: &mut TestSlab, machine: &mut Machine, cache: CacheId) -> (u64, Vec<Damage>) {
    let mut bugs = Vec::new();
    let mut sink = |finding| {
        if let Finding::Bug(Report { damage, .. }) = finding {
            bugs.push(damage);
        }
    };
    let count = with(machine, |env| slab.validate(env, cache, &mut sink)).unwrap();
    (count, bugs)
}

fn poke(arena: &HeapArena, object: NonNull<u8>, at: i64, byte: u8) {
    let ptr = moved(arena, object, at);
    let pa = arena.pa(ptr).unwrap();
    let word = Lent::new(arena, pa.align_down(8), 8).unwrap();
    word.write((pa.0 % 8) as usize, &[byte]).unwrap();
}

fn peek(arena: &HeapArena, object: NonNull<u8>, at: i64) -> u8 {
    let pa = arena.pa(moved(arena, object, at)).unwrap();
    Lent::new(arena, pa.align_down(8), 8).unwrap().byte((pa.0 % 8) as usize).unwrap()
}

struct Case {
    machine: Machine,
    slab: TestSlab,
    cpu: TestCpu,
    cache: CacheId,
    object: NonNull<u8>,
}

/// A cache of `bytes` bytes with `flags`, and one object of it.
fn case(era: Era, bytes: u32, flags: CacheFlags) -> Case {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(x86(era));
    let cache = slab.create(&CacheSpec { flags, ..CacheSpec::new("TestSlub", bytes) }).unwrap();
    let object = with(&mut machine, |env| slab.alloc(env, &mut cpu, cache, Gfp::KERNEL)).unwrap();
    Case { machine, slab, cpu, cache, object }
}

impl Case {
    fn free(&mut self) -> Result<(), SlabError> {
        let Self { machine, slab, cpu, cache, object } = self;
        with(machine, |env| slab.free(env, cpu, *cache, *object))
    }

    fn poke(&self, at: i64, byte: u8) {
        poke(&self.machine.arena, self.object, at, byte);
    }

    #[track_caller]
    fn expect(&mut self, count: u64, bugs: &[Damage]) {
        let found = validate(&mut self.slab, &mut self.machine, self.cache);
        assert_eq!(found, (count, bugs.to_vec()));
    }
}

const fn overwritten(area: Area, offset: i64, expected: u8, found: u8) -> Damage {
    Damage::Overwritten { area, offset, expected, found }
}

#[test]
fn clobber_zone() {
    let mut case = case(Era::V6_1, 64, CacheFlags::RED_ZONE);
    case.poke(64, 0x12);
    case.expect(2, &[overwritten(Area::RightRedZone, 64, 0xcc, 0x12)]);
    case.expect(0, &[]);
}

#[test]
fn clobber_zone_on_the_left() {
    let mut case = case(Era::V6_1, 64, CacheFlags::RED_ZONE);
    case.poke(-1, 0x12);
    case.expect(2, &[overwritten(Area::LeftRedZone, -1, 0xcc, 0x12)]);
}

#[test]
fn next_pointer() {
    let mut case = case(Era::V6_1, 64, CacheFlags::POISON);
    case.free().unwrap();
    // The free pointer of a poisoned object of 64 bytes is the word behind it.
    let before: Vec<u8> = (64..72).map(|at| peek(&case.machine.arena, case.object, at)).collect();
    case.poke(64, !before[0]);
    // 72 bytes a slot, 56 objects a page: the first of the chain is all that is left of it.
    case.expect(3, &[Damage::Freechain, Damage::WrongCount { counter: 0, counted: 55 }]);
    before.iter().zip(64..).for_each(|(&byte, at)| case.poke(at, byte));
    case.expect(2, &[Damage::WrongCount { counter: 55, counted: 0 }]);
    case.expect(0, &[]);
}

#[test]
fn first_word() {
    let mut case = case(Era::V6_1, 64, CacheFlags::POISON);
    case.free().unwrap();
    case.poke(0, 0x78);
    case.expect(2, &[overwritten(Area::Poison, 0, 0x6b, 0x78)]);
    case.expect(0, &[]);
}

#[test]
fn clobber_50th_byte() {
    let mut case = case(Era::V6_1, 64, CacheFlags::POISON);
    case.free().unwrap();
    case.poke(50, 0x9a);
    case.expect(2, &[overwritten(Area::Poison, 50, 0x6b, 0x9a)]);
}

#[test]
fn clobber_last_byte() {
    let mut case = case(Era::V6_1, 64, CacheFlags::POISON);
    case.free().unwrap();
    case.poke(63, 0x6b);
    case.expect(2, &[overwritten(Area::Poison, 63, 0xa5, 0x6b)]);
}

#[test]
fn clobber_redzone_free() {
    let mut case = case(Era::V6_1, 64, CacheFlags::RED_ZONE);
    case.free().unwrap();
    case.poke(64, 0xab);
    case.expect(2, &[overwritten(Area::RightRedZone, 64, 0xbb, 0xab)]);
}

#[test]
fn kmalloc_redzone_access() {
    for (era, bugs) in [(Era::V6_12, 2), (Era::V7_2, 2), (Era::V6_1, 0)] {
        let mut machine = Machine::new(64);
        let flags = CacheFlags::RED_ZONE | CacheFlags::STORE_USER;
        let (mut slab, mut cpu) = booted(kernmem_slab::SlabRules { flags, ..x86(era) });
        let object = with(&mut machine, |env| slab.kmalloc(env, &mut cpu, 18, Gfp::KERNEL)).unwrap();
        poke(&machine.arena, object, 18, 0xab);
        poke(&machine.arena, object, 19, 0xab);
        let cache = slab.kmalloc_cache(18, Gfp::KERNEL).unwrap();
        let (count, damage) = validate(&mut slab, &mut machine, cache);
        assert_eq!(count, bugs, "{era}");
        if bugs > 0 {
            assert_eq!(damage, [overwritten(Area::KmallocRedZone, 18, 0xcc, 0xab)]);
        }
    }
}

/// Linux prints two reports; ours is one error, which says how many objects there are.
#[test]
fn leak_destroy() {
    let Case { mut machine, mut slab, mut cpu, cache, object } = case(Era::V6_1, 64, CacheFlags::NO_MERGE);
    with(&mut machine, |env| {
        let remain = SlabError::ObjectsRemain { cache, objects: 1 };
        assert_eq!(slab.destroy(env, &mut cpu, cache), Err(remain));
        assert_eq!(slab.free(env, &mut cpu, cache, object), Ok(()));
        assert_eq!(slab.destroy(env, &mut cpu, cache), Ok(()));
        assert_eq!(slab.alloc(env, &mut cpu, cache, Gfp::KERNEL), Err(SlabError::NoCache(cache)));
    });
    assert_eq!(machine.free_frames(), 64);
}

/// What was not asked for has the red byte, what is newly asked for is zero, what was there before is kept.
#[test]
fn krealloc_redzone_zeroing() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(checked(Era::V7_2));
    let gfp = Gfp::KERNEL | Gfp::ZERO;
    with(&mut machine, |env| {
        let arena = env.mem;
        let all_are = |object, range: core::ops::Range<i64>, byte| {
            range.into_iter().for_each(|at| assert_eq!(peek(arena, object, at), byte, "{at}"));
        };
        let object = slab.kzalloc(env, &mut cpu, 48, Gfp::KERNEL).unwrap();
        all_are(object, 48..64, 0xcc);
        let object = slab.krealloc(env, &mut cpu, Some(object), 40, gfp).unwrap();
        all_are(object, 0..40, 0);
        all_are(object, 40..64, 0xcc);
        let object = slab.krealloc(env, &mut cpu, Some(object), 56, gfp).unwrap();
        all_are(object, 0..56, 0);
        all_are(object, 56..64, 0xcc);
        poke(env.mem, object, 55, 0x77);
        let object = slab.krealloc(env, &mut cpu, Some(object), 112, gfp).unwrap();
        all_are(object, 0..55, 0);
        all_are(object, 55..56, 0x77);
        all_are(object, 56..112, 0);
        all_are(object, 112..128, 0xcc);
        assert_eq!(slab.kfree(env, &mut cpu, object), Ok(()));
    });
}

#[test]
fn a_write_after_free_is_noticed_at_the_next_allocation() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(checked(Era::V6_1));
    with(&mut machine, |env| {
        let object = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        slab.kfree(env, &mut cpu, object).unwrap();
        poke(env.mem, object, 5, 0x11);
        let Err(SlabError::Corrupt(report)) = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL) else {
            panic!("the damage was not noticed");
        };
        assert_eq!(report.object.0, object.addr().get() as u64);
        assert_eq!(report.damage, overwritten(Area::Poison, 5, 0x6b, 0x11));
        let other = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        assert_ne!(other.addr().get() / 4096, object.addr().get() / 4096, "the damaged slab is set aside");
    });
}

#[test]
fn an_overflow_is_noticed_when_the_object_is_freed() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(checked(Era::V6_1));
    with(&mut machine, |env| {
        let object = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        poke(env.mem, object, 64, 0x11);
        let Err(SlabError::Corrupt(report)) = slab.kfree(env, &mut cpu, object) else {
            panic!("the damage was not noticed");
        };
        assert_eq!(report.damage, overwritten(Area::RightRedZone, 64, 0xcc, 0x11));
        assert_eq!(slab.kfree(env, &mut cpu, object), Ok(()), "the bytes were restored");
    });
}

#[test]
fn a_second_free_a_wrong_cache_and_an_inner_pointer_are_told() {
    let mut machine = Machine::new(64);
    let (mut slab, mut cpu) = booted(checked(Era::V6_1));
    let other = slab.create(&CacheSpec::new("other", 64)).unwrap();
    with(&mut machine, |env| {
        let first = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        let second = slab.kmalloc(env, &mut cpu, 64, Gfp::KERNEL).unwrap();
        let wrong = slab.free(env, &mut cpu, other, first);
        assert!(matches!(wrong, Err(SlabError::WrongCache { named, .. }) if named == other), "{wrong:?}");
        let inner = slab.kfree(env, &mut cpu, moved(env.mem, first, 8));
        assert!(matches!(inner, Err(SlabError::NotAnObject { .. })), "{inner:?}");
        slab.kfree(env, &mut cpu, first).unwrap();
        slab.kfree(env, &mut cpu, second).unwrap();
        // Not the first of the chain: the walk finds it.
        let again = slab.kfree(env, &mut cpu, first);
        assert!(matches!(again, Err(SlabError::DoubleFree { .. })), "{again:?}");
    });
}
