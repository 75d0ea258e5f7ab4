//! The range cursor: exclusive over one range of one tree, with the path of tables it stands in.
//!
//! # Protocol
//! A cursor borrows its [`Tables`] mutably, so it is alone. `map`, `unmap`, `protect` work from where it stands to
//! the end of their run in one descent: index arithmetic is done once per run of entries, a table's note is written
//! once per run, and a table that was just taken is filled before its parent's entry is published.
//!
//! # Descents
//! The work is done by functions over `(mem, Node, range, …)`, which know neither `Tables` nor a root: [`Filler::fill`],
//! [`unmap`], [`protect`], `remap`, and for one leaf [`Under::find`], `split`, `collapse`. A [`Node`] is a table and its
//! depth. Whoever calls one holds that table exclusively, with every table below it and no entry above it: a table that
//! covers the range does as well as the root. None of them changes an entry outside the node's subtree; the node itself
//! stays, even if nothing is left in it. Each returns or fills a [`Stale`] and says by [`Stopped`] where it ended.

use core::fmt;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, FrameSource, Level, PhysAddr, PhysMem, Tlb, VirtAddr, VirtRange};

use crate::change::protect;
use crate::error::Stopped;
use crate::map::Filler;
use crate::pages::map_pages;
use crate::span::{block_around, is_in_one_root};
use crate::unmap::{Emptied, unmap};
use crate::{Change, Failed, MapError, Mapping, PageForm, Stale, Tables};

/// Exclusive over one range of a tree.
pub struct CursorMut<'t, 'm, F, M> {
    pub(crate) tables: &'t mut Tables<'m, F, M>,
    range: VirtRange,
    /// `None` behind the end of the range.
    at: Option<VirtAddr>,
    /// Where descents start: the root, or a table that contains the range.
    top: Node,
}

impl<F, M> fmt::Debug for CursorMut<'_, '_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorMut").field("range", &self.range).field("at", &self.at).finish_non_exhaustive()
    }
}

/// A table and where it stands: what a descent starts at and goes on with. Whoever descends holds it exclusively, with
/// every table below it; it may be the root or a table that covers the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub table: PhysAddr,
    /// Levels below the root.
    pub depth: usize,
}

impl Node {
    /// The table at `next`, which an entry of this one links.
    pub(crate) const fn below(self, next: PhysAddr) -> Self {
        Self { table: next, depth: self.depth + 1 }
    }
}

/// An entry on the path to an address: where it stands and what it says.
pub(crate) struct Under<A> {
    pub node: Node,
    pub index: usize,
    pub entry: Entry<A>,
}

impl<A: Copy> Under<A> {
    /// The first entry for `va` below `top` that is no table, or the table entry at depth `deepest`.
    pub(crate) fn find<F, M>(mem: &M, node: Node, va: VirtAddr, deepest: usize) -> Result<Self, BusError>
    where
        F: EntryFormat<Attrs = A>,
        M: PhysMem,
    {
        let mut node = node;
        for shape in &F::shape().levels[node.depth..] {
            let index = shape.index(va);
            let raw = mem.entry::<F::Slot>(node.table, index)?;
            match F::decode(raw, shape.level) {
                Entry::Table { next, .. } if node.depth < deepest => node = node.below(next),
                entry => return Ok(Self { node, index, entry }),
            }
        }
        unreachable!("the last level of a format holds no tables")
    }
}

impl<'t, 'm, F: EntryFormat, M: PhysMem> CursorMut<'t, 'm, F, M> {
    pub(crate) const fn new(tables: &'t mut Tables<'m, F, M>, range: VirtRange) -> Self {
        let top = tables.node();
        Self { tables, range, at: Some(range.start), top }
    }

    /// A cursor that stands at `at` and goes no higher than `top`, which contains the range.
    pub(crate) const fn below(
        tables: &'t mut Tables<'m, F, M>,
        top: Node,
        range: VirtRange,
        at: Option<VirtAddr>,
    ) -> Self {
        Self { tables, range, at, top }
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

    /// What the operations work on: from the cursor to the end of its range.
    pub(crate) fn rest(&self) -> Result<VirtRange, MapError> {
        let start = self.at.ok_or(MapError::PastEnd)?;
        let range = VirtRange { start, last: self.range.last };
        if is_in_one_root::<F>(range) { Ok(range) } else { Err(MapError::BeyondRoot { range }) }
    }

    /// Moves behind the range, or to where the operation stopped.
    fn finish(&mut self, done: Result<(), Stopped>, stale: Stale) -> Result<Stale, Failed> {
        if stale.unlinks() {
            self.tables.set_unlinked(true);
        }
        match done {
            Ok(()) => {
                self.at = None;
                Ok(stale)
            }
            Err(Stopped { va, error }) => {
                self.at = Some(va);
                Err(Failed { error, stale })
            }
        }
    }

    /// The first entry for `va` that is no table.
    fn under(&self, va: VirtAddr) -> Result<Under<F::Attrs>, BusError> {
        Under::find::<F, M>(self.tables.mem(), self.top, va, F::shape().levels.len())
    }

    /// The next leaf, hole or reserved entry in address order, clipped to the range, and moves past it.
    ///
    /// # Errors
    /// A table cannot be read; the cursor has not moved.
    #[allow(clippy::type_complexity)]
    pub fn next_slot(&mut self) -> Result<Option<(VirtRange, Level, Entry<F::Attrs>)>, BusError> {
        let Some(va) = self.at else { return Ok(None) };
        let under = self.under(va)?;
        let shape = F::shape().levels[under.node.depth];
        let slot = VirtRange { start: va, last: block_around(va, shape.bytes()).last.min(self.range.last) };
        self.advance_to_end_of(slot);
        Ok(Some((slot, shape.level, under.entry)))
    }

    /// Maps from where the cursor stands to the end of its range onto `mapping.pa` onward, with the largest leaves
    /// that alignment, `mapping.sizes` and the tables that are already there allow. The cursor ends behind its range.
    ///
    /// Nothing may be mapped there yet. A fresh mapping leaves no debt; the returned value is empty then.
    ///
    /// # Errors
    /// The cursor stands at the offender; what lies before it is mapped, and tables that hold nothing have been given
    /// back. [`MapError::Misaligned`] and [`MapError::Encode`] of a leaf come before anything is written.
    pub fn map(&mut self, frames: &mut impl FrameSource, mapping: &Mapping<F>) -> Result<Stale, Failed> {
        let filler = self.filler(mapping)?;
        self.fill(&filler, frames)
    }

    /// Proves that the rest of the range can be mapped by `mapping`; nothing is written.
    pub(crate) fn filler<'f>(&self, mapping: &'f Mapping<F>) -> Result<Filler<'f, F, M>, MapError>
    where
        'm: 'f,
    {
        let rest = self.rest()?;
        let granule = F::shape().granule.bytes();
        let is_aligned =
            rest.start.is_aligned(granule) && rest.end().is_aligned(granule) && mapping.pa.is_aligned(granule);
        if !is_aligned || mapping.pa.checked_add(rest.size() - 1).is_none() {
            return Err(MapError::Misaligned { va: rest.start, pa: mapping.pa });
        }
        Filler::new(self.tables.mem(), mapping, rest)
    }

    pub(crate) fn fill(&mut self, filler: &Filler<'_, F, M>, frames: &mut impl FrameSource) -> Result<Stale, Failed> {
        let done = filler.fill(self.top, frames);
        self.finish(done, Stale::NONE)
    }

    /// Maps consecutive base pages from where the cursor stands on, one for each of `pages`, to the frame at its `pa`,
    /// with the tables that are missing. The cursor ends behind the last. Nothing may be mapped there yet; a fresh mapping
    /// leaves no debt.
    ///
    /// # Errors
    /// [`MapError::PastEnd`] if the range has no room for all, [`MapError::Misaligned`] and [`MapError::Encode`] if an
    /// address cannot be that of a page: nothing has changed then. Otherwise the cursor stands at the offender, and what
    /// lies before it is mapped.
    pub fn map_pages<T>(
        &mut self,
        frames: &mut impl FrameSource,
        form: &PageForm<F>,
        pages: &[T],
        pa: impl Fn(&T) -> PhysAddr,
    ) -> Result<(), MapError> {
        if pages.is_empty() {
            return Ok(());
        }
        let (rest, page) = (self.rest()?, F::shape().granule.bytes());
        if !rest.start.is_aligned(page) {
            return Err(MapError::Misaligned { va: rest.start, pa: PhysAddr(0) });
        }
        let size = (pages.len() as u64).checked_mul(page).filter(|size| *size <= rest.size());
        let run = size.and_then(|size| VirtRange::of_size(rest.start, size)).ok_or(MapError::PastEnd)?;
        match map_pages::<F, M, T>(self.tables.mem(), self.top, run.start, (form, &pa), pages, frames) {
            Ok(()) => {
                self.advance_to_end_of(run);
                Ok(())
            }
            Err(Stopped { va, error }) => {
                self.at = Some(va);
                Err(error)
            }
        }
    }

    /// Removes every leaf of the range, and every table that held nothing else; subtrees that the range covers are
    /// detached by one store. The cursor ends behind its range.
    ///
    /// # Errors
    /// A leaf reaches over an edge of the range, or a table cannot be read; the cursor stands there, what lies before
    /// is gone, and [`Failed`] carries the debt.
    pub fn unmap(&mut self) -> Result<Stale, Failed> {
        self.remove(Emptied::Drop)
    }

    /// Removes every leaf of the range and keeps the tables: what Linux does to freed parts of the kernel image.
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn clear(&mut self) -> Result<Stale, Failed> {
        self.remove(Emptied::Keep)
    }

    /// Removes every leaf of the range, and every table whose addresses lie wholly in it; a table that reaches over an
    /// edge stays even if nothing is left in it: a neighbour without leaves may count on it.
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn unmap_covered(&mut self) -> Result<Stale, Failed> {
        self.remove(Emptied::DropCovered)
    }

    pub(crate) fn remove(&mut self, emptied: Emptied) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let mut stale = Stale::NONE;
        let done = unmap::<F, M>(self.tables.mem(), self.top, rest, emptied, &mut stale);
        self.finish(done, stale)
    }

    /// Gives every leaf of the range other rights; holes stay holes. The cursor ends behind its range.
    ///
    /// Accessed and dirty bits that the MMU sets meanwhile may be lost: for mappings that are born with both, as a
    /// kernel's own are, or of which no CPU holds a translation.
    ///
    /// # Errors
    /// [`MapError::Inside`]: a leaf reaches over an edge of the range and must be split first.
    /// [`MapError::Live`]: the change needs break-before-make. [`MapError::Encode`]: it makes no leaf of the same
    /// memory. The cursor stands at the offender, what lies before is changed, and [`Failed`] carries the debt.
    pub fn protect(&mut self, change: Change) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let mut stale = Stale::NONE;
        let done = protect::<F, M>(self.tables.mem(), self.top, rest, change, &mut stale);
        self.finish(done, stale)
    }

    /// Gives every base page of the range another frame and other attributes: those that `to` names for its address.
    /// Where the architecture asks for break-before-make, all entries are broken, `tlb` is flushed once, and then all
    /// are made: nobody may use the range meanwhile. The cursor ends behind its range.
    ///
    /// # Errors
    /// [`MapError::Hole`], [`MapError::Inside`]: not all of the range is mapped by base pages. [`MapError::Encode`]:
    /// a new entry does not exist. Nothing has changed then.
    pub fn remap(
        &mut self,
        tlb: &mut impl Tlb,
        to: impl Fn(VirtAddr) -> (PhysAddr, F::Attrs),
    ) -> Result<Stale, Failed> {
        let rest = self.rest()?;
        let stale = crate::remap::remap::<F, M>(self.tables.mem(), self.top, rest, tlb, &to)?;
        self.at = None;
        Ok(stale)
    }

    /// Replaces the block under the cursor, also one that reaches over the range, by a table of the next smaller
    /// leaves that say the same, or a contiguous group by leaves without the mark. The table is filled beforehand;
    /// where the architecture asks for it the block is broken and `tlb` flushed before the new entries are made, and
    /// no debt is left then. The cursor stays.
    ///
    /// Returns the size in bytes of the leaves that are there now, with the debt. A base page stays as it is.
    /// As with [`CursorMut::protect`], accessed and dirty bits that the MMU sets meanwhile may be lost.
    ///
    /// # Errors
    /// No leaf is there, no frame, or the attributes do not exist; nothing has changed then.
    pub fn split(
        &mut self,
        frames: &mut impl FrameSource,
        tlb: &mut impl Tlb,
        table_attrs: F::Attrs,
    ) -> Result<(u64, Stale), Failed> {
        let va = self.rest()?.start;
        let under = self.under(va)?;
        crate::change::split::<F, M>(self.tables.mem(), &under, va, frames, tlb, table_attrs, None)
    }

    /// As [`CursorMut::split`], with attributes of the smaller leaves that the caller chose, in the form of their
    /// level: for a kernel that cuts them to what its CPU has. A contiguous group loses its mark and nothing else.
    ///
    /// # Errors
    /// As [`CursorMut::split`].
    pub fn split_as(
        &mut self,
        frames: &mut impl FrameSource,
        tlb: &mut impl Tlb,
        table_attrs: F::Attrs,
        leaves: F::Attrs,
    ) -> Result<(u64, Stale), Failed> {
        let va = self.rest()?.start;
        let under = self.under(va)?;
        crate::change::split::<F, M>(self.tables.mem(), &under, va, frames, tlb, table_attrs, Some(leaves))
    }

    /// Replaces the table under the cursor by one leaf of `level`, if all its leaves together say what that leaf
    /// says. The cursor stays. Where the architecture asks for break-before-make, `tlb` was flushed in between and the
    /// debt is the table alone.
    ///
    /// # Errors
    /// [`MapError::Unequal`] names the first entry that does not fit, [`MapError::Hole`] an address without a table,
    /// [`MapError::Inside`] a leaf that would reach over an edge of the cursor's range, [`MapError::Encode`] a level
    /// that has no leaves; nothing has changed then.
    pub fn collapse(&mut self, level: Level, tlb: &mut impl Tlb) -> Result<Stale, Failed> {
        let va = self.rest()?.start;
        let done = crate::change::collapse::<F, M>(self.tables.mem(), self.top, self.range, va, level, tlb);
        self.tables.set_unlinked(true);
        done
    }
}

/// The slots of a table, for writing.
pub(crate) fn slots<F: EntryFormat, M: PhysMem>(mem: &M, node: Node) -> Result<&[F::Slot], BusError> {
    mem.table_mut::<F::Slot>(node.table, F::shape().levels[node.depth].entries())
}
