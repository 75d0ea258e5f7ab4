//! Which memory the commands of the shell have taken, so that `poke` writes into no other.
//!
//! The rights of a mapping are the MMU's business and were asked before. Here is what they do not tell: a table of the
//! kernel's own is as writable to the kernel as a page of somebody's, and a kernel whose tables were overwritten can
//! promise nothing.
//!
//! Not here: the lower half, where a program's pages are mapped and nothing else.

use kernmem::running::caller;
use kernmem_base::{Pfn, PhysAddr, VirtAddr};
use kernmem_vmalloc::Area;

use super::session::Session;

impl Session<'_, '_> {
    /// Whether the byte at `va`, which is mapped to `pa`, was taken by a command.
    pub fn owns(&self, va: VirtAddr, pa: PhysAddr) -> bool {
        let is_lower = va.0 >> 63 == 0;
        is_lower || self.is_given(pa) || self.is_object(va) || self.is_in_area(va) || self.is_behind_area(pa)
    }

    /// In a block of `alloc`, by whatever address it is reached.
    fn is_given(&self, pa: PhysAddr) -> bool {
        let pfn = pa.pfn(self.live.running.facts.granule);
        let block = self.given.range(..=pfn).next_back();
        block.is_some_and(|(start, order)| pfn.0 - start.0 < 1 << order.0)
    }

    /// In an object of `kmalloc`.
    fn is_object(&self, va: VirtAddr) -> bool {
        let object = self.objects.range(..=va).next_back();
        object.is_some_and(|(start, bytes)| va.0 - start.0 < *bytes)
    }

    /// In an area of `vmalloc`; the frames of `vmap` and `ioremap` may be anybody's.
    fn is_in_area(&self, va: VirtAddr) -> bool {
        self.live.running.areas.find_vm_area(va).is_some_and(is_ours)
    }

    /// A page of an area of `vmalloc`, reached by another address.
    fn is_behind_area(&self, pa: PhysAddr) -> bool {
        let running = &self.live.running;
        let granule = running.facts.granule;
        let wanted = Some(pa.pfn(granule));
        let is_at = |area: &Area, page: u64| -> bool {
            let va = area.start.wrapping_add(page << granule.shift());
            let found: Option<Pfn> = running.vmalloc_to_pfn(va).ok().flatten();
            found == wanted
        };
        running.areas.areas().filter(|area| is_ours(area)).any(|area| (0..area.nr_pages).any(|page| is_at(area, page)))
    }
}

/// An area that a command made, with pages of its own.
fn is_ours(area: &Area) -> bool {
    area.nr_pages != 0 && caller(area.caller) == "kernmem"
}
