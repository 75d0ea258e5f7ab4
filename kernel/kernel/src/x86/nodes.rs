//! Nodes by the affinity table or one for all, the memory map, zones.
//!
//! Source: Linux 6.1 arch/x86/mm/numa.c `numa_init`, `numa_cleanup_meminfo`, `numa_register_memblks`;
//! arch/x86/mm/init.c `zone_sizes_init`; arch/x86/mm/init_64.c `paging_init`.

use alloc::vec::Vec;

use kernmem_arch::x86::X86Level4;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::x86::zones::ZoneLimits;
use kernmem_arch::{Born, Reason};
use kernmem_base::{Granule, PhysAddr, PhysMem, PhysRange};
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
/// A node that spans less is left out.
const NODE_MIN_BYTES: u64 = 4 << 20;
/// Memory that the affinity table may miss.
const MISSED_BYTES: u64 = 1 << 20;

/// What the memory map brought.
pub(super) struct Brought {
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
}

impl<M: PhysMem, W: Witness> Booting<'_, '_, M, W> {
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
        let all = PhysRange::new(PhysAddr(0), end);
        self.log(if self.config.cmdline.numa_off() { LogEntry::NumaOff } else { LogEntry::NoNuma });
        self.log(LogEntry::FakeNode(all));
        let nodes = self.register(&[NodeBlock { range: all, nid: Nid(0) }])?;
        nodes.ok_or_else(|| BootError::Input("memory lies outside its own node".into()))
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
            let (bytes, end) = (nodes * nodes, UpTo::from(self.state.mapped_end()));
            let start = self.memblock.phys_alloc_range(bytes, PAGE, PhysAddr(0), end)?;
            takers::tell(&mut self.memblock, Taker::DistanceTable, start, bytes);
        }
        self.memblock.set_bottom_up(false);
        self.state.percpu.nodes.clone_from(&self.machine.cpu_nodes);
        Ok(self.clean(told.iter().map(|block| NodeBlock { range: block.range, nid: Nid(block.node) }).collect()))
    }

    /// Leaves out blocks without memory, cuts the others at its end, and joins a node's blocks where no other node
    /// lies between; `None` if nodes overlap.
    fn clean(&self, told: Vec<NodeBlock>) -> Option<Vec<NodeBlock>> {
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        let has_memory = |range: &PhysRange| self.memblock.overlaps_region(ListKind::Memory, range.start, range.size());
        let mut blocks: Vec<NodeBlock> = told
            .into_iter()
            .filter(|block| has_memory(&block.range))
            .map(|block| NodeBlock { range: block.range.intersect(&PhysRange::new(PhysAddr(0), end)), ..block })
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
        let nodes: Vec<Nid> = nodes.into_iter().filter(|nid| span(*nid) >= NODE_MIN_BYTES).collect();
        let line = self.memblock.limits().smp_cache_bytes;
        let bytes = self.config.sizes.get("sizeof_pglist_data").unwrap_or(PAGE).next_multiple_of(PAGE);
        let placed = numa::allocate_node_data(&mut self.memblock, &nodes, bytes, line)?;
        self.memblock.dump_all();
        Ok(Some(placed))
    }

    /// Bytes of memory in no block.
    fn missed(&self, blocks: &[NodeBlock]) -> u64 {
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        let usable = PhysRange::new(PhysAddr(0), end); // what lies above is never used
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
            ..GeometryFacts::new(SparseArch::X86_64, config.era, Granule::K4)
        };
        let mut sections = Sections::new(Geometry::new(facts)?, VecStore::new());
        let data = masks.kernel(config.era, Prot::Kernel);
        let vmemmap = Vmemmap::<X86Level4> {
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
