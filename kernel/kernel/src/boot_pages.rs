//! The page allocator as boot sets it up: its zones, what the boot allocator left free, and the lists of the one CPU that
//! runs.
//!
//! Here too: which of its frames became tables, for whoever compares them with a real kernel's.
//! Not here: how blocks are kept and found (`kernmem-page-alloc`), what CPUs come up later (`running`).
//!
//! # Invariants
//! 1. Watermarks are 0 and CPU lists keep nothing until the figures of zones are set, as in Linux's first steps.
//!
//! Source: Linux 6.1 mm/page_alloc.c `build_all_zonelists`, mm/memblock.c `memblock_free_all`.

use alloc::vec::Vec;

use kernmem_base::{CpuId, Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, Order, Pfn, PhysAddr, PhysRange};
use kernmem_config::Config;
use kernmem_memblock::Frames;
use kernmem_page_alloc::{
    CpuPages, Facts, Gfp, HeapStore, PageAllocator, PageSource, Pages, Placement, ZoneKind, ZoneKinds, ZoneSpan,
};

use crate::zonelists::{EarlyNodes, groups_by_mobility};
use crate::zones::Nodes;
use crate::{BootError, TableFrame};

/// Blocks that one CPU's lists can hold: more than `high` of any zone asks for.
pub const CPU_SLOTS: usize = 1 << 15;

/// The page allocator with the lists of one CPU.
#[derive(Debug)]
pub struct BootPages {
    /// The allocator.
    pub allocator: PageAllocator<HeapStore>,
    /// The lists of the CPU that boots.
    pub cpu: CpuPages<HeapStore>,
    granule: Granule,
    taken: Vec<TableFrame>,
}

impl BootPages {
    /// The zones of `nodes` with the frames of `free`, which ascend. The CPU that boots belongs to `boot_node`, or to node 0
    /// if that has no memory.
    ///
    /// # Errors
    /// A zone or a free range contradicts another.
    pub fn new(
        config: &Config,
        placement: Placement,
        nodes: &Nodes,
        boot_node: u32,
        free: &[Frames],
    ) -> Result<Self, BootError> {
        let granule = Granule::K4;
        let failed = |what: &dyn core::fmt::Display| BootError::Input(alloc::format!("page allocator: {what}"));
        let spans = spans(nodes);
        let facts = facts(config, placement, nodes, free);
        let early = EarlyNodes::new(config, nodes);
        let topology = early.topology();
        let allocator = PageAllocator::new(&mut HeapStore, facts, &topology, &spans).map_err(|error| failed(&error))?;
        for frames in free {
            let nid = frames.nid.map_or(0, |nid| nid.0);
            allocator.add_free(nid, frames.start, frames.end).map_err(|error| failed(&error))?;
        }
        let nid = nodes.nodes.iter().map(|node| node.nid).find(|nid| *nid == boot_node).unwrap_or(0);
        let cpu = CpuPages::on_heap(CpuId(0), nid, &allocator, CPU_SLOTS);
        Ok(Self { allocator, cpu, granule, taken: Vec::new() })
    }

    /// Allocator and lists as one source.
    pub fn pages(&mut self) -> Pages<'_, HeapStore> {
        Pages { allocator: &self.allocator, cpu: &mut self.cpu }
    }

    /// Takes one page for something that is no table.
    pub fn page(&mut self) -> Option<PhysAddr> {
        let granule = self.granule;
        self.pages().alloc(Gfp::KERNEL, Order(0)).ok()?.to_phys(granule)
    }

    /// Takes in whole pages that boot had kept and needs no more.
    ///
    /// # Errors
    /// A page is none of the zones', or is the allocator's already.
    pub fn add(&mut self, range: PhysRange) -> Result<(), BootError> {
        let shift = self.granule.shift();
        let (start, end) = (Pfn(range.start.0.div_ceil(self.granule.bytes())), Pfn(range.end.0 >> shift));
        let added = self.allocator.free_reserved(&mut self.cpu, start, end);
        added.map_err(|error| BootError::Input(alloc::format!("page allocator: {error}")))
    }

    /// Frames that became tables, in order.
    #[must_use]
    pub fn taken(&self) -> &[TableFrame] {
        &self.taken
    }
}

impl FrameSource for BootPages {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let frame = self.pages().take(level)?;
        self.taken.push(TableFrame { pa: frame.pa, level, origin: FrameOrigin::PageAllocator });
        Ok(frame)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.taken.retain(|taken| taken.pa != frame);
        self.pages().give_back(frame);
    }
}

fn spans(nodes: &Nodes) -> Vec<ZoneSpan> {
    let of = |nid: u32, zone: &crate::zones::Zone| {
        let kind = ZoneKind::of_name(zone.name)?;
        Some(ZoneSpan {
            nid,
            kind,
            start: zone.span.start,
            end: zone.span.end.max(zone.span.start),
            present: zone.present,
        })
    };
    nodes.nodes.iter().flat_map(|node| node.zones.iter().filter_map(move |zone| of(node.nid, zone))).collect()
}

fn facts(config: &Config, placement: Placement, nodes: &Nodes, free: &[Frames]) -> Facts {
    let set = |name| config.kconfig.is_set(name);
    let names = nodes.limits.iter().filter_map(|limit| ZoneKind::of_name(limit.name));
    let kinds = names.fold(ZoneKinds::EMPTY, ZoneKinds::with).with(ZoneKind::Movable);
    let kinds = if set("ZONE_DEVICE") { kinds.with(ZoneKind::Device) } else { kinds };
    let base = Facts::of(config.era, placement);
    let pages: u64 = free.iter().map(|frames| frames.end.0.saturating_sub(frames.start.0)).sum();
    Facts {
        kinds,
        grouping: groups_by_mobility(config, pages),
        cma: set("CMA"),
        thp: set("TRANSPARENT_HUGEPAGE"),
        ..base
    }
}
