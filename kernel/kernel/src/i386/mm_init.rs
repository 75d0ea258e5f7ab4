//! From the zones to the hand-over: what the rest of the boot takes, in order.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; arch/x86/kernel/setup_percpu.c; init/main.c `start_kernel`,
//! `mm_init`; arch/x86/mm/init_32.c `mem_init`.

use kernmem_arch::i386::I386Format;
use kernmem_base::{Granule, PhysMem, PhysRange};
use kernmem_memblock::Nid;

use super::boot::{Booting, PAGE};
use crate::takers::auto_init::auto_init;
use crate::takers::hash_tables::{self, HashFacts};
use crate::takers::page_counts::{self, PageCountFacts};
use crate::takers::percpu::{ModulesRoom, PercpuFacts, first_chunk, room_factor};
use crate::takers::{self, log_buffer, swiotlb};
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
    /// Takes all that is taken between the zones and the hand-over.
    pub(super) fn mm_init(&mut self, nodes: &Nodes) -> Result<Prepared, BootError> {
        let config = self.config;
        self.reserve_small()?;
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
        zonelists::build(config, nodes, counts, self.memblock.observer());
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
        self.log(LogEntry::AutoInit(auto_init(config)));
        let no_iommu = config.cmdline.last_value("iommu") == Some("off");
        let needed = swiotlb::x86_needs(self.state.low.max, no_iommu);
        let bounce = swiotlb::init(config, &mut self.memblock, needed, self.cpus)?;
        Ok(Prepared { hashes, bounce: bounce.filter(|_| needed) })
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
            factor: room_factor(self.config, PAGE),
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
