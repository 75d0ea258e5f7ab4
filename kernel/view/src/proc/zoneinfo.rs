//! `/proc/zoneinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `zoneinfo_show_print`.

use alloc::vec::Vec;

use kernmem_base::Pfn;

use super::{Counters, NodeCounter, NumaCounter, ZoneCounter, ZoneKind};

/// `/proc/zoneinfo`: all zones of all nodes, empty ones included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ZoneInfo {
    /// The zones, node by node.
    pub zones: Vec<ZoneText>,
}

/// One zone; all sizes in pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneText {
    /// The node.
    pub node: u32,
    /// The zone.
    pub kind: ZoneKind,
    /// The node's own counters: in its first populated zone.
    pub node_counters: Option<Counters<NodeCounter>>,
    /// Free pages.
    pub free: u64,
    /// Boost of the watermarks (from 6.1 on).
    pub boost: u64,
    /// Watermark: only urgent requests below.
    pub min: u64,
    /// Watermark: the reclaimer wakes below.
    pub low: u64,
    /// Watermark: the reclaimer works up to it.
    pub high: u64,
    /// Watermark of promotion (from 6.12 on).
    pub promo: u64,
    /// From the first to the last page.
    pub spanned: u64,
    /// Pages that exist.
    pub present: u64,
    /// Pages of the page allocator.
    pub managed: u64,
    /// Pages of contiguous areas (from 6.1 on).
    pub cma: u64,
    /// Kept from requests that could use a higher zone: an entry for each configured zone.
    pub protection: Vec<u64>,
    /// What only a populated zone has.
    pub populated: Option<PopulatedZone>,
}

/// What a populated zone has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PopulatedZone {
    /// Its counters.
    pub counters: Counters<ZoneCounter>,
    /// Where requests were served from; none without NUMA.
    pub numa: Counters<NumaCounter>,
    /// Each online CPU's lists.
    pub pagesets: Vec<Pageset>,
    /// How often the node had nothing to reclaim.
    pub unreclaimable: u64,
    /// First page.
    pub start_pfn: Pfn,
    /// Pages kept for urgent requests (7.2).
    pub reserved_highatomic: u64,
    /// Free ones among them (7.2).
    pub free_highatomic: u64,
}

/// One CPU's page lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pageset {
    /// The CPU.
    pub cpu: u32,
    /// Pages in the lists.
    pub count: u64,
    /// The limit.
    pub high: u64,
    /// Pages that move at once.
    pub batch: u64,
    /// The least limit (7.2).
    pub high_min: u64,
    /// The greatest limit (7.2).
    pub high_max: u64,
    /// How far the CPU's counters may drift; none in a kernel for one CPU.
    pub threshold: Option<u64>,
}
