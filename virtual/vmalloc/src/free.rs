//! Freeing: entries at once, addresses lazily, one flush for all.
//!
//! Source: Linux 6.1 mm/vmalloc.c `__vunmap`, `remove_vm_area`, `free_vmap_area_noflush`, `__purge_vmap_area_lazy`.

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, PhysMem, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;

use crate::tree::Id;
use crate::{Area, Call, Env, Store, Trace, Vmalloc, VmallocError, lazy_max_pages};

impl<S: Store> Vmalloc<S> {
    /// Frees an area with the pages that belong to it. Its entries are cleared and its pages given back at once; its
    /// addresses wait for a purge, which this call makes if too many wait. Address 0 is no area and no mistake.
    ///
    /// # Errors
    /// No area starts there: nothing was changed. A table cannot be read: the area stays, pages before that place are
    /// gone from it and given back.
    pub fn vfree<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, addr: VirtAddr) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        if addr == VirtAddr(0) {
            return Ok(());
        }
        env.traced(Call::Vfree { addr }, |env| {
            let id = self.starting_at(addr)?;
            self.remove(env, id)
        })
    }

    /// Frees an area whose pages are somebody else's, as [`Vmalloc::vfree`] does.
    ///
    /// # Errors
    /// As [`Vmalloc::vfree`]; [`VmallocError::Owned`]: the pages would be lost, nothing was changed.
    pub fn vunmap<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, addr: VirtAddr) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        if addr == VirtAddr(0) {
            return Ok(());
        }
        env.traced(Call::Vunmap { addr }, |env| {
            let id = self.starting_at(addr)?;
            let area = self.area_of(id);
            if area.nr_pages != 0 {
                return Err(VmallocError::Owned { start: area.start });
            }
            self.remove(env, id)
        })
    }

    /// Frees an area in which nothing was ever mapped.
    ///
    /// # Errors
    /// No area starts there; [`VmallocError::Owned`]: it has pages. Nothing was changed.
    pub fn free_vm_area(&mut self, tlb: &mut dyn Tlb, addr: VirtAddr) -> Result<(), VmallocError> {
        let id = self.starting_at(addr)?;
        let area = self.area_of(id);
        if area.nr_pages != 0 {
            return Err(VmallocError::Owned { start: area.start });
        }
        self.free_vmap_area(tlb, &mut (), id);
        Ok(())
    }

    /// The busy range that starts at `addr`.
    pub(crate) fn starting_at(&self, addr: VirtAddr) -> Result<Id, VmallocError> {
        if !addr.is_aligned(self.rules.granule.bytes()) {
            return Err(VmallocError::Misaligned { addr });
        }
        let id = self.space.find(addr).ok_or(VmallocError::Nonexistent { addr })?;
        let start = VirtAddr(self.space.node(id).start);
        if start == addr { Ok(id) } else { Err(VmallocError::Inside { addr, start }) }
    }

    fn remove<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, id: Id) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let area = self.area_of(id);
        let released = match area.usable_range(self.rules.granule) {
            Some(range) => env.traced(Call::VunmapRangeNoflush { range }, |env| env.release(range, area.nr_pages != 0)),
            None => Ok(()),
        };
        // a page that was refused changes nothing about the addresses
        if !matches!(released, Ok(()) | Err(VmallocError::Free(_))) {
            return released;
        }
        self.finish(env, id, &area)?;
        released
    }

    /// Gives up an area whose filling failed: nothing of its own is mapped or taken any more.
    pub(crate) fn abandon<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, id: Id) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let area = self.area_of(id);
        self.finish(env, id, &area)
    }

    /// Frees the addresses of an area, and the area of its array.
    fn finish<F, M, P>(&mut self, env: &mut Env<'_, '_, F, M, P>, id: Id, area: &Area) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        self.free_vmap_area(&mut *env.tlb, &mut *env.trace, id);
        match area.array {
            Some(array) => self.vfree(env, array),
            None => Ok(()),
        }
    }

    /// Moves a busy range to the lazily freed ones, and purges if they are too many.
    ///
    /// All eras purge here: 5.10 does so too, if nobody else is about it; 6.1 and later leave it to a work item.
    fn free_vmap_area(&mut self, tlb: &mut dyn Tlb, trace: &mut dyn Trace, id: Id) {
        let node = self.space.node(id);
        let call = Call::FreeVmapAreaNoflush { start: VirtAddr(node.start), size: node.size() };
        trace.enter(&call);
        self.space.free_lazily(id);
        if self.lazy_pages() > lazy_max_pages(self.rules.online_cpus, self.rules.granule) {
            self.purge_traced(tlb, trace);
        }
        trace.leave(&call, true);
    }

    /// Pages of addresses that wait for a purge, guard pages too.
    #[must_use]
    pub const fn lazy_pages(&self) -> u64 {
        self.space.lazy_bytes() >> self.rules.granule.shift()
    }

    /// Flushes once, from the first lazily freed address to the last, and makes all of them free. Returns what was
    /// flushed; `None` if nothing waited.
    pub fn purge(&mut self, tlb: &mut dyn Tlb) -> Option<VirtRange> {
        self.purge_traced(tlb, &mut ())
    }

    pub(crate) fn purge_traced(&mut self, tlb: &mut dyn Tlb, trace: &mut dyn Trace) -> Option<VirtRange> {
        let range = self.space.lazy_bounds()?;
        let call = Call::PurgeVmapAreaLazy { range };
        trace.enter(&call);
        tlb.flush(range, false);
        self.space.merge_lazy();
        trace.leave(&call, true);
        Some(range)
    }

    /// Makes sure that no CPU can use an address that was freed, before rights are changed: a purge. There are no blocks
    /// of `vm_map_ram` that could be dirty.
    ///
    /// Source: Linux 6.1 mm/vmalloc.c `vm_unmap_aliases`.
    pub fn vm_unmap_aliases(&mut self, tlb: &mut dyn Tlb) -> Option<VirtRange> {
        self.purge(tlb)
    }
}
