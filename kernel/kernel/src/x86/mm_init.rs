//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; init/main.c `start_kernel`, `mm_init`; arch/x86/mm/init_64.c
//! `mem_init`; arch/x86/kernel/pci-dma.c `pci_iommu_alloc`.

use kernmem_base::{Granule, Pfn, PhysMem, PhysRange};

use super::boot::{Booting, LARGE};
use crate::takers::auto_init::auto_init;
use crate::takers::gigantic::{GiganticPool, allocate_gigantic};
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::{self, log_buffer, swiotlb};
use crate::zones::Nodes;
use crate::{BootError, LogEntry, Witness, zonelists};

const GIGANTIC: u64 = 1 << 30;

/// What the steps after the hand-over need to know of these.
pub(super) struct Prepared {
    pub hashes: HashFacts,
    pub gigantic: alloc::vec::Vec<GiganticPool>,
    /// The pool of bounce buffers.
    pub bounce: Option<PhysRange>,
}

impl<M: PhysMem, W: Witness> Booting<'_, '_, M, W> {
    /// Takes all that is taken between the zones and the hand-over.
    pub(super) fn mm_init(&mut self, nodes: &Nodes) -> Result<Prepared, BootError> {
        let config = self.config;
        self.reserve_small()?;
        takers::command_lines(config, &mut self.memblock)?;
        self.setup_percpu()?;
        let facts = PageCountFacts {
            era: config.era,
            granule: Granule::K4,
            page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
            sparse: true,
            dma_reserve: self.dma_reserve,
            free_pages: page_counts::free_pages(&self.memblock, nodes),
        };
        let counts = page_counts::page_counts(&facts, nodes);
        zonelists::build(config, nodes, counts, self.memblock.observer());
        let sizes: &[u64] = if self.cpu.gbpages { &[LARGE, GIGANTIC] } else { &[LARGE] };
        let gigantic = allocate_gigantic(config, &mut self.memblock, sizes, LARGE);
        takers::unknown_parameters(config, &mut self.memblock)?;
        if !self.has_new_log {
            log_buffer::setup(config, &mut self.memblock, self.cpus, true)?;
        }
        let hashes = HashFacts {
            granule: Granule::K4,
            counts,
            nodes: nodes.nodes.len() as u64,
            huge_vmalloc: hash_tables::huge_vmalloc(config, self.cpu.pse),
        };
        hash_tables::early(config, &hashes, &mut self.memblock)?;
        self.setup_cpu_entry_areas()?;
        self.log(LogEntry::AutoInit(auto_init(config)));
        let no_iommu = config.cmdline.last_value("iommu") == Some("off");
        let needed = swiotlb::x86_needs(self.max_possible_pfn(), no_iommu);
        let bounce = swiotlb::init(config, &mut self.memblock, needed, self.cpus)?;
        // A pool that was only forced is not told.
        Ok(Prepared { hashes, gigantic, bounce: bounce.filter(|_| needed) })
    }

    /// One past the highest frame that memory may ever have: the affinity table tells of memory that may be plugged in.
    ///
    /// Source: Linux 6.1 drivers/acpi/numa/srat.c `acpi_numa_memory_affinity_init`.
    fn max_possible_pfn(&self) -> Pfn {
        let usable = self.config.kconfig.is_set("ACPI_NUMA") && !self.config.cmdline.numa_off();
        let told = self.machine.numa.iter().filter(|_| usable);
        let ends = told.map(|block| Pfn(block.range.end.0.div_ceil(Granule::K4.bytes())));
        ends.max().map_or(self.state.max_pfn, |end| end.max(self.state.max_pfn))
    }
}
