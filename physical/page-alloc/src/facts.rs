//! What the allocator of one kernel is told at its construction.

use core::fmt;

use kernmem_base::{Era, Granule, Order, Pfn};

use crate::free_area::Placement;
use crate::store::CHUNK_SHIFT;
use crate::{ZoneKind, ZoneKinds};

/// The smallest pageblock of dense placement: a word of bits.
const LEAST_PAGEBLOCK: Order = Order(6);

/// Values of era and configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The branch.
    pub era: Era,
    /// Where free blocks are kept.
    pub placement: Placement,
    /// The page size.
    pub granule: Granule,
    /// The largest order, inclusive.
    pub max_order: Order,
    /// The order of a pageblock; at most the largest.
    pub pageblock_order: Order,
    /// The zones that are configured.
    pub kinds: ZoneKinds,
    /// Whether pages are grouped by mobility: off on machines with little memory.
    pub grouping: bool,
    /// Whether CMA is configured.
    pub cma: bool,
    /// Whether huge pages have per-CPU lists: transparent huge pages are configured.
    pub thp: bool,
    /// The order of such a huge page.
    pub pmd_order: Order,
    /// `watermark_boost_factor`.
    pub boost_factor: u64,
}

impl Facts {
    /// The page allocator of an era with zones DMA, DMA32, Normal and Movable and 4K pages, as x86-64 and arm64 build it.
    #[must_use]
    pub const fn of(era: Era, placement: Placement) -> Self {
        let kinds = ZoneKinds::EMPTY.with(ZoneKind::Dma).with(ZoneKind::Dma32);
        Self {
            era,
            placement,
            granule: Granule::K4,
            max_order: Order(10),
            pageblock_order: Order(9),
            kinds: kinds.with(ZoneKind::Normal).with(ZoneKind::Movable),
            grouping: true,
            cma: false,
            thp: true,
            pmd_order: Order(9),
            boost_factor: 15_000,
        }
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let has_normal = self.kinds.contains(ZoneKind::Normal);
        let orders_fit = u32::from(self.max_order.0) <= CHUNK_SHIFT && self.pageblock_order <= self.max_order;
        let has_words = self.placement == Placement::Linux || self.pageblock_order >= LEAST_PAGEBLOCK;
        if has_normal && orders_fit && has_words { Ok(()) } else { Err(BuildError::Facts) }
    }
}

/// One zone of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneSpan {
    /// The node.
    pub nid: u32,
    /// The kind.
    pub kind: ZoneKind,
    /// First frame.
    pub start: Pfn,
    /// Past the last frame.
    pub end: Pfn,
    /// Frames that are memory; 0 keeps the zone off every zonelist.
    pub present: u64,
}

/// The nodes of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Topology<'t> {
    /// Nodes, numbered from 0.
    pub nodes: u32,
    /// Distances, a row a node: `nodes * nodes` numbers. Empty: 10 to oneself, 20 to others.
    pub distances: &'t [u8],
    /// Whether a node has CPUs. Empty: all have.
    pub has_cpus: &'t [bool],
    /// Nodes that the kernel was built for.
    pub max_numnodes: u64,
    /// CPUs.
    pub cpus: u32,
}

impl Topology<'_> {
    /// One node.
    #[must_use]
    pub const fn flat(cpus: u32) -> Self {
        Self { nodes: 1, distances: &[], has_cpus: &[], max_numnodes: 1, cpus }
    }

    pub(crate) fn distance(&self, from: u32, to: u32) -> u64 {
        let default = if from == to { 10 } else { 20 };
        let at = from as usize * self.nodes as usize + to as usize;
        self.distances.get(at).map_or(default, |&distance| u64::from(distance))
    }

    pub(crate) fn has_cpus(&self, nid: u32) -> bool {
        self.has_cpus.get(nid as usize).copied().unwrap_or(true)
    }
}

/// Why no allocator was made. The store may have lent some of its memory by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// No Normal zone is configured, or orders do not fit together, or not the placement.
    Facts,
    /// A span names a node or a kind that does not exist, ends before it begins, or comes twice.
    Span(ZoneSpan),
    /// The store has too little memory.
    Store,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Facts => f.write_str("no Normal zone, or orders that do not fit together"),
            Self::Span(span) => write!(f, "zone {} of node {} cannot be", span.kind.name(), span.nid),
            Self::Store => f.write_str("the store has too little memory for the allocator's records"),
        }
    }
}

impl core::error::Error for BuildError {}
