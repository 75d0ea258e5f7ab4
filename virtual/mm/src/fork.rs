//! Fork: a second space that sees the same bytes, and shares every page until one of the two writes it.
//!
//! Source: Linux 6.1 kernel/fork.c `dup_mmap`, mm/memory.c `copy_page_range`, `copy_present_pte`; mm/rmap.c
//! `anon_vma_fork`.

use core::fmt;
use core::ops::ControlFlow;

use kernmem_arch::UserFormat;
use kernmem_base::{FrameSource, Level, PhysMem, Tlb, VirtRange};
use kernmem_page_alloc::PageSource;
use kernmem_pgtable::Tables;

use crate::env::Counted;
use crate::pages::{PageSlot, each_page};
use crate::region::Anon;
use crate::{Broken, Env, PageCounts, Region, Space, SpaceError, Store, UserRoot};

/// A fork that was undone: why, and the child's root, for the kernel half to free.
#[derive(Debug)]
pub struct ForkFailed {
    /// Why.
    pub error: SpaceError,
    /// The child's root, empty again.
    pub root: UserRoot,
}

impl fmt::Display for ForkFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for ForkFailed {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<F: UserFormat, S: Store<Region>> Space<F, S> {
    /// Makes a child under `root`, whose regions go into `store`. Pages are shared, write protected on both
    /// sides; regions that never had a page of their own are faulted in anew by the child.
    ///
    /// # Errors
    /// Every page and table that the child had got is back. Pages of the parent may have stayed write protected: the
    /// next write finds itself alone and goes on in place.
    pub fn fork<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts, S2: Store<Region>>(
        &mut self,
        env: &mut Env<'_, M, P, T, C>,
        root: UserRoot,
        store: S2,
    ) -> Result<Space<F, S2>, ForkFailed> {
        let mut child = Space::<F, S2>::new(root, self.limits, store);
        if child.regions.room() < self.regions.len() {
            return Err(ForkFailed { error: SpaceError::TooManyRegions, root: child.root });
        }
        let mut protected = None;
        let copied = self.copy_regions(env, &mut child, &mut protected);
        if let Some(range) = protected {
            self.flush(env.tlb, Some(range), false);
        }
        match copied {
            Ok(()) => Ok(child),
            Err(error) => {
                let (root, undone) = child.exit(env);
                Err(ForkFailed { error: undone.err().unwrap_or(error), root })
            }
        }
    }

    fn copy_regions<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts, S2: Store<Region>>(
        &self,
        env: &mut Env<'_, M, P, T, C>,
        child: &mut Space<F, S2>,
        protected: &mut Option<VirtRange>,
    ) -> Result<(), SpaceError> {
        for region in self.regions() {
            let anon = child.inherit(region.anon);
            child.regions.push(Region { anon, ..*region }).map_err(|_| SpaceError::TooManyRegions)?;
            if let (Some(_), Some(range)) = (region.anon.group, region.range()) {
                self.copy_pages(env, child, range, protected)?;
            }
        }
        Ok(())
    }

    /// The owners of a child's region: a group of its own, behind those of its parent.
    fn inherit(&mut self, parent: Anon) -> Anon {
        if parent.group.is_none() {
            return Anon::default();
        }
        self.last_group += 1;
        Anon { group: Some(self.last_group), links: parent.links.saturating_add(1) }
    }

    fn copy_pages<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts, S2: Store<Region>>(
        &self,
        env: &mut Env<'_, M, P, T, C>,
        child: &mut Space<F, S2>,
        range: VirtRange,
        protected: &mut Option<VirtRange>,
    ) -> Result<(), SpaceError> {
        let walked = each_page::<F, M, SpaceError>(env.mem, self.root(), range, |slot| {
            match self.copy_page(env, child, slot, protected) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match walked {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Maps one page of the parent in the child too.
    fn copy_page<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts, S2: Store<Region>>(
        &self,
        env: &mut Env<'_, M, P, T, C>,
        child: &mut Space<F, S2>,
        slot: PageSlot,
        protected: &mut Option<VirtRange>,
    ) -> Result<(), SpaceError> {
        let (era, granule) = (env.era, Self::granule());
        let last = F::shape().levels.len() - 1;
        let (base, attrs) = F::page(era, slot.raw).ok_or(Broken::Foreign { va: slot.va, raw: slot.raw })?;
        let mut tables = Tables::<F, M>::new(env.mem, child.root());
        let mut frames = Counted { frames: &mut *env.frames, bytes: &mut child.table_bytes, granule };
        let table = tables.make_table(slot.va, Level::Pte, F::table(era), &mut frames)?;
        let shared = F::write_protect(era, attrs);
        tables.set_entry(table, last, slot.index, F::page_raw(base, F::make_old(shared)))?;
        if !F::is_special(attrs) {
            if let Err(error) = env.counts.share(base.pfn(granule)) {
                tables.set_entry(table, last, slot.index, 0)?;
                return Err(error.into());
            }
            child.anon_pages += 1;
        }
        if F::is_writable(attrs) {
            Tables::<F, M>::new(env.mem, self.root()).set_entry(
                slot.table,
                last,
                slot.index,
                F::page_raw(base, shared),
            )?;
            let start = protected.map_or(slot.va, |range| range.start);
            *protected = Some(VirtRange { start, last: slot.va + (granule.bytes() - 1) });
        }
        Ok(())
    }
}
