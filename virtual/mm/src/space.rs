//! One process's address space: its root, its regions, what it holds.
//!
//! Here: making regions, unmapping, changing rights: the order of checks and the errors of the system calls. Faults,
//! fork and exit have files of their own.
//! Not here: files, shared memory, huge pages, stacks that grow, locked memory, swap.
//!
//! # Invariants
//! 1. Every page of the tables lies in a region; a page that is not special counts one for each entry that maps it.
//! 2. A table below the root exists only if a region lies in the addresses that it translates, or a fault in one made
//!    it and then lacked a page.
//! 3. A page goes back only behind the flush of the last entry that mapped it, and behind the tables that led to it.
//!
//! Source: Linux 6.1 mm/mmap.c `do_mmap`, `do_mas_align_munmap`, mm/mprotect.c `do_mprotect_pkey`.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{UserFormat, UserRights};
use kernmem_base::{Asid, FrameSource, Granule, PhysAddr, PhysMem, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;

use crate::gather::Span;
use crate::{ContextId, Env, Limits, PageCounts, Region, Regions, SpaceError, Store, UserRoot};

/// Where a new region is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Wherever there is room.
    Anywhere,
    /// There if nothing is in the way, else anywhere. Rounded to a page.
    Hint(VirtAddr),
    /// There, in the place of what is there.
    Fixed(VirtAddr),
    /// There, if nothing is there.
    FixedNoReplace(VirtAddr),
}

/// An address space of format `F` whose regions lie in `S`.
pub struct Space<F, S> {
    pub(crate) root: UserRoot,
    pub(crate) regions: Regions<S>,
    pub(crate) limits: Limits,
    pub(crate) asid: Asid,
    pub(crate) table_bytes: u64,
    pub(crate) anon_pages: u64,
    pub(crate) last_group: u32,
    context: ContextId,
    tlb_gen: u64,
    format: PhantomData<F>,
}

impl<F, S> fmt::Debug for Space<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("root", &self.root)
            .field("asid", &self.asid)
            .field("table_bytes", &self.table_bytes)
            .field("anon_pages", &self.anon_pages)
            .finish_non_exhaustive()
    }
}

impl<F: UserFormat, S: Store<Region>> Space<F, S> {
    /// A space without regions; what `store` holds is dropped.
    #[must_use]
    pub fn new(root: UserRoot, limits: Limits, store: S) -> Self {
        Self {
            root,
            regions: Regions::new(store),
            limits,
            asid: Asid(0),
            table_bytes: 0,
            anon_pages: 0,
            last_group: 0,
            context: ContextId::default(),
            tlb_gen: 1,
            format: PhantomData,
        }
    }

    pub(crate) fn granule() -> Granule {
        F::shape().granule
    }

    /// End of the addresses that the tables of user mode translate.
    pub(crate) fn top() -> VirtAddr {
        let shape = F::shape();
        VirtAddr(F::KERNEL_SLOT.map_or(1 << shape.va_bits(), |slot| (slot as u64) << shape.levels[0].shift))
    }

    /// The root table.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root.pa()
    }

    /// The regions, lowest first.
    pub fn regions(&self) -> &[Region] {
        self.regions.as_slice()
    }

    /// The window that the regions lie in.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The number under which TLBs keep its translations.
    #[must_use]
    pub const fn asid(&self) -> Asid {
        self.asid
    }

    /// Gives it another number: as the allocator said at a switch.
    pub const fn retag(&mut self, asid: Asid) {
        self.asid = asid;
    }

    /// What the allocator of numbers remembers of the space: arm64's generation and ASID, or the number by which x86's
    /// CPUs know it.
    #[must_use]
    pub const fn context(&self) -> ContextId {
        self.context
    }

    /// The same, for the allocator to change.
    pub const fn context_mut(&mut self) -> &mut ContextId {
        &mut self.context
    }

    /// Requests for a flush so far, from 1: x86's generation.
    #[must_use]
    pub const fn tlb_gen(&self) -> u64 {
        self.tlb_gen
    }

    /// Makes every CPU forget `range`, or the whole space.
    pub(crate) fn flush(&mut self, tlb: &mut impl Tlb, range: Option<VirtRange>, tables: bool) {
        self.tlb_gen += 1;
        tlb.flush_space(self.asid, range, tables);
    }

    /// Bytes of its tables below the root: Linux's `pgtables_bytes`, where no level is a P4D.
    #[must_use]
    pub const fn table_bytes(&self) -> u64 {
        self.table_bytes
    }

    /// Its own pages in place, the page of zeros not counted: Linux's `MM_ANONPAGES`.
    #[must_use]
    pub const fn anon_pages(&self) -> u64 {
        self.anon_pages
    }

    /// Makes a private anonymous region of `bytes`, rounded up to pages, and returns its start. It merges with a
    /// neighbour that is like it.
    ///
    /// # Errors
    /// Nothing has changed; but with [`Place::Fixed`] what was there is gone if there is no room for one more region.
    pub fn mmap<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        place: Place,
        bytes: u64,
        rights: UserRights,
    ) -> Result<VirtAddr, SpaceError> {
        if bytes == 0 {
            return Err(SpaceError::ZeroLength);
        }
        let page = Self::granule().bytes();
        let bytes = VirtAddr(bytes).align_up(page).ok_or(SpaceError::TooLong { bytes })?.0;
        if self.regions.len() > self.limits.max_regions {
            return Err(SpaceError::TooManyRegions);
        }
        let start = self.place(place, bytes)?;
        let end = start + bytes;
        match (place, self.regions.overlapping(start, end)) {
            (Place::FixedNoReplace(_), Some(region)) => return Err(SpaceError::Exists { va: region.start }),
            (Place::Fixed(_), Some(_)) => self.munmap(env, start, bytes)?,
            _ => {}
        }
        let region = Region::new(start, end, rights);
        self.regions.add(env.era, region).map_err(|_| SpaceError::TooManyRegions)?;
        Ok(start)
    }

    /// Where a region of `bytes` goes.
    fn place(&self, place: Place, bytes: u64) -> Result<VirtAddr, SpaceError> {
        let (page, limits) = (Self::granule().bytes(), &self.limits);
        match place {
            Place::Fixed(va) | Place::FixedNoReplace(va) => {
                if bytes > limits.task_size.0 {
                    return Err(SpaceError::TooLong { bytes });
                }
                if va.0 > limits.task_size.0 - bytes {
                    return Err(SpaceError::Beyond { va, bytes });
                }
                if !va.is_aligned(page) {
                    return Err(SpaceError::Misaligned { va });
                }
                if va < limits.min_addr { Err(SpaceError::BelowMinimum { va }) } else { Ok(va) }
            }
            Place::Hint(_) | Place::Anywhere => {
                if bytes > limits.task_size.0.saturating_sub(limits.min_addr.0) {
                    return Err(SpaceError::TooLong { bytes });
                }
                let hint = match place {
                    Place::Hint(va) if va.align_down(page).0 != 0 => Some(va.align_down(page).max(limits.min_addr)),
                    _ => None,
                };
                self.regions.search(limits, hint, bytes).ok_or(SpaceError::NoRoom { bytes })
            }
        }
    }

    /// Unmaps `[start, start + bytes)`, rounded up to pages; holes are no error.
    ///
    /// # Errors
    /// Nothing has changed; but behind [`SpaceError::Broken`] the regions are gone, and what could not be read of
    /// their tables and pages is lost.
    pub fn munmap<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        start: VirtAddr,
        bytes: u64,
    ) -> Result<(), SpaceError> {
        let page = Self::granule().bytes();
        if !start.is_aligned(page) {
            return Err(SpaceError::Misaligned { va: start });
        }
        if start > self.limits.task_size || bytes > self.limits.task_size - start {
            return Err(SpaceError::Outside { va: start, bytes });
        }
        let bytes = VirtAddr(bytes).align_up(page).ok_or(SpaceError::TooLong { bytes })?.0;
        let Some(range) = VirtRange::of_size(start, bytes) else { return Err(SpaceError::ZeroLength) };
        if self.regions.overlapping(start, range.end()).is_none() {
            return Ok(());
        }
        let is_at_limit = self.regions.len() >= self.limits.max_regions;
        if is_at_limit && self.regions.splits(start, range.end()) {
            return Err(SpaceError::TooManyRegions);
        }
        self.regions.cut(start, range.end()).map_err(|_| SpaceError::TooManyRegions)?;
        let (floor, ceiling) = self.regions.neighbours(start, Self::top());
        self.unmap_pages(env, Span { range, floor, ceiling, is_whole_space: false })
    }

    /// Gives `[start, start + bytes)`, rounded up to pages, other rights.
    ///
    /// # Errors
    /// What lies before the address that the error names, or before the region that found no room, has changed.
    pub fn mprotect<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        start: VirtAddr,
        bytes: u64,
        rights: UserRights,
    ) -> Result<(), SpaceError> {
        let page = Self::granule().bytes();
        if !start.is_aligned(page) {
            return Err(SpaceError::Misaligned { va: start });
        }
        if bytes == 0 {
            return Ok(());
        }
        let bytes = VirtAddr(bytes).align_up(page).ok_or(SpaceError::TooLong { bytes })?.0;
        let end = start.checked_add(bytes).ok_or(SpaceError::Beyond { va: start, bytes })?;
        let mut at = start;
        while at < end {
            let region = *self.regions.find(at).ok_or(SpaceError::NotMapped { va: at })?;
            let part = region.clipped(at, end);
            if part.rights != rights {
                self.change_rights(env, region, part.with_rights(rights))?;
            }
            at = part.end;
        }
        Ok(())
    }

    /// Makes `part` of `region` what it says, regions first.
    fn change_rights<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        region: Region,
        part: Region,
    ) -> Result<(), SpaceError> {
        let is_split = region.start < part.start || part.end < region.end;
        let count = self.regions.len();
        let at = self.regions.first_above(part.start);
        if is_split && count >= self.limits.max_regions && !self.merges_beside(env, at, &region, &part) {
            return Err(SpaceError::TooManyRegions);
        }
        self.regions.change(env.era, at, part).map_err(|_| SpaceError::TooManyRegions)?;
        self.protect_pages(env, &part)
    }

    /// Whether `part`, at one end of `region`, goes with the neighbour there: no region more is needed then.
    fn merges_beside<M, P, T, C>(&self, env: &Env<'_, M, P, T, C>, at: usize, region: &Region, part: &Region) -> bool {
        let regions = self.regions();
        let before = at.checked_sub(1).and_then(|at| regions.get(at)).filter(|_| part.start == region.start);
        let behind = regions.get(at + 1).filter(|_| part.end == region.end);
        before.into_iter().chain(behind).any(|neighbour| neighbour.merges_with(env.era, part))
    }
}
