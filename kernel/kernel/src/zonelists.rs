//! In which order the nodes are asked for memory, and what the log tells of it.
//!
//! Source: Linux 6.1 mm/page_alloc.c `build_all_zonelists`, `find_next_best_node`, `check_highest_zone`.

use alloc::vec::Vec;

use kernmem_base::Era;
use kernmem_config::Config;

use crate::takers::page_counts::PageCounts;
use crate::zones::Nodes;
use crate::{LogEntry, Witness};

/// Distances of a node to itself and to others, where firmware tells none.
const LOCAL: u64 = 10;
const REMOTE: u64 = 20;
/// Pages of a pageblock, and kinds of them.
const PAGEBLOCK_PAGES: u64 = 512;

/// A node as the order sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListNode {
    /// Its number.
    pub nid: u32,
    /// Whether it has memory.
    pub has_memory: bool,
    /// Whether it has CPUs.
    pub has_cpus: bool,
}

/// The order of nodes for each node, in ascending order: itself, then by distance; nodes before it and nodes with CPUs
/// count as a little farther, and so does a node that was the first choice of others.
///
/// | era | weight of a choice |
/// |---|---|
/// | 4.14, 5.10 | from the number of nodes downwards |
/// | 6.1 and later | 1 |
#[must_use]
pub fn fallback_orders(era: Era, max_nodes: u64, nodes: &[ListNode]) -> Vec<(u32, Vec<u32>)> {
    let distance = |a: u32, b: u32| if a == b { LOCAL } else { REMOTE };
    let online = nodes.len() as u64;
    let scale = match era {
        Era::V4_14 | Era::V5_10 => online * max_nodes,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => max_nodes,
    };
    let mut loads = alloc::vec![0u64; nodes.len()];
    let mut orders = Vec::with_capacity(nodes.len());
    for local in nodes {
        let mut order: Vec<u32> = Vec::new();
        let itself = match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
            Era::V6_12 | Era::V7_2 => local.has_memory,
        };
        if itself {
            order.push(local.nid);
        }
        let (mut previous, mut load) = (local.nid, online);
        loop {
            let rest = nodes.iter().enumerate().filter(|(_, node)| node.has_memory && !order.contains(&node.nid));
            let far = |(index, node): &(usize, &ListNode)| {
                let penalty = u64::from(node.nid < local.nid) + u64::from(node.has_cpus);
                (distance(local.nid, node.nid) + penalty) * scale + loads[*index]
            };
            let Some((index, best)) = rest.min_by_key(far) else { break };
            if distance(local.nid, best.nid) != distance(local.nid, previous) {
                match era {
                    Era::V4_14 | Era::V5_10 => loads[index] = load,
                    Era::V6_1 | Era::V6_12 | Era::V7_2 => loads[index] += 1,
                }
            }
            order.push(best.nid);
            previous = best.nid;
            load = load.saturating_sub(1);
        }
        orders.push((local.nid, order));
    }
    orders
}

/// Tells the log of the zonelists as boot builds them. No CPU is tied to its node so early, on neither architecture.
pub fn build(config: &Config, nodes: &Nodes, counts: PageCounts, log: &mut impl Witness) {
    let list_nodes: Vec<ListNode> = nodes
        .nodes
        .iter()
        .map(|node| ListNode {
            nid: node.nid,
            has_memory: node.zones.iter().any(|zone| zone.present > 0),
            has_cpus: false,
        })
        .collect();
    let numa = config.kconfig.is_set("NUMA");
    if numa {
        match config.era {
            Era::V4_14 | Era::V5_10 => {}
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                let max_nodes = config.sizes.get("MAX_NUMNODES").unwrap_or(1);
                for (nid, order) in fallback_orders(config.era, max_nodes, &list_nodes) {
                    log.log(LogEntry::FallbackOrder { nid, order });
                }
            }
        }
    }
    let pages = counts.managed;
    let mobility = pages >= PAGEBLOCK_PAGES * migrate_types(config);
    log.log(LogEntry::ZonelistsBuilt { nodes: list_nodes.len(), mobility, pages });
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

/// Unmovable, movable, reclaimable, reserved for high orders; CMA's and isolated ones if built in.
fn migrate_types(config: &Config) -> u64 {
    let set = |name| u64::from(config.kconfig.is_set(name));
    4 + set("CMA") + set("MEMORY_ISOLATION")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u32) -> Vec<ListNode> {
        (0..count).map(|nid| ListNode { nid, has_memory: true, has_cpus: true }).collect()
    }

    /// Recorded: two nodes, each with memory and CPUs.
    #[test]
    fn two_nodes_ask_themselves_first() {
        let orders = fallback_orders(Era::V6_1, 16, &nodes(2));
        assert_eq!(orders, [(0, [0, 1].into()), (1, [1, 0].into())]);
    }

    /// By hand: node 0 takes 1 (load 1), then 2; for node 1 both others are as far, 2 comes behind it and costs no
    /// penalty; for node 2 both come before it, and 1 carries a load.
    #[test]
    fn nodes_that_were_chosen_first_come_later() {
        let orders = fallback_orders(Era::V6_1, 16, &nodes(3));
        assert_eq!(orders, [(0, [0, 1, 2].into()), (1, [1, 2, 0].into()), (2, [2, 0, 1].into())]);
    }

    #[test]
    fn a_node_without_memory_is_asked_by_nobody_but_itself() {
        let mut three = nodes(3);
        three[1].has_memory = false;
        assert_eq!(fallback_orders(Era::V6_1, 16, &three)[0].1, [0, 2]);
        assert_eq!(fallback_orders(Era::V6_1, 16, &three)[1].1, [1, 2, 0]);
        assert_eq!(fallback_orders(Era::V6_12, 16, &three)[1].1, [2, 0]);
    }
}
