//! Pages of high memory, the memory map, zones.
//!
//! Source: Linux 6.1 arch/x86/mm/init_32.c `native_pagetable_init`, `paging_init`, `permanent_kmaps_init`;
//! arch/x86/mm/init.c `zone_sizes_init`.

use alloc::vec::Vec;

use kernmem_arch::Entry;
use kernmem_arch::i386::I386Format;
use kernmem_arch::i386::layout::Paging;
use kernmem_arch::x86::zones::MAX_DMA_PFN;
use kernmem_base::{Granule, Level, PhysMem};
use kernmem_pgtable::steps;
use kernmem_sparse::{Geometry, GeometryFacts, Model, Sections, SparseArch, VecStore};

use super::boot::{Booting, PAGE};
use crate::array_map::ArrayMap;
use crate::zones::{self, Nodes};
use crate::{BootError, Witness, movable};

/// What the memory map brought.
pub(super) struct Brought {
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
}

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Clears what the first tables map beyond low memory, and makes the table of high memory's pages.
    pub(super) fn make_kmap_table(&mut self) -> Result<(), BootError> {
        self.clear_beyond()?;
        if self.state.layout.highmem {
            let window = self.late_window();
            self.make_pages(self.state.layout.pkmap_base, window, true)?;
        }
        Ok(())
    }

    /// The memory map, then the zones.
    pub(super) fn paging_init(&mut self) -> Result<Brought, BootError> {
        let config = self.config;
        let set = |name| config.kconfig.is_set(name);
        let arch = match F::PAGING {
            Paging::Pae => SparseArch::I386Pae,
            Paging::Level2 => SparseArch::I386,
        };
        let facts = GeometryFacts {
            model: Model::Static,
            page_ext: set("PAGE_EXTENSION"),
            cma: set("CMA"),
            isolation: set("MEMORY_ISOLATION"),
            page_bytes: config.sizes.get("sizeof_page").unwrap_or(32),
            ..GeometryFacts::new(arch, config.era, Granule::K4)
        };
        let mut sections = Sections::new(Geometry::new(facts)?, VecStore::new());
        ArrayMap { memblock: &mut self.memblock, sections: &mut sections, page_offset: self.state.layout.page_offset }
            .run()?;
        let low = self.state.low;
        let named = [
            ("DMA", set("ZONE_DMA").then(|| MAX_DMA_PFN.min(low.max_low))),
            ("Normal", Some(low.max_low)),
            ("HighMem", self.state.layout.highmem.then_some(low.max)),
        ];
        let ends: Vec<_> = named.into_iter().filter_map(|(name, end)| Some((name, end?))).collect();
        let limits = zones::limits(self.memblock.start_of_dram().pfn(Granule::K4), &ends);
        let movable = movable::starts(config, &self.memblock, &limits);
        let nodes = zones::free_area_init(&mut self.memblock, &mut sections, limits, &movable);
        Ok(Brought { sections, nodes })
    }

    /// Pages above low memory, up to the first that is not there.
    fn clear_beyond(&mut self) -> Result<(), BootError> {
        let mut va = self.state.layout.direct(self.low_end());
        loop {
            let last = steps::<F, M>(self.mem, self.tables.root(), va).last().transpose()?;
            let Some(step) = last.filter(|step| step.level == Level::Pte && matches!(step.entry, Entry::Leaf { .. }))
            else {
                return Ok(());
            };
            self.tables.set_entry(step.table, F::shape().depth(Level::Pte), step.index, 0)?;
            va = va + PAGE;
        }
    }
}
