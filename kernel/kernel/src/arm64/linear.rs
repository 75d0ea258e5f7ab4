//! The linear map: all memory at one offset, in the largest leaves that its rules allow.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/mmu.c `map_mem`; 6.1–7.2 the same `arm64_kfence_alloc_pool`.

use alloc::vec::Vec;

use kernmem_arch::arm64::linear::{LinearFacts, by_pages, requires_bbml2};
use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, prot};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{Era, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Rodata;
use kernmem_pgtable::Sizes;

use super::boot::Booting;
use super::image::{Run, image_start, no_contiguous};
use crate::takers::{self, Taker};
use crate::{Area, BootError, Witness};

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Maps all memory.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | banks without the image window, then the window, not tagged; a crash kernel's memory, if it was taken early, by pages |
    /// | 6.1, 6.12 | the same; KFENCE's pool, taken first, comes last |
    /// | 7.2 | KFENCE's pool, the window, data and bss behind init memory, then what is left of the banks |
    ///
    /// In 7.2 banks are mapped over what is there, which gives equal leaves where something was.
    pub(super) fn map_mem(&mut self) -> Result<(), BootError> {
        self.allocate_kfence_pool()?;
        let window = self.image.phys_range(image_start(self.config.era), "__init_begin")?;
        self.edges.push((window.start, Bound::ImageWindow));
        self.edges.push((window.end, Bound::ImageWindow));
        let limits: Vec<(Reason, Sizes)> =
            by_pages(self.config.era, self.linear_facts()).map(|reason| (reason, Sizes::PAGES)).collect();
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.map_banks_first(window, &limits),
            Era::V7_2 => self.map_window_first(window, &limits),
        }
    }

    /// Whole 2M of the window are blocks even where pages are asked for elsewhere.
    fn map_banks_first(&mut self, window: PhysRange, limits: &[(Reason, Sizes)]) -> Result<(), BootError> {
        self.memblock.mark_nomap(window.start, window.size())?;
        if let Some(crash) = self.crash {
            self.edges.push((crash.start, Bound::Object));
            self.edges.push((crash.end, Bound::Object));
            self.memblock.mark_nomap(crash.start, crash.size())?;
        }
        let banks: Vec<PhysRange> = self.memblock.mapped_regions().map(|region| region.range()).collect();
        for bank in banks {
            self.map_linear(bank, prot::tagged(prot::PAGE_KERNEL), true, limits)?;
        }
        self.map_linear(window, prot::PAGE_KERNEL, false, &[(Reason::NoContiguous, no_contiguous::<F>())])?;
        self.memblock.clear_nomap(window.start, window.size())?;
        if let Some(crash) = self.crash {
            self.map_linear(crash, prot::PAGE_KERNEL, true, &[(Reason::CrashkernelDeferred, Sizes::PAGES)])?;
            self.memblock.clear_nomap(crash.start, crash.size())?;
        }
        if let Some(pool) = self.state.kfence_pool {
            self.map_linear(pool, prot::tagged(prot::PAGE_KERNEL), true, &[(Reason::KfencePool, Sizes::PAGES)])?;
            self.memblock.clear_nomap(pool.start, pool.size())?;
        }
        Ok(())
    }

    fn map_window_first(&mut self, window: PhysRange, limits: &[(Reason, Sizes)]) -> Result<(), BootError> {
        let data = self.image.phys_range("__init_end", "__bss_stop")?;
        let data = PhysRange::new(data.start, data.end.align_up(self.page()).unwrap_or(data.end));
        self.edges.push((data.start, Bound::Segment));
        self.edges.push((data.end, Bound::Segment));
        let attrs = prot::tagged(prot::PAGE_KERNEL);
        let mut mapped = Vec::new();
        if let Some(pool) = self.state.kfence_pool {
            self.memblock.clear_nomap(pool.start, pool.size())?;
            self.map_linear(pool, attrs, true, &[(Reason::KfencePool, Sizes::PAGES)])?;
            mapped.push(pool);
        }
        for part in [window, data] {
            self.map_linear(part, attrs, true, limits)?;
            mapped.push(part);
        }
        mapped.sort_unstable_by_key(|part| part.start);
        let banks: Vec<PhysRange> = self.memblock.mapped_regions().map(|region| region.range()).collect();
        for bank in banks {
            let mut start = bank.start;
            for part in mapped.iter().filter(|part| part.overlaps(&bank)) {
                self.map_linear(PhysRange::new(start, part.start.max(start)), attrs, true, limits)?;
                start = part.end.min(bank.end);
            }
            self.map_linear(PhysRange::new(start, bank.end), attrs, true, limits)?;
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

    /// Whether the linear map has leaves that must be split while it is in use.
    pub(super) fn linear_needs_bbml2(&self) -> bool {
        requires_bbml2(self.config.era, self.linear_facts())
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

    /// Maps the pages of `range`: 5.10 and 6.1 those that it touches, later eras those that it has whole.
    fn map_linear(
        &mut self,
        range: PhysRange,
        attrs: Arm64Attrs,
        no_exec: bool,
        limits: &[(Reason, Sizes)],
    ) -> Result<(), BootError> {
        let page = self.page();
        let range = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {
                PhysRange::new(range.start.align_down(page), range.end.align_up(page).unwrap_or(range.end))
            }
            Era::V6_12 | Era::V7_2 => {
                PhysRange::new(range.start.align_up(page).unwrap_or(range.end), range.end.align_down(page))
            }
        };
        if range.is_empty() {
            return Ok(());
        }
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
