//! Mapping what belongs to somebody else: pages (`vmap`) and device memory (`ioremap`).
//!
//! Source: Linux 6.1 mm/vmalloc.c `vmap`; mm/ioremap.c `ioremap_prot`; mm/vmalloc.c `ioremap_page_range`.

use kernmem_arch::EntryFormat;
use kernmem_base::{Era, FrameSource, Level, Order, Pfn, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;

use crate::{Call, Caller, Env, Request, Store, VmFlags, Vmalloc, VmallocError};

/// Flags of a mapping of pages: 5.10 does not look at `VM_NO_GUARD`, later eras take it away.
///
/// Source: Linux 5.10, 6.1 mm/vmalloc.c `vmap`.
const fn vmap_flags(era: Era, flags: VmFlags) -> VmFlags {
    match era {
        Era::V4_14 | Era::V5_10 => flags,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => flags.without(VmFlags::NO_GUARD),
    }
}

impl<S: Store> Vmalloc<S> {
    /// Maps pages one behind the other, by base pages, with rights that the caller chose (Linux takes execution away
    /// from them). With [`VmFlags::MAP_PUT_PAGES`] the pages belong to the area and `vfree` gives them back.
    ///
    /// # Errors
    /// Nothing is mapped; the pages are the caller's as before; the addresses are lazily freed.
    pub fn vmap<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        pages: &[Pfn],
        flags: VmFlags,
        prot: F::Attrs,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let count = pages.len() as u64;
        let granule = self.rules.granule;
        env.traced(Call::Vmap { pages: count }, |env| {
            self.check_pages(env, count << granule.shift())?;
            let flags = vmap_flags(self.rules.era, flags);
            let request = Request { flags, ..self.request(count << granule.shift(), caller) };
            let id = self.get_area(&mut *env.tlb, &mut *env.trace, &request, granule.shift())?;
            let range = self.usable(&self.area_of(id))?;
            let call = Call::VmapPagesRange { range, shift: granule.shift() };
            if let Err(error) = env.traced(call, |env| env.map_pages(range, pages, prot)) {
                env.release(range, false)?;
                self.abandon(env, id)?;
                return Err(error);
            }
            if flags.contains(VmFlags::MAP_PUT_PAGES)
                && let Some(area) = self.space.area_mut(id)
            {
                area.nr_pages = count;
                area.page_order = Order(0);
            }
            Ok(range.start)
        })
    }

    /// Maps `size` bytes of device memory from `phys` in a window of natural alignment, by blocks where both sides and
    /// the configuration allow them. Returns the address of `phys`, which keeps its offset in the page.
    ///
    /// What may be mapped (no RAM, an address that the bus has) is the caller's to check.
    ///
    /// # Errors
    /// Nothing is mapped; the addresses are lazily freed.
    pub fn ioremap<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        phys: PhysAddr,
        size: u64,
        prot: F::Attrs,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let tables = F::shape().granule;
        if tables != self.rules.granule {
            return Err(VmallocError::BadGranule { tables });
        }
        if size == 0 {
            return Err(VmallocError::Zero);
        }
        let page = tables.bytes();
        let base = phys.align_down(page);
        let end = phys.checked_add(size).and_then(|end| end.align_up(page)).ok_or(VmallocError::TooLarge { size })?;
        let request = Request { flags: VmFlags::IOREMAP, ..self.request(end - base, caller) };
        let id = self.get_area(&mut *env.tlb, &mut *env.trace, &request, tables.shift())?;
        if let Some(area) = self.space.area_mut(id) {
            area.phys = Some(base);
        }
        let range = self.usable(&self.area_of(id))?;
        if let Err(error) = self.map_window(env, range, base, prot) {
            env.release(range, false)?;
            self.abandon(env, id)?;
            return Err(error);
        }
        Ok(range.start + (phys - base))
    }

    fn map_window<F, M, P>(
        &self,
        env: &mut Env<'_, '_, F, M, P>,
        range: VirtRange,
        base: PhysAddr,
        prot: F::Attrs,
    ) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let huge = self.rules.huge;
        let shift = if huge.io { self.rules.ioremap_max_order } else { self.rules.granule.shift() };
        env.traced(Call::VmapRangeNoflush { range, shift }, |env| {
            env.map_run(range, base, prot, |leaf| match leaf.level {
                Level::Pud => huge.io && huge.pud,
                Level::Pmd => huge.io && huge.pmd,
                Level::Pgd | Level::P4d => false,
                Level::Pte => true,
            })
        })
    }

    /// Unmaps a window; `addr` may be anywhere in its first page.
    ///
    /// # Errors
    /// As [`Vmalloc::vunmap`].
    pub fn iounmap<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, addr: VirtAddr) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        self.vunmap(env, addr.align_down(self.rules.granule.bytes()))
    }
}
