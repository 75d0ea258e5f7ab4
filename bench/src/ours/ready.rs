//! `kernmem-page-alloc` in row F9: its records in one piece of the host's memory, as a kernel takes them from its boot
//! allocator.
//!
//! Lazily the piece is asked for within the row's time, and so is the fault in which the host zeroes what is written of
//! it. Eagerly it was touched before, since a kernel's memory is there and no host hands it out page by page; that it is
//! cleared lies within the row's time.
//! The host is asked for its large pages: a kernel maps its memory before it has a page allocator, and by large pages.
//!
//! Here: the lender [`HostStore`]. Not here: the other rows (`frames`), whose records lie on the heap.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64};
use std::sync::Arc;

use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::dense::mem::{self, CHUNK_LINES, Line, Mem};
use kernmem_page_alloc::dense::{CpuSet, Shape};
use kernmem_page_alloc::store::{States, Store, ZoneNeeds};
use kernmem_page_alloc::{
    CpuPages, DrainRequest, Facts, Gfp, HeapStore, HeapWords, PageAllocator, PcpSet, PcpSlot, Placement, Topology,
    Zone, ZoneKind, ZoneSpan, needs,
};

use crate::frames::Frames;
use crate::host::{Cell, Region};

/// A part of a region.
#[derive(Clone, Debug)]
struct Part {
    region: Arc<Region>,
    at: u64,
    count: usize,
}

impl Part {
    fn cells<C: Cell>(&self) -> &[C] {
        self.region.cells(self.at, self.count).unwrap_or_default()
    }
}

/// The memory of a zone's field.
#[derive(Debug)]
pub struct HostField {
    lines: Part,
    entries: Part,
    index: Part,
}

impl Mem for HostField {
    fn chunk(&self, chunk: usize) -> Option<&[Line]> {
        self.lines.cells().get(chunk * CHUNK_LINES..(chunk + 1) * CHUNK_LINES)
    }

    #[inline]
    fn line(&self, line: usize) -> Option<&Line> {
        self.lines.cells().get(line)
    }

    #[inline]
    fn entries(&self) -> &[AtomicU16] {
        self.entries.cells()
    }

    #[inline]
    fn index(&self, word: usize) -> Option<&AtomicU64> {
        self.index.cells().get(word)
    }

    fn open(&self, chunk: usize) -> bool {
        (chunk + 1) * CHUNK_LINES <= self.lines.count
    }
}

/// Bytes.
#[derive(Debug)]
pub struct HostBytes(Part);

impl AsRef<[AtomicU8]> for HostBytes {
    #[inline]
    fn as_ref(&self) -> &[AtomicU8] {
        self.0.cells()
    }
}

impl States for HostBytes {
    fn byte(&self, index: u64) -> Option<&AtomicU8> {
        self.as_ref().get(index as usize)
    }

    fn open(&self, chunk: u64, bytes: usize) -> bool {
        (chunk + 1) * bytes as u64 <= self.0.count as u64
    }
}

/// Lends the large records of an allocator from one region, front to back, and the small ones from the heap.
#[derive(Debug)]
pub struct HostStore {
    region: Arc<Region>,
    used: u64,
}

impl HostStore {
    /// Cuts off the next `count` cells.
    fn part<C: Cell>(&mut self, count: usize) -> Option<Part> {
        let at = self.used.next_multiple_of(align_of::<C>() as u64);
        self.region.cells::<C>(at, count)?;
        self.used = at + (count * size_of::<C>()) as u64;
        Some(Part { region: Arc::clone(&self.region), at, count })
    }
}

impl Store for HostStore {
    type States = HostBytes;
    type Words = HeapWords;
    type Field = HostField;
    type Pageblocks = HostBytes;
    type Zones = Vec<Option<Zone<Self>>>;
    type Numbers = Vec<u32>;
    type Requests = Vec<DrainRequest>;
    type Slots = Vec<PcpSlot>;
    type Sets = Vec<PcpSet>;
    type Caches = Vec<CpuSet>;

    fn states(&mut self, needs: ZoneNeeds) -> Option<HostBytes> {
        self.part::<AtomicU8>(needs.chunks as usize * needs.state_bytes).map(HostBytes)
    }

    fn words(&mut self, needs: ZoneNeeds) -> Option<HeapWords> {
        HeapStore.words(needs)
    }

    fn field(&mut self, shape: &Shape) -> Option<HostField> {
        let needs = mem::Needs::of(shape);
        let entries = self.part::<AtomicU16>(needs.entries)?;
        let index = self.part::<AtomicU64>(needs.index)?;
        Some(HostField { lines: self.part::<Line>(needs.lines)?, entries, index })
    }

    fn pageblocks(&mut self, count: usize) -> Option<HostBytes> {
        self.part::<AtomicU8>(count).map(HostBytes)
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

/// An allocator whose memory was handed over with its records noted, or all written.
#[derive(Debug)]
pub struct Ready<const EAGER: bool> {
    allocator: PageAllocator<HostStore>,
}

thread_local! {
    /// Memory for the records of the next pool, with every page touched.
    static TOUCHED: RefCell<Option<Region>> = const { RefCell::new(None) };
}

fn machine(frames: usize, cpus: usize) -> (Facts, Topology<'static>, [ZoneSpan; 1]) {
    let (start, end) = (Pfn(0), Pfn(frames as u64));
    let span = ZoneSpan { nid: 0, kind: ZoneKind::Normal, start, end, present: frames as u64 };
    (Facts::of(Era::V6_12, Placement::Dense), Topology::flat(cpus as u32), [span])
}

/// Memory of the host for the records of such a machine, not touched.
fn records(frames: usize, cpus: usize) -> Region {
    let (facts, topology, spans) = machine(frames, cpus);
    let needs = needs::<HostStore>(&facts, &topology, &spans);
    // A line for each part that begins at one.
    let bytes = needs.field.bytes() + needs.pageblocks + needs.hole_bytes as usize + 5 * size_of::<Line>();
    Region::new(bytes, true).expect("memory for records")
}

impl<const EAGER: bool> Frames for Ready<EAGER> {
    const NAME: &'static str = "ours, dense";
    type Cpu = CpuPages<HostStore>;
    type Pfn = Pfn;

    fn prepare(frames: usize, cpus: usize) {
        if EAGER {
            let mut region = records(frames, cpus);
            region.clear();
            TOUCHED.set(Some(region));
        }
    }

    fn new(frames: usize, cpus: usize) -> (Self, Vec<Self::Cpu>) {
        let (start, end) = (Pfn(0), Pfn(frames as u64));
        let (facts, topology, spans) = machine(frames, cpus);
        let touched = TOUCHED.with_borrow_mut(Option::take).map(|mut region| {
            region.clear();
            region
        });
        let region = touched.unwrap_or_else(|| records(frames, cpus));
        let mut store = HostStore { region: Arc::new(region), used: 0 };
        let allocator = PageAllocator::new(&mut store, facts, &topology, &spans).expect("one zone");
        let added = if EAGER { allocator.add_free_opened(0, start, end) } else { allocator.add_free(0, start, end) };
        added.expect("memory of the zone");
        let cpu = |cpu| {
            let caches = vec![CpuSet::default(); allocator.sets()];
            CpuPages::new(CpuId(cpu), 0, Vec::new(), Vec::new(), caches)
        };
        let cpus = (0..cpus as u32).map(cpu).collect();
        (Self { allocator }, cpus)
    }

    fn alloc(&self, cpu: &mut Self::Cpu, order: u32) -> Option<Pfn> {
        self.allocator.alloc(cpu, None, Gfp::HIGHUSER_MOVABLE, Order(order as u8)).ok()
    }

    fn free(&self, cpu: &mut Self::Cpu, pfn: Pfn, order: u32) {
        self.allocator.free(cpu, pfn, Order(order as u8)).expect("a block of this allocator");
    }

    fn number(pfn: Pfn) -> u64 {
        pfn.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All frames are there, once each, whether their records were written at once or not.
    fn gives_each_frame_once<const EAGER: bool>() {
        const FRAMES: usize = 3 << 15;
        Ready::<EAGER>::prepare(FRAMES, 1);
        let (pool, mut cpus) = Ready::<EAGER>::new(FRAMES, 1);
        assert!(TOUCHED.with_borrow(Option::is_none));
        let mut frames: Vec<u64> = core::iter::from_fn(|| pool.alloc(&mut cpus[0], 0)).map(|pfn| pfn.0).collect();
        frames.sort_unstable();
        assert!(frames.iter().copied().eq(0..FRAMES as u64));
        frames.into_iter().for_each(|pfn| pool.free(&mut cpus[0], Pfn(pfn), 0));
        assert!(pool.alloc(&mut cpus[0], 10).is_some());
    }

    #[test]
    fn memory_of_the_host_serves_a_whole_zone() {
        gives_each_frame_once::<false>();
        gives_each_frame_once::<true>();
    }
}
