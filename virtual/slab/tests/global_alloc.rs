//! This program's own memory: std's collections and threads live in a heap over a static array.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::alloc::Layout;
use core::sync::atomic::AtomicU64;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kernmem_base::{Era, Granule, HeapArena, Order, Pfn, PhysAddr, Seed, WordArena};
use kernmem_page_alloc::pool::FramePool;
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PageSource};
use kernmem_slab::{
    CacheFlags, Classes, Heap, HeapLock, KmallocArch, LentPages, Record, SlabError, SlabHeap, SlabRules,
};

const FRAMES: usize = 4096;
const WORDS: usize = FRAMES * 512;
const FIRST: Pfn = Pfn(0x4_0000);

#[repr(align(65536))]
struct Memory([AtomicU64; WORDS]);

static MEMORY: Memory = Memory([const { AtomicU64::new(0) }; WORDS]);
static RECORDS: [Record; FRAMES] = [const { [const { AtomicU64::new(0) }; 5] }; FRAMES];

/// A source of frames that needs no heap itself.
struct BitPool([bool; FRAMES]);

impl PageSource for BitPool {
    fn alloc_on(&mut self, _nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        let frames = 1usize << order.0;
        let is_free = |&at: &usize| self.0.get(at..at + frames).is_some_and(|block| block.iter().all(|taken| !taken));
        let found = (0..FRAMES).step_by(frames).find(is_free).ok_or(AllocError::NoMemory { gfp, order })?;
        self.0[found..found + frames].fill(true);
        Ok(Pfn(FIRST.0 + found as u64))
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.alloc_on(nid, gfp, Order(frames.ilog2() as u8))
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let at = pfn.0.checked_sub(FIRST.0).ok_or(FreeError::Foreign { pfn })? as usize;
        let block = self.0.get_mut(at..at + (1 << order.0)).ok_or(FreeError::Foreign { pfn })?;
        block.fill(false);
        Ok(())
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        Err(FreeError::Foreign { pfn })
    }

    fn free_frames(&self) -> u64 {
        self.0.iter().filter(|taken| !**taken).count() as u64
    }
}

type StaticHeap = Heap<BitPool, WordArena<'static>, LentPages<'static>, 64>;

struct StaticLock(Mutex<Option<StaticHeap>>);

// SAFETY:
// 1. `BitPool` gives frames of `MEMORY` alone, each once until it is freed; nobody else touches `MEMORY` or `RECORDS`.
unsafe impl HeapLock for StaticLock {
    type Heap = StaticHeap;

    fn with<T>(&self, f: impl FnOnce(&mut StaticHeap) -> T) -> T {
        let mut heap = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(heap.get_or_insert_with(|| {
            let arena = WordArena::new(&MEMORY.0, PhysAddr(FIRST.0 << 12)).expect("both are aligned to 64K");
            Heap::new(rules(CacheFlags::NONE), BitPool([false; FRAMES]), arena, LentPages::new(FIRST, &RECORDS))
        }))
    }
}

fn rules(flags: CacheFlags) -> SlabRules {
    let classes = Classes::new(Era::V6_1, Granule::K4, KmallocArch::X86);
    SlabRules { flags, hardening: Some(Seed(11)), ..SlabRules::new(classes, 2) }
}

#[global_allocator]
static HEAP: SlabHeap<StaticLock> = SlabHeap(StaticLock(Mutex::new(None)));

fn is_ours<T>(value: &T) -> bool {
    let (at, start) = (core::ptr::from_ref(value).addr(), MEMORY.0.as_ptr().addr());
    (start..start + WORDS * 8).contains(&at)
}

#[test]
fn collections_live_in_the_static_array() {
    assert!(is_ours(&*Box::new(7u64)));
    let mut map = BTreeMap::new();
    let mut hashed = HashMap::new();
    let mut queue = VecDeque::new();
    let mut seed = Seed(9);
    for step in 0..20_000u64 {
        let drawn = seed.draw();
        map.insert(drawn % 1000, vec![drawn as u8; drawn as usize % 700]);
        hashed.insert(drawn % 1000, format!("{drawn}"));
        queue.push_back(drawn);
        if step % 3 == 0 {
            map.remove(&(drawn >> 32).wrapping_rem(1000));
            queue.pop_front();
        }
    }
    assert!(map.iter().all(|(key, bytes)| bytes.iter().all(|byte| *byte == bytes[0]) && *key < 1000));
    assert!(hashed.iter().all(|(key, text)| text.parse::<u64>().unwrap() % 1000 == *key));
    assert_eq!(HEAP.0.with(|heap| heap.first_error()), None);
}

#[test]
fn threads_share_the_heap() {
    let threads: Vec<_> = (0..4u64)
        .map(|nr| {
            thread::spawn(move || {
                let texts: Vec<String> = (0..5000).map(|step| format!("{nr}-{step}")).collect();
                texts.iter().enumerate().all(|(step, text)| *text == format!("{nr}-{step}"))
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    assert_eq!(HEAP.0.with(|heap| heap.first_error()), None);
}

#[test]
fn large_alignments_are_kept() {
    #[repr(align(4096))]
    struct Page([u8; 5000]);
    #[repr(align(64))]
    struct Line([u8; 65]);
    let pages: Vec<Box<Page>> = (0..10).map(|nr| Box::new(Page([nr; 5000]))).collect();
    let lines: Vec<Box<Line>> = (0..100).map(|nr| Box::new(Line([nr; 65]))).collect();
    for (nr, page) in pages.iter().enumerate() {
        assert!(core::ptr::from_ref(&**page).addr().is_multiple_of(4096) && page.0.iter().all(|&b| b == nr as u8));
    }
    for (nr, line) in lines.iter().enumerate() {
        assert!(core::ptr::from_ref(&**line).addr().is_multiple_of(64) && line.0.iter().all(|&b| b == nr as u8));
    }
}

/// Layouts on a heap of its own, checked or not: size, alignment, growth, and errors that are kept.
#[test]
fn layouts_are_honoured() {
    for flags in [CacheFlags::NONE, CacheFlags::CHECKED] {
        let arena = HeapArena::new(PhysAddr(FIRST.0 << 12), 512 << 12);
        let records: Vec<Record> = (0..512).map(|_| Record::default()).collect();
        let pool = FramePool::new(Granule::K4, FIRST, Pfn(FIRST.0 + 512));
        let mut heap = Heap::<_, _, _, 64>::new(rules(flags), pool, &arena, LentPages::new(FIRST, &records));
        for align in (0..=16).map(|shift| 1usize << shift) {
            for bytes in [1, 24, 100, 4096, 10_000] {
                let layout = Layout::from_size_align(bytes, align).unwrap();
                let piece = heap.alloc(layout, Gfp::KERNEL).unwrap();
                assert!(piece.addr().get().is_multiple_of(align), "{layout:?}");
                let grown = heap.realloc(piece, layout, bytes + 100).unwrap();
                assert!(grown.addr().get().is_multiple_of(align), "{layout:?}");
                heap.free(grown).unwrap();
            }
        }
        let too_much = Layout::from_size_align(8, 128 << 10).unwrap();
        assert!(matches!(heap.alloc(too_much, Gfp::KERNEL), Err(SlabError::TooLarge { .. })));
        let piece = heap.alloc(Layout::new::<u64>(), Gfp::KERNEL).unwrap();
        heap.free(piece).unwrap();
        let again = heap.free(piece).unwrap_err();
        assert_eq!((heap.first_error(), again), (Some(again), heap.free(piece).unwrap_err()));
    }
}
