//! The huge pages of one size.
//!
//! # Invariants
//! 1. `free <= total`, `surplus <= total`, `reserved <= free`: what is reserved is there.
//! 2. `total` is the length of the list.
//!
//! Source: Linux 6.1 mm/hugetlb.c `set_max_huge_pages`, `alloc_pool_huge_page`, `dequeue_huge_page_node_exact`,
//! `free_huge_page`, `update_and_free_page`.

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, Granule, Order, Pfn, PhysMem, Tlb};
use kernmem_page_alloc::{FreeError, Gfp, PageSource};
use kernmem_sparse::Descriptors;
use kernmem_sparse::page::{CompoundKind, Link, compose, dissolve};

use crate::{Env, HugePage, HvoError, PageList, PoolError, hvo};

/// The counters of a pool, as `/proc/meminfo` and sysfs tell them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Pages of the pool.
    pub total: u64,
    /// Pages that nobody has.
    pub free: u64,
    /// Free pages that are promised.
    pub reserved: u64,
    /// Pages above the size that was asked for.
    pub surplus: u64,
}

/// What became of a wish for another size of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resized {
    /// Pages without the surplus, now.
    pub pages: u64,
    /// Why it is not what was asked for.
    pub stopped: Option<PoolError>,
}

/// The huge pages of one size.
#[derive(Debug)]
pub struct Pool<L> {
    order: Order,
    /// Larger blocks than this come from the contiguous allocator.
    max_order: Order,
    list: L,
    reserved: u64,
    surplus: u64,
    /// New pages give the memory of their descriptors back.
    optimize: bool,
}

impl<L: PageList> Pool<L> {
    /// An empty pool of pages of `2^order` frames; the page allocator's largest block has `max_order`.
    pub const fn new(order: Order, max_order: Order, list: L) -> Self {
        Self { order, max_order, list, reserved: 0, surplus: 0, optimize: false }
    }

    /// The order of a page.
    #[must_use]
    pub const fn order(&self) -> Order {
        self.order
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn page_bytes(&self, granule: Granule) -> u64 {
        granule.bytes() << self.order.0
    }

    /// Whether a page is larger than any block of the page allocator.
    #[must_use]
    pub fn is_gigantic(&self) -> bool {
        self.order > self.max_order
    }

    /// Whether pages that come from now on give the memory of their descriptors back (`vm.hugetlb_optimize_vmemmap`).
    /// Pages that have done so stay as they are.
    pub const fn optimize_new(&mut self, optimize: bool) {
        self.optimize = optimize;
    }

    /// The pages.
    #[must_use]
    pub fn pages(&self) -> &[HugePage] {
        self.list.pages()
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let free = self.list.pages().iter().filter(|page| !page.taken).count() as u64;
        let total = self.list.pages().len() as u64;
        Counts { total, free, reserved: self.reserved, surplus: self.surplus }
    }

    /// Makes the pool `pages` pages large, beside the surplus: by asking the page allocator, or by dissolving pages
    /// that nobody has. Pages that somebody has become surplus.
    pub fn resize<F, M, P, T, D>(&mut self, env: &mut Env<'_, '_, F, M, P, T, D>, pages: u64) -> Resized
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        let persistent = |pool: &Self| pool.counts().total - pool.surplus;
        let mut stopped = None;
        // What was surplus and is wanted now is surplus no more.
        let regained = pages.saturating_sub(persistent(self)).min(self.surplus);
        self.surplus -= regained;
        while persistent(self) < pages && stopped.is_none() {
            stopped = self.grow(env).err();
        }
        while persistent(self) > pages && stopped.is_none() {
            let counts = self.counts();
            if counts.free > counts.reserved {
                let free = self.list.pages().iter().rposition(|page| !page.taken);
                stopped = free.map_or(Err(PoolError::Empty), |index| self.dissolve(env, index)).err();
            } else {
                self.surplus += 1;
            }
        }
        Resized { pages: persistent(self), stopped }
    }

    fn grow<F, M, P, T, D>(&mut self, env: &mut Env<'_, '_, F, M, P, T, D>) -> Result<(), PoolError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        let gfp = Gfp::HIGHUSER_MOVABLE | Gfp::COMP | Gfp::NOWARN;
        let pfn = if self.is_gigantic() {
            env.pages.alloc_contig(None, gfp, 1 << self.order.0)?
        } else {
            env.pages.alloc(gfp, self.order)?
        };
        let nid = env.pages.nid_of(pfn).unwrap_or(0);
        self.take_in(env, pfn, nid, false).inspect_err(|_| {
            let given = give(env, pfn, self.order, self.max_order, false);
            debug_assert!(given.is_ok(), "a page that was just taken can be given back");
        })
    }

    /// Takes in a page of `2^order` frames that the caller has, as one block or as single frames in one piece; `of_boot`
    /// says that boot had set it aside.
    ///
    /// # Errors
    /// It is no such page, or is in the pool already; the list is full, or a descriptor cannot be written. The page is
    /// still the caller's.
    pub fn take_in<F, M, P, T, D>(
        &mut self,
        env: &mut Env<'_, '_, F, M, P, T, D>,
        pfn: Pfn,
        nid: u32,
        of_boot: bool,
    ) -> Result<(), PoolError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        if pfn.0 & ((1 << self.order.0) - 1) != 0 {
            return Err(PoolError::Misaligned { pfn });
        }
        if self.list.pages().iter().any(|page| page.pfn == pfn) {
            return Err(PoolError::Present { pfn });
        }
        self.list
            .push(HugePage { pfn, nid, optimized: false, taken: false, of_boot })
            .map_err(|_| PoolError::ListFull)?;
        let index = self.list.pages().len() - 1;
        // Boot may have let the descriptors share their first page already.
        let is_shared = hvo::is_shared(env, pfn, self.order);
        if let Err(error) = mark(env, pfn, self.order, is_shared) {
            self.list.remove(index);
            return Err(error);
        }
        // A page whose descriptors cannot be shared is as good as any other.
        let optimized = is_shared || self.optimize && hvo::optimize(env, pfn, self.order).is_ok();
        if let Some(page) = self.list.pages_mut().get_mut(index) {
            page.optimized = optimized;
        }
        Ok(())
    }

    /// Gives the page at `index`, which nobody has, back to the page allocator. One that has to stay is one too many.
    fn dissolve<F, M, P, T, D>(&mut self, env: &mut Env<'_, '_, F, M, P, T, D>, index: usize) -> Result<(), PoolError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        self.give_up(env, index).inspect_err(|_| self.surplus += 1)
    }

    /// As [`Pool::dissolve`], with the counters as they are.
    fn give_up<F, M, P, T, D>(&mut self, env: &mut Env<'_, '_, F, M, P, T, D>, index: usize) -> Result<(), PoolError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        let page = *self.list.pages().get(index).ok_or(PoolError::Empty)?;
        if page.optimized {
            hvo::restore(env, page.pfn, self.order)?;
            self.list.pages_mut()[index].optimized = false;
        }
        unmark(env, page.pfn, self.order)?;
        if let Err(error) = give(env, page.pfn, self.order, self.max_order, page.of_boot) {
            mark(env, page.pfn, self.order, false)?;
            return Err(error);
        }
        self.list.remove(index);
        Ok(())
    }

    /// Promises `pages` free pages to somebody.
    ///
    /// # Errors
    /// Fewer are free and not promised; nothing was promised.
    pub fn reserve(&mut self, pages: u64) -> Result<(), PoolError> {
        let counts = self.counts();
        if counts.free - counts.reserved < pages {
            return Err(PoolError::Empty);
        }
        self.reserved += pages;
        Ok(())
    }

    /// Takes back a promise of `pages` pages, or what is left of it.
    pub fn unreserve(&mut self, pages: u64) {
        self.reserved -= pages.min(self.reserved);
    }

    /// Takes a free page, on node `nid` if there is a wish; `promised` uses up one promise.
    ///
    /// # Errors
    /// No page is free, or all free ones are promised to others.
    pub fn take(&mut self, nid: Option<u32>, promised: bool) -> Result<Pfn, PoolError> {
        let counts = self.counts();
        let room = if promised { counts.reserved } else { counts.free - counts.reserved };
        if room == 0 {
            return Err(PoolError::Empty);
        }
        let fits = |page: &HugePage| !page.taken && nid.is_none_or(|nid| page.nid == nid);
        let page = self.list.pages_mut().iter_mut().rev().find(|page| fits(page)).ok_or(PoolError::Empty)?;
        page.taken = true;
        let pfn = page.pfn;
        self.reserved -= u64::from(promised);
        Ok(pfn)
    }

    /// Gives a page back to the pool; one too many is dissolved.
    ///
    /// # Errors
    /// It was not taken from here, and nothing has changed; or it could not be dissolved, and is free in the pool.
    pub fn put<F, M, P, T, D>(&mut self, env: &mut Env<'_, '_, F, M, P, T, D>, pfn: Pfn) -> Result<(), PoolError>
    where
        F: EntryFormat,
        M: PhysMem,
        P: PageSource + FrameSource,
        T: Tlb,
        D: Descriptors,
    {
        let index = self.list.pages().iter().position(|page| page.pfn == pfn && page.taken);
        let index = index.ok_or(PoolError::NotTaken { pfn })?;
        self.list.pages_mut()[index].taken = false;
        if self.surplus > 0 {
            self.surplus -= 1;
            // It is counted as surplus again if it has to stay.
            return self.dissolve(env, index);
        }
        Ok(())
    }
}

fn give<F, M, P, T, D>(
    env: &mut Env<'_, '_, F, M, P, T, D>,
    pfn: Pfn,
    order: Order,
    max_order: Order,
    of_boot: bool,
) -> Result<(), PoolError>
where
    F: EntryFormat,
    M: PhysMem,
    P: PageSource,
{
    if of_boot {
        return Ok((pfn.0..pfn.0 + (1 << order.0)).try_for_each(|frame| env.pages.adopt(Pfn(frame)))?);
    }
    let given = if order > max_order { env.pages.free_contig(pfn, 1 << order.0) } else { env.pages.free(pfn, order) };
    match given {
        // Its taker had it as single frames in one piece.
        Err(FreeError::WrongOrder { .. }) if order <= max_order => Ok(env.pages.free_contig(pfn, 1 << order.0)?),
        given => Ok(given?),
    }
}

/// Makes the descriptors of a block those of one huge page; where they share their first page, that one tells for all.
fn mark<F: EntryFormat, M, P, T, D: Descriptors>(
    env: &Env<'_, '_, F, M, P, T, D>,
    pfn: Pfn,
    order: Order,
    is_shared: bool,
) -> Result<(), PoolError> {
    let (era, bytes) = (env.vmemmap.era, env.vmemmap.descriptor_bytes);
    let link = Link::of(era, env.vmemmap.descriptor(pfn), order.0, bytes, true);
    let own = if is_shared { F::shape().granule.bytes() / bytes } else { 1 << order.0 };
    for index in 0..own {
        let words = env.descriptors.words(Pfn(pfn.0 + index))?;
        compose(words, era, index, link, order.0, CompoundKind::HugeTlb);
    }
    Ok(())
}

fn unmark<F: EntryFormat, M, P, T, D: Descriptors>(
    env: &Env<'_, '_, F, M, P, T, D>,
    pfn: Pfn,
    order: Order,
) -> Result<(), PoolError> {
    for index in 0..1 << order.0 {
        dissolve(env.descriptors.words(Pfn(pfn.0 + index))?, env.vmemmap.era, index);
    }
    Ok(())
}

impl From<HvoError> for PoolError {
    fn from(error: HvoError) -> Self {
        Self::Restore(error)
    }
}
