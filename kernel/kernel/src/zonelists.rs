//! What the log tells of the order in which nodes are asked for memory.
//!
//! Not here: the order itself (`kernmem-page-alloc`).
//!
//! Source: Linux 6.1 mm/page_alloc.c `build_all_zonelists`, `check_highest_zone`.

use alloc::vec;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule};
use kernmem_config::Config;
use kernmem_page_alloc::{FallbackOrders, Topology};

use crate::orders::Orders;
use crate::takers::page_counts::PageCounts;
use crate::zones::Nodes;
use crate::{LogEntry, Witness};

/// The nodes when the zonelists are built, numbered up to the last that has memory: no CPU is tied to its node so early,
/// on neither architecture, and firmware's distances are not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlyNodes {
    has_cpus: Vec<bool>,
    max_nodes: u64,
    cpus: u32,
}

impl EarlyNodes {
    /// Those of `nodes`.
    #[must_use]
    pub fn new(config: &Config, nodes: &Nodes) -> Self {
        let count = nodes.nodes.iter().map(|node| node.nid as usize + 1).max().unwrap_or(1);
        let max_nodes = u64::from(config.max_nodes());
        Self { has_cpus: vec![false; count], max_nodes, cpus: config.possible_cpus.max(1) }
    }

    /// As the page allocator takes them.
    #[must_use]
    pub fn topology(&self) -> Topology<'_> {
        Topology {
            nodes: self.has_cpus.len() as u32,
            distances: &[],
            has_cpus: &self.has_cpus,
            max_numnodes: self.max_nodes,
            cpus: self.cpus,
        }
    }
}

/// For each node with memory its number and the order in which it asks.
fn fallback_orders(config: &Config, nodes: &Nodes) -> Vec<(u32, Vec<u32>)> {
    let early = EarlyNodes::new(config, nodes);
    let topology = early.topology();
    let has_memory = |nid: u32| {
        let node = nodes.nodes.iter().find(|node| node.nid == nid);
        node.is_some_and(|node| node.zones.iter().any(|zone| zone.present > 0))
    };
    let numbers = vec![0; FallbackOrders::<Vec<u32>>::numbers(topology.nodes as usize)];
    let Some(orders) = FallbackOrders::new(config.era, &topology, has_memory, numbers) else { return Vec::new() };
    nodes.nodes.iter().map(|node| (node.nid, orders.of(node.nid).collect())).collect()
}

/// Tells the log of the zonelists as boot builds them.
pub fn build(config: &Config, nodes: &Nodes, counts: PageCounts, log: &mut impl Witness) {
    let numa = config.kconfig.is_set("NUMA");
    if numa {
        match config.era {
            Era::V4_14 | Era::V5_10 => {}
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                for (nid, order) in fallback_orders(config, nodes) {
                    log.log(LogEntry::FallbackOrder { nid, order });
                }
            }
        }
    }
    let pages = counts.managed;
    let mobility = groups_by_mobility(config, nodes.granule, pages);
    log.log(LogEntry::ZonelistsBuilt { nodes: nodes.nodes.len(), mobility, pages });
    let populated = |name: &str| {
        let zones = nodes.nodes.iter().flat_map(|node| node.zones.iter());
        zones.filter(|zone| zone.name == name).any(|zone| zone.present > 0)
    };
    // The first zone is the answer if no other is.
    let names = || nodes.limits.iter().map(|limit| limit.name);
    let policy = names().rev().find(|name| populated(name)).or_else(|| names().next());
    if let Some(name) = policy.filter(|_| numa) {
        log.log(LogEntry::PolicyZone(name));
    }
}

/// Whether pages are grouped by mobility: there is a pageblock for each type, among so many pages.
///
/// Types are unmovable, movable, reclaimable, reserved for high orders; CMA's and isolated ones if built in.
#[must_use]
pub fn groups_by_mobility(config: &Config, granule: Granule, pages: u64) -> bool {
    let set = |name| u64::from(config.kconfig.is_set(name));
    pages >= Orders::of(config, granule).pageblock_pages() * (4 + set("CMA") + set("MEMORY_ISOLATION"))
}
