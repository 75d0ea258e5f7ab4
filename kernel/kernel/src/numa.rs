//! Nodes: from firmware's numbers to a node of every piece of memory, and the descriptors of the nodes.
//!
//! Source: Linux 6.1 drivers/base/arch_numa.c `numa_init`; arch/x86/mm/numa.c `numa_init`.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule, PhysAddr, PhysRange};
use kernmem_config::{Arch, Config};
use kernmem_memblock::{ListKind, Memblock, Nid, RegionArray};

use crate::orders::Orders;
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

/// Bytes of a node's descriptor: what the compiled kernel tells, else what its fields add up to.
///
/// | part | bytes |
/// |---|---|
/// | a zone | 448, and its free lists in whole cache lines: by block size one for each type and a count, 12 more |
/// | two lists of zones | 16 for each zone of each node, and one more |
/// | the rest, 4.14 (UNVERIFIED), 5.10 | 736 |
/// | the rest, 6.1, 6.12 | 928, more with NUMA balancing |
/// | the rest, 7.2 | 1056, more with NUMA balancing; zones may be larger |
///
/// Exact for 5.10, whose kernels were recorded without their sizes.
///
/// Source: Linux 5.10–7.2 include/linux/mmzone.h `struct pglist_data`, `struct zone`.
#[must_use]
pub fn descriptor_bytes(config: &Config, granule: Granule) -> u64 {
    if let Some(bytes) = config.sizes.get("sizeof_pglist_data") {
        return bytes;
    }
    let set = |name| u64::from(config.kconfig.is_set(name));
    let types = 4 + set("CMA") + set("MEMORY_ISOLATION");
    let orders = u64::from(Orders::of(config, granule).largest) + 1;
    let zone = 448 + (orders * (16 * types + 8) + 12).next_multiple_of(64);
    let zones = 2 + set("ZONE_DMA") + set("ZONE_DMA32") + set("ZONE_DEVICE");
    let list = 16 * (u64::from(config.max_nodes()) * zones + 1);
    let rest = match config.era {
        Era::V4_14 | Era::V5_10 => 736,
        Era::V6_1 | Era::V6_12 => 928,
        Era::V7_2 => 1056,
    };
    zones * zone + 2 * list + rest
}

/// What a descriptor takes of memory on x86, and on arm64.
///
/// | era | x86 | arm64 |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | whole pages | whole cache lines |
/// | 6.12, 7.2 | whole cache lines | whole cache lines |
///
/// Source: Linux 5.10, 6.1 arch/x86/mm/numa.c `alloc_node_data`; 5.10, 6.1 drivers/base/arch_numa.c `setup_node_data`;
/// 6.12, 7.2 mm/numa.c `alloc_node_data`.
#[must_use]
pub const fn descriptor_unit(era: Era, arch: Arch, cache_line: u64) -> u64 {
    match (era, arch) {
        (Era::V4_14 | Era::V5_10 | Era::V6_1, Arch::X86_64 | Arch::I386) => 4096,
        (Era::V4_14 | Era::V5_10 | Era::V6_1, Arch::Arm64) | (Era::V6_12 | Era::V7_2, _) => cache_line,
    }
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

#[cfg(test)]
mod tests {
    use alloc::format;

    use kernmem_config::{CommandLine, Cpu, Given, KernelConfig, Sizes, Symbols, X86Cpu};

    use super::*;

    fn config(era: Era, options: &str) -> Config {
        Config {
            era,
            arch: Arch::X86_64,
            cmdline: CommandLine::default(),
            kconfig: KernelConfig::parse(options),
            cpu: Cpu::X86(X86Cpu::from_features("", "")),
            symbols: Symbols::default(),
            sizes: Sizes::default(),
            given: Given::default(),
            possible_cpus: 1,
        }
    }

    const ALL: &str = "CONFIG_ZONE_DMA=y\nCONFIG_ZONE_DMA32=y\nCONFIG_CMA=y\nCONFIG_MEMORY_ISOLATION=y\n";

    /// Sizes of compiled kernels of 5.10 (golden tables), and of arm64 kernels whose logs were recorded: 9472 bytes with
    /// 4K pages, 10496 with 64K.
    #[test]
    fn a_node_of_5_10_adds_up() {
        let of = |shift: u32, orders: u32, device: &str| {
            let options = format!("{ALL}CONFIG_NODES_SHIFT={shift}\nCONFIG_FORCE_MAX_ZONEORDER={orders}\n{device}");
            descriptor_bytes(&config(Era::V5_10, &options), Granule::K4)
        };
        const DEVICE: &str = "CONFIG_ZONE_DEVICE=y\n";
        assert_eq!((of(4, 11, ""), of(4, 14, "")), (9472, 10_496));
        assert_eq!((of(4, 11, DEVICE), of(4, 12, DEVICE), of(4, 14, DEVICE)), (11_648, 11_968, 12_928));
        assert_eq!((of(6, 11, ""), of(6, 11, DEVICE)), (15_616, 19_328));
    }

    /// Sizes of the kernels whose boots were recorded.
    #[test]
    fn later_nodes_of_plain_kernels_add_up() {
        let of = |era, shift: u32| {
            descriptor_bytes(&config(era, &format!("{ALL}CONFIG_NODES_SHIFT={shift}\n")), Granule::K4)
        };
        assert_eq!((of(Era::V6_1, 4), of(Era::V6_1, 6)), (9664, 15_808));
        assert_eq!((of(Era::V6_12, 4), of(Era::V6_12, 6), of(Era::V7_2, 4)), (9664, 15_808, 9792));
    }
}
