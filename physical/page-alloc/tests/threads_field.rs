//! Real threads on one dense frame field, each with its own frames.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::sync::atomic::{AtomicU8, Ordering};
use std::sync::Mutex;
use std::thread;

use kernmem_base::Pfn;
use kernmem_page_alloc::dense::mem::HeapMem;
use kernmem_page_alloc::dense::{At, CpuFrames, CpuSet, Field, Kinds, Shape, Want};
use kernmem_sparse::MigrateType;

const MOVABLE: MigrateType = MigrateType::Movable;

fn cpu() -> CpuFrames<Vec<CpuSet>> {
    CpuFrames::new(vec![CpuSet::default()])
}

/// One byte a pageblock.
struct Types(Vec<AtomicU8>);

impl Kinds for Types {
    fn kind(&self, pfn: Pfn) -> MigrateType {
        MigrateType::ALL[usize::from(self.0[(pfn.0 >> 9) as usize].load(Ordering::Relaxed))]
    }

    fn is_plain(&self) -> bool {
        true
    }
}

/// Three threads take, pass frames on, give back and change types; each frame has a word beside the field that says who
/// has it.
#[test]
fn threads_pass_frames_on_and_lose_none() {
    const ZONE: u64 = 1 << 13;
    let shape = Shape { start: Pfn(0), end: Pfn(ZONE), max_order: 10, pageblock_order: 9 };
    let types: Vec<AtomicU8> = (0..ZONE >> 9).map(|_| AtomicU8::new(MOVABLE as u8)).collect();
    let kinds = Types(types);
    let field = Field::new(HeapMem::new(&shape), shape).unwrap();
    field.add_free(&kinds, Pfn(0), Pfn(ZONE), false).unwrap();
    let owners: Vec<AtomicU8> = (0..ZONE).map(|_| AtomicU8::new(0)).collect();
    let basket = Mutex::new(Vec::<(Pfn, u8)>::new());
    let claim = |pfn: Pfn, order: u8, from: u8, to: u8| {
        for frame in pfn.0..pfn.0 + (1 << order) {
            assert_eq!(owners[frame as usize].swap(to, Ordering::Relaxed), from, "{frame:#x}");
        }
    };
    thread::scope(|scope| {
        for id in 1..=3_u8 {
            let (field, kinds, basket, owners, claim) = (&field, &kinds, &basket, &owners, &claim);
            scope.spawn(move || {
                let at = At { zone: 0, field, kinds };
                let mut cpu = cpu();
                for turn in 0..30_000_u64 {
                    let dice = (turn * u64::from(id) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                    let kind = MigrateType::ALL[(dice % 3) as usize];
                    let order = [0, 0, 0, 1, 3, 5, 6, 9, 10][(dice / 3 % 9) as usize];
                    let want = |kind| Want { key: dice % 3, column: kind, kind, order };
                    let hot = cpu.alloc_hot(dice % 3, order);
                    let pfn = hot.or_else(|| cpu.alloc(at, want(kind))).or_else(|| cpu.alloc(at, want(MOVABLE)));
                    if let Some(pfn) = pfn {
                        claim(pfn, order, 0, id);
                        basket.lock().unwrap().push((pfn, order));
                    }
                    let mut waiting = basket.lock().unwrap();
                    let len = waiting.len();
                    let other = (len > 40).then(|| waiting.swap_remove(dice as usize % len));
                    drop(waiting);
                    if let Some((pfn, order)) = other {
                        for frame in pfn.0..pfn.0 + (1 << order) {
                            owners[frame as usize].store(0, Ordering::Relaxed);
                        }
                        let hot = cpu.free_hot(pfn, order);
                        hot.unwrap_or_else(|| cpu.free(at, pfn, order)).unwrap();
                    }
                    if id == 1 && turn % 64 == 0 {
                        let block = Pfn(dice % ZONE);
                        let from = kinds.kind(block);
                        kinds.0[(block.0 >> 9) as usize].store(kind as u8, Ordering::Relaxed);
                        field.retyped(kinds, block, from);
                    }
                    if turn % 1000 == 0 {
                        cpu.drain(at).unwrap();
                    }
                }
                cpu.drain(at).unwrap();
            });
        }
    });
    let mut cpu = cpu();
    let at = At { zone: 0, field: &field, kinds: &kinds };
    basket.into_inner().unwrap().into_iter().for_each(|(pfn, order)| cpu.free(at, pfn, order).unwrap());
    cpu.drain(at).unwrap();
    assert_eq!((field.level(), field.counts(&kinds)[10].iter().sum::<u64>()), (ZONE, ZONE >> 10));
}
