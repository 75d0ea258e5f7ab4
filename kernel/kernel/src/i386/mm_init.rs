//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; arch/x86/kernel/setup_percpu.c; init/main.c `start_kernel`,
//! `mm_init`; arch/x86/mm/init_32.c `mem_init`.

use kernmem_arch::i386::I386Format;
use kernmem_base::{Era, Granule, PhysMem, PhysRange};
use kernmem_memblock::Nid;

use super::boot::{Booting, PAGE};
use crate::takers::auto_init::auto_init;
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::percpu::{ModulesRoom, PercpuFacts, first_chunk};
use crate::takers::{self, log_buffer, stack_depot, swiotlb};
use crate::x86::MAX_DMA;
use crate::zones::Nodes;
use crate::{BootError, LogEntry, Witness, zonelists};

/// What the steps after the hand-over need to know of these.
pub(super) struct Prepared {
    pub hashes: HashFacts,
    /// The pool of bounce buffers.
    pub bounce: Option<PhysRange>,
}

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Takes all that is taken between the zones and the hand-over, in the order of x86-64.
    ///
    /// | era | zonelists | bounce buffers |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | before the command line is parsed | last |
    /// | 6.12 | behind the entry areas | last |
    /// | 7.2 | behind the bounce buffers | behind the entry areas |
    ///
    /// Source: Linux 5.10, 6.1 init/main.c `start_kernel`, `mm_init`; 6.12, 7.2 mm/mm_init.c `mm_core_init`.
    pub(super) fn mm_init(&mut self, nodes: &Nodes) -> Result<Prepared, BootError> {
        let config = self.config;
        takers::command_lines(config, &mut self.memblock)?;
        self.setup_percpu()?;
        let facts = PageCountFacts {
            era: config.era,
            granule: Granule::K4,
            page_bytes: config.sizes.get("sizeof_page").unwrap_or(32),
            sparse: true,
            dma_reserve: 0,
        };
        let counts = page_counts::page_counts(&facts, nodes);
        match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => zonelists::build(config, nodes, counts, self.memblock.observer()),
            Era::V6_12 | Era::V7_2 => {}
        }
        takers::unknown_parameters(config, &mut self.memblock)?;
        if !self.has_new_log {
            log_buffer::setup(config, &mut self.memblock, self.cpus, true)?;
        }
        let hashes = HashFacts {
            granule: Granule::K4,
            counts,
            nodes: 1,
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
        Ok(Prepared { hashes, bounce })
    }

    /// What is cleared by itself is told, and the stack depot takes its table.
    fn report_meminit(&mut self, hashes: &HashFacts) -> Result<(), BootError> {
        self.log(LogEntry::AutoInit(auto_init(self.config)));
        stack_depot::early(self.config, hashes, &mut self.memblock)
    }

    /// The pool of bounce buffers, if it will be told: one that was only forced is not.
    fn init_bounce_buffers(&mut self) -> Result<Option<PhysRange>, BootError> {
        let no_iommu = self.config.cmdline.last_value("iommu") == Some("off");
        let needed = swiotlb::x86_needs(self.state.low.max, no_iommu);
        let pool = swiotlb::init(self.config, &mut self.memblock, needed, self.cpus)?;
        Ok(pool.filter(|_| needed))
    }

    /// Allocates the units of all possible CPUs, page by page aligned: vmalloc is too small for more.
    fn setup_percpu(&mut self) -> Result<(), BootError> {
        let symbols = self.image.symbols();
        let bounds = symbols.address("__per_cpu_start").zip(symbols.address("__per_cpu_end"));
        let Some((start, end)) = bounds.filter(|(start, end)| start <= end) else { return Ok(()) };
        let nodes = alloc::vec![Nid(0); self.cpus as usize];
        let facts = PercpuFacts {
            static_bytes: end - start,
            modules: self.config.kconfig.is_set("MODULES"),
            room: ModulesRoom::Shared,
            atom: PAGE,
            page: PAGE,
            from: MAX_DMA,
            nodes: &nodes,
        };
        self.state.percpu.units = first_chunk(&mut self.memblock, &facts)?;
        self.state.percpu.start = start.0;
        Ok(())
    }
}
