//! Nodes, the memory map, zones and the last reservations.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/init.c `bootmem_init`, `zone_sizes_init`; drivers/of/fdt.c
//! `unflatten_device_tree`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, prot};
use kernmem_arch::hugetlb::HugeArch;
use kernmem_arch::{Born, Reason};
use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Config;
use kernmem_firmware::Machine;
use kernmem_memblock::{ListKind, Memblock, Nid, RegionArray, Request, UpTo};
use kernmem_pgtable::Tables;
use kernmem_sparse::{Geometry, GeometryFacts, Sections, SparseArch, VecStore};

use super::{State, crash};
use crate::numa::{self, NodeBlock};
use crate::orders::Orders;
use crate::sparse_init::{SparseInit, Vmemmap};
use crate::takers::gigantic::{GiganticPool, allocate_gigantic};
use crate::takers::{self, Taker};
use crate::zones::{self, Nodes};
use crate::{BootError, LogEntry, Witness, movable};

/// What the later steps read.
#[derive(Clone, Copy)]
pub(super) struct Shared<'c> {
    pub machine: &'c Machine,
    pub config: &'c Config,
    pub state: &'c State,
    pub not_global: Option<Reason>,
    /// Why the kernel is unmapped for user mode; empty where it is not.
    pub apart: &'static [Reason],
    /// Bits of a physical address that the kernel can use.
    pub physical_bits: u32,
}

/// What came of nodes and memory.
pub(super) struct Brought {
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
    /// Gigantic pages, where they come before the zones.
    pub gigantic: Vec<GiganticPool>,
}

/// From the unpacked devicetree to the resources of memory, and to the zones.
///
/// | era | order |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | nodes, memory map, zones, crash kernel, resources |
/// | 7.2 | nodes, crash kernel, resources, gigantic pages, memory map, zones |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/init.c `bootmem_init`; 7.2 mm/mm_init.c `mm_core_init_early`.
pub(super) fn bootmem_init<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    tables: &mut Tables<'_, F, M>,
    memblock: &mut Memblock<A, W>,
) -> Result<Brought, BootError> {
    let Shared { machine, config, .. } = *shared;
    unflatten(machine, config, memblock)?;
    let placed = numa_init(machine, config, memblock)?;
    let ends = zone_ends(machine.dma_limit, config, memblock);
    let dma_end = dma_end(&ends, memblock.limits().granule);
    match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
            let (sections, nodes) = memory_map(shared, &placed, &ends, tables, memblock)?;
            crash::reserve_with_zones(shared, memblock, dma_end)?;
            memblock.dump_all();
            takers::standard_resources(config, memblock)?;
            Ok(Brought { sections, nodes, gigantic: Vec::new() })
        }
        Era::V7_2 => {
            crash::reserve_with_zones(shared, memblock, dma_end)?;
            memblock.dump_all();
            takers::standard_resources(config, memblock)?;
            let gigantic = gigantic_pages(config, memblock);
            let (sections, nodes) = memory_map(shared, &placed, &ends, tables, memblock)?;
            Ok(Brought { sections, nodes, gigantic })
        }
    }
}

/// Gigantic pages that the command line asks for.
pub(super) fn gigantic_pages<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Vec<GiganticPool> {
    let granule = memblock.limits().granule;
    let default = granule.bytes() << (granule.shift() - 3);
    allocate_gigantic(config, memblock, HugeArch::Arm64.sizes(granule), default)
}

/// The end of what every DMA master reaches: of the first zone, if it is one for DMA.
fn dma_end(ends: &[(&'static str, Pfn)], granule: Granule) -> Option<PhysAddr> {
    ends.iter().find(|(name, _)| *name != "Normal").map(|(_, end)| PhysAddr(end.0 << granule.shift()))
}

/// Sections, their page descriptors, and the zones.
fn memory_map<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    placed: &[numa::NodeData],
    ends: &[(&'static str, Pfn)],
    tables: &mut Tables<'_, F, M>,
    memblock: &mut Memblock<A, W>,
) -> Result<(Sections<VecStore>, Nodes), BootError> {
    let Shared { config, state, not_global, .. } = *shared;
    let granule = state.granule();
    let orders = Orders::of(config, granule);
    let facts = GeometryFacts {
        pageblock_order: orders.pageblock.into(),
        largest_order: orders.largest.into(),
        zone_device: config.kconfig.is_set("ZONE_DEVICE"),
        page_ext: config.kconfig.is_set("PAGE_EXTENSION"),
        cma: config.kconfig.is_set("CMA"),
        isolation: config.kconfig.is_set("MEMORY_ISOLATION"),
        pa_bits: shared.physical_bits,
        page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
        ..GeometryFacts::new(SparseArch::Arm64, config.era, granule)
    };
    let mut sections = Sections::new(Geometry::new(facts)?, VecStore::new());
    let vmemmap = Vmemmap::<F> {
        frame_zero: state.frame_zero(),
        block: state.prot(prot::vmemmap_block(config.era)),
        page: state.prot(prot::PAGE_KERNEL),
        table: prot::table(config.era, false),
        min: PhysAddr(state.memstart),
        blocks: granule == Granule::K4,
    };
    let mut rights = alloc::vec![Reason::Born(Born::Data)];
    rights.extend(not_global);
    let unplugs = config.kconfig.is_set("MEMORY_HOTREMOVE");
    SparseInit {
        tables,
        memblock,
        sections: &mut sections,
        vmemmap: &vmemmap,
        nodes: placed,
        rights: &rights,
        unplugs,
    }
    .run()?;
    let limits = zones::limits(memblock.start_of_dram().pfn(granule), ends);
    let movable = movable::starts(config, memblock, &limits);
    let nodes = zones::free_area_init(memblock, &mut sections, limits, &movable);
    Ok((sections, nodes))
}

/// Bytes of a node and of a property of the unpacked devicetree, where the compiled kernel does not tell.
///
/// | era | node | property |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | 168 | 88 |
/// | 6.1 | 208 | 96 |
/// | 6.12, 7.2 | 208 | 104 |
///
/// Source: Linux 5.10–7.2 include/linux/of.h `struct device_node`, `struct property`.
const fn tree_sizes(era: Era) -> (u64, u64) {
    match era {
        Era::V4_14 | Era::V5_10 => (168, 88),
        Era::V6_1 => (208, 96),
        Era::V6_12 | Era::V7_2 => (208, 104),
    }
}

/// The devicetree unpacked into structures of the kernel.
fn unflatten<A: RegionArray, W: Witness>(
    machine: &Machine,
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let Some(tree) = &machine.tree else { return Ok(()) };
    let (node, property) = tree_sizes(config.era);
    let node = config.sizes.get("sizeof_device_node").unwrap_or(node);
    let property = config.sizes.get("sizeof_property").unwrap_or(property);
    let request = Request::new(tree.unflattened_size(node, property), 8);
    takers::allocate(memblock, Taker::UnflattenedTree, request).map(drop)
}

/// Taken memory learns its node as well: of `blocks`, or the one node of all memory.
///
/// | era | |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | when the lists are handed over |
/// | 6.12, 7.2 | with the nodes |
///
/// Source: Linux 6.12, 7.2 mm/numa_memblks.c `numa_clear_kernel_node_hotplug`.
fn name_taken_memory<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    blocks: &[NodeBlock],
) -> Result<(), BootError> {
    match memblock.era() {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => return Ok(()),
        Era::V6_12 | Era::V7_2 => {}
    }
    let all = [NodeBlock { range: PhysRange::new(memblock.start_of_dram(), memblock.end_of_dram()), nid: Nid(0) }];
    for block in if blocks.is_empty() { &all } else { blocks } {
        memblock.set_node(ListKind::Reserved, block.range.start, block.range.size(), Some(block.nid))?;
    }
    Ok(())
}

/// Whether each attempt to find nodes takes a table of their distances.
///
/// | era | |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | yes |
/// | 6.12, 7.2 | no: not before firmware tells a distance |
///
/// Source: Linux 5.10, 6.1 drivers/base/arch_numa.c `numa_alloc_distance`; 6.12, 7.2 mm/numa_memblks.c
/// `numa_set_distance`.
const fn has_distances(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
        Era::V6_12 | Era::V7_2 => false,
    }
}

/// Memory for the distances between nodes.
///
/// | era | |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | found below the end of memory, then reserved |
/// | 6.1 and later | allocated |
fn distance_table<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    bytes: u64,
) -> Result<PhysAddr, BootError> {
    let page = memblock.limits().granule.bytes();
    match memblock.era() {
        Era::V4_14 | Era::V5_10 => {
            let end = UpTo::from(memblock.end_of_dram());
            let found = memblock.find_in_range(PhysAddr(0), end, bytes, page);
            let start = found.ok_or_else(|| BootError::Input("no memory for the distances between nodes".into()))?;
            memblock.reserve(start, bytes)?;
            takers::tell(memblock, Taker::DistanceTable, start, bytes);
            Ok(start)
        }
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            takers::allocate(memblock, Taker::DistanceTable, Request::new(bytes, page))
        }
    }
}

/// Nodes by firmware, or one for all. `numa=off` leaves out the first attempt.
fn numa_init<A: RegionArray, W: Witness>(
    machine: &Machine,
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<Vec<numa::NodeData>, BootError> {
    if !config.kconfig.is_set("NUMA") {
        return Ok(Vec::new());
    }
    let granule = memblock.limits().granule;
    let max_nodes = u64::from(memblock.limits().max_nodes);
    let distances = |memblock: &mut Memblock<A, W>| distance_table(memblock, max_nodes * max_nodes);
    let table = has_distances(config.era).then(|| distances(memblock)).transpose()?;
    let off = config.cmdline.numa_off();
    let blocks: Vec<NodeBlock> = machine
        .memory
        .iter()
        .filter_map(|bank| {
            let nid = bank.nid.filter(|nid| u64::from(*nid) < max_nodes)?;
            Some(NodeBlock { range: bank.whole_pages(granule)?, nid: Nid(nid) })
        })
        .collect();
    let covered = !off && !blocks.is_empty() && blocks.len() == machine.memory.len();
    if off {
        memblock.observer().log(LogEntry::NumaOff);
    } else if !covered {
        memblock.observer().log(LogEntry::NoNuma);
        if let Some(table) = table {
            memblock.phys_free(table, max_nodes * max_nodes)?;
            distances(memblock)?;
        }
    }
    if !covered {
        let all = PhysRange::new(memblock.start_of_dram(), memblock.end_of_dram());
        memblock.observer().log(LogEntry::FakeNode(all));
    }
    let nodes = numa::assign(memblock, if covered { &blocks } else { &[] })?;
    name_taken_memory(memblock, if covered { &blocks } else { &[] })?;
    let cache_line = memblock.limits().smp_cache_bytes;
    let unit = numa::descriptor_unit(config.era, config.arch, cache_line);
    let bytes = numa::descriptor_bytes(config, granule).next_multiple_of(unit);
    numa::allocate_node_data(memblock, &nodes, bytes, cache_line)
}

/// Upper ends of the zones.
///
/// | zone | 5.10, 6.1 | 6.12, 7.2 |
/// |---|---|---|
/// | DMA | what every DMA master reaches by its bits, at most 4 GiB | the address that every DMA master reaches; at most 4 GiB if memory begins below |
/// | DMA32 | 4 GiB | 4 GiB |
/// | Normal | end of memory | end of memory |
///
/// In 5.10 and 6.1 (4.14 UNVERIFIED) DMA and DMA32 have no bound if memory begins above 4 GiB, and 4 GiB if it begins
/// above their own.
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/init.c `zone_sizes_init`, `max_zone_phys`, 7.2 `dma_limits_init`.
///
/// `dma_limit` is the last address that every DMA master reaches.
fn zone_ends<A: RegionArray, W: Witness>(
    dma_limit: u64,
    config: &Config,
    memblock: &Memblock<A, W>,
) -> Vec<(&'static str, Pfn)> {
    const LOW: u64 = u32::MAX as u64;
    let granule = memblock.limits().granule;
    let (start, end) = (memblock.start_of_dram(), memblock.end_of_dram());
    let up_to = |last: u64| PhysAddr(last.min(end.0 - 1) + 1).pfn(granule);
    let by_bits = |bits: u32| {
        let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        up_to(match () {
            () if start.0 > LOW => u64::MAX,
            () if start.0 > mask => LOW,
            () => mask,
        })
    };
    let (dma, dma32) = match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => (by_bits(32.min(64 - dma_limit.leading_zeros())), by_bits(32)),
        Era::V6_12 | Era::V7_2 => {
            let reached = if start.0 < LOW { dma_limit.min(LOW) } else { dma_limit };
            (up_to(reached), up_to(LOW))
        }
    };
    let mut ends = Vec::new();
    if config.kconfig.is_set("ZONE_DMA") {
        ends.push(("DMA", dma));
    }
    if config.kconfig.is_set("ZONE_DMA32") {
        ends.push(("DMA32", dma32));
    }
    ends.push(("Normal", end.pfn(granule)));
    ends
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{config, memblock};
    use super::*;

    const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
    const GIB: u64 = 1 << 30;

    /// Ends of DMA and DMA32 in GiB, by era.
    fn ends(start_gib: u64, end_gib: u64, dma_limit: u64) -> [(u64, u64); 4] {
        ERAS.map(|era| {
            let config = config(era, "", "CONFIG_ZONE_DMA=y\nCONFIG_ZONE_DMA32=y\n");
            let memblock = memblock(era, start_gib * GIB, (end_gib - start_gib) * GIB);
            let ends = zone_ends(dma_limit, &config, &memblock);
            let gib = |index: usize| ends[index].1.0 * 4096 / GIB;
            assert_eq!((ends[0].0, ends[1].0, ends[2]), ("DMA", "DMA32", ("Normal", Pfn(end_gib * GIB / 4096))));
            (gib(0), gib(1))
        })
    }

    /// Facts: zone limits by era.
    #[test]
    fn zones_end_where_masters_reach() {
        assert_eq!(ends(1, 8, u64::MAX), [(4, 4); 4]);
        assert_eq!(ends(1, 3, u64::MAX), [(3, 3); 4], "memory ends below");
        assert_eq!(ends(0, 8, GIB - 1), [(1, 4); 4], "a Raspberry Pi 4");
        // Memory above 4 GiB: the old rule gives up, the new one asks how far masters reach.
        assert_eq!(ends(8, 16, u64::MAX), [(16, 16), (16, 16), (16, 4), (16, 4)]);
        assert_eq!(ends(8, 16, 12 * GIB - 1), [(16, 16), (16, 16), (12, 4), (12, 4)]);
        // Memory that begins above the zone's own bits, but below 4 GiB.
        assert_eq!(ends(2, 8, GIB - 1), [(4, 4), (4, 4), (1, 4), (1, 4)]);
    }

    /// Recorded logs: 36852 bytes for a tree of 58 nodes without names of their own in 5.10, 43764 in 6.12.
    #[test]
    fn the_unpacked_tree_grows_with_its_structures() {
        let (node, property) = tree_sizes(Era::V5_10);
        let (later_node, later_property) = tree_sizes(Era::V6_12);
        let (nodes, properties) = (58, 229 + 58);
        let grown = nodes * (later_node - node) + properties * (later_property - property);
        assert_eq!(grown, 43_764 - 36_852);
    }
}
