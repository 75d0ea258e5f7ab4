//! Nodes by the affinity table or one for all, the memory map, zones.
//!
//! Source: Linux 6.1 arch/x86/mm/numa.c `numa_init`, `numa_cleanup_meminfo`, `numa_register_memblks`;
//! arch/x86/mm/init.c `zone_sizes_init`; arch/x86/mm/init_64.c `paging_init`.

use alloc::vec::Vec;

use kernmem_arch::x86::X86;
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::x86::zones::ZoneLimits;
use kernmem_arch::{Born, Reason};
use kernmem_base::{Era, Granule, PhysAddr, PhysMem, PhysRange};
use kernmem_memblock::{ListKind, Nid, UpTo};
use kernmem_sparse::{Geometry, GeometryFacts, Sections, SparseArch, VecStore};

use super::boot::{Booting, PAGE};
use crate::numa::{self, NodeBlock, NodeData};
use crate::sparse_init::{SparseInit, Vmemmap};
use crate::takers::{self, Taker};
use crate::zones::{self, Nodes};
use crate::{BootError, LogEntry, Witness, movable};

/// Memory below is left for devices that reach no further (`MAX_DMA_ADDRESS`).
pub(crate) const MAX_DMA: PhysAddr = PhysAddr(16 << 20);
/// Memory that the affinity table may miss.
const MISSED_BYTES: u64 = 1 << 20;

/// A node that spans less is left out.
///
/// | era | bytes |
/// |---|---|
/// | 4.14, 5.10, 6.1 (UNVERIFIED) | 4 MiB |
/// | 6.12, 7.2 (UNVERIFIED) | 1 |
const fn least_node_bytes(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 4 << 20,
        Era::V6_12 | Era::V7_2 => 1,
    }
}

/// What the memory map brought.
pub(super) struct Brought {
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// Gives memory its nodes and places their descriptors.
    pub(super) fn initmem_init(&mut self) -> Result<Vec<NodeData>, BootError> {
        if !self.config.kconfig.is_set("NUMA") {
            self.memblock.set_bottom_up(false);
            return Ok(Vec::new());
        }
        if let Some(blocks) = self.affinity()?
            && let Some(nodes) = self.register(&blocks)?
        {
            return Ok(nodes);
        }
        self.memblock.set_node(ListKind::Memory, PhysAddr(0), u64::MAX, None)?;
        self.memblock.set_node(ListKind::Reserved, PhysAddr(0), u64::MAX, None)?;
        self.memblock.clear_hotplug(PhysAddr(0), u64::MAX)?;
        self.state.percpu.nodes.clear();
        self.memblock.set_bottom_up(false);
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        self.log(if self.config.cmdline.numa_off() { LogEntry::NumaOff } else { LogEntry::NoNuma });
        self.log(LogEntry::FakeNode(PhysRange::new(PhysAddr(0), end)));
        let nodes = self.register(&[NodeBlock { range: self.usable(), nid: Nid(0) }])?;
        nodes.ok_or_else(|| BootError::Input("memory lies outside its own node".into()))
    }

    /// What blocks of nodes are cut to: what lies outside is never used.
    ///
    /// | era | from | to |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | 0 | the end of what tables can reach |
    /// | 6.12, 7.2 | the first memory | the end of the last |
    ///
    /// Source: Linux 5.10, 6.1 arch/x86/mm/numa.c, 6.12, 7.2 mm/numa_memblks.c `numa_cleanup_meminfo`.
    fn usable(&self) -> PhysRange {
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => PhysRange::new(PhysAddr(0), end),
            Era::V6_12 | Era::V7_2 => PhysRange::new(self.memblock.start_of_dram(), self.memblock.end_of_dram()),
        }
    }

    /// The affinity table's blocks, cleaned; `None` if there is no table, or it contradicts itself.
    fn affinity(&mut self) -> Result<Option<Vec<NodeBlock>>, BootError> {
        let usable = self.config.kconfig.is_set("ACPI_NUMA") && !self.config.cmdline.numa_off();
        let max_nodes = self.memblock.limits().max_nodes;
        let told = &self.machine.numa;
        if !usable || told.is_empty() || told.iter().any(|block| block.node >= max_nodes) {
            return Ok(None);
        }
        for block in told.iter().filter(|block| block.hotplug) {
            self.memblock.mark_hotplug(block.range.start, block.range.size())?;
        }
        if self.has_table("SLIT") {
            let nodes = told.iter().map(|block| u64::from(block.node) + 1).max().unwrap_or(1);
            let bytes = nodes * nodes;
            let start = self.distance_table(bytes)?;
            takers::tell(&mut self.memblock, Taker::DistanceTable, start, bytes);
        }
        self.memblock.set_bottom_up(false);
        self.state.percpu.nodes.clone_from(&self.machine.cpu_nodes);
        Ok(self.clean(told.iter().map(|block| NodeBlock { range: block.range, nid: Nid(block.node) }).collect()))
    }

    /// Memory for the distances between nodes.
    ///
    /// | era | |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | below the end of what is mapped |
    /// | 6.12, 7.2 | anywhere below the current limit, by the virtual interface (UNVERIFIED) |
    ///
    /// Source: Linux 5.10, 6.1 arch/x86/mm/numa.c, 6.12, 7.2 mm/numa_memblks.c `numa_alloc_distance`.
    fn distance_table(&mut self, bytes: u64) -> Result<PhysAddr, BootError> {
        let end = UpTo::from(self.state.mapped_end());
        Ok(match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => self.memblock.phys_alloc_range(bytes, PAGE, PhysAddr(0), end)?,
            Era::V6_12 | Era::V7_2 => self.memblock.alloc(bytes, PAGE)?,
        })
    }

    /// Leaves out blocks without memory, cuts the others at its end, and joins a node's blocks where no other node
    /// lies between; `None` if nodes overlap.
    fn clean(&self, told: Vec<NodeBlock>) -> Option<Vec<NodeBlock>> {
        let usable = self.usable();
        let has_memory = |range: &PhysRange| self.memblock.overlaps_region(ListKind::Memory, range.start, range.size());
        let mut blocks: Vec<NodeBlock> = told
            .into_iter()
            .filter(|block| has_memory(&block.range))
            .map(|block| NodeBlock { range: block.range.intersect(&usable), ..block })
            .filter(|block| !block.range.is_empty())
            .collect();
        let mut first = 0;
        while first < blocks.len() {
            let mut second = first + 1;
            while second < blocks.len() {
                let (a, b) = (blocks[first], blocks[second]);
                let span = PhysRange::new(a.range.start.min(b.range.start), a.range.end.max(b.range.end));
                if a.nid != b.nid {
                    if a.range.overlaps(&b.range) {
                        return None;
                    }
                    second += 1;
                } else if blocks.iter().any(|other| other.nid != a.nid && other.range.overlaps(&span)) {
                    second += 1;
                } else {
                    blocks[first].range = span;
                    blocks.remove(second);
                }
            }
            first += 1;
        }
        Some(blocks)
    }

    /// Writes the nodes into both lists and places the descriptors; `None` if the blocks miss memory.
    fn register(&mut self, blocks: &[NodeBlock]) -> Result<Option<Vec<NodeData>>, BootError> {
        let nodes = numa::assign(&mut self.memblock, blocks)?;
        for block in blocks {
            let (start, size) = (block.range.start, block.range.size());
            self.memblock.set_node(ListKind::Reserved, start, size, Some(block.nid))?;
        }
        let reserved: Vec<PhysRange> = self.memblock.reserved().regions().iter().map(|region| region.range()).collect();
        for block in blocks {
            // Nodes that hold the kernel cannot be unplugged.
            let nid = block.nid;
            let own = |other: &NodeBlock| other.nid == nid && reserved.iter().any(|range| range.overlaps(&other.range));
            if blocks.iter().any(own) {
                self.memblock.clear_hotplug(block.range.start, block.range.size())?;
            }
        }
        if self.missed(blocks) >= MISSED_BYTES {
            return Ok(None);
        }
        let span = |nid: Nid| {
            let own = || blocks.iter().filter(move |block| block.nid == nid);
            let start = own().map(|block| block.range.start).min().unwrap_or_default();
            own().map(|block| block.range.end).max().unwrap_or_default() - start
        };
        let least = least_node_bytes(self.config.era);
        let nodes: Vec<Nid> = nodes.into_iter().filter(|nid| span(*nid) >= least).collect();
        let line = self.memblock.limits().smp_cache_bytes;
        let unit = numa::descriptor_unit(self.config.era, self.config.arch, line);
        let bytes = numa::descriptor_bytes(self.config, Granule::K4).next_multiple_of(unit);
        let placed = numa::allocate_node_data(&mut self.memblock, &nodes, bytes, line)?;
        self.memblock.dump_all();
        Ok(Some(placed))
    }

    /// Bytes of memory in no block.
    fn missed(&self, blocks: &[NodeBlock]) -> u64 {
        let usable = self.usable();
        let regions = || self.memblock.memory().regions().iter().map(|region| region.range().intersect(&usable));
        let all: u64 = regions().map(|range| range.size()).sum();
        let covered: u64 = blocks
            .iter()
            .flat_map(|block| regions().map(|range| range.intersect(&block.range)))
            .filter(|part| !part.is_empty())
            .map(|part| part.size())
            .sum();
        all - covered
    }

    /// The memory map, then the zones.
    pub(super) fn paging_init(&mut self, nodes: Vec<NodeData>) -> Result<Brought, BootError> {
        let (config, masks) = (self.config, self.state.masks);
        let set = |name| config.kconfig.is_set(name);
        let facts = GeometryFacts {
            zone_device: set("ZONE_DEVICE"),
            page_ext: set("PAGE_EXTENSION"),
            cma: set("CMA"),
            isolation: set("MEMORY_ISOLATION"),
            page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
            five_levels: X86::<LEVELS>::PAGING == Paging::Level5,
            ..GeometryFacts::new(SparseArch::X86_64, config.era, Granule::K4)
        };
        let mut sections = Sections::new(Geometry::new(facts)?, VecStore::new());
        let data = masks.kernel(config.era, Prot::Kernel);
        let vmemmap = Vmemmap::<X86<LEVELS>> {
            frame_zero: self.state.layout.vmemmap,
            block: data,
            page: data,
            table: table::PAGE,
            min: MAX_DMA,
            blocks: self.cpu.pse,
        };
        let mut rights = Vec::from([Reason::Born(Born::Data)]);
        rights.extend(self.lacking());
        SparseInit {
            tables: &mut self.tables,
            memblock: &mut self.memblock,
            sections: &mut sections,
            vmemmap: &vmemmap,
            nodes: &nodes,
            rights: &rights,
            unplugs: set("MEMORY_HOTREMOVE"),
        }
        .run()?;
        let ends = ZoneLimits::new(set("ZONE_DMA"), set("ZONE_DMA32"), self.state.max_pfn);
        let named = [("DMA", ends.dma), ("DMA32", ends.dma32), ("Normal", Some(ends.normal))];
        let ends: Vec<_> = named.into_iter().filter_map(|(name, end)| Some((name, end?))).collect();
        let limits = zones::limits(self.memblock.start_of_dram().pfn(Granule::K4), &ends);
        let movable = movable::starts(config, &self.memblock, &limits);
        let nodes = zones::free_area_init(&mut self.memblock, &mut sections, limits, &movable);
        Ok(Brought { sections, nodes })
    }
}
