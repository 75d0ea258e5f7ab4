//! Memory that the caller lends: what is asked for is enough, and a store that runs dry loses no frame.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::Arc;

use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::dense::mem::{HeapMem, Line, Mem};
use kernmem_page_alloc::dense::{CpuSet, Shape};
use kernmem_page_alloc::store::{LentStore, Needs, States, Store, Words, ZoneNeeds};
use kernmem_page_alloc::{
    AddError, AllocError, BuildError, CpuPages, DrainRequest, Facts, Gfp, HeapStates, HeapStore, HeapWords,
    PageAllocator, PcpSet, PcpSlot, Placement, Topology, Zone, ZoneKind, ZoneSpan, needs,
};

const FRAMES: u64 = 3 << 15;
const SPAN: ZoneSpan = ZoneSpan { nid: 0, kind: ZoneKind::Normal, start: Pfn(0), end: Pfn(FRAMES), present: FRAMES };

/// What is lent, one less of each kind where it is asked for.
struct Memory {
    states: Vec<AtomicU8>,
    words: Vec<u64>,
    lines: Vec<Line>,
    entries: Vec<AtomicU16>,
    index: Vec<AtomicU64>,
}

impl Memory {
    fn new(asked: &Needs, short: usize) -> Self {
        let less = |count: usize| count.saturating_sub(short);
        Self {
            states: (0..less((asked.state_bytes + asked.hole_bytes) as usize + asked.pageblocks))
                .map(|_| AtomicU8::new(0))
                .collect(),
            words: vec![0; less(asked.words as usize)],
            lines: (0..less(asked.field.lines)).map(|_| Line::default()).collect(),
            entries: (0..less(asked.field.entries)).map(|_| AtomicU16::new(0)).collect(),
            index: (0..less(asked.field.index)).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

#[test]
fn what_is_asked_for_is_enough_and_one_less_is_not() {
    for placement in [Placement::Linux, Placement::Dense] {
        let (facts, topology) = (Facts::of(Era::V6_1, placement), Topology::flat(1));
        let asked = needs::<LentStore<'_>>(&facts, &topology, &[SPAN]);
        for short in [0, 1] {
            let mut memory = Memory::new(&asked, short);
            let mut zones: Vec<Option<Zone<LentStore<'_>>>> = (0..asked.zones).map(|_| None).collect();
            let mut numbers = vec![0; asked.numbers];
            let requests: Vec<DrainRequest> = (0..asked.requests).map(|_| DrainRequest::default()).collect();
            let store = LentStore::new(&memory.states, &mut memory.words, &mut zones, &mut numbers, &requests);
            let mut store = store.with_field(&memory.lines, &memory.entries, &memory.index);
            let built = PageAllocator::new(&mut store, facts, &topology, &[SPAN]);
            if short == 1 {
                assert_eq!(built.err(), Some(BuildError::Store));
                continue;
            }
            let allocator = built.unwrap();
            allocator.add_free(0, Pfn(0), Pfn(FRAMES)).unwrap();
            let (mut slots, mut sets) = ([PcpSlot::default(); 64], vec![PcpSet::default(); allocator.sets()]);
            let mut caches = vec![CpuSet::default(); allocator.sets()];
            let mut cpu = CpuPages::new(CpuId(0), 0, &mut slots[..], &mut sets[..], &mut caches[..]);
            let mut taken = Vec::new();
            while let Ok(pfn) = allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(3)) {
                taken.push(pfn);
            }
            assert_eq!(taken.len() as u64, FRAMES / 8, "{placement:?}");
            taken.into_iter().for_each(|pfn| allocator.free(&mut cpu, pfn, Order(3)).unwrap());
            allocator.drain(&mut cpu);
            assert_eq!(allocator.free_frames(), FRAMES);
            assert_eq!(allocator.zones().next().unwrap().nr_free(Order(10)), FRAMES >> 10);
        }
    }
}

/// A heap whose chunks can be opened only so often.
#[derive(Clone)]
struct Dry(Arc<AtomicU64>);

impl Dry {
    fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

struct DryStates(HeapStates, Dry);

impl States for DryStates {
    fn byte(&self, index: u64) -> Option<&AtomicU8> {
        self.0.byte(index)
    }

    fn open(&self, chunk: u64, bytes: usize) -> bool {
        let is_open = self.0.byte(chunk * bytes as u64).is_some();
        is_open || self.1.spend() && self.0.open(chunk, bytes)
    }
}

struct DryWords(HeapWords, Vec<u64>, Dry);

impl Words for DryWords {
    fn word(&self, index: u64) -> u64 {
        self.0.word(index)
    }

    fn set_word(&mut self, index: u64, value: u64) {
        self.0.set_word(index, value);
    }

    fn open(&mut self, chunk: u64, words: usize) -> bool {
        if self.1.contains(&chunk) {
            return true;
        }
        let is_open = self.2.spend() && self.0.open(chunk, words);
        if is_open {
            self.1.push(chunk);
        }
        is_open
    }
}

struct DryField(HeapMem, Dry);

impl Mem for DryField {
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        self.0.chunk(chunk)
    }

    fn entries(&self) -> &[AtomicU16] {
        self.0.entries()
    }

    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.0.index(word)
    }

    fn open(&self, chunk: usize) -> bool {
        let is_open = self.0.line(chunk * kernmem_page_alloc::dense::mem::CHUNK_LINES).is_some();
        is_open || self.1.spend() && self.0.open(chunk)
    }
}

impl Store for Dry {
    type States = DryStates;
    type Words = DryWords;
    type Field = DryField;
    type Pageblocks = Vec<AtomicU8>;
    type Zones = Vec<Option<Zone<Self>>>;
    type Numbers = Vec<u32>;
    type Requests = Vec<DrainRequest>;
    type Slots = Vec<PcpSlot>;
    type Sets = Vec<PcpSet>;
    type Caches = Vec<CpuSet>;

    fn states(&mut self, needs: ZoneNeeds) -> Option<DryStates> {
        Some(DryStates(HeapStore.states(needs)?, self.clone()))
    }

    fn words(&mut self, needs: ZoneNeeds) -> Option<DryWords> {
        Some(DryWords(HeapStore.words(needs)?, Vec::new(), self.clone()))
    }

    fn field(&mut self, shape: &Shape) -> Option<DryField> {
        Some(DryField(HeapStore.field(shape)?, self.clone()))
    }

    fn pageblocks(&mut self, count: usize) -> Option<Vec<AtomicU8>> {
        HeapStore.pageblocks(count)
    }

    fn zones(&mut self, count: usize) -> Option<Self::Zones> {
        Some((0..count).map(|_| None).collect())
    }

    fn numbers(&mut self, count: usize) -> Option<Vec<u32>> {
        HeapStore.numbers(count)
    }

    fn requests(&mut self, count: usize) -> Option<Vec<DrainRequest>> {
        HeapStore.requests(count)
    }
}

/// The nth piece of memory cannot be had, for every n: what was handed over and what was given out is still all there is.
#[test]
fn a_store_that_runs_dry_loses_no_frame() {
    for (placement, opened) in WAYS {
        let mut opens = 0;
        loop {
            let (_, allocator) = dry(placement, opens);
            let added = add(&allocator, Pfn(3), opened);
            assert!(matches!(added, Ok(()) | Err(AddError::NoRecords { .. })), "{added:?}");
            let managed = allocator.managed();
            assert_eq!(allocator.free_frames(), managed);
            let mut cpu = dry_cpu(&allocator);
            let (taken, end) = take_all(&allocator, &mut cpu);
            assert_eq!(end, AllocError::NoMemory { gfp: Gfp::HIGHUSER_MOVABLE, order: Order(0) });
            assert_eq!(taken + allocator.free_frames() + cpu.total(), managed, "{placement:?} {opens}");
            // What was handed over with its records is served without memory for any.
            assert!(!opened || taken == managed, "{placement:?} {opens}");
            if taken == FRAMES - 6 {
                break;
            }
            opens += 1;
        }
        // Linux: two openings for each of three chunks. Dense: one for each, and holes at both ends.
        let expected = if placement == Placement::Linux { 6 } else { 5 };
        assert_eq!(opens, expected, "{placement:?}");
    }
}

/// Hand-over that had no memory for some records goes on where it ended as soon as there is memory.
#[test]
fn a_hand_over_that_ended_early_can_go_on() {
    for (placement, opened) in WAYS {
        for opens in 0..6 {
            let (store, allocator) = dry(placement, opens);
            if let Err(error) = add(&allocator, Pfn(3), opened) {
                let AddError::NoRecords { pfn } = error else { panic!("{error}") };
                assert_eq!(allocator.managed(), pfn.0 - 3, "{placement:?} {opens}");
                assert!(!allocator.manages(pfn) && (pfn == Pfn(3) || allocator.manages(Pfn(pfn.0 - 1))));
                store.0.store(6, Ordering::Relaxed);
                add(&allocator, pfn, opened).unwrap();
            }
            store.0.store(6, Ordering::Relaxed);
            let mut cpu = dry_cpu(&allocator);
            let (taken, _) = take_all(&allocator, &mut cpu);
            assert_eq!((taken, allocator.managed()), (FRAMES - 6, FRAMES - 6), "{placement:?} {opens}");
        }
    }
}

/// Placements, and whether hand-over writes all records.
const WAYS: [(Placement, bool); 4] =
    [(Placement::Linux, false), (Placement::Linux, true), (Placement::Dense, false), (Placement::Dense, true)];

fn dry(placement: Placement, opens: u64) -> (Dry, PageAllocator<Dry>) {
    let store = Dry(Arc::new(AtomicU64::new(opens)));
    let facts = Facts::of(Era::V6_12, placement);
    let allocator = PageAllocator::new(&mut store.clone(), facts, &Topology::flat(1), &[SPAN]).unwrap();
    (store, allocator)
}

/// Hands over all from `start` on but three frames: odd frames at the ends need records at once.
fn add(allocator: &PageAllocator<Dry>, start: Pfn, opened: bool) -> Result<(), AddError> {
    let end = Pfn(FRAMES - 3);
    if opened { allocator.add_free_opened(0, start, end) } else { allocator.add_free(0, start, end) }
}

fn dry_cpu(allocator: &PageAllocator<Dry>) -> CpuPages<Dry> {
    let (slots, sets) = (vec![PcpSlot::default(); 64], vec![PcpSet::default(); allocator.sets()]);
    CpuPages::new(CpuId(0), 0, slots, sets, vec![CpuSet::default(); allocator.sets()])
}

/// Takes single frames until there are none.
fn take_all(allocator: &PageAllocator<Dry>, cpu: &mut CpuPages<Dry>) -> (u64, AllocError) {
    let mut taken = 0;
    loop {
        match allocator.alloc(cpu, None, Gfp::HIGHUSER_MOVABLE, Order(0)) {
            Ok(_) => taken += 1,
            Err(error) => return (taken, error),
        }
    }
}
