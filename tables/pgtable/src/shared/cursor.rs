//! The cursor of shared tables: [`CursorMut`]'s operations on tables that a [`Hold`] keeps from others.
//!
//! Here: which table an operation starts at, when it needs the one above, and what becomes of new and of dead tables.
//! Not here: the rules of the operations, which are those of the exclusive cursor.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Frame, FrameSource, Level, NoFrame, PhysAddr, PhysMem, Tlb, VirtAddr, VirtRange};

use super::hold::Hold;
use crate::map::Filler;
use crate::span::{block_around, covers};
use crate::unmap::Emptied;
use crate::{Change, CursorMut, Failed, MapError, Mapping, PageForm, Stale, Tables};

/// Exclusive over one range of tables that other CPUs change too. Operations mean what those of [`CursorMut`] mean;
/// their debts are paid by [`CpuTables::pay`](super::CpuTables::pay).
pub struct SharedCursor<'c, 'm, F: EntryFormat, M: PhysMem> {
    tables: Tables<'m, F, M>,
    hold: Hold<'m, F, M>,
    /// `None` behind the end of the range.
    at: Option<VirtAddr>,
    /// The CPU's handle: a CPU has one cursor at a time, so that none waits for its own.
    cpu: PhantomData<&'c mut ()>,
}

impl<F: EntryFormat, M: PhysMem> fmt::Debug for SharedCursor<'_, '_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCursor").field("hold", &self.hold).field("at", &self.at).finish_non_exhaustive()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> SharedCursor<'_, 'm, F, M> {
    pub(super) const fn new(tables: Tables<'m, F, M>, hold: Hold<'m, F, M>) -> Self {
        let at = Some(hold.range().start);
        Self { tables, hold, at, cpu: PhantomData }
    }

    /// Where the cursor stands; `None` behind the end of its range.
    #[must_use]
    pub const fn position(&self) -> Option<VirtAddr> {
        self.at
    }

    /// Moves to `va`; outside the range the cursor stands behind its end.
    pub fn seek(&mut self, va: VirtAddr) {
        self.exclusive(|cursor| cursor.seek(va));
    }

    /// As [`CursorMut::next_slot`].
    ///
    /// # Errors
    /// A table cannot be read; the cursor has not moved.
    #[allow(clippy::type_complexity)]
    pub fn next_slot(&mut self) -> Result<Option<(VirtRange, Level, Entry<F::Attrs>)>, BusError> {
        self.exclusive(|cursor| cursor.next_slot())
    }

    /// As [`CursorMut::map`]. A table that has to be made above the range's lowest is linked empty, so that others
    /// wait for no more than that.
    ///
    /// # Errors
    /// As [`CursorMut::map`]. If no frame was left, the debt may name tables that were made and have been unlinked.
    pub fn map(&mut self, frames: &mut impl FrameSource, mapping: &Mapping<F>) -> Result<Stale, Failed> {
        let filler = self.exclusive(|cursor| cursor.filler(mapping))?;
        let mut frames = Newborn { mem: self.tables.mem(), frames };
        let depth = self.hold.top().depth;
        let done = match self.make_tables(&filler, mapping.table_attrs, &mut frames) {
            Ok(()) => self.exclusive(|cursor| cursor.fill(&filler, &mut frames)),
            Err(error) => Err(error.into()),
        };
        done.map_err(|mut failed| {
            self.drop_empty(depth, &mut failed.stale);
            failed
        })
    }

    /// As [`CursorMut::map_pages`].
    ///
    /// # Errors
    /// As [`CursorMut::map_pages`].
    pub fn map_pages<T>(
        &mut self,
        frames: &mut impl FrameSource,
        form: &PageForm<F>,
        pages: &[T],
        pa: impl Fn(&T) -> PhysAddr,
    ) -> Result<(), MapError> {
        let mut frames = Newborn { mem: self.tables.mem(), frames };
        self.exclusive(|cursor| cursor.map_pages(&mut frames, form, pages, pa))
    }

    /// As [`CursorMut::unmap`].
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn unmap(&mut self) -> Result<Stale, Failed> {
        self.hold_above_whole();
        let mut done = self.remove(Emptied::Drop);
        let (Ok(stale) | Err(Failed { stale, .. })) = &mut done;
        self.drop_empty(0, stale);
        done
    }

    /// As [`CursorMut::clear`].
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn clear(&mut self) -> Result<Stale, Failed> {
        self.remove(Emptied::Keep)
    }

    /// As [`CursorMut::unmap_covered`].
    ///
    /// # Errors
    /// As [`CursorMut::unmap`].
    pub fn unmap_covered(&mut self) -> Result<Stale, Failed> {
        self.hold_above_whole();
        self.remove(Emptied::DropCovered)
    }

    /// As [`CursorMut::protect`].
    ///
    /// # Errors
    /// As [`CursorMut::protect`].
    pub fn protect(&mut self, change: Change) -> Result<Stale, Failed> {
        self.exclusive(|cursor| cursor.protect(change))
    }

    /// As [`CursorMut::remap`].
    ///
    /// # Errors
    /// As [`CursorMut::remap`].
    pub fn remap(
        &mut self,
        tlb: &mut impl Tlb,
        to: impl Fn(VirtAddr) -> (PhysAddr, F::Attrs),
    ) -> Result<Stale, Failed> {
        self.exclusive(|cursor| cursor.remap(tlb, to))
    }

    /// As [`CursorMut::split`].
    ///
    /// # Errors
    /// As [`CursorMut::split`].
    pub fn split(
        &mut self,
        frames: &mut impl FrameSource,
        tlb: &mut impl Tlb,
        table_attrs: F::Attrs,
    ) -> Result<(u64, Stale), Failed> {
        let mut frames = Newborn { mem: self.tables.mem(), frames };
        self.exclusive(|cursor| cursor.split(&mut frames, tlb, table_attrs))
    }

    /// As [`CursorMut::split_as`].
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
        let mut frames = Newborn { mem: self.tables.mem(), frames };
        self.exclusive(|cursor| cursor.split_as(&mut frames, tlb, table_attrs, leaves))
    }

    /// As [`CursorMut::collapse`].
    ///
    /// # Errors
    /// As [`CursorMut::collapse`].
    pub fn collapse(&mut self, level: Level, tlb: &mut impl Tlb) -> Result<Stale, Failed> {
        let target = F::shape().levels.iter().find(|shape| shape.level == level && shape.leaf);
        if let (Some(shape), Some(va)) = (target, self.at)
            && covers(self.hold.range(), block_around(va, shape.bytes()))
            && self.hold.is_whole()
            && self.hold.range().size() == shape.bytes()
        {
            self.hold.climb();
        }
        let done = self.exclusive(|cursor| cursor.collapse(level, tlb));
        self.bury_deep(done)
    }

    /// The exclusive cursor over what is held.
    fn exclusive<T>(&mut self, work: impl FnOnce(&mut CursorMut<'_, 'm, F, M>) -> T) -> T {
        let mut cursor = CursorMut::below(&mut self.tables, self.hold.top(), self.hold.range(), self.at);
        let done = work(&mut cursor);
        self.at = cursor.position();
        done
    }

    fn remove(&mut self, emptied: Emptied) -> Result<Stale, Failed> {
        let done = self.exclusive(|cursor| cursor.remove(emptied));
        self.bury_deep(done)
    }

    /// Tells those who wait for a table that has just been unlinked, or for one below it.
    fn bury_deep(&self, done: Result<Stale, Failed>) -> Result<Stale, Failed> {
        let (Ok(stale) | Err(Failed { stale, .. })) = &done;
        self.hold.kill_list(stale.first_dead());
        done
    }

    /// Holds the table above too if the rest of the range is all that the topmost one translates: its entry there is
    /// to go.
    fn hold_above_whole(&mut self) {
        if self.hold.is_whole() && self.at == Some(self.hold.range().start) {
            self.hold.climb();
        }
    }

    /// Unlinks the topmost table while it holds nothing and stands deeper than `depth`.
    fn drop_empty(&mut self, depth: usize, stale: &mut Stale) {
        while self.hold.top().depth > depth && self.hold.used() == 0 {
            self.hold.climb();
            let at = self.at;
            self.seek(self.hold.range().start);
            // what the range maps is nothing, so this takes the empty table alone
            let (Ok(empty) | Err(Failed { stale: empty, .. })) = self.remove(Emptied::Drop);
            stale.join::<F, M>(self.tables.mem(), empty);
            self.at = at;
        }
    }

    /// Makes the tables above the lowest that the range needs, each with nothing but its own parent held.
    fn make_tables(
        &mut self,
        filler: &Filler<'_, F, M>,
        table_attrs: F::Attrs,
        frames: &mut impl FrameSource,
    ) -> Result<(), MapError> {
        let levels = F::shape().levels;
        while let Some(start) = self.hold.missing_below()
            && self.hold.top().depth + 2 < levels.len()
            && !filler.starts_with_leaf(self.hold.top().depth)
        {
            let level = levels[self.hold.top().depth + 1].level;
            let table = self.tables.make_table(start, level, table_attrs, frames)?;
            self.hold.shrink_to(table);
        }
        Ok(())
    }
}

impl<F: EntryFormat, M: PhysMem> Drop for SharedCursor<'_, '_, F, M> {
    fn drop(&mut self) {
        self.hold.release();
    }
}

/// A frame source whose tables are locked before anybody can reach them.
struct Newborn<'f, M, S> {
    mem: &'f M,
    frames: &'f mut S,
}

impl<M: PhysMem, S: FrameSource> FrameSource for Newborn<'_, M, S> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let frame = self.frames.take(level)?;
        if let Ok(note) = self.mem.note(frame.pa) {
            note.clear_locked();
        }
        Ok(frame)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        if let Ok(note) = self.mem.note(frame) {
            note.clear();
        }
        self.frames.give_back(frame);
    }
}
