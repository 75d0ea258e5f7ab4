//! Nodes, the memory map, zones and the last reservations.
//!
//! Source: Linux 6.1 arch/arm64/mm/init.c `bootmem_init`, `zone_sizes_init`, `reserve_crashkernel`; drivers/of/fdt.c
//! `unflatten_device_tree`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, prot};
use kernmem_arch::{Born, Reason};
use kernmem_base::{Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Config;
use kernmem_firmware::Machine;
use kernmem_memblock::{Memblock, Nid, RegionArray, Request, UpTo};
use kernmem_pgtable::Tables;
use kernmem_sparse::{Geometry, GeometryFacts, Sections, SparseArch, VecStore};

use super::State;
use crate::numa::{self, NodeBlock};
use crate::orders::Orders;
use crate::sparse_init::{SparseInit, Vmemmap};
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
}

/// From the unpacked devicetree to the zones.
pub(super) fn bootmem_init<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    tables: &mut Tables<'_, F, M>,
    memblock: &mut Memblock<A, W>,
) -> Result<(Sections<VecStore>, Nodes), BootError> {
    let Shared { machine, config, state, not_global } = *shared;
    let granule = state.granule();
    unflatten(machine, config, memblock)?;
    let nodes = numa_init(machine, config, memblock)?;
    let orders = Orders::of(config, granule);
    let facts = GeometryFacts {
        pageblock_order: orders.pageblock.into(),
        largest_order: orders.largest.into(),
        zone_device: config.kconfig.is_set("ZONE_DEVICE"),
        page_ext: config.kconfig.is_set("PAGE_EXTENSION"),
        cma: config.kconfig.is_set("CMA"),
        isolation: config.kconfig.is_set("MEMORY_ISOLATION"),
        pa_bits: config.kconfig.number("ARM64_PA_BITS").map_or(48, |bits| bits as u32),
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
        nodes: &nodes,
        rights: &rights,
        unplugs,
    }
    .run()?;
    let ends = zone_ends(machine, config, memblock);
    let limits = zones::limits(memblock.start_of_dram().pfn(granule), &ends);
    let movable = movable::starts(config, memblock, &limits);
    let nodes = zones::free_area_init(memblock, &mut sections, limits, &movable);
    reserve_crash_kernel(config, memblock, PhysAddr(ends[0].1.0 << granule.shift()))?;
    memblock.dump_all();
    Ok((sections, nodes))
}

/// The devicetree unpacked into structures of the kernel.
fn unflatten<A: RegionArray, W: Witness>(
    machine: &Machine,
    config: &Config,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let Some(tree) = &machine.tree else { return Ok(()) };
    let node = config.sizes.get("sizeof_device_node").unwrap_or(208);
    let property = config.sizes.get("sizeof_property").unwrap_or(96);
    let request = Request::new(tree.unflattened_size(node, property), 8);
    takers::allocate(memblock, Taker::UnflattenedTree, request).map(drop)
}

/// Nodes by firmware, or one for all; each attempt takes its table of distances. `numa=off` leaves out the first.
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
    let distances = |memblock: &mut Memblock<A, W>| {
        let request = Request::new(max_nodes * max_nodes, granule.bytes());
        takers::allocate(memblock, Taker::DistanceTable, request)
    };
    let table = distances(memblock)?;
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
        memblock.phys_free(table, max_nodes * max_nodes)?;
        distances(memblock)?;
    }
    if !covered {
        let all = PhysRange::new(memblock.start_of_dram(), memblock.end_of_dram());
        memblock.observer().log(LogEntry::FakeNode(all));
    }
    let nodes = numa::assign(memblock, if covered { &blocks } else { &[] })?;
    let cache_line = memblock.limits().smp_cache_bytes;
    let unit = numa::descriptor_unit(config.era, config.arch, cache_line);
    let bytes = numa::descriptor_bytes(config, granule).next_multiple_of(unit);
    numa::allocate_node_data(memblock, &nodes, bytes, cache_line)
}

/// Upper ends of the zones.
///
/// | zone | end |
/// |---|---|
/// | DMA | what every DMA master reaches, at most 4 GiB; everything if memory starts above 4 GiB |
/// | DMA32 | 4 GiB |
/// | Normal | end of memory |
///
/// Source: Linux 6.1 arch/arm64/mm/init.c `zone_sizes_init`, `max_zone_phys`.
fn zone_ends<A: RegionArray, W: Witness>(
    machine: &Machine,
    config: &Config,
    memblock: &Memblock<A, W>,
) -> Vec<(&'static str, Pfn)> {
    let granule = memblock.limits().granule;
    let (start, end) = (memblock.start_of_dram(), memblock.end_of_dram());
    let max_zone_phys = |bits: u32| {
        const LOW: u64 = u32::MAX as u64;
        let mask = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        let mask = match () {
            () if start.0 > LOW => u64::MAX,
            () if start.0 > mask => LOW,
            () => mask,
        };
        PhysAddr(mask.min(end.0 - 1) + 1).pfn(granule)
    };
    let dma_bits = 32.min(64 - machine.dma_limit.leading_zeros());
    let mut ends = Vec::new();
    if config.kconfig.is_set("ZONE_DMA") {
        ends.push(("DMA", max_zone_phys(dma_bits)));
    }
    if config.kconfig.is_set("ZONE_DMA32") {
        ends.push(("DMA32", max_zone_phys(32)));
    }
    ends.push(("Normal", end.pfn(granule)));
    ends
}

/// Memory for a crash kernel, top-down in its window, 2 MiB aligned.
///
/// Source: Linux 6.1 arch/arm64/mm/init.c `reserve_crashkernel`.
fn reserve_crash_kernel<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &mut Memblock<A, W>,
    dma_end: PhysAddr,
) -> Result<(), BootError> {
    const ALIGN: u64 = 2 << 20;
    if !config.kconfig.is_set("KEXEC_CORE") {
        return Ok(());
    }
    let plan = config.cmdline.crashkernel(config.era, memblock.phys_mem_size()).value;
    let (size, base, max) = match (plan.simple, plan.high) {
        (Some(simple), _) => (simple.size, simple.base, UpTo::from(dma_end)),
        (None, Some(high)) => (high, None, UpTo(1 << 48)),
        (None, None) => return Ok(()),
    };
    let size = size.next_multiple_of(memblock.limits().granule.bytes());
    if size == 0 {
        return Ok(());
    }
    let found = match base {
        Some(base) => memblock.phys_alloc_range(size, ALIGN, PhysAddr(base), UpTo(base + size)),
        None => memblock.phys_alloc_range(size, ALIGN, PhysAddr(0), max),
    };
    let Ok(start) = found else { return Ok(()) };
    let ram = memblock.phys_mem_size();
    let low = plan.low.filter(|_| plan.simple.is_none() && start >= dma_end);
    if let Some(low) = low
        && let Ok(start) = memblock.phys_alloc_range(low, ALIGN, PhysAddr(0), UpTo::from(dma_end))
    {
        takers::tell(memblock, Taker::CrashKernel, start, low);
        memblock.observer().log(LogEntry::CrashKernel { range: PhysRange::new(start, start + low), low: true, ram });
    }
    takers::tell(memblock, Taker::CrashKernel, start, size);
    memblock.observer().log(LogEntry::CrashKernel { range: PhysRange::new(start, start + size), low: false, ram });
    Ok(())
}
