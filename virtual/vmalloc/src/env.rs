//! What a call works with, lent by the caller.
//!
//! # Invariants
//! 1. Every debt of a cleared range is carried by the lazily freed range that holds it: only a purge makes the addresses
//!    free, and it flushes first.
//!
//! Source: Linux 6.1 mm/vmalloc.c `vmap_pages_range`, `vmap_range_noflush`, `vunmap_range_noflush`.

use core::fmt;

use kernmem_arch::{Entry, EntryFormat, LeafSize};
use kernmem_base::{FrameSource, Level, Pfn, PhysAddr, PhysMem, Tlb, VirtAddr, VirtRange};
use kernmem_page_alloc::PageSource;
use kernmem_pgtable::{Mapping, Sizes, Stale, Tables, steps};

use crate::modified::Watched;
use crate::{Call, Modified, Trace, VmallocError};

/// Tables, frames, TLB and observer of one call.
pub struct Env<'e, 'm, F: EntryFormat, M, P> {
    /// The kernel's tables.
    pub tables: &'e mut Tables<'m, F, M>,
    /// Pages for areas and frames for tables.
    pub pages: &'e mut P,
    /// How a purge is flushed.
    pub tlb: &'e mut dyn Tlb,
    /// Who is told what happens.
    pub trace: &'e mut dyn Trace,
    /// Room for the frames of one area while it is filled: Linux's array of page pointers. Afterwards they are read
    /// back from the tables.
    pub list: &'e mut [Pfn],
    /// Rights of pages, in the form of a base page (`PAGE_KERNEL`).
    pub prot: F::Attrs,
    /// Attributes of entries that link tables.
    pub table_attrs: F::Attrs,
    /// Pages of all memory (`totalram_pages`).
    pub total_pages: u64,
    /// Levels that calls changed since the caller last cleared it, also those of a call that failed: x86 must tell
    /// other spaces of its upper ones.
    pub modified: Modified,
}

impl<F: EntryFormat, M, P> fmt::Debug for Env<'_, '_, F, M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("prot", &self.prot)
            .field("table_attrs", &self.table_attrs)
            .field("total_pages", &self.total_pages)
            .field("modified", &self.modified)
            .finish_non_exhaustive()
    }
}

/// A debt that a lazily freed range carries.
const CARRIED: &str = "the range is busy now and lazily freed next; the purge flushes it whole";

/// Runs of frames that are looked at before they are cleared.
const RUNS: usize = 32;

/// Frames behind the start of a range.
struct Collected {
    /// First frame and length of each run.
    runs: [(Pfn, u64); RUNS],
    /// Runs that were found.
    count: usize,
    /// The last address that they cover.
    last: VirtAddr,
}

impl<F: EntryFormat, M: PhysMem, P: PageSource + FrameSource> Env<'_, '_, F, M, P> {
    /// Tells the observer of a call, around `work`.
    pub(crate) fn traced<T>(
        &mut self,
        call: Call,
        work: impl FnOnce(&mut Self) -> Result<T, VmallocError>,
    ) -> Result<T, VmallocError> {
        self.trace.enter(&call);
        let done = work(self);
        self.trace.leave(&call, done.is_ok());
        done
    }

    /// log2 of a block of the middle level, if the format has one.
    pub(crate) fn pmd_shift() -> Option<u32> {
        F::shape().levels.iter().find(|shape| shape.level == Level::Pmd && shape.leaf).map(|shape| shape.shift)
    }

    /// Maps one physical run with the leaf sizes that `keep` allows. Nothing is mapped there yet.
    ///
    /// # Errors
    /// The tables refused; what was mapped before that stays.
    pub(crate) fn map_run(
        &mut self,
        range: VirtRange,
        pa: PhysAddr,
        prot: F::Attrs,
        keep: impl Fn(&LeafSize) -> bool,
    ) -> Result<(), VmallocError> {
        let sizes = Sizes::only(F::shape(), |leaf| !leaf.contiguous && keep(leaf));
        self.drop_empty_tables(range, pa, sizes)?;
        let mapping = Mapping::<F>::new(pa, prot, sizes).with_table_attrs(self.table_attrs);
        let mut frames = Watched { frames: &mut *self.pages, modified: &mut self.modified, levels: F::shape().levels };
        match self.tables.cursor(range).map(&mut frames, &mapping) {
            Ok(fresh) => fresh.forgive("a fresh mapping owes nothing"),
            Err(failed) => {
                failed.stale.forgive(CARRIED);
                return Err(failed.error.into());
            }
        }
        self.note_leaves(range)
    }

    /// Adds the levels of the leaves of `range`: one look per table of pages.
    fn note_leaves(&mut self, range: VirtRange) -> Result<(), VmallocError> {
        let levels = F::shape().levels;
        let block = levels[levels.len() - 2].bytes();
        let mut at = range.start;
        loop {
            for step in steps::<F, M>(self.tables.mem(), self.tables.root(), at) {
                let step = step?;
                if matches!(step.entry, Entry::Leaf { .. }) {
                    self.modified.add(step.level);
                }
            }
            let last = VirtAddr(at.0 | (block - 1));
            if last >= range.last {
                return Ok(());
            }
            at = last + 1;
        }
    }

    /// Frees empty tables that stand where `range` gets blocks.
    ///
    /// Source: Linux 6.1 arch/arm64/mm/mmu.c `pmd_free_pte_page`, `pud_free_pmd_page`.
    fn drop_empty_tables(&mut self, range: VirtRange, pa: PhysAddr, sizes: Sizes) -> Result<(), VmallocError> {
        let granule = F::shape().granule.bytes();
        for leaf in sizes.leaves(F::shape()).filter(|leaf| leaf.bytes > granule) {
            let Some(mut at) = range.start.align_up(leaf.bytes) else { continue };
            if (range.start.0 ^ pa.0) & (leaf.bytes - 1) != 0 {
                continue;
            }
            while let Some(block) = VirtRange::of_size(at, leaf.bytes)
                && range.contains(block.start)
                && range.contains(block.last)
            {
                if self.has_table(at, leaf.level)? {
                    self.modified.add(leaf.level);
                    match self.tables.cursor(block).unmap() {
                        Ok(stale) => self.pay(stale),
                        Err(failed) => {
                            self.pay(failed.stale);
                            return Err(failed.error.into());
                        }
                    }
                }
                at = block.end();
            }
        }
        Ok(())
    }

    /// Whether the entry of `level` for `va` links a table.
    fn has_table(&self, va: VirtAddr, level: Level) -> Result<bool, VmallocError> {
        for step in steps::<F, M>(self.tables.mem(), self.tables.root(), va) {
            let step = step?;
            if step.level == level {
                return Ok(matches!(step.entry, Entry::Table { .. }));
            }
        }
        Ok(false)
    }

    fn pay(&mut self, stale: Stale) {
        stale.pay(&mut &mut *self.tlb, self.tables, self.pages);
    }

    /// Maps frames one behind the other by base pages; neighbours in one descent.
    ///
    /// # Errors
    /// As [`Env::map_run`].
    pub(crate) fn map_pages(&mut self, range: VirtRange, list: &[Pfn], prot: F::Attrs) -> Result<(), VmallocError> {
        let granule = F::shape().granule;
        let mut at = range.start;
        for run in list.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
            let bytes = run.len() as u64 * granule.bytes();
            let part = VirtRange::of_size(at, bytes).ok_or(VmallocError::TooLarge { size: bytes })?;
            let pa = run[0].to_phys(granule).ok_or(VmallocError::TooLarge { size: run[0].0 })?;
            self.map_run(part, pa, prot, |_| false)?;
            at = part.end();
        }
        Ok(())
    }

    /// Clears every leaf of a range, whose addresses become lazily freed next, and gives the frames back if they are
    /// the area's own. Frames go back before the flush, as in Linux: nobody may use an area that is being freed.
    ///
    /// # Errors
    /// A table cannot be read or a leaf reaches over an edge: what lies before is gone. A frame that the source refuses
    /// stops nothing and is told at the end.
    pub(crate) fn release(&mut self, range: VirtRange, is_owned: bool) -> Result<(), VmallocError> {
        let mut at = range.start;
        let mut refused = Ok(());
        loop {
            let rest = VirtRange { start: at, last: range.last };
            let Collected { runs, count, last } = self.collect(rest)?;
            match self.tables.cursor(VirtRange { start: at, last }).clear() {
                Ok(stale) => stale.forgive(CARRIED),
                Err(failed) => {
                    failed.stale.forgive(CARRIED);
                    return Err(failed.error.into());
                }
            }
            if is_owned {
                for &(first, frames) in &runs[..count] {
                    refused = refused.and(self.give(first, frames));
                }
            }
            if last == range.last {
                return refused;
            }
            at = last + 1;
        }
    }

    /// The frames behind the start of a range.
    fn collect(&mut self, range: VirtRange) -> Result<Collected, VmallocError> {
        let granule = F::shape().granule;
        let (mut runs, mut count, mut last) = ([(Pfn(0), 0); RUNS], 0, range.last);
        let mut cursor = self.tables.cursor(range);
        while let Some((part, level, entry)) = cursor.next_slot()? {
            let Entry::Leaf { base, .. } = entry else { continue };
            self.modified.add(level);
            let (first, frames) = (base.pfn(granule), part.size() >> granule.shift());
            match runs[..count].last_mut() {
                Some((start, length)) if start.0 + *length == first.0 => *length += frames,
                _ if count == RUNS => {
                    last = part.start - 1;
                    break;
                }
                _ => {
                    runs[count] = (first, frames);
                    count += 1;
                }
            }
        }
        Ok(Collected { runs, count, last })
    }

    /// Gives a run of single frames back.
    fn give(&mut self, first: Pfn, frames: u64) -> Result<(), VmallocError> {
        let mut refused = Ok(());
        for frame in first.0..first.0 + frames {
            // In bulk: a frame may be a part of a block that was taken whole.
            let done = self.pages.free_bulk(&[Pfn(frame)]).map_err(VmallocError::Free);
            refused = refused.and(done);
        }
        refused
    }
}
