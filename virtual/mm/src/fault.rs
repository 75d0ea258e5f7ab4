//! Faults: what an access that the MMU refused brings about.
//!
//! Here: private anonymous memory: the page of zeros, new pages, copy on write.
//! Not here: faults of kernel addresses ([`crate::KernelHalf::fault`]), stack growth, NUMA hints, files.
//!
//! Source: Linux 6.1 mm/memory.c `handle_pte_fault`, `do_anonymous_page`, `do_wp_page`, `wp_page_copy`;
//! arch/arm64/mm/fault.c, arch/x86/mm/fault.c `access_error`.

use core::fmt;

use kernmem_arch::{UserFormat, UserRights};
use kernmem_base::{Access, Era, FrameSource, Level, PhysAddr, PhysMem, Privilege, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;
use kernmem_pgtable::Tables;

use crate::env::Counted;
use crate::{Broken, Env, PageCounts, Region, Space, SpaceError, Store};

/// What a fault did; the access may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handled {
    /// Mapped the page of zeros, read only.
    ZeroPage,
    /// Mapped a new page of zeros.
    NewPage,
    /// Put a new page in the place of the page of zeros.
    FromZeroPage,
    /// Made the page writable in place: no other entry maps it.
    Reused,
    /// Put a copy in the place of a page that others map too.
    Copied,
    /// Marked the page accessed, or accessed and written.
    Marked,
    /// Found nothing to do: the TLB was behind, and forgets the page now.
    Spurious,
}

/// What a program gets instead of its access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// SIGSEGV, SEGV_MAPERR: no region is there.
    MapErr,
    /// SIGSEGV, SEGV_ACCERR: the region does not allow it.
    AccErr,
    /// Memory is short: the killer is asked. Tables that were made stay.
    OutOfMemory,
    /// The kernel made the access to an address of its own: not this space's fault.
    KernelAddress,
    /// Memory or its books are damaged.
    Broken(Broken),
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MapErr => f.write_str("no region is mapped there"),
            Self::AccErr => f.write_str("the region does not allow it"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::KernelAddress => f.write_str("an address of the kernel"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Signal {}

impl<E: Into<SpaceError>> From<E> for Signal {
    fn from(error: E) -> Self {
        match error.into() {
            SpaceError::Broken(broken) => Self::Broken(broken),
            _ => Self::OutOfMemory,
        }
    }
}

/// What may be written in place on a write to a page that is write protected.
///
/// | era | in place if |
/// |---|---|
/// | 4.14 | one entry maps it (UNVERIFIED) |
/// | 5.10 | nobody else counts on it |
/// | 6.1 and later | it is marked exclusive, or nobody else counts on it |
///
/// Pages have no other users here than their entries, so that the three rules agree on every page that a space can
/// have; a frame's own count decides where there is no mark.
///
/// Source: Linux 5.10, 6.1 mm/memory.c `do_wp_page`.
#[must_use]
pub const fn may_reuse(era: Era, is_exclusive: bool, count: u32) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => count == 1,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => is_exclusive || count == 1,
    }
}

/// Whether a region lets an access through. Reading needs any right at all: the CPU is taken to have no EPAN and no
/// protection keys.
const fn allows(rights: UserRights, access: Access) -> bool {
    match access {
        Access::Read => rights.any(),
        Access::Write => rights.write,
        Access::Execute => rights.execute,
    }
}

/// The entry that a fault is about.
#[derive(Clone, Copy)]
struct Fault {
    /// Start of the page.
    page: VirtAddr,
    access: Access,
    /// The table of the last level, and the entry in it.
    table: PhysAddr,
    raw: u64,
    /// Position of the region.
    region: usize,
    rights: UserRights,
}

impl<F: UserFormat, S: Store<Region>> Space<F, S> {
    /// Deals with an access to `va` that the MMU refused.
    ///
    /// # Errors
    /// What the program gets; the space is as it was, but for tables that were made on the way.
    pub fn fault<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Handled, Signal> {
        if va >= Self::top() && privilege == Privilege::Kernel {
            return Err(Signal::KernelAddress);
        }
        let region = self.regions.first_above(va);
        let found = self.regions().get(region).filter(|region| region.start <= va).ok_or(Signal::MapErr)?;
        let rights = found.rights;
        if !allows(rights, access) {
            return Err(Signal::AccErr);
        }
        let page = va.align_down(Self::granule().bytes());
        let table = self.last_table(env, page)?;
        let index = F::shape().level(Level::Pte).index(page);
        let raw = env.mem.entry::<F::Slot>(table, index)?;
        let fault = Fault { page, access, table, raw, region, rights };
        match F::page(env.era, raw).map(|(base, attrs)| (base, Self::usable(env.era, attrs, rights))) {
            None if raw == 0 => self.first_touch(env, &fault),
            None => Err(Signal::Broken(Broken::Foreign { va: page, raw })),
            Some((base, attrs)) if access == Access::Write && !F::is_writable(attrs) => {
                self.write_to_protected(env, &fault, base, attrs)
            }
            Some((base, attrs)) => self.mark(env, &fault, base, attrs),
        }
    }

    /// The attributes that a page without rights has in a region that has some: a change of rights stopped half-way.
    fn usable(era: Era, attrs: F::Attrs, rights: UserRights) -> F::Attrs {
        if F::is_valid(attrs) { attrs } else { F::reprotect(era, attrs, F::protection(era, rights, false)) }
    }

    /// The table of the last level for a page, made where it is missing.
    fn last_table<M: PhysMem, P: FrameSource, T, C>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        page: VirtAddr,
    ) -> Result<PhysAddr, Signal> {
        let mut tables = Tables::<F, M>::new(env.mem, self.root());
        let mut frames = Counted { frames: &mut *env.frames, bytes: &mut self.table_bytes, granule: Self::granule() };
        let made = tables.make_table(page, Level::Pte, F::table(env.era), &mut frames);
        made.map_err(|error| SpaceError::from(error).into())
    }

    fn write_entry<M: PhysMem, P, T, C>(
        &self,
        env: &Env<'_, M, P, T, C>,
        fault: &Fault,
        raw: u64,
    ) -> Result<(), Signal> {
        let last = F::shape().levels.len() - 1;
        let index = F::shape().levels[last].index(fault.page);
        Tables::<F, M>::new(env.mem, self.root()).set_entry(fault.table, last, index, raw)?;
        Ok(())
    }

    fn flush_page<M, P, T: Tlb, C>(&mut self, env: &mut Env<'_, M, P, T, C>, page: VirtAddr) {
        let range = VirtRange { start: page, last: page + (Self::granule().bytes() - 1) };
        self.flush(env.tlb, Some(range), false);
    }

    /// The attributes of a page that was just written.
    fn written(era: Era, rights: UserRights) -> F::Attrs {
        F::make_written(era, F::make_young(F::protection(era, rights, false)))
    }

    /// Nothing is there yet.
    fn first_touch<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        fault: &Fault,
    ) -> Result<Handled, Signal> {
        if fault.access != Access::Write {
            let attrs = F::make_special(F::protection(env.era, fault.rights, false));
            self.write_entry(env, fault, F::page_raw(env.zero_page, attrs))?;
            return Ok(Handled::ZeroPage);
        }
        let page = env.take_zeroed(Self::granule())?;
        self.regions.own_page(fault.region, &mut self.last_group);
        self.write_entry(env, fault, F::page_raw(page, Self::written(env.era, fault.rights)))?;
        self.anon_pages += 1;
        Ok(Handled::NewPage)
    }

    /// A write to a page that others may see too.
    fn write_to_protected<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        fault: &Fault,
        base: PhysAddr,
        attrs: F::Attrs,
    ) -> Result<Handled, Signal> {
        let granule = Self::granule();
        if F::is_special(attrs) {
            let page = env.take_zeroed(granule)?;
            self.replace_page(env, fault, page)?;
            self.anon_pages += 1;
            return Ok(Handled::FromZeroPage);
        }
        let pfn = base.pfn(granule);
        if may_reuse(env.era, env.counts.is_exclusive(pfn)?, env.counts.count(pfn)?) {
            env.counts.make_exclusive(pfn)?;
            let new = F::make_written(env.era, F::make_young(attrs));
            self.write_entry(env, fault, F::page_raw(base, new))?;
            return Ok(Handled::Reused);
        }
        let page = env.take_copy(granule, base)?;
        self.replace_page(env, fault, page)?;
        env.put_page(pfn)?;
        Ok(Handled::Copied)
    }

    /// Puts `page` in the place of what is mapped: clears, flushes, sets, so that no two translations are ever live.
    fn replace_page<M: PhysMem, P, T: Tlb, C>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        fault: &Fault,
        page: PhysAddr,
    ) -> Result<(), Signal> {
        self.regions.own_page(fault.region, &mut self.last_group);
        self.write_entry(env, fault, 0)?;
        self.flush_page(env, fault.page);
        self.write_entry(env, fault, F::page_raw(page, Self::written(env.era, fault.rights)))
    }

    /// The page is there and allows the access: its marks are behind, or the TLB is.
    fn mark<M: PhysMem, P, T: Tlb, C>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        fault: &Fault,
        base: PhysAddr,
        attrs: F::Attrs,
    ) -> Result<Handled, Signal> {
        let young = F::make_young(attrs);
        let new = if fault.access == Access::Write { F::make_written(env.era, young) } else { young };
        let raw = F::page_raw(base, new);
        if raw != fault.raw {
            self.write_entry(env, fault, raw)?;
            return Ok(Handled::Marked);
        }
        self.flush_page(env, fault.page);
        Ok(Handled::Spurious)
    }
}
