//! A tree with a memory of its tables of pages, as an MMU's walk cache has one: from the upper part of an address to the
//! table of its pages.
//!
//! Here: [`CachedTables`]; translating, mapping and unmapping one page by it.
//! Not here: leaves themselves, which are read from their table each time, so that nothing owes this cache a flush.
//!
//! # Invariants
//! 1. A way holds the table of pages that the tree linked for its tag when the tree had the cache's generation.
//! 2. A tree's generation advances with each operation that may unlink a table; ways of an older one are not looked at.
//!    A split, or a table that is made, unlinks none.
//! 3. The tree of a cache is not exchanged for another without the cache forgetting everything.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::{BusError, FrameSource, PhysAddr, PhysMem, Slot, Tlb, VirtAddr, VirtRange};

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
    /// The tree's generation when the ways were true.
    generation: u64,
    ways: [Way<'m, F::Slot>; WAYS],
}

struct Way<'m, S> {
    /// The address above the bits that a table of pages translates.
    tag: u64,
    leaves: Option<Leaves<'m, S>>,
}

impl<S> Way<'_, S> {
    const EMPTY: Self = Self { tag: 0, leaves: None };
}

impl<F: EntryFormat, M> fmt::Debug for CachedTables<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.ways.iter().filter(|way| way.leaves.is_some()).count();
        f.debug_struct("CachedTables").field("tables", &self.tables).field("held", &held).finish_non_exhaustive()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> CachedTables<'m, F, M> {
    /// The tree, with nothing remembered.
    #[must_use]
    pub const fn new(tables: Tables<'m, F, M>) -> Self {
        let generation = tables.generation();
        Self { tables, generation, ways: [const { Way::EMPTY }; WAYS] }
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
        self.generation = self.tables.generation();
    }

    /// What the addresses of a table of pages have in common, and which way is theirs.
    #[inline]
    fn tag(va: VirtAddr) -> (u64, usize) {
        let shape = last_level::<F>();
        let tag = va.0 >> (shape.shift + shape.index_bits);
        (tag, tag as usize % WAYS)
    }

    /// The table of pages for `va`, if it is remembered.
    #[inline]
    fn get(&self, va: VirtAddr) -> Option<Leaves<'m, F::Slot>> {
        let (tag, at) = Self::tag(va);
        let way = &self.ways[at];
        if way.tag != tag || self.generation != self.tables.generation() {
            return None;
        }
        way.leaves
    }

    /// Walks to the table of pages for `va` and remembers it.
    #[cold]
    fn look_up(&mut self, va: VirtAddr) -> Result<Option<Leaves<'m, F::Slot>>, BusError> {
        if self.generation != self.tables.generation() {
            self.forget();
        }
        let leaves = Leaves::find::<F, M>(self.tables.mem(), self.tables.node(), va)?;
        let (tag, at) = Self::tag(va);
        if leaves.is_some() {
            self.ways[at] = Way { tag, leaves };
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
        match self.get(va).and_then(|leaves| leaves.slots.get(shape.index(va))) {
            Some(slot) => ended::<F>(slot.load(), shape, va),
            None => self.translate_anew(va),
        }
    }

    #[cold]
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
    fn unmap_page_anew(&mut self, va: VirtAddr) -> Result<Stale, MapError> {
        if let Some(stale) = self.look_up(va)?.and_then(|leaves| take_page::<F>(leaves, va)) {
            return Ok(stale);
        }
        let page = block_around(va, last_level::<F>().bytes());
        self.tables.cursor(page).unmap().map_err(|failed| failed.error)
    }
}
