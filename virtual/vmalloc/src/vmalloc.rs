//! The allocator of areas: `vmalloc` and its family.
//!
//! ```text
//! vmalloc -> __vmalloc_node -> __vmalloc_node_range -> __get_vm_area_node -> alloc_vmap_area
//!                                                   -> __vmalloc_area_node -> vm_area_alloc_pages
//!                                                                          -> vmap_pages_range
//! ```
//!
//! # Invariants
//! 1. A failed call leaves no pages behind; the addresses that it had are lazily freed, as in Linux.
//! 2. While a call fills an area, the area is marked [`VmFlags::UNINITIALIZED`].
//!
//! Source: Linux 6.1 mm/vmalloc.c `__vmalloc_node_range`, `__get_vm_area_node`, `__vmalloc_area_node`.

use kernmem_arch::EntryFormat;
use kernmem_base::{Era, FrameSource, Order, Pfn, PhysMem, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::search::Wanted;
use crate::space::{Refused, Space};
use crate::tree::Id;
use crate::{
    Area, Broken, Call, Caller, Env, Request, Rules, Store, Trace, VmFlags, VmallocError, ioremap_align, vmalloc_shift,
};

/// Free, busy and lazily freed kernel addresses.
#[derive(Clone, Debug)]
pub struct Vmalloc<S> {
    pub(crate) space: Space<S>,
    pub(crate) rules: Rules,
}

/// Bytes of a page pointer.
const POINTER: u64 = 8;

/// What says from which zone memory comes.
const ZONES: Gfp = Gfp(Gfp::DMA.0 | Gfp::HIGHMEM.0 | Gfp::DMA32.0 | Gfp::MOVABLE.0);

/// Pages that one bulk request asks for.
const BULK: usize = 100;

impl<S: Store> Vmalloc<S> {
    pub(crate) const fn new(space: Space<S>, rules: Rules) -> Self {
        Self { space, rules }
    }

    /// The configuration.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A request for `size` bytes with vmalloc's defaults: any address of the default range, any node.
    #[must_use]
    pub const fn request(&self, size: u64, caller: Caller) -> Request {
        Request {
            size,
            align: 1,
            start: self.rules.start,
            end: self.rules.end,
            gfp: Gfp::KERNEL,
            nid: None,
            flags: VmFlags(0),
            caller,
        }
    }

    /// Allocates `size` bytes of mapped pages; returns their address.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_node_range`].
    pub fn vmalloc<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        size: u64,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let request = self.request(size, caller);
        env.traced(Call::Vmalloc { size }, |env| self.default_node(env, &request))
    }

    /// As [`Vmalloc::vmalloc`], of zeroed pages.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_node_range`].
    pub fn vzalloc<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        size: u64,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let request = Request { gfp: Gfp::KERNEL | Gfp::ZERO, ..self.request(size, caller) };
        env.traced(Call::Vzalloc { size }, |env| self.default_node(env, &request))
    }

    /// As [`Vmalloc::vmalloc`], with pages of node `nid` where it has some.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_node_range`].
    pub fn vmalloc_node<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        size: u64,
        nid: u32,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let request = Request { nid: Some(nid), ..self.request(size, caller) };
        self.default_node(env, &request)
    }

    /// As [`Vmalloc::vmalloc`], in blocks if the request is large enough and they can be had.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_node_range`].
    pub fn vmalloc_huge<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        size: u64,
        caller: Caller,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let request = Request { flags: VmFlags::ALLOW_HUGE_VMAP, ..self.request(size, caller) };
        env.traced(Call::VmallocHuge { size }, |env| self.vmalloc_node_range(env, &request))
    }

    fn default_node<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let &Request { size, align, gfp, nid, .. } = request;
        env.traced(Call::VmallocNode { size, align, gfp, nid }, |env| self.vmalloc_node_range(env, request))
    }

    /// Allocates what `request` says and maps it with the rights of `env`; returns the address. A request that allows
    /// blocks is tried again with pages if anything fails.
    ///
    /// # Errors
    /// Nothing is left but lazily freed addresses and tables that stay for reuse.
    pub fn vmalloc_node_range<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let &Request { size, align, start, end, nid, .. } = request;
        let call = Call::VmallocNodeRange { size, align, start, end, nid };
        env.traced(call, |env| {
            self.check_pages(env, size)?;
            let page_shift = self.rules.granule.shift();
            let shift = if request.flags.contains(VmFlags::ALLOW_HUGE_VMAP) {
                vmalloc_shift(&self.rules, Env::<F, M, P>::pmd_shift(), size, nid)
            } else {
                page_shift
            };
            match self.vmalloc_shifted(env, request, shift) {
                Err(_) if shift > page_shift => self.vmalloc_shifted(env, request, page_shift),
                done => done,
            }
        })
    }

    /// What every operation that maps pages checks of its size.
    pub(crate) fn check_pages<F: EntryFormat, M, P>(
        &self,
        env: &Env<'_, '_, F, M, P>,
        size: u64,
    ) -> Result<(), VmallocError> {
        let tables = F::shape().granule;
        if tables != self.rules.granule {
            return Err(VmallocError::BadGranule { tables });
        }
        if size == 0 {
            return Err(VmallocError::Zero);
        }
        if size >> tables.shift() > env.total_pages {
            return Err(VmallocError::TooLarge { size });
        }
        Ok(())
    }

    /// One try, with blocks of `2^shift` bytes.
    fn vmalloc_shifted<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
        shift: u32,
    ) -> Result<VirtAddr, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let request = Request {
            align: request.align.max(if shift > self.rules.granule.shift() { 1 << shift } else { 1 }),
            flags: request.flags | VmFlags::ALLOC | VmFlags::UNINITIALIZED,
            ..*request
        };
        let wanted = request.size.checked_next_multiple_of(1 << shift).map(|size| size >> self.rules.granule.shift());
        let wanted = wanted.ok_or(VmallocError::TooLarge { size: request.size })?;
        let lent = env.list.len() as u64;
        if wanted > lent {
            return Err(VmallocError::NoList { wanted, lent });
        }
        let id = self.get_area(&mut *env.tlb, &mut *env.trace, &request, shift)?;
        let area = self.area_of(id);
        // the guard page is not part of the block-rounded range
        let range = self.usable(&area)?;
        match env.traced(Call::VmallocAreaNode { range, shift }, |env| self.fill_area(env, &request, id, range, shift))
        {
            Ok(()) => Ok(range.start),
            Err(error) => {
                self.abandon(env, id)?;
                Err(error)
            }
        }
    }

    /// The area of a busy range that this crate has just bound.
    pub(crate) fn area_of(&self, id: Id) -> Area {
        self.space.node(id).area.expect("a busy range has an area")
    }

    pub(crate) fn usable(&self, area: &Area) -> Result<VirtRange, VmallocError> {
        area.usable_range(self.rules.granule).ok_or(VmallocError::Zero)
    }

    /// Takes the pages of an area and maps them.
    fn fill_area<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
        id: Id,
        range: VirtRange,
        shift: u32,
    ) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let page_shift = self.rules.granule.shift();
        let (pages, order) = (range.size() >> page_shift, Order((shift - page_shift) as u8));
        let array = self.page_array(env, request, pages * POINTER)?;
        let request = &Request { gfp: page_gfp(request.gfp), ..*request };
        if let Some(area) = self.space.area_mut(id) {
            area.array = array;
        }
        let list = core::mem::take(&mut env.list);
        let done = self.fill_from(env, request, &mut list[..pages as usize], (range, order, shift));
        env.list = list;
        done?;
        if let Some(area) = self.space.area_mut(id) {
            area.nr_pages = pages;
            area.page_order = order;
            area.flags = area.flags.without(VmFlags::UNINITIALIZED);
        }
        Ok(())
    }

    /// The array of page pointers: larger than a page, it is an area of its own; else it is the slab's business.
    fn page_array<F, M, P>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
        size: u64,
    ) -> Result<Option<VirtAddr>, VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        if size <= self.rules.granule.bytes() {
            return env.traced(Call::KmallocNode { size }, |_| Ok(None));
        }
        let gfp = Gfp(request.gfp.0 & !ZONES.0) | Gfp::ZERO;
        let nested = Request { nid: request.nid, gfp, ..self.request(size, request.caller) };
        self.default_node(env, &nested).map(Some)
    }

    /// Takes pages into `list` and maps them; gives all back if anything fails.
    fn fill_from<F, M, P>(
        &self,
        env: &mut Env<'_, '_, F, M, P>,
        request: &Request,
        list: &mut [Pfn],
        (range, order, shift): (VirtRange, Order, u32),
    ) -> Result<(), VmallocError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
    {
        let wanted = list.len() as u64;
        let got = env.traced(Call::VmAreaAllocPages { pages: wanted, order }, |env| {
            Ok(self.take_pages(env.pages, request, list, order))
        })?;
        if got < list.len() {
            env.pages.free_bulk(&list[..got]).map_err(VmallocError::Free)?;
            return Err(VmallocError::NoPages { got: got as u64, wanted });
        }
        let prot = env.prot;
        let mapped = env.traced(Call::VmapPagesRange { range, shift }, |env| match order {
            Order(0) => env.map_pages(range, list, prot),
            Order(_) => map_blocks(env, range, list, shift),
        });
        if mapped.is_err() {
            // the pages go back with the list, the entries that were written are cleared first
            env.release(range, false)?;
            env.pages.free_bulk(list).map_err(VmallocError::Free)?;
        }
        mapped
    }

    /// Fills `list` with base pages; returns how many were given.
    ///
    /// | era | pages of a request without blocks |
    /// |---|---|
    /// | 4.14, 5.10 | one by one (4.14 UNVERIFIED) |
    /// | 6.1, 6.12 | lots of at most 100, then one by one |
    /// | 7.2 | the largest blocks first, split; then as 6.12 |
    ///
    /// With blocks every era takes those, each of which is split.
    ///
    /// Source: Linux 6.1, 7.2 mm/vmalloc.c `vm_area_alloc_pages`.
    fn take_pages(&self, pages: &mut impl PageSource, request: &Request, list: &mut [Pfn], order: Order) -> usize {
        let mut got = 0;
        if order == Order(0) {
            match self.rules.era {
                Era::V4_14 | Era::V5_10 => {}
                Era::V6_1 | Era::V6_12 => got = take_bulk(pages, request, list, 0),
                Era::V7_2 => {
                    got = take_largest(pages, request, list, self.rules.max_page_order);
                    got = take_bulk(pages, request, list, got);
                }
            }
        }
        while got < list.len() {
            let Ok(first) = pages.alloc_on(request.nid, request.gfp, order) else { break };
            got += spread(first, &mut list[got..], order);
        }
        got
    }

    /// Makes an area without pages: an address for somebody else's mapping. Purges once if there is no hole.
    ///
    /// # Errors
    /// Nothing was taken.
    ///
    /// Source: Linux 6.1 mm/vmalloc.c `__get_vm_area_node`.
    pub fn get_vm_area(&mut self, tlb: &mut dyn Tlb, request: &Request) -> Result<Area, VmallocError> {
        let id = self.get_area(tlb, &mut (), request, self.rules.granule.shift())?;
        Ok(self.area_of(id))
    }

    /// Makes an area of a size rounded to `2^shift` bytes.
    pub(crate) fn get_area(
        &mut self,
        tlb: &mut dyn Tlb,
        trace: &mut dyn Trace,
        request: &Request,
        shift: u32,
    ) -> Result<Id, VmallocError> {
        let too_large = VmallocError::TooLarge { size: request.size };
        let size = request.size.checked_next_multiple_of(1 << shift).ok_or(too_large)?;
        let align = if request.flags.contains(VmFlags::IOREMAP) {
            ioremap_align(size, self.rules.granule, self.rules.ioremap_max_order)
        } else {
            request.align
        };
        let call = Call::GetVmAreaNode { size, align, shift };
        trace.enter(&call);
        let found = self.find_area(tlb, trace, request, (size, align));
        trace.leave(&call, found.is_ok());
        found
    }

    fn find_area(
        &mut self,
        tlb: &mut dyn Tlb,
        trace: &mut dyn Trace,
        request: &Request,
        (size, align): (u64, u64),
    ) -> Result<Id, VmallocError> {
        let page = self.rules.granule.bytes();
        if size == 0 {
            return Err(VmallocError::Zero);
        }
        trace.enter(&Call::KzallocNode);
        trace.leave(&Call::KzallocNode, true);
        let guard = if request.flags.contains(VmFlags::NO_GUARD) { 0 } else { page };
        let size = size.checked_add(guard).ok_or(VmallocError::TooLarge { size })?;
        let (start, end) = (request.start, request.end);
        let call = Call::AllocVmapArea { size, align, start, end };
        trace.enter(&call);
        let found = self.alloc_vmap_area(tlb, trace, Wanted { size, align, start: start.0, end: end.0 });
        trace.leave(&call, found.is_ok());
        let id = found?;
        let addr = VirtAddr(self.space.node(id).start);
        let call = Call::SetupVmallocVm { addr };
        trace.enter(&call);
        self.space.set_area(id, Area::new(addr, size, request.flags, request.caller));
        trace.leave(&call, true);
        Ok(id)
    }

    /// Finds addresses; purges once where there are none.
    ///
    /// Source: Linux 6.1 mm/vmalloc.c `alloc_vmap_area`.
    fn alloc_vmap_area(
        &mut self,
        tlb: &mut dyn Tlb,
        trace: &mut dyn Trace,
        wanted: Wanted,
    ) -> Result<Id, VmallocError> {
        let Wanted { size, align, start, end } = wanted;
        let page = self.rules.granule.bytes();
        let (first, behind) = (VirtAddr(start), VirtAddr(end));
        if !align.is_power_of_two() {
            return Err(VmallocError::BadAlign { align });
        }
        if start < page || !first.is_aligned(page) || start >= end {
            return Err(VmallocError::BadRange { start: first, end: behind });
        }
        let mut found = self.space.alloc(self.rules.era, page, &wanted);
        if found == Err(Refused::NoHole) && self.purge_traced(tlb, trace).is_some() {
            found = self.space.alloc(self.rules.era, page, &wanted);
        }
        found.map_err(|refused| match refused {
            Refused::NoHole => VmallocError::NoSpace { size, start: first, end: behind },
            Refused::NoNode => VmallocError::NoNode,
            Refused::Overlap(start) => VmallocError::Overlap { start },
        })
    }

    /// Checks every invariant of the trees and that areas and ranges agree.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn audit(&self) -> Result<(), Broken> {
        self.space.audit()?;
        for node in self.space.busy() {
            let is_equal = node.area.is_some_and(|area| area.start.0 == node.start && area.size == node.size());
            if !is_equal {
                return Err(Broken::Area { at: VirtAddr(node.start) });
            }
        }
        Ok(())
    }
}

/// How the pages of an area are asked for: any zone will do unless one was named, and a failure is told by the caller.
///
/// Source: Linux 6.1 mm/vmalloc.c `__vmalloc_area_node`.
const fn page_gfp(gfp: Gfp) -> Gfp {
    let names_zone = gfp.0 & (Gfp::DMA.0 | Gfp::DMA32.0) != 0;
    Gfp(gfp.0 | Gfp::NOWARN.0 | if names_zone { 0 } else { Gfp::HIGHMEM.0 })
}

/// Maps frames that were taken in blocks, block by block.
fn map_blocks<F, M, P>(
    env: &mut Env<'_, '_, F, M, P>,
    range: VirtRange,
    list: &[Pfn],
    shift: u32,
) -> Result<(), VmallocError>
where
    F: EntryFormat,
    M: PhysMem,
    P: PageSource + FrameSource,
{
    let granule = F::shape().granule;
    let (prot, mut at) = (env.prot, range.start);
    for block in list.chunks(1 << (shift - granule.shift())) {
        let too_large = VmallocError::TooLarge { size: 1 << shift };
        let part = VirtRange::of_size(at, 1 << shift).ok_or(too_large)?;
        let pa = block[0].to_phys(granule).ok_or(too_large)?;
        let call = Call::VmapRangeNoflush { range: part, shift };
        env.traced(call, |env| env.map_run(part, pa, prot, |leaf| leaf.bytes <= 1 << shift))?;
        at = part.end();
    }
    Ok(())
}

/// Writes the base pages of a block into the list; returns how many.
fn spread(first: Pfn, list: &mut [Pfn], order: Order) -> usize {
    let pages = 1 << order.0;
    for (frame, slot) in (first.0..).zip(&mut list[..pages]) {
        *slot = Pfn(frame);
    }
    pages
}

/// Lots of pages behind the first `got` of the list, until one comes back short.
fn take_bulk(pages: &mut impl PageSource, request: &Request, list: &mut [Pfn], mut got: usize) -> usize {
    // a bulk request of the source names no node
    while got < list.len() && request.nid.is_none() {
        let lot = (list.len() - got).min(BULK);
        let given = pages.alloc_bulk(request.gfp, &mut list[got..got + lot]);
        got += given;
        if given < lot {
            break;
        }
    }
    got
}

/// The largest blocks first, lowered on failure.
fn take_largest(pages: &mut impl PageSource, request: &Request, list: &mut [Pfn], max_order: u8) -> usize {
    let (mut got, mut most) = (0, max_order);
    while got < list.len() {
        most = most.min((list.len() - got).ilog2() as u8);
        if most == 0 {
            break;
        }
        match pages.alloc_on(request.nid, request.gfp, Order(most)) {
            Ok(first) => got += spread(first, &mut list[got..], Order(most)),
            Err(_) => most -= 1,
        }
    }
    got
}
