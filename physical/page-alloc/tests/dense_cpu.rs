//! One CPU's frames over a field: what is taken is nobody else's, and everything comes back.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::Pfn;
use kernmem_page_alloc::dense::mem::HeapMem;
use kernmem_page_alloc::dense::{At, CpuFrames, CpuSet, Doubled, Field, Shape, Want};
use kernmem_sparse::MigrateType;

const MOVABLE: MigrateType = MigrateType::Movable;
const FRAMES: u64 = 1 << 16;

fn field() -> Field<HeapMem> {
    let shape = Shape { start: Pfn(0), end: Pfn(FRAMES), max_order: 10, pageblock_order: 9 };
    let field = Field::new(HeapMem::new(&shape), shape).unwrap();
    field.add_free(&MOVABLE, Pfn(0), Pfn(FRAMES), false).unwrap();
    field
}

fn want(order: u8) -> Want {
    Want { key: 1, column: MOVABLE, kind: MOVABLE, order }
}

fn cpu() -> CpuFrames<Vec<CpuSet>> {
    CpuFrames::new(vec![CpuSet::default()])
}

#[test]
fn all_frames_are_taken_once_and_come_back() {
    let field = field();
    let at = At { zone: 0, field: &field, kinds: &MOVABLE };
    let mut cpu = cpu();
    let mut seen = vec![false; FRAMES as usize];
    while let Some(pfn) = cpu.alloc_hot(1, 0).or_else(|| cpu.alloc(at, want(0))) {
        assert!(!core::mem::replace(&mut seen[pfn.0 as usize], true), "{pfn:?} twice");
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!((field.level(), cpu.count(0)), (0, 0));
    // 7919 is odd, so every frame comes once.
    for nth in 0..FRAMES {
        let pfn = Pfn(nth * 7919 % FRAMES);
        cpu.free_hot(pfn, 0).unwrap_or_else(|| cpu.free(at, pfn, 0)).unwrap();
    }
    cpu.drain(at).unwrap();
    assert_eq!(field.level(), FRAMES);
    assert_eq!(field.counts(&MOVABLE)[10][MOVABLE as usize], FRAMES >> 10);
}

#[test]
fn a_frame_that_comes_back_twice_is_told() {
    let field = field();
    let at = At { zone: 0, field: &field, kinds: &MOVABLE };
    let mut cpu = cpu();
    let mut frames = [Pfn(0); 700];
    assert_eq!(cpu.alloc_bulk(at, want(0), &mut frames), 700);
    for order in [0, 3, 9] {
        let pfn = cpu.alloc(at, want(order)).unwrap();
        assert_eq!(cpu.free(at, pfn, order), Ok(()));
        assert_eq!(cpu.free(at, pfn, order), Err(Doubled { pfn }), "order {order}");
        assert_eq!(cpu.free_hot(pfn, order).unwrap_or_else(|| cpu.free(at, pfn, order)), Err(Doubled { pfn }));
    }
    assert_eq!(cpu.free_bulk(at, &frames), Ok(()));
    assert_eq!((cpu.free(at, frames[3], 0), cpu.drain(at)), (Ok(()), Err(Doubled { pfn: frames[3] })), "told later");
    cpu.drain(at).unwrap();
    assert_eq!((field.level(), cpu.count(0)), (FRAMES, 0));
}

/// A frame that is free, or comes back twice, is not given to anybody twice, wherever its two ways back end.
#[test]
fn a_frame_that_comes_back_twice_is_given_once() {
    let field = field();
    let at = At { zone: 0, field: &field, kinds: &MOVABLE };
    let mut cpu = cpu();
    let mut frames = [Pfn(0); 1000];
    assert_eq!(cpu.alloc_bulk(at, want(0), &mut frames), 1000);
    for between in [0, 1, 40, 80] {
        for order in [0, 3, 9] {
            // Each third frame comes back, with others between its two ways.
            let twice = frames[3 * between];
            let others: Vec<Pfn> = frames[3 * between + 1..].iter().step_by(3).take(between).copied().collect();
            let back = [twice].iter().chain(&others).chain(&[twice]).copied().collect::<Vec<_>>();
            let told: Vec<Doubled> = back
                .iter()
                .filter_map(|&pfn| cpu.free_hot(pfn, 0).unwrap_or_else(|| cpu.free(at, pfn, 0)).err())
                .collect();
            let block = cpu.alloc_hot(1, order).or_else(|| cpu.alloc(at, want(order))).unwrap();
            let later = cpu.drain(at).err();
            assert_eq!(told.into_iter().chain(later).collect::<Vec<_>>(), [Doubled { pfn: twice }]);
            let held = (1 << order) + 1000 - 1 - others.len() as u64;
            assert_eq!(field.level(), FRAMES - held, "order {order}, {between} between");
            cpu.free(at, block, order).unwrap();
            cpu.drain(at).unwrap();
            for pfn in [twice].into_iter().chain(others) {
                field.take_range(&MOVABLE, pfn, Pfn(pfn.0 + 1)).unwrap();
            }
        }
    }
}

/// What is hot belongs to another zone and serves no request of this one.
#[test]
fn a_bulk_call_for_a_type_without_a_column_takes_from_its_own_zone() {
    let make = |start: u64, kind: MigrateType| {
        let shape = Shape { start: Pfn(start), end: Pfn(start + 0x1000), max_order: 10, pageblock_order: 9 };
        let field = Field::new(HeapMem::new(&shape), shape).unwrap();
        field.add_free(&kind, Pfn(start), Pfn(start + 0x1000), false).unwrap();
        field
    };
    let (low, high) = (make(0, MigrateType::Movable), make(0x8000, MigrateType::Cma));
    let mut cpu = CpuFrames::new(vec![CpuSet::default(), CpuSet::default()]);
    let want = |kind| Want { key: 1, column: kind, kind, order: 0 };
    cpu.alloc(At { zone: 0, field: &low, kinds: &MigrateType::Movable }, want(MigrateType::Movable)).unwrap();
    let mut out = [Pfn(0); 8];
    let at = At { zone: 1, field: &high, kinds: &MigrateType::Cma };
    assert_eq!(cpu.alloc_bulk(at, want(MigrateType::Cma), &mut out), 8);
    assert!(out.iter().all(|pfn| pfn.0 >= 0x8000), "{out:x?}");
}

/// Frames that are put aside one by one or as blocks, under limits that change meanwhile, to none and back.
#[test]
fn a_limit_that_changes_loses_no_frame() {
    let field = field();
    let at = At { zone: 0, field: &field, kinds: &MOVABLE };
    for (before, after) in [(1024, 0), (64, 0), (0, 64), (3, 1), (1, 3)] {
        let mut cpu = cpu();
        cpu.set_mut(0).unwrap().set_limit(before);
        let mut frames = [Pfn(0); 4096];
        assert_eq!(cpu.alloc_bulk(at, want(0), &mut frames), frames.len());
        // The first of them lies in a word that is no longer open.
        let pairs = [(); 33].map(|()| cpu.alloc(at, want(1)).unwrap());
        for (nth, &pfn) in frames.iter().enumerate().map(|(nth, _)| (nth, &frames[nth * 67 % frames.len()])) {
            cpu.free_hot(pfn, 0).unwrap_or_else(|| cpu.free(at, pfn, 0)).unwrap();
            match nth {
                62 => cpu.free_hot(pairs[0], 1).unwrap_or_else(|| cpu.free(at, pairs[0], 1)).unwrap(),
                100 => cpu.set_mut(0).unwrap().set_limit(after),
                130 | 260 => {
                    let pfn = cpu.alloc_hot(1, 0).or_else(|| cpu.alloc(at, want(0))).unwrap();
                    cpu.free_hot(pfn, 0).unwrap_or_else(|| cpu.free(at, pfn, 0)).unwrap();
                }
                _ => {}
            }
        }
        pairs[1..].iter().for_each(|&pair| cpu.free(at, pair, 1).unwrap());
        assert_eq!(field.level() + cpu.count(0), FRAMES);
        cpu.drain(at).unwrap();
        assert_eq!(field.counts(&MOVABLE)[10][MOVABLE as usize], FRAMES >> 10, "limits {before} and {after}");
    }
}
