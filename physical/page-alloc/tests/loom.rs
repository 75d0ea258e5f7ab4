//! What CPUs share without a lock, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p kernmem-page-alloc --test loom --release`
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use kernmem_base::sync::explore;
use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::dense::mem::LentMem;
use kernmem_page_alloc::dense::{CpuSet, Shape};
use kernmem_page_alloc::store::{CHUNK_SHIFT, States, Store, Words, ZoneNeeds};
use kernmem_page_alloc::{
    CpuPages, DrainRequest, Facts, FreeError, Gfp, PageAllocator, PcpLimits, PcpSet, PcpSlot, Placement, Topology,
    Zone, ZoneKind, ZoneSpan,
};
use kernmem_sparse::MigrateType;
use loom::sync::Arc;
use loom::thread;

/// Frames that the tests are about; records of others are never asked for.
const FRAMES: u64 = 4;

struct Few(Vec<AtomicU8>);

impl States for Few {
    fn byte(&self, index: u64) -> Option<&AtomicU8> {
        // The bytes of pageblocks lie behind those of all frames of a chunk, and here behind those of few.
        let index = if index < 1 << CHUNK_SHIFT { index } else { index - (1 << CHUNK_SHIFT) + FRAMES };
        self.0.get(index as usize)
    }

    fn open(&self, _chunk: u64, _bytes: usize) -> bool {
        true
    }
}

struct FewWords(Vec<u64>);

impl Words for FewWords {
    fn word(&self, index: u64) -> u64 {
        self.0.get(index as usize).copied().unwrap_or(0)
    }

    fn set_word(&mut self, index: u64, value: u64) {
        self.0[index as usize] = value;
    }

    fn open(&mut self, _chunk: u64, _words: usize) -> bool {
        true
    }
}

struct FewStore;

impl Store for FewStore {
    type States = Few;
    type Words = FewWords;
    type Field = LentMem<'static>;
    type Pageblocks = Vec<AtomicU8>;
    type Zones = Vec<Option<Zone<Self>>>;
    type Numbers = Vec<u32>;
    type Requests = Vec<DrainRequest>;
    type Slots = Vec<PcpSlot>;
    type Sets = Vec<PcpSet>;
    type Caches = Vec<CpuSet>;

    fn states(&mut self, _needs: ZoneNeeds) -> Option<Few> {
        Some(Few((0..FRAMES + FRAMES / 2).map(|_| AtomicU8::new(0)).collect()))
    }

    fn words(&mut self, _needs: ZoneNeeds) -> Option<FewWords> {
        Some(FewWords(vec![0; 2 * FRAMES as usize]))
    }

    fn field(&mut self, _shape: &Shape) -> Option<LentMem<'static>> {
        Some(LentMem::new(&[], &[], &[]))
    }

    fn pageblocks(&mut self, _count: usize) -> Option<Vec<AtomicU8>> {
        Some(Vec::new())
    }

    fn zones(&mut self, count: usize) -> Option<Self::Zones> {
        Some((0..count).map(|_| None).collect())
    }

    fn numbers(&mut self, count: usize) -> Option<Vec<u32>> {
        Some(vec![0; count])
    }

    fn requests(&mut self, count: usize) -> Option<Vec<DrainRequest>> {
        Some((0..count).map(|_| DrainRequest::default()).collect())
    }
}

fn allocator() -> PageAllocator<FewStore> {
    let facts =
        Facts { max_order: Order(1), pageblock_order: Order(1), thp: false, ..Facts::of(Era::V6_1, Placement::Linux) };
    let (start, end) = (Pfn(0), Pfn(FRAMES));
    let spans = [ZoneSpan { nid: 0, kind: ZoneKind::Normal, start, end, present: FRAMES }];
    let allocator = PageAllocator::new(&mut FewStore, facts, &Topology::flat(2), &spans).unwrap();
    allocator.add_free(0, start, end).unwrap();
    allocator
}

fn cpu(id: u32, allocator: &PageAllocator<FewStore>) -> CpuPages<FewStore> {
    CpuPages::new(CpuId(id), 0, vec![PcpSlot::default(); 8], vec![PcpSet::default(); allocator.sets()], Vec::new())
}

fn model(test: impl Fn() + Send + Sync + 'static) {
    explore(Some(2), test);
}

/// Who sees the request sees what was done before it, and no request is lost.
#[test]
fn a_drain_request_carries_what_came_before_it() {
    model(|| {
        let shared = Arc::new((DrainRequest::default(), AtomicU64::new(0)));
        let asker = Arc::clone(&shared);
        let task = thread::spawn(move || {
            asker.1.store(7, Ordering::Relaxed);
            asker.0.ask();
        });
        let seen = shared.0.take();
        if seen {
            assert_eq!(shared.1.load(Ordering::Relaxed), 7);
        }
        task.join().unwrap();
        assert_eq!(shared.0.take(), !seen, "once, and not twice");
    });
}

/// Two CPUs free one block: one is told that it is free already.
#[test]
fn of_two_who_free_a_block_one_is_told() {
    model(|| {
        let allocator = Arc::new(allocator());
        let mut own = cpu(0, &allocator);
        let zone = allocator.zones().next().unwrap();
        zone.set_pcp(PcpLimits { batch: 1, high_min: 8, high_max: 8 });
        let pfn = allocator.alloc(&mut own, None, Gfp::HIGHUSER_MOVABLE, Order(0)).unwrap();
        let shared = Arc::clone(&allocator);
        let task = thread::spawn(move || {
            let mut other = cpu(1, &shared);
            shared.free(&mut other, pfn, Order(0))
        });
        let answers = [allocator.free(&mut own, pfn, Order(0)), task.join().unwrap()];
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        assert!(answers.contains(&Err(FreeError::DoubleFree { pfn })), "{answers:?}");
    });
}

/// The count of free frames that is read without the lock is one that was true at some time.
///
/// The reader is the thread that is begun: the model checker looks for stores that a load could see among those made
/// before it, so who writes must not be the one who comes last.
#[test]
fn the_count_of_free_frames_is_never_made_up() {
    model(|| {
        let allocator = Arc::new(allocator());
        let shared = Arc::clone(&allocator);
        let reader = thread::spawn(move || shared.free_frames());
        let mut own = cpu(0, &allocator);
        let pfn = allocator.alloc(&mut own, None, Gfp::HIGHUSER_MOVABLE, Order(1)).unwrap();
        allocator.free(&mut own, pfn, Order(1)).unwrap();
        allocator.drain(&mut own);
        let seen = reader.join().unwrap();
        assert!([2, 4].contains(&seen), "{seen}");
        assert_eq!(allocator.free_frames(), 4);
    });
}

/// A frame comes back while its pageblock ends its isolation: who gives it back reads the type before the lock, and it is
/// not left apart.
#[test]
fn a_frame_that_comes_back_as_isolation_ends_is_free() {
    model(|| {
        let allocator = Arc::new(allocator());
        let mut own = cpu(0, &allocator);
        let pfn = allocator.alloc(&mut own, None, Gfp::HIGHUSER_MOVABLE, Order(0)).unwrap();
        allocator.drain(&mut own);
        let block = Pfn(pfn.0 & !1);
        allocator.set_migrate_type(block, Pfn(block.0 + 2), MigrateType::Isolate).unwrap();
        let shared = Arc::clone(&allocator);
        let task = thread::spawn(move || {
            shared.set_migrate_type(block, Pfn(block.0 + 2), MigrateType::Movable).unwrap();
        });
        allocator.free(&mut own, pfn, Order(0)).unwrap();
        task.join().unwrap();
        allocator.drain(&mut own);
        assert_eq!(allocator.free_frames(), FRAMES);
    });
}
