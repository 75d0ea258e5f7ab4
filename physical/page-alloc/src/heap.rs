//! A store on the heap: chunks are allocated when they are opened.

use alloc::boxed::Box;
use alloc::vec::Vec;

use kernmem_base::CpuId;
use kernmem_base::sync::Once;
use kernmem_base::sync::atomic::AtomicU8;

use crate::dense::mem::HeapMem;
use crate::dense::{CpuSet, Shape};
use crate::drain::DrainRequest;
use crate::pcp::{CpuPages, PcpSet, PcpSlot};
use crate::store::{States, Store, Words, ZoneNeeds};
use crate::zone::Zone;
use crate::{PageAllocator, Placement};

/// Lends from the heap; zones of any size cost 16 to 32 bytes for each 2^15 frames until they are touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapStore;

/// `count` zeros, each made of a plain one: where both are of one size the vector stays where the heap made it, which
/// touches none of it if it gets zeroed memory.
pub(crate) fn zeros<Z: Clone, A>(count: usize, zero: Z, make: impl Fn(Z) -> A) -> Vec<A> {
    alloc::vec![zero; count].into_iter().map(make).collect()
}

/// States in chunks of their own.
#[derive(Debug)]
pub struct HeapStates {
    bytes: u64,
    chunks: Vec<Once<Box<[AtomicU8]>>>,
}

impl States for HeapStates {
    fn byte(&self, index: u64) -> Option<&AtomicU8> {
        let chunk = index.checked_div(self.bytes)?;
        self.chunks.get(usize::try_from(chunk).ok()?)?.get()?.get((index % self.bytes) as usize)
    }

    fn open(&self, chunk: u64, bytes: usize) -> bool {
        let Some(place) = usize::try_from(chunk).ok().and_then(|chunk| self.chunks.get(chunk)) else { return false };
        place.call_once(|| (0..bytes).map(|_| AtomicU8::new(0)).collect());
        true
    }
}

/// Words in chunks of their own.
#[derive(Debug)]
pub struct HeapWords {
    words: u64,
    chunks: Vec<Option<Box<[u64]>>>,
}

impl Words for HeapWords {
    fn word(&self, index: u64) -> u64 {
        let chunk = self.chunks.get((index / self.words) as usize).and_then(Option::as_ref);
        chunk.and_then(|chunk| chunk.get((index % self.words) as usize)).copied().unwrap_or(0)
    }

    fn set_word(&mut self, index: u64, value: u64) {
        let chunk = self.chunks.get_mut((index / self.words) as usize).and_then(Option::as_mut);
        if let Some(word) = chunk.and_then(|chunk| chunk.get_mut((index % self.words) as usize)) {
            *word = value;
        }
    }

    fn open(&mut self, chunk: u64, words: usize) -> bool {
        let Some(place) = self.chunks.get_mut(chunk as usize) else { return false };
        place.get_or_insert_with(|| alloc::vec![0; words].into_boxed_slice());
        true
    }
}

impl Store for HeapStore {
    type States = HeapStates;
    type Words = HeapWords;
    type Field = HeapMem;
    type Pageblocks = Vec<AtomicU8>;
    type Zones = Vec<Option<Zone<Self>>>;
    type Numbers = Vec<u32>;
    type Requests = Vec<DrainRequest>;
    type Slots = Vec<PcpSlot>;
    type Sets = Vec<PcpSet>;
    type Caches = Vec<CpuSet>;

    fn states(&mut self, needs: ZoneNeeds) -> Option<HeapStates> {
        let chunks = (0..needs.chunks).map(|_| Once::new()).collect();
        Some(HeapStates { bytes: needs.state_bytes as u64, chunks })
    }

    fn words(&mut self, needs: ZoneNeeds) -> Option<HeapWords> {
        let chunks = (0..needs.chunks).map(|_| None).collect();
        Some(HeapWords { words: needs.words as u64, chunks })
    }

    fn field(&mut self, shape: &Shape) -> Option<HeapMem> {
        Some(HeapMem::new(shape))
    }

    fn pageblocks(&mut self, count: usize) -> Option<Vec<AtomicU8>> {
        Some(zeros(count, 0, AtomicU8::new))
    }

    fn zones(&mut self, count: usize) -> Option<Self::Zones> {
        Some((0..count).map(|_| None).collect())
    }

    fn numbers(&mut self, count: usize) -> Option<Vec<u32>> {
        Some(alloc::vec![0; count])
    }

    fn requests(&mut self, count: usize) -> Option<Vec<DrainRequest>> {
        Some((0..count).map(|_| DrainRequest::default()).collect())
    }
}

impl CpuPages<HeapStore> {
    /// Empty lists on the heap, with room for `slots` blocks, which dense placement has no use for.
    #[must_use]
    pub fn on_heap(cpu: CpuId, nid: u32, allocator: &PageAllocator<HeapStore>, slots: usize) -> Self {
        let (slots, sets, caches) = match allocator.facts().placement {
            Placement::Linux => (slots, allocator.sets(), 0),
            Placement::Dense => (0, 0, allocator.sets()),
        };
        let (slots, sets) = (alloc::vec![PcpSlot::default(); slots], alloc::vec![PcpSet::default(); sets]);
        Self::new(cpu, nid, slots, sets, alloc::vec![CpuSet::default(); caches])
    }
}
