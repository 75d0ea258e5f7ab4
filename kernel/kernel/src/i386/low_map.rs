//! The map of low memory, in the order in which its tables find mapped memory to lie in; then the tables of fixed
//! addresses.
//!
//! Source: Linux 6.1 arch/x86/mm/init.c `init_mem_mapping`, `alloc_low_pages`; arch/x86/mm/init_32.c
//! `kernel_physical_mapping_init`, `early_ioremap_page_table_range_init`, `page_table_range_init`.

use alloc::vec::Vec;

use kernmem_arch::i386::I386Format;
use kernmem_arch::i386::low_map::{prot, split};
use kernmem_arch::x86::layout::{ISA_END, ISA_HOLE};
use kernmem_arch::x86::prot::table;
use kernmem_arch::x86::steps::{TopDown, may_use_early_tables};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{FrameSource, Granule, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_memblock::UpTo;
use kernmem_pgtable::{MapError, Sizes, steps};

use super::boot::{Booting, PAGE};
use crate::x86::direct::LowPages;
use crate::{Area, BootError, Mapped, Witness};

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// The first MiB, then low memory downwards, each step with tables from the last; then fixed addresses.
    pub(super) fn init_mem_mapping(&mut self) -> Result<(), BootError> {
        let nothing = PhysRange::new(PhysAddr(0), PhysAddr(0));
        self.map_memory(PhysRange::new(PhysAddr(0), ISA_END), nothing, true)?;
        let (end, large) = (self.low_end(), F::PAGING.large());
        let block = self.memblock.phys_alloc_range(large, large, ISA_END, UpTo::from(end)).ok();
        if let Some(block) = block {
            self.memblock.phys_free(block, large)?;
        }
        let mut steps = TopDown::by(large, self.config.era, block, end);
        while let Some(range) = steps.next_range() {
            let bytes = self.map_ram(range, steps.mapped_from())?;
            steps.done(range, bytes);
        }
        self.make_fixmap_tables()?;
        self.tell_low_map();
        Ok(())
    }

    /// One past the last byte of low memory.
    pub(super) fn low_end(&self) -> PhysAddr {
        self.state.low.max_low.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX))
    }

    /// One past the last byte that tables reach: what is mapped, and what the first tables mapped.
    pub(super) fn mapped_end(&self) -> PhysAddr {
        self.state.mapped.last().map_or(self.early.mapped_end, |range| range.end.max(self.early.mapped_end))
    }

    /// Maps the memory in `range`, with tables from `mapped_from` on; returns how much that was.
    fn map_ram(&mut self, range: PhysRange, mapped_from: PhysAddr) -> Result<u64, BootError> {
        let regions = self.memblock.memory().regions().iter().map(|region| region.range().intersect(&range));
        let pieces: Vec<PhysRange> = regions.filter(|piece| !piece.is_empty()).collect();
        let mut bytes = 0;
        for piece in pieces {
            let may_use_early = may_use_early_tables(piece, self.early_tables);
            let window = PhysRange::new(mapped_from, self.mapped_end());
            self.map_memory(piece, window, may_use_early)?;
            bytes += piece.size();
        }
        Ok(bytes)
    }

    fn map_memory(&mut self, range: PhysRange, window: PhysRange, may_use_early: bool) -> Result<(), BootError> {
        let (low_end, memblock) = (self.low_end(), &self.memblock);
        let large = self.sizes.sizes.m2;
        let is_memory = |wide: PhysRange| memblock.is_region_memory(wide.start, wide.size());
        let pieces = split(range, F::PAGING, large, low_end, is_memory);
        for piece in pieces.as_slice() {
            if piece.sizes.m2 {
                self.map_large(piece.range)?;
            } else {
                self.map_pages(piece.range, window, may_use_early)?;
            }
        }
        crate::x86::add_mapped(&mut self.state.mapped, range);
        Ok(())
    }

    /// Whole large leaves over `range`, in place of what was there.
    fn map_large(&mut self, range: PhysRange) -> Result<(), BootError> {
        let large = F::PAGING.large();
        let mut at = range.start.align_down(large);
        while at < range.end {
            self.set_leaf(at, Level::Pmd)?;
            self.state.counters.add(Level::Pmd, 1);
            at = at + large;
        }
        Ok(())
    }

    /// Base pages over `range`; tables that are there stay.
    fn map_pages(&mut self, range: PhysRange, window: PhysRange, may_use_early: bool) -> Result<(), BootError> {
        let mut at = range.start.align_down(PAGE);
        while at < range.end {
            let va = self.state.layout.direct(at);
            self.make_pages(va, window, may_use_early)?;
            let table_end = at.align_down(F::PAGING.large()) + F::PAGING.large();
            while at < range.end.min(table_end) {
                self.set_leaf(at, Level::Pte)?;
                self.state.counters.add(Level::Pte, 1);
                at = at + PAGE;
            }
        }
        Ok(())
    }

    fn set_leaf(&mut self, at: PhysAddr, level: Level) -> Result<(), BootError> {
        let va = self.state.layout.direct(at);
        let shape = F::shape().level(level);
        let leaf = VirtRange { start: va, last: va + (shape.bytes() - 1) };
        let prot = prot(leaf, level == Level::Pmd, self.symbols.text, self.symbols.init_end);
        let attrs = self.state.masks.kernel(self.config.era, prot);
        let raw = F::raw_leaf(self.state.masks, at, attrs, level);
        let found = steps::<F, M>(self.mem, self.tables.root(), va)
            .find(|step| !matches!(step, Ok(step) if step.level != level))
            .transpose()?;
        if let Some(step) = found {
            self.tables.set_entry(step.table, F::shape().depth(level), step.index, raw)?;
        }
        Ok(())
    }

    /// The page table for `va`, which may be there already.
    pub(super) fn make_pages(
        &mut self,
        va: VirtAddr,
        window: PhysRange,
        may_use_early: bool,
    ) -> Result<PhysAddr, BootError> {
        let mut frames =
            LowPages { memblock: &mut self.memblock, early: &mut self.early_tables, may_use_early, window };
        make_pages::<F, M>(&mut self.tables, &mut frames, va).map_err(BootError::Map)
    }

    /// Tables from the lowest fixed address to the end of the address space.
    fn make_fixmap_tables(&mut self) -> Result<(), BootError> {
        let (fixmap, large) = (self.state.fixmap, F::PAGING.large());
        let mut va = fixmap.address(fixmap.end - 1).align_down(large).0;
        let end = (fixmap.top.0 + large - 1) & !(large - 1);
        while va < end {
            self.make_pages(VirtAddr(va), self.late_window(), true)?;
            va += large;
        }
        Ok(())
    }

    /// Where tables come from once all low memory is mapped.
    pub(super) fn late_window(&self) -> PhysRange {
        PhysRange::new(ISA_END, self.mapped_end())
    }

    /// Tells the witness the whole map: how it grew is no reason for any leaf.
    fn tell_low_map(&mut self) {
        let above = PhysRange::new(ISA_END, self.low_end());
        let regions = self.memblock.memory().regions().iter().map(|region| region.range().intersect(&above));
        let ranges: Vec<PhysRange> = regions.filter(|range| !range.is_empty()).collect();
        let mut limits = Vec::new();
        if self.config.debug_pagealloc().value {
            limits.push((Reason::DebugPagealloc, Sizes::PAGES));
        } else if !self.cpu.pse {
            limits.push((Reason::CpuLacks, Sizes::PAGES));
        }
        let mut rights = Vec::from([Reason::Born(Born::Linear)]);
        rights.extend(self.lacking());
        let hole = Reason::Edge { bound: Bound::IsaHole, at: ISA_HOLE.0 };
        let first = (PhysRange::new(PhysAddr(0), ISA_END), hole, hole);
        let edge = |at| Reason::Edge { bound: self.bound(at), at };
        let rest = ranges.into_iter().map(|range| (range, edge(range.start), edge(range.end)));
        let runs: Vec<(PhysRange, Reason, Reason)> = core::iter::once(first).chain(rest).collect();
        for (memory, start, end) in runs {
            let va = self.state.layout.direct(memory.start);
            let Some(range) = VirtRange::of_size(va, memory.size()) else { continue };
            let (pa, area) = (memory.start, Area::LinearMap);
            self.memblock.observer().mapped(&Mapped { range, pa, area, start, end, limits: &limits, rights: &rights });
        }
    }

    /// What an edge of memory is the edge of.
    fn bound(&self, at: PhysAddr) -> Bound {
        if at == self.low_end() {
            return Bound::LowMemory;
        }
        self.edges.iter().find(|(edge, _)| *edge == at).map_or(Bound::Bank, |(_, bound)| *bound)
    }
}

/// The page table for `va`, made if there is none.
pub(super) fn make_pages<F: I386Format, M: PhysMem>(
    tables: &mut kernmem_pgtable::Tables<'_, F, M>,
    frames: &mut impl FrameSource,
    va: VirtAddr,
) -> Result<PhysAddr, MapError> {
    tables.make_table(va, Level::Pte, table::PAGE, frames)
}
