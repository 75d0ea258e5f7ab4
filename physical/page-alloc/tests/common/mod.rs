//! Machines that tests of the page allocator are about, and what must hold of them at any time.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and a helper of tests may panic")]

use std::collections::BTreeMap;

use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::{
    CpuPages, Facts, HeapStore, PageAllocator, PcpLimits, Placement, Topology, Watermarks, ZoneKind, ZoneSpan,
};
use kernmem_sparse::MigrateType;

pub const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
pub const PLACEMENTS: [Placement; 2] = [Placement::Linux, Placement::Dense];

pub type Allocator = PageAllocator<HeapStore>;
pub type Cpu = CpuPages<HeapStore>;

pub fn span(nid: u32, kind: ZoneKind, start: u64, end: u64) -> ZoneSpan {
    ZoneSpan { nid, kind, start: Pfn(start), end: Pfn(end), present: end - start }
}

/// One node of which one zone, Normal, is `[start, end)` and all free.
pub fn one_zone(facts: Facts, start: u64, end: u64) -> Allocator {
    let spans = [span(0, ZoneKind::Normal, start, end)];
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(2), &spans).unwrap();
    allocator.add_free(0, Pfn(start), Pfn(end)).unwrap();
    allocator
}

/// One node with DMA `[0, 0x1000)`, DMA32 `[0x1000, 0x3000)` and Normal `[0x3000, 0x6000)`, all free.
pub fn three_zones(facts: Facts) -> Allocator {
    let spans = [
        span(0, ZoneKind::Dma, 0, 0x1000),
        span(0, ZoneKind::Dma32, 0x1000, 0x3000),
        span(0, ZoneKind::Normal, 0x3000, 0x6000),
    ];
    let allocator = PageAllocator::new(&mut HeapStore, facts, &Topology::flat(2), &spans).unwrap();
    allocator.add_free(0, Pfn(0), Pfn(0x6000)).unwrap();
    allocator
}

pub fn cpu(allocator: &Allocator) -> Cpu {
    CpuPages::on_heap(CpuId(0), 0, allocator, 512)
}

pub fn min(allocator: &Allocator, kind: ZoneKind, min: u64) {
    let marks = Watermarks { min, low: min, high: min, promo: min };
    allocator.zone(0, kind).unwrap().set_watermarks(marks);
}

pub fn lists(allocator: &Allocator, batch: u64, high: u64) {
    for zone in allocator.zones() {
        zone.set_pcp(PcpLimits { batch, high_min: high, high_max: high });
    }
}

/// Free blocks of every zone by order and type: what buddyinfo and pagetypeinfo count.
pub fn counts(allocator: &Allocator) -> Vec<u64> {
    let of = |zone: &kernmem_page_alloc::Zone<HeapStore>| {
        let orders = 0..=allocator.facts().max_order.0;
        orders.flat_map(|order| MigrateType::ALL.map(|kind| zone.free_blocks(Order(order), kind))).collect::<Vec<_>>()
    };
    allocator.zones().flat_map(of).collect()
}

/// Free blocks by order, of all zones and types.
pub fn by_order(allocator: &Allocator) -> Vec<u64> {
    let of = |order| allocator.zones().map(|zone| zone.nr_free(Order(order))).sum();
    (0..=allocator.facts().max_order.0).map(of).collect()
}

/// The naive model: every frame of a range is free or belongs to a block.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Frames by number; the value is the block's first frame.
    pub taken: BTreeMap<u64, u64>,
    /// Blocks by first frame, with their order.
    pub blocks: BTreeMap<u64, u8>,
}

impl Model {
    /// The allocator says that it gave this block.
    #[track_caller]
    pub fn give(&mut self, pfn: Pfn, order: u8) {
        assert_eq!(pfn.0 % (1 << order), 0, "a block starts at a multiple of its size");
        for frame in pfn.0..pfn.0 + (1 << order) {
            assert_eq!(self.taken.insert(frame, pfn.0), None, "frame {frame:#x} was given twice");
        }
        self.blocks.insert(pfn.0, order);
    }

    pub fn take_back(&mut self, pfn: Pfn) -> u8 {
        let order = self.blocks.remove(&pfn.0).unwrap();
        self.taken.retain(|_, head| *head != pfn.0);
        order
    }
}
