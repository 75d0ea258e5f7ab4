//! Zonelists: in which order a node's requests look at the zones of all nodes.
//!
//! Here: the order of nodes by distance, as a value of its own, since the boot log tells it before there is an allocator.
//! Not here: zones inside a node, which go from the highest to the lowest.
//!
//! # Invariants
//! 1. The list of a node names every node with memory once.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `build_zonelists`, `find_next_best_node`.

use kernmem_base::Era;

use crate::Topology;

/// The end of a list of nodes.
const END: u32 = u32::MAX;

/// For each node, the nodes that its requests look at, nearest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FallbackOrders<N> {
    nodes: usize,
    /// A row a node, and two rows for the work.
    numbers: N,
}

impl<N: AsRef<[u32]> + AsMut<[u32]>> FallbackOrders<N> {
    /// Numbers that the orders of so many nodes need.
    #[must_use]
    pub const fn numbers(nodes: usize) -> usize {
        nodes * nodes + 2 * nodes
    }

    /// The orders of all nodes, kept in `numbers`; `None` if there are too few numbers.
    ///
    /// | era | a node without memory |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | leads its own list |
    /// | 6.12, 7.2 | is on no list |
    ///
    /// Source: Linux 5.10–7.2 mm/page_alloc.c `build_zonelists`, `find_next_best_node`.
    #[must_use]
    pub fn new(era: Era, topology: &Topology<'_>, has_memory: impl Fn(u32) -> bool, mut numbers: N) -> Option<Self> {
        let nodes = topology.nodes as usize;
        let all = numbers.as_mut().get_mut(..Self::numbers(nodes))?;
        build(era, topology, has_memory, all);
        Some(Self { nodes, numbers })
    }

    /// The nodes in the order in which a request of `nid` looks at them; none for a node that does not exist.
    pub fn of(&self, nid: u32) -> impl Iterator<Item = u32> {
        let nid = nid as usize;
        let row =
            if nid < self.nodes { self.numbers.as_ref().get(nid * self.nodes..(nid + 1) * self.nodes) } else { None };
        row.unwrap_or_default().iter().copied().take_while(|&nid| nid != END)
    }
}

/// What a node's choice is weighed with.
///
/// | era | a node's distance counts | a group's first node is loaded with |
/// |---|---|---|
/// | 4.14 | as 5.10 (UNVERIFIED) | |
/// | 5.10 | nodes online times nodes possible | the nodes not yet chosen |
/// | 6.1, 6.12, 7.2 | nodes possible | one more |
const fn weight(era: Era, topology: &Topology<'_>) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 => topology.nodes as u64 * topology.max_numnodes,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => topology.max_numnodes,
    }
}

const fn load(era: Era, old: u32, left: u32) -> u32 {
    match era {
        Era::V4_14 | Era::V5_10 => left,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => old + 1,
    }
}

/// Whether a node without memory still leads its own list.
const fn leads_without_memory(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
        Era::V6_12 | Era::V7_2 => false,
    }
}

/// Writes the lists of all nodes into `out`.
fn build(era: Era, topology: &Topology<'_>, has_memory: impl Fn(u32) -> bool, out: &mut [u32]) {
    let nodes = topology.nodes as usize;
    let (rows, work) = out.split_at_mut(nodes * nodes);
    let (loads, used) = work.split_at_mut(nodes);
    loads.fill(0);
    rows.fill(END);
    for (nid, row) in (0..topology.nodes).zip(rows.chunks_mut(nodes.max(1))) {
        used.fill(0);
        let mut place = row.iter_mut();
        let mut last = nid;
        let mut left = topology.nodes;
        let mut is_first = true;
        while let Some(next) = next_best(era, topology, nid, &has_memory, loads, used, is_first) {
            is_first = false;
            used[next as usize] = 1;
            if topology.distance(nid, next) != topology.distance(nid, last) {
                loads[next as usize] = load(era, loads[next as usize], left);
            }
            last = next;
            left = left.saturating_sub(1);
            if let Some(place) = place.next() {
                *place = next;
            }
        }
    }
}

fn next_best(
    era: Era,
    topology: &Topology<'_>,
    nid: u32,
    has_memory: &impl Fn(u32) -> bool,
    loads: &[u32],
    used: &[u32],
    is_first: bool,
) -> Option<u32> {
    if is_first && (has_memory(nid) || leads_without_memory(era)) {
        return Some(nid);
    }
    let value = |other: u32| {
        let distance = topology.distance(nid, other) + u64::from(other < nid) + u64::from(topology.has_cpus(other));
        distance * weight(era, topology) + u64::from(loads[other as usize])
    };
    (0..topology.nodes)
        .filter(|&other| used[other as usize] == 0 && has_memory(other))
        .min_by_key(|&other| value(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four nodes in a ring: neighbours at 20, the opposite one at 30.
    const RING: [u8; 16] = [10, 20, 30, 20, 20, 10, 20, 30, 30, 20, 10, 20, 20, 30, 20, 10];

    fn lists(era: Era, has_memory: impl Fn(u32) -> bool) -> [[u32; 4]; 4] {
        weighed(era, 64, has_memory)
    }

    fn weighed(era: Era, max_numnodes: u64, has_memory: impl Fn(u32) -> bool) -> [[u32; 4]; 4] {
        let topology = Topology { nodes: 4, distances: &RING, has_cpus: &[], max_numnodes, cpus: 4 };
        let orders =
            FallbackOrders::new(era, &topology, has_memory, [0; FallbackOrders::<[u32; 24]>::numbers(4)]).unwrap();
        let row = |nid: usize| {
            let mut order = orders.of(nid as u32);
            core::array::from_fn(|_| order.next().unwrap_or(END))
        };
        core::array::from_fn(row)
    }

    /// By hand. Node 0: 1 and 3 are equally near, 1 is lower and is loaded; then 3, then 2, which is loaded for its new
    /// distance. Node 1: 0 counts one more for being below, so 2, though loaded; then 0; then 3.
    #[test]
    fn near_nodes_come_first_and_higher_numbers_before_lower_ones() {
        let lists = lists(Era::V6_1, |_| true);
        assert_eq!(lists[0], [0, 1, 3, 2]);
        assert_eq!(lists[1], [1, 2, 0, 3]);
        assert_eq!(lists[2], [2, 3, 1, 0]);
        assert_eq!(lists[3], [3, 0, 2, 1]);
    }

    /// By hand, with a weight of 1 in 6.1: from node 1, node 0 weighs 22, and node 2 weighs 21 and the load 1 that node 0's
    /// list left on it: a tie, and the lower number wins. In 5.10 the weight is 4: 88 against 84 + 1.
    #[test]
    fn loads_count_for_more_where_distances_weigh_less() {
        assert_eq!(weighed(Era::V6_1, 1, |_| true)[1], [1, 0, 2, 3]);
        assert_eq!(weighed(Era::V5_10, 1, |_| true)[1], [1, 2, 0, 3]);
    }

    #[test]
    fn a_node_without_memory_leads_its_list_up_to_6_1_only() {
        assert_eq!(lists(Era::V6_1, |nid| nid != 1)[1], [1, 2, 0, 3]);
        assert_eq!(lists(Era::V6_12, |nid| nid != 1)[1], [2, 0, 3, END]);
        assert_eq!(lists(Era::V7_2, |nid| nid != 1)[0], [0, 3, 2, END]);
    }

    /// Nodes that are all as far from each other, each with CPUs.
    fn alike<const NODES: usize>(era: Era, has_memory: impl Fn(u32) -> bool) -> [[u32; NODES]; NODES] {
        let topology =
            Topology { nodes: NODES as u32, distances: &[], has_cpus: &[], max_numnodes: 16, cpus: NODES as u32 };
        let orders = FallbackOrders::new(era, &topology, has_memory, [0; 24]).unwrap();
        core::array::from_fn(|nid| {
            let mut order = orders.of(nid as u32);
            core::array::from_fn(|_| order.next().unwrap_or(END))
        })
    }

    /// Recorded: two nodes, each with memory and CPUs.
    #[test]
    fn two_nodes_ask_themselves_first() {
        assert_eq!(alike(Era::V6_1, |_| true), [[0, 1], [1, 0]]);
    }

    /// By hand: node 0 takes 1 (load 1), then 2; for node 1 both others are as far, 2 comes behind it and costs no
    /// penalty; for node 2 both come before it, and 1 carries a load.
    #[test]
    fn nodes_that_were_chosen_first_come_later() {
        assert_eq!(alike(Era::V6_1, |_| true), [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn a_node_without_memory_is_asked_by_nobody_but_itself() {
        let without_1 = |nid| nid != 1;
        assert_eq!(alike(Era::V6_1, without_1)[0], [0, 2, END]);
        assert_eq!(alike(Era::V6_1, without_1)[1], [1, 2, 0]);
        assert_eq!(alike(Era::V6_12, without_1)[1], [2, 0, END]);
    }

    #[test]
    fn orders_need_room_and_a_node_that_exists() {
        let topology = Topology::flat(1);
        assert_eq!(FallbackOrders::new(Era::V6_1, &topology, |_| true, [0; 2]), None);
        let orders = FallbackOrders::new(Era::V6_1, &topology, |_| true, [0; 3]).unwrap();
        assert_eq!(orders.of(0).count(), 1);
        assert_eq!(orders.of(1).count() + orders.of(u32::MAX).count(), 0);
    }
}
