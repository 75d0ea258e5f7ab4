//! A tree with a memory of its tables of pages, as an MMU's walk cache has one: from the upper part of an address to the
//! table of its pages, in pieces of [`PIECE`] entries, so that no entry of a piece needs a check of its bounds.
//!
//! Here: [`CachedTables`]; translating, mapping and unmapping one page by it.
//! Not here: leaves themselves, which are read from their table each time, so that nothing owes this cache a flush.
//!
//! # Invariants
//! 1. A way holds a piece of the table of pages that the tree links for its tag, unless the tree says that it unlinked
//!    one.
//! 2. Each operation that may unlink a table makes the tree say so: an unmap that unlinks tables, a collapse, an entry
//!    set by hand. No tag fits then, and all are emptied before the next is filled. A split, or a table that is made,
//!    unlinks none.
//! 3. The tree of a cache is not exchanged for another without the cache forgetting everything.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::{BusError, FrameSource, PIECE, PhysAddr, PhysMem, Slot, TableNote, Tlb, VirtAddr, VirtRange};

use crate::pages::{Leaves, PageForm, Place, last_level, map_page, put_page, take_page};
use crate::span::block_around;
use crate::walk::{Walk, WalkError, ended, translate};
use crate::{CursorMut, MapError, Stale, Tables};

/// Pieces of tables of pages that are remembered at a time.
const WAYS: usize = 64;

/// A tree that remembers its tables of pages, up to 64 pieces of 512 entries: for work page by page, in no order.
///
/// Entries that are written past it, straight into memory, must be told by [`CachedTables::tables_mut`].
pub struct CachedTables<'m, F: EntryFormat, M> {
    tables: Tables<'m, F, M>,
    ways: Ways<'m, F::Slot>,
}

/// What is remembered, each kind by itself: translating needs no note.
struct Ways<'m, S> {
    /// The first address that a piece translates; [`NONE`] where there is none.
    tags: [u64; WAYS],
    slots: [&'m [S; PIECE]; WAYS],
    notes: [Option<&'m TableNote>; WAYS],
}

/// No piece begins here, and with what [`Tables::unlinked`] adds to a tag it is still none.
const NONE: u64 = 2;

impl<S: Slot> Ways<'_, S> {
    fn empty() -> Self {
        Self { tags: [NONE; WAYS], slots: [S::nowhere(); WAYS], notes: [None; WAYS] }
    }
}

impl<F: EntryFormat, M> fmt::Debug for CachedTables<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.ways.notes.iter().flatten().count();
        f.debug_struct("CachedTables").field("tables", &self.tables).field("held", &held).finish_non_exhaustive()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> CachedTables<'m, F, M> {
    /// The tree, with nothing remembered.
    #[must_use]
    pub fn new(tables: Tables<'m, F, M>) -> Self {
        Self { tables, ways: Ways::empty() }
    }

    /// The tree, for readers.
    #[must_use]
    pub const fn tables(&self) -> &Tables<'m, F, M> {
        &self.tables
    }

    /// The tree, for whatever else is done with it; everything is forgotten.
    pub fn tables_mut(&mut self) -> &mut Tables<'m, F, M> {
        self.forget();
        &mut self.tables
    }

    /// The tree alone.
    #[must_use]
    pub fn into_tables(self) -> Tables<'m, F, M> {
        self.tables
    }

    /// As [`Tables::cursor`]; what it does not unlink is remembered on.
    pub fn cursor(&mut self, range: VirtRange) -> CursorMut<'_, 'm, F, M> {
        self.tables.cursor(range)
    }

    /// As [`Stale::pay`].
    #[inline]
    pub fn pay(&mut self, stale: Stale, tlb: &mut impl Tlb, frames: &mut impl FrameSource) {
        stale.pay(tlb, &mut self.tables, frames);
    }

    fn forget(&mut self) {
        self.ways = Ways::empty();
        self.tables.set_unlinked(false);
    }

    /// The first address of the piece for `va`, and which way is its.
    #[inline]
    fn tag(va: VirtAddr) -> (u64, usize) {
        let shift = last_level::<F>().shift + PIECE.ilog2();
        (va.0 & !0 << shift, (va.0 >> shift) as usize % WAYS)
    }

    /// The leaf's slot for `va` and the way that it is from, if its piece is remembered.
    #[inline]
    fn slot(&self, va: VirtAddr) -> Option<(&'m F::Slot, usize)> {
        let (tag, at) = Self::tag(va);
        let slots = self.ways.slots[at];
        let slot = &slots[(va.0 >> last_level::<F>().shift) as usize % PIECE];
        if self.ways.tags[at] == tag | self.tables.unlinked() { Some((slot, at)) } else { None }
    }

    /// The leaf's place for `va`, if its piece is remembered.
    #[inline]
    fn get(&self, va: VirtAddr) -> Option<Place<'m, F::Slot>> {
        let (slot, at) = self.slot(va)?;
        Some(Place { slot, note: self.ways.notes[at]? })
    }

    /// Walks to the leaf's place for `va` and remembers its piece.
    #[inline(never)]
    fn look_up(&mut self, va: VirtAddr) -> Result<Option<Place<'m, F::Slot>>, BusError> {
        if self.tables.unlinked() != 0 {
            self.forget();
        }
        let found = Leaves::find::<F, M>(self.tables.mem(), self.tables.node(), va)?;
        let Some(Leaves { slots, note }) = found else { return Ok(None) };
        let (tag, at) = Self::tag(va);
        let index = last_level::<F>().index(va);
        if let Some(piece) = slots.as_chunks().0.get(index / PIECE) {
            (self.ways.tags[at], self.ways.slots[at], self.ways.notes[at]) = (tag, piece, Some(note));
        }
        Ok(slots.get(index).map(|slot| Place { slot, note }))
    }

    /// Follows `va`, from its table of pages if that is remembered: then only the leaf is read, and no memory reference
    /// is counted.
    ///
    /// # Errors
    /// As [`translate`].
    #[inline]
    pub fn translate(&mut self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        match self.slot(va) {
            Some((slot, _)) => ended::<F>(slot.load(), last_level::<F>(), va),
            None => self.translate_anew(va),
        }
    }

    #[cold]
    #[inline(never)]
    fn translate_anew(&mut self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        // A piece that cannot be remembered is walked to each time.
        let _ = self.look_up(va);
        translate::<F, M>(self.tables.mem(), self.tables.root(), va)
    }

    /// Maps the base page around `va`, where nothing may be mapped yet, to the frame at `pa`, with the tables that are
    /// missing. A fresh mapping leaves no debt.
    ///
    /// # Errors
    /// As [`crate::CursorMut::map_pages`]; nothing has changed then.
    #[inline]
    pub fn map_page(
        &mut self,
        va: VirtAddr,
        pa: PhysAddr,
        form: &PageForm<F>,
        frames: &mut impl FrameSource,
    ) -> Result<(), MapError> {
        match self.get(va) {
            Some(place) => put_page::<F>(place, va, pa, form),
            None => self.map_page_anew(va, pa, form, frames),
        }
    }

    #[cold]
    #[inline(never)]
    fn map_page_anew(
        &mut self,
        va: VirtAddr,
        pa: PhysAddr,
        form: &PageForm<F>,
        frames: &mut impl FrameSource,
    ) -> Result<(), MapError> {
        match self.look_up(va)? {
            Some(place) => put_page::<F>(place, va, pa, form),
            None => map_page(self.tables.mem(), self.tables.node(), va, pa, form, frames),
        }
    }

    /// Removes the base page around `va`, and every table that held nothing else. A hole stays one, without a debt.
    ///
    /// # Errors
    /// As [`crate::CursorMut::unmap`]; nothing has changed then.
    #[inline]
    pub fn unmap_page(&mut self, va: VirtAddr) -> Result<Stale, MapError> {
        match self.get(va).and_then(|place| take_page::<F>(place, va)) {
            Some(stale) => Ok(stale),
            None => self.unmap_page_anew(va),
        }
    }

    #[cold]
    #[inline(never)]
    fn unmap_page_anew(&mut self, va: VirtAddr) -> Result<Stale, MapError> {
        if let Some(stale) = self.look_up(va)?.and_then(|place| take_page::<F>(place, va)) {
            return Ok(stale);
        }
        let page = block_around(va, last_level::<F>().bytes());
        self.tables.cursor(page).unmap().map_err(|failed| failed.error)
    }
}
