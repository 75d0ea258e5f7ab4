//! The page allocator as boot sets it up: its zones, what the boot allocator left free, and the lists of the one CPU that
//! runs.
//!
//! Here too: which of its frames became tables, for whoever compares them with a real kernel's.
//! Not here: how blocks are kept and found (`kernmem-page-alloc`), which figures zones get (`figures`), what CPUs come up later (`running`).
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
    AddError, AllocError, CpuPages, Facts, FreeError, Gfp, HeapStore, PageAllocator, PageSource, Pages, Placement,
    ZoneKind, ZoneKinds, ZoneSpan,
};
use kernmem_sparse::MigrateType;

use crate::orders::Orders;
use crate::zonelists::{EarlyNodes, groups_by_mobility};
use crate::zones::{Node, Nodes, Span};
use crate::{Boot, BootError, TableFrame, figures};

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
    /// Frames in use that are no tables.
    others: u64,
    /// Frames that may still be taken.
    left: u64,
    /// What became the allocator's, in the order in which it did.
    given: Vec<Span>,
}

impl BootPages {
    /// The zones of `nodes` with the frames of `free`, which ascend. The CPU that boots belongs to `boot_node`.
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
        let granule = nodes.granule;
        let facts = facts(config, placement, nodes, free);
        let spans = spans(nodes, facts.kinds);
        let early = EarlyNodes::new(config, nodes);
        let topology = early.topology();
        let allocator = PageAllocator::new(&mut HeapStore, facts, &topology, &spans).map_err(|error| failed(&error))?;
        begin_unmovable(&allocator, nodes).map_err(|error| failed(&error))?;
        for frames in free {
            let nid = frames.nid.map_or(0, |nid| nid.0);
            allocator.add_free(nid, frames.start, frames.end).map_err(|error| failed(&error))?;
        }
        let cpu = CpuPages::on_heap(CpuId(0), boot_node, &allocator, CPU_SLOTS);
        let given = free.iter().map(|frames| Span { start: frames.start, end: frames.end }).collect();
        Ok(Self { allocator, cpu, granule, taken: Vec::new(), others: 0, given, left: u64::MAX })
    }

    /// Empty lists of the CPUs that come up behind the one that boots, with room for `slots` blocks each; `online` has the
    /// node of each CPU, that of the first among them.
    #[must_use]
    pub fn other_cpus(&self, online: &[u32], slots: usize) -> Vec<CpuPages<HeapStore>> {
        let lists = |(cpu, nid): (u32, &u32)| CpuPages::on_heap(CpuId(cpu), *nid, &self.allocator, slots);
        (0..).zip(online).skip(1).map(lists).collect()
    }

    /// Allocator and lists as one source.
    pub fn pages(&mut self) -> Pages<'_, HeapStore> {
        Pages { allocator: &self.allocator, cpu: &mut self.cpu }
    }

    /// Boot gets `frames` frames more and not one besides.
    pub fn limit(&mut self, frames: u64) {
        self.left = frames;
    }

    /// Takes one page for something that is no table.
    pub fn page(&mut self) -> Option<PhysAddr> {
        let granule = self.granule;
        self.left = self.left.checked_sub(1)?;
        let pfn = self.pages().alloc(Gfp::KERNEL, Order(0)).ok()?;
        self.others += 1;
        pfn.to_phys(granule)
    }

    /// Takes in whole pages that boot had kept and needs no more.
    ///
    /// # Errors
    /// A page is none of the zones', or is the allocator's already.
    pub fn add(&mut self, range: PhysRange) -> Result<(), BootError> {
        let (start, end) = self.whole_pages(range);
        self.allocator.free_reserved(&mut self.cpu, start, end).map_err(|error| failed(&error))?;
        self.given.push(Span { start, end });
        Ok(())
    }

    /// Takes in whole pages that boot had kept and that stay in use.
    ///
    /// # Errors
    /// As [`BootPages::add`].
    pub fn adopt(&mut self, range: PhysRange) -> Result<(), BootError> {
        let (start, end) = self.whole_pages(range);
        self.allocator.adopt_taken(&self.cpu, start, end).map_err(|error| failed(&error))?;
        self.others += end.0.saturating_sub(start.0);
        self.given.push(Span { start, end });
        Ok(())
    }

    fn whole_pages(&self, range: PhysRange) -> (Pfn, Pfn) {
        (Pfn(range.start.0.div_ceil(self.granule.bytes())), Pfn(range.end.0 >> self.granule.shift()))
    }

    /// Managed frames that boot has in use: tables, pages, and what it took in while in use.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.taken.len() as u64 + self.others
    }

    /// The frames that became the allocator's, at the hand-over and behind it, in order of address: no page of them is
    /// reserved any more.
    ///
    /// Source: Linux 6.1 include/linux/mm.h `free_reserved_page`.
    #[must_use]
    pub fn given(&self) -> Vec<Span> {
        let mut given: Vec<Span> = self.given.iter().copied().filter(|span| !span.is_empty()).collect();
        given.sort_unstable_by_key(|span| span.start);
        given
    }

    /// Boot is over: each zone gets its figures, and what is taken from now on obeys them.
    pub fn settle(&self, nodes: &Nodes, boot: &Boot<'_>) {
        figures::settle(&self.allocator, nodes, boot);
    }

    /// Frames that became tables, in order.
    #[must_use]
    pub fn taken(&self) -> &[TableFrame] {
        &self.taken
    }
}

impl PageSource for BootPages {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.pages().alloc_on(nid, gfp, order)
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.pages().alloc_contig(nid, gfp, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.pages().free(pfn, order)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        self.pages().adopt(pfn)?;
        self.given.push(Span { start: pfn, end: Pfn(pfn.0 + 1) });
        Ok(())
    }

    fn nid_of(&self, pfn: Pfn) -> Option<u32> {
        self.allocator.nid_of(pfn)
    }

    fn free_frames(&self) -> u64 {
        self.allocator.free_frames() + self.cpu.total()
    }
}

impl FrameSource for BootPages {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        self.left = self.left.checked_sub(1).ok_or(NoFrame { level })?;
        let frame = self.pages().take(level)?;
        self.taken.push(TableFrame { pa: frame.pa, level, origin: FrameOrigin::PageAllocator });
        Ok(frame)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.taken.retain(|taken| taken.pa != frame);
        self.pages().give_back(frame);
    }
}

/// Pageblocks are movable from the start, but for those whose first frame is no memory: the walk over new descriptors says
/// so at a pageblock's first frame alone, and what nobody said is unmovable.
///
/// Source: Linux 6.1 mm/page_alloc.c `memmap_init_range`.
fn begin_unmovable(allocator: &PageAllocator<HeapStore>, nodes: &Nodes) -> Result<(), AddError> {
    let order = allocator.facts().pageblock_order.0;
    for (_, memory) in nodes.memory.iter().filter(|(_, memory)| !memory.is_empty()) {
        let first = Pfn(memory.start.0 >> order << order);
        let is_memory = |(_, other): &(u32, Span)| other.start <= first && first < other.end;
        if !nodes.memory.iter().any(is_memory) {
            allocator.set_migrate_type(memory.start, Pfn(memory.start.0 + 1), MigrateType::Unmovable)?;
        }
    }
    Ok(())
}

fn failed(what: &dyn core::fmt::Display) -> BootError {
    BootError::Input(alloc::format!("page allocator: {what}"))
}

/// Every kind of zone for every node; those that a node lacks are empty.
fn spans(nodes: &Nodes, kinds: ZoneKinds) -> Vec<ZoneSpan> {
    let of = |node: &Node, kind: ZoneKind| {
        let empty = ZoneSpan { nid: node.nid, kind, start: Pfn(0), end: Pfn(0), present: 0 };
        let zone = node.zones.iter().find(|zone| zone.name == kind.name());
        zone.map_or(empty, |zone| ZoneSpan {
            start: zone.span.start,
            end: zone.span.end.max(zone.span.start),
            present: zone.present,
            ..empty
        })
    };
    nodes.nodes.iter().flat_map(|node| kinds.iter().map(move |kind| of(node, kind))).collect()
}

fn facts(config: &Config, placement: Placement, nodes: &Nodes, free: &[Frames]) -> Facts {
    let set = |name| config.kconfig.is_set(name);
    let names = nodes.limits.iter().filter_map(|limit| ZoneKind::of_name(limit.name));
    let kinds = names.fold(ZoneKinds::EMPTY, ZoneKinds::with).with(ZoneKind::Movable);
    let kinds = if set("ZONE_DEVICE") { kinds.with(ZoneKind::Device) } else { kinds };
    let base = Facts::of(config.era, placement);
    let orders = Orders::of(config, nodes.granule);
    let pages: u64 = free.iter().map(|frames| frames.end.0.saturating_sub(frames.start.0)).sum();
    Facts {
        granule: nodes.granule,
        max_order: Order(orders.largest),
        pageblock_order: Order(orders.pageblock),
        kinds,
        grouping: groups_by_mobility(config, nodes.granule, pages),
        cma: set("CMA"),
        thp: set("TRANSPARENT_HUGEPAGE"),
        ..base
    }
}
