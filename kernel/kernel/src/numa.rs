//! Nodes: from firmware's numbers to a node of every piece of memory, and the descriptors of the nodes.
//!
//! Source: Linux 6.1 drivers/base/arch_numa.c `numa_init`; arch/x86/mm/numa.c `numa_init`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use kernmem_base::{PhysAddr, PhysRange};
use kernmem_memblock::{ListKind, Memblock, Nid, RegionArray};

use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

/// A piece of memory that firmware ties to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeBlock {
    /// The memory.
    pub range: PhysRange,
    /// The node.
    pub nid: Nid,
}

/// Where a node's descriptor lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeData {
    /// The node.
    pub nid: Nid,
    /// The descriptor.
    pub range: PhysRange,
}

/// Gives every piece of memory its node: those of `blocks`, or one node for all if there are none.
///
/// # Errors
/// The boot allocator's lists cannot grow.
pub fn assign<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    blocks: &[NodeBlock],
) -> Result<Vec<Nid>, BootError> {
    if blocks.is_empty() {
        memblock.set_node(ListKind::Memory, PhysAddr(0), u64::MAX, Some(Nid(0)))?;
        return Ok([Nid(0)].into());
    }
    for block in blocks {
        memblock.set_node(ListKind::Memory, block.range.start, block.range.size(), Some(block.nid))?;
    }
    let nodes: BTreeSet<u32> = blocks.iter().map(|block| block.nid.0).collect();
    Ok(nodes.into_iter().map(Nid).collect())
}

/// The node of the memory at `pa`; the first node if no memory is there.
///
/// Source: Linux 6.1 mm/page_alloc.c `early_pfn_to_nid`.
pub fn early_nid<A: RegionArray, W: Witness>(memblock: &Memblock<A, W>, pa: PhysAddr) -> Nid {
    let regions = || memblock.memory().regions().iter();
    let own = regions().find(|region| region.range().contains(pa));
    let first = || regions().filter_map(|region| region.nid).min();
    own.and_then(|region| region.nid).or_else(first).unwrap_or(Nid(0))
}

/// Places the descriptor of each node: `bytes` bytes on the node itself if possible.
///
/// # Errors
/// The boot allocator has no memory.
pub fn allocate_node_data<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    nodes: &[Nid],
    bytes: u64,
    align: u64,
) -> Result<Vec<NodeData>, BootError> {
    let mut placed = Vec::with_capacity(nodes.len());
    for &nid in nodes {
        let start = memblock.phys_alloc_try_nid(bytes, align, Some(nid))?;
        let range = PhysRange::new(start, start + bytes);
        takers::tell(memblock, Taker::NodeData, start, bytes);
        memblock.observer().log(LogEntry::NodeData { nid: nid.0, range });
        placed.push(NodeData { nid, range });
    }
    Ok(placed)
}
