//! A tree with a memory of its tables of pages, as an MMU's walk cache has one: from the upper part of an address to the
//! table of its pages.
//!
//! Here: [`CachedTables`]; translating, mapping and unmapping one page by it.
//! Not here: leaves themselves, which are read from their table each time, so that nothing owes this cache a flush.
//!
//! # Invariants
//! 1. A way holds the table of pages that the tree links for its tag, unless the tree says that it unlinked one.
//! 2. Each operation that may unlink a table makes the tree say so: an unmap that leaves dead tables, a collapse, an entry
//!    set by hand. The ways are not looked at then, and emptied before the next is filled. A split, or a table that is
//!    made, unlinks none.
//! 3. The tree of a cache is not exchanged for another without the cache forgetting everything.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::{BusError, FrameSource, PhysAddr, PhysMem, Slot, TableNote, Tlb, VirtAddr, VirtRange};

use crate::pages::{Leaves, PageForm, last_level, map_page, put_page, take_page};
use crate::span::block_around;
use crate::walk::{Walk, WalkError, ended, translate};
use crate::{CursorMut, MapError, Stale, Tables};

/// Tables of pages that are remembered at a time.
const WAYS: usize = 64;

/// A tree that remembers up to 64 of its tables of pages: for work page by page, in no order.
///
/// Entries that are written past it, straight into memory, must be told by [`CachedTables::tables_mut`].
pub struct CachedTables<'m, F: EntryFormat, M> {
    tables: Tables<'m, F, M>,
    ways: [Way<'m, F::Slot>; WAYS],
}

struct Way<'m, S> {
    /// The first address that the table translates; one that no table does if there is none.
    tag: u64,
    slots: &'m [S],
    note: Option<&'m TableNote>,
}

impl<S> Way<'_, S> {
    const EMPTY: Self = Self { tag: 1, slots: &[], note: None };
}

impl<F: EntryFormat, M> fmt::Debug for CachedTables<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.ways.iter().filter(|way| way.note.is_some()).count();
        f.debug_struct("CachedTables").field("tables", &self.tables).field("held", &held).finish_non_exhaustive()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> CachedTables<'m, F, M> {
    /// The tree, with nothing remembered.
    #[must_use]
    pub const fn new(tables: Tables<'m, F, M>) -> Self {
        Self { tables, ways: [const { Way::EMPTY }; WAYS] }
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
        self.ways = [const { Way::EMPTY }; WAYS];
        self.tables.set_unlinked(false);
    }

    /// The first address of the table of pages for `va`, and which way is its.
    #[inline]
    fn tag(va: VirtAddr) -> (u64, usize) {
        let shape = last_level::<F>();
        let shift = shape.shift + shape.index_bits;
        (va.0 & !0 << shift, (va.0 >> shift) as usize % WAYS)
    }

    /// The way for `va`, if it is filled.
    #[inline]
    fn way(&self, va: VirtAddr) -> Option<&Way<'m, F::Slot>> {
        let (tag, at) = Self::tag(va);
        let way = &self.ways[at];
        if way.tag != tag || self.tables.has_unlinked() { None } else { Some(way) }
    }

    /// The table of pages for `va`, if it is remembered.
    #[inline]
    fn get(&self, va: VirtAddr) -> Option<Leaves<'m, F::Slot>> {
        let way = self.way(va)?;
        Some(Leaves { slots: way.slots, note: way.note? })
    }

    /// Walks to the table of pages for `va` and remembers it.
    #[inline(never)]
    fn look_up(&mut self, va: VirtAddr) -> Result<Option<Leaves<'m, F::Slot>>, BusError> {
        if self.tables.has_unlinked() {
            self.forget();
        }
        let leaves = Leaves::find::<F, M>(self.tables.mem(), self.tables.node(), va)?;
        let (tag, at) = Self::tag(va);
        if let Some(Leaves { slots, note }) = leaves {
            self.ways[at] = Way { tag, slots, note: Some(note) };
        }
        Ok(leaves)
    }

    /// Follows `va`, from its table of pages if that is remembered: then only the leaf is read, and no memory reference
    /// is counted.
    ///
    /// # Errors
    /// As [`translate`].
    #[inline]
    pub fn translate(&mut self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        let shape = last_level::<F>();
        match self.way(va).and_then(|way| way.slots.get(shape.index(va))) {
            Some(slot) => ended::<F>(slot.load(), shape, va),
            None => self.translate_anew(va),
        }
    }

    #[cold]
    #[inline(never)]
    fn translate_anew(&mut self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        self.look_up(va)?;
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
            Some(leaves) => put_page::<F>(leaves, va, pa, form),
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
            Some(leaves) => put_page::<F>(leaves, va, pa, form),
            None => map_page(self.tables.mem(), self.tables.node(), va, pa, form, frames),
        }
    }

    /// Removes the base page around `va`, and every table that held nothing else. A hole stays one, without a debt.
    ///
    /// # Errors
    /// As [`crate::CursorMut::unmap`]; nothing has changed then.
    #[inline]
    pub fn unmap_page(&mut self, va: VirtAddr) -> Result<Stale, MapError> {
        match self.get(va).and_then(|leaves| take_page::<F>(leaves, va)) {
            Some(stale) => Ok(stale),
            None => self.unmap_page_anew(va),
        }
    }

    #[cold]
    #[inline(never)]
    fn unmap_page_anew(&mut self, va: VirtAddr) -> Result<Stale, MapError> {
        if let Some(stale) = self.look_up(va)?.and_then(|leaves| take_page::<F>(leaves, va)) {
            return Ok(stale);
        }
        let page = block_around(va, last_level::<F>().bytes());
        self.tables.cursor(page).unmap().map_err(|failed| failed.error)
    }
}
