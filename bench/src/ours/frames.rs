//! `kernmem-page-alloc` in rows F1 to F9: one zone of a node, a CPU's lists as what the CPU has for itself.

use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_page_alloc::{
    CpuPages, Facts, Gfp, HeapStore, PageAllocator, PcpLimits, Placement, Topology, ZoneKind, ZoneSpan, needs,
};

use crate::frames::{FRAMES, Frames};

/// Slots of a CPU's lists.
const SLOTS: usize = 1024;

/// What 6.12 computes for a zone of 4 GiB with no more than two CPUs: the larger limit is an eighth of the zone, shared.
const LIMITS: PcpLimits = PcpLimits { batch: 63, high_min: 378, high_max: (FRAMES >> 4) as u64 };

/// The allocator, densely placed or in Linux's order.
#[derive(Debug)]
pub struct Ours<const DENSE: bool> {
    allocator: PageAllocator<HeapStore>,
    frames: u64,
}

const fn facts(dense: bool) -> Facts {
    Facts::of(Era::V6_12, if dense { Placement::Dense } else { Placement::Linux })
}

const fn span(frames: u64) -> ZoneSpan {
    ZoneSpan { nid: 0, kind: ZoneKind::Normal, start: Pfn(0), end: Pfn(frames), present: frames }
}

impl<const DENSE: bool> Frames for Ours<DENSE> {
    const NAME: &'static str = if DENSE { "ours, dense" } else { "ours" };
    type Cpu = CpuPages<HeapStore>;
    type Pfn = Pfn;

    fn new(frames: usize, cpus: usize) -> (Self, Vec<Self::Cpu>) {
        let frames = frames as u64;
        let topology = Topology::flat(cpus as u32);
        let allocator = PageAllocator::new(&mut HeapStore, facts(DENSE), &topology, &[span(frames)]).expect("one zone");
        allocator.zones().for_each(|zone| zone.set_pcp(LIMITS));
        allocator.add_free(0, Pfn(0), Pfn(frames)).expect("memory of the zone");
        let cpus = (0..cpus as u32).map(|cpu| CpuPages::on_heap(CpuId(cpu), 0, &allocator, SLOTS)).collect();
        (Self { allocator, frames }, cpus)
    }

    #[inline(always)]
    fn alloc(&self, cpu: &mut Self::Cpu, order: u32) -> Option<Pfn> {
        self.allocator.alloc(cpu, None, Gfp::HIGHUSER_MOVABLE, Order(order as u8)).ok()
    }

    #[inline(always)]
    fn free(&self, cpu: &mut Self::Cpu, pfn: Pfn, order: u32) {
        self.allocator.free(cpu, pfn, Order(order as u8)).expect("a block of this allocator");
    }

    fn number(pfn: Pfn) -> u64 {
        pfn.0
    }

    fn alloc_bulk(&self, cpu: &mut Self::Cpu, out: &mut [Pfn]) -> bool {
        let taken = self.allocator.alloc_bulk(cpu, None, Gfp::HIGHUSER_MOVABLE, out);
        if taken < out.len() {
            self.free_bulk(cpu, &out[..taken]);
        }
        taken == out.len()
    }

    fn free_bulk(&self, cpu: &mut Self::Cpu, pfns: &[Pfn]) {
        self.allocator.free_bulk(cpu, pfns).expect("frames of this allocator");
    }

    fn metadata_bytes(&self) -> usize {
        let needs = needs::<HeapStore>(&facts(DENSE), &Topology::flat(2), &[span(self.frames)]);
        // The pool has no holes: memory for them is never lent.
        (needs.state_bytes + needs.words * 8) as usize + needs.pageblocks + needs.field.bytes()
    }
}
