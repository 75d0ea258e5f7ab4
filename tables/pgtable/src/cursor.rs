//! The range cursor: exclusive over one range of one tree, with the path of tables it stands in.
//!
//! # Protocol
//! A cursor borrows its [`Tables`] mutably, so it is alone. `map`, `unmap`, `protect` work from where it stands to
//! the end of their run in one descent: index arithmetic is done once per run of entries, a table's note is written
//! once per run, and a table that was just taken is filled before its parent's entry is published.

use core::fmt;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, FrameSource, Level, PhysAddr, PhysMem, Slot, Tlb, VirtAddr, VirtRange};

use crate::map::{Failed, Filler, MapError, Mapping};
use crate::{Change, Stale, Tables};

/// Exclusive over one range of a tree.
pub struct CursorMut<'t, 'm, F, M> {
    pub(crate) tables: &'t mut Tables<'m, F, M>,
    range: VirtRange,
    /// `None` behind the end of the range.
    at: Option<VirtAddr>,
}

impl<F, M> fmt::Debug for CursorMut<'_, '_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorMut").field("range", &self.range).field("at", &self.at).finish_non_exhaustive()
    }
}

/// An entry under the cursor: where it stands and what it says.
pub(crate) struct Under<A> {
    pub table: PhysAddr,
    pub depth: usize,
    pub index: usize,
    pub entry: Entry<A>,
}

impl<'t, 'm, F: EntryFormat, M: PhysMem> CursorMut<'t, 'm, F, M> {
    pub(crate) const fn new(tables: &'t mut Tables<'m, F, M>, range: VirtRange) -> Self {
        Self { tables, range, at: Some(range.start) }
    }

    /// Where the cursor stands; `None` behind the end of its range.
    #[must_use]
    pub const fn position(&self) -> Option<VirtAddr> {
        self.at
    }

    /// Moves to `va`; outside the range the cursor stands behind its end.
    pub fn seek(&mut self, va: VirtAddr) {
        self.at = self.range.contains(va).then_some(va);
    }

    fn advance_to_end_of(&mut self, range: VirtRange) {
        self.at = if range.last >= self.range.last { None } else { Some(range.last + 1) };
    }

    fn rest(&self) -> Result<VirtRange, MapError> {
        let start = self.at.ok_or(MapError::PastEnd)?;
        Ok(VirtRange { start, last: self.range.last })
    }

    /// The first entry for the cursor's address that is no table.
    pub(crate) fn under(&self, va: VirtAddr) -> Result<Under<F::Attrs>, BusError> {
        let mut table = self.tables.root();
        for (depth, shape) in F::shape().levels.iter().enumerate() {
            let index = shape.index(va);
            let raw = self.tables.mem().entry::<F::Slot>(table, index)?;
            match F::decode(raw, shape.level) {
                Entry::Table { next, .. } => table = next,
                entry => return Ok(Under { table, depth, index, entry }),
            }
        }
        unreachable!("the last level of a format holds no tables")
    }

    /// The next leaf, hole or reserved entry in address order, clipped to the range, and moves past it.
    ///
    /// # Errors
    /// A table cannot be read; the cursor has not moved.
    #[allow(clippy::type_complexity)]
    pub fn next_slot(&mut self) -> Result<Option<(VirtRange, Level, Entry<F::Attrs>)>, BusError> {
        let Some(va) = self.at else { return Ok(None) };
        let under = self.under(va)?;
        let shape = F::shape().levels[under.depth];
        let slot = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(self.range.last) };
        self.advance_to_end_of(slot);
        Ok(Some((slot, shape.level, under.entry)))
    }

    /// Maps from where the cursor stands to the end of its range onto `mapping.pa` onward, with the largest leaves
    /// that alignment and `mapping.sizes` allow.
    ///
    /// Nothing may be mapped there yet. A fresh mapping leaves no debt; the returned value is empty then.
    ///
    /// # Errors
    /// The cursor stands at the offender; what lies before it is mapped. [`Failed`] carries the debt.
    pub fn map(&mut self, frames: &mut impl FrameSource, mapping: &Mapping<F>) -> Result<Stale, Failed> {
        let rest = self.rest().map_err(Failed::from)?;
        let granule = F::shape().granule.bytes();
        if !rest.start.is_aligned(granule) || !rest.end().is_aligned(granule) || !mapping.pa.is_aligned(granule) {
            return Err(MapError::Misaligned { va: rest.start, pa: mapping.pa }.into());
        }
        if mapping.pa.checked_add(rest.size() - 1).is_none() {
            return Err(MapError::Misaligned { va: rest.start, pa: mapping.pa }.into());
        }
        let mut filler = Filler::new(self.tables, mapping, rest)?;
        let done = filler.fill(frames);
        match done {
            Ok(()) => {
                self.at = None;
                Ok(Stale::NONE)
            }
            Err((va, error)) => {
                self.at = Some(va);
                Err(error.into())
            }
        }
    }

    /// Removes every leaf of the range, and every table that held nothing else; subtrees that the range covers are
    /// detached by one exchange. The cursor ends behind its range.
    ///
    /// # Errors
    /// A leaf reaches over an edge of the range, or a table cannot be read; what lies before it is gone, and
    /// [`Failed`] carries the debt.
    pub fn unmap(&mut self) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let stale = crate::unmap::unmap(self.tables, rest, crate::unmap::OnTables::Drop)?;
        self.at = None;
        Ok(stale)
    }

    /// Removes every leaf of the range and keeps the tables: what Linux does to freed parts of the kernel image.
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn clear(&mut self) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let stale = crate::unmap::unmap(self.tables, rest, crate::unmap::OnTables::Keep)?;
        self.at = None;
        Ok(stale)
    }

    /// Gives every leaf of the range other rights; holes stay holes.
    ///
    /// # Errors
    /// [`MapError::Inside`]: a leaf reaches over an edge of the range and must be split first.
    /// [`MapError::Live`]: the change needs break-before-make. What lies before the offender is changed.
    pub fn protect(&mut self, change: Change) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let stale = crate::change::protect(self.tables, rest, change)?;
        self.at = None;
        Ok(stale)
    }

    /// Replaces the block under the cursor by a table of the next smaller leaves that say the same, or a contiguous
    /// group by leaves without the mark. The frame is taken beforehand; where the architecture asks for it the block
    /// is broken and `tlb` flushed before the new entries are made. The cursor stays.
    ///
    /// Returns the size of the leaves that are there now, with the debt. A base page stays as it is.
    ///
    /// # Errors
    /// No leaf is there, or no frame; nothing has changed then.
    pub fn split(
        &mut self,
        frames: &mut impl FrameSource,
        tlb: &mut impl Tlb,
        table_attrs: F::Attrs,
    ) -> Result<(u64, Stale), Failed> {
        let va = self.rest()?.start;
        crate::change::split(self, va, frames, tlb, table_attrs)
    }

    /// Replaces the table under the cursor by one leaf, if all its leaves together say what one larger leaf says.
    /// The cursor stays.
    ///
    /// # Errors
    /// [`MapError::Unequal`] names the first entry that does not fit; nothing has changed then.
    pub fn collapse(&mut self, level: Level, tlb: &mut impl Tlb) -> Result<Stale, Failed> {
        let va = self.rest()?.start;
        crate::change::collapse(self, va, level, tlb)
    }

    /// The path from the root to the table of `depth` that holds the entry for `va`.
    pub(crate) fn table_at(&self, va: VirtAddr, depth: usize) -> Result<Option<PhysAddr>, BusError> {
        let mut table = self.tables.root();
        for shape in &F::shape().levels[..depth] {
            let raw = self.tables.mem().entry::<F::Slot>(table, shape.index(va))?;
            let Entry::Table { next, .. } = F::decode(raw, shape.level) else { return Ok(None) };
            table = next;
        }
        Ok(Some(table))
    }
}

/// The slots of a table, for writing.
pub(crate) fn slots<'m, F: EntryFormat, M: PhysMem>(
    tables: &Tables<'m, F, M>,
    table: PhysAddr,
    depth: usize,
) -> Result<&'m [F::Slot], BusError> {
    tables.mem().table_mut::<F::Slot>(table, F::shape().levels[depth].entries())
}

/// Whether a slot holds anything.
pub(crate) fn is_used(slot: &impl Slot) -> bool {
    slot.load() != 0
}
