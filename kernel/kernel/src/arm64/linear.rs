//! The linear map: all memory at one offset, in the largest leaves that its rules allow.
//!
//! Source: Linux 6.1 arch/arm64/mm/mmu.c `map_mem`, `arm64_kfence_alloc_pool`.

use alloc::vec::Vec;

use kernmem_arch::arm64::linear::{LinearFacts, by_pages};
use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, prot};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{PhysAddr, PhysMem, PhysRange};
use kernmem_config::Rodata;
use kernmem_pgtable::Sizes;

use super::boot::Booting;
use super::image::{Run, no_contiguous};
use crate::takers::{self, Taker};
use crate::{Area, BootError, Witness};

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Every bank but the image window, then the window without contiguous groups, then KFENCE's pool by pages.
    pub(super) fn map_mem(&mut self) -> Result<(), BootError> {
        self.allocate_kfence_pool()?;
        let window = self.image.phys_range("_stext", "__init_begin")?;
        self.edges.push((window.start, Bound::ImageWindow));
        self.edges.push((window.end, Bound::ImageWindow));
        let limits: Vec<(Reason, Sizes)> =
            by_pages(self.config.era, self.linear_facts()).map(|reason| (reason, Sizes::PAGES)).collect();
        self.memblock.mark_nomap(window.start, window.size())?;
        let banks: Vec<PhysRange> = self.memblock.mapped_regions().map(|region| region.range()).collect();
        for bank in banks {
            self.map_linear(bank, prot::tagged(prot::PAGE_KERNEL), true, &limits)?;
        }
        self.map_linear(window, prot::PAGE_KERNEL, false, &[(Reason::NoContiguous, no_contiguous::<F>())])?;
        self.memblock.clear_nomap(window.start, window.size())?;
        if let Some(pool) = self.state.kfence_pool {
            self.map_linear(pool, prot::tagged(prot::PAGE_KERNEL), true, &[(Reason::KfencePool, Sizes::PAGES)])?;
            self.memblock.clear_nomap(pool.start, pool.size())?;
        }
        Ok(())
    }

    fn linear_facts(&self) -> LinearFacts {
        let set = |name| self.config.kconfig.is_set(name);
        let interval = self.config.kfence_sample_interval().value;
        LinearFacts {
            rodata_full: self.rodata == Rodata::Full,
            debug_pagealloc: self.config.debug_pagealloc().value,
            kfence_late: interval == Some(0),
            crashkernel: self.config.cmdline.has("crashkernel") && set("KEXEC_CORE"),
            zone_dma: set("ZONE_DMA") || set("ZONE_DMA32"),
            bbml2_noabort: self.cpu.has_bbml2_noabort(),
            realm: false,
        }
    }

    /// A pool that is in use from the start is taken before any table of the linear map, and mapped by pages.
    fn allocate_kfence_pool(&mut self) -> Result<(), BootError> {
        if !matches!(self.config.kfence_sample_interval().value, Some(interval) if interval > 0) {
            return Ok(());
        }
        let size = self.config.kfence_pool_pages() * self.page();
        // Without memory for it KFENCE stays off.
        if let Ok(start) = self.memblock.phys_alloc(size, self.page()) {
            self.memblock.mark_nomap(start, size)?;
            takers::tell(&mut self.memblock, Taker::KfencePool, start, size);
            let pool = PhysRange::new(start, start + size);
            self.edges.push((pool.start, Bound::KfencePool));
            self.edges.push((pool.end, Bound::KfencePool));
            self.state.kfence_pool = Some(pool);
        }
        Ok(())
    }

    fn map_linear(
        &mut self,
        range: PhysRange,
        attrs: Arm64Attrs,
        no_exec: bool,
        limits: &[(Reason, Sizes)],
    ) -> Result<(), BootError> {
        let page = self.page();
        let start = range.start.align_down(page);
        let range = PhysRange::new(start, range.end.align_up(page).unwrap_or(range.end));
        self.map(&Run {
            va: self.state.linear(range.start),
            range,
            attrs,
            no_exec,
            area: Area::LinearMap,
            edges: (self.edge(range.start), self.edge(range.end)),
            limits,
            rights: &[Reason::Born(Born::Linear)],
        })
    }

    /// Why a linear run begins or ends at `at`: the youngest known edge there.
    fn edge(&self, at: PhysAddr) -> Reason {
        let known = self.edges.iter().rev().find(|(edge, _)| *edge == at);
        Reason::Edge { bound: known.map_or(Bound::Bank, |(_, bound)| *bound), at }
    }
}
