//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; init/main.c `start_kernel`, `mm_init`; arch/x86/mm/init_64.c
//! `mem_init`; arch/x86/kernel/pci-dma.c `pci_iommu_alloc`.

use alloc::vec::Vec;

use kernmem_base::{Era, Granule, Pfn, PhysMem, PhysRange};

use super::boot::{Booting, LARGE};
use crate::takers::auto_init::auto_init;
use crate::takers::gigantic::{GiganticPool, allocate_gigantic};
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::{self, log_buffer, stack_depot, swiotlb};
use crate::zones::Nodes;
use crate::{BootError, LogEntry, Witness, zonelists};

const GIGANTIC: u64 = 1 << 30;

/// What the steps after the hand-over need to know of these.
pub(super) struct Prepared {
    pub hashes: HashFacts,
    pub gigantic: Vec<GiganticPool>,
    /// The pool of bounce buffers.
    pub bounce: Option<PhysRange>,
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// Takes all that is taken between the zones and the hand-over.
    ///
    /// | era | zonelists | gigantic pages | bounce buffers |
    /// |---|---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | before the command line is parsed | as it is parsed | last |
    /// | 6.12 | behind the entry areas | as it is parsed | last |
    /// | 7.2 | behind the bounce buffers | before the zones | behind the entry areas |
    ///
    /// Source: Linux 5.10, 6.1 init/main.c `start_kernel`, `mm_init`; 6.12, 7.2 mm/mm_init.c `mm_core_init`.
    pub(super) fn mm_init(&mut self, nodes: &Nodes, early: Vec<GiganticPool>) -> Result<Prepared, BootError> {
        let config = self.config;
        takers::command_lines(config, &mut self.memblock)?;
        self.setup_percpu()?;
        let facts = PageCountFacts {
            era: config.era,
            granule: Granule::K4,
            page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
            sparse: true,
            dma_reserve: self.dma_reserve,
        };
        let counts = page_counts::page_counts(&facts, nodes);
        match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => zonelists::build(config, nodes, counts, self.memblock.observer()),
            Era::V6_12 | Era::V7_2 => {}
        }
        let gigantic = match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.allocate_gigantic(),
            Era::V7_2 => early,
        };
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
        let bounce = match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {
                self.report_meminit(&hashes)?;
                self.init_bounce_buffers()?
            }
            Era::V6_12 => {
                zonelists::build(config, nodes, counts, self.memblock.observer());
                self.report_meminit(&hashes)?;
                self.init_bounce_buffers()?
            }
            Era::V7_2 => {
                let bounce = self.init_bounce_buffers()?;
                zonelists::build(config, nodes, counts, self.memblock.observer());
                self.report_meminit(&hashes)?;
                bounce
            }
        };
        Ok(Prepared { hashes, gigantic, bounce })
    }

    /// What is cleared by itself is told, and the stack depot takes its table.
    fn report_meminit(&mut self, hashes: &HashFacts) -> Result<(), BootError> {
        self.log(LogEntry::AutoInit(auto_init(self.config)));
        stack_depot::early(self.config, hashes, &mut self.memblock)
    }

    /// Gigantic pages that the command line asks for.
    pub(super) fn allocate_gigantic(&mut self) -> Vec<GiganticPool> {
        let sizes: &[u64] = if self.cpu.gbpages { &[LARGE, GIGANTIC] } else { &[LARGE] };
        allocate_gigantic(self.config, &mut self.memblock, sizes, LARGE)
    }

    /// The pool of bounce buffers, if it will be told: one that was only forced is not.
    fn init_bounce_buffers(&mut self) -> Result<Option<PhysRange>, BootError> {
        let no_iommu = self.config.cmdline.last_value("iommu") == Some("off");
        let needed = swiotlb::x86_needs(self.max_possible_pfn(), no_iommu);
        let pool = swiotlb::init(self.config, &mut self.memblock, needed, self.cpus)?;
        Ok(pool.filter(|_| needed))
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
