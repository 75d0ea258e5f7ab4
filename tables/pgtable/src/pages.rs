//! Base pages one by one: a form that was proven once, and runs of pages whose frames have nothing to do with another.
//!
//! # Invariants
//! 1. A form's bits are the attributes of a leaf of the last level and hold no address: with the place of an address
//!    that lies in [`EntryFormat::address_bits`] they are a leaf of that memory.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{BusError, FrameSource, PhysAddr, PhysMem, Slot, TableNote, VirtAddr};

use crate::cursor::Node;
use crate::error::{MapError, Stopped};
use crate::map::Filler;
use crate::span::block_around;
use crate::walk::levels;
use crate::{Mapping, Sizes, Stale};

/// The leaf of a base page less its address: proven once for a set of attributes, used for any number of pages.
pub struct PageForm<F: EntryFormat> {
    bits: u64,
    /// Attributes of the entries that link new tables.
    table_bits: u64,
    format: PhantomData<fn() -> F>,
}

impl<F: EntryFormat> Clone for PageForm<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: EntryFormat> Copy for PageForm<F> {}

impl<F: EntryFormat> fmt::Debug for PageForm<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attrs, table_attrs) = (F::attrs(self.bits), F::attrs(self.table_bits));
        f.debug_struct("PageForm").field("attrs", &attrs).field("table_attrs", &table_attrs).finish()
    }
}

/// The level of base pages.
#[inline]
pub(crate) fn last_level<F: EntryFormat>() -> &'static LevelShape {
    levels::<F>().1
}

impl<F: EntryFormat> PageForm<F> {
    /// The form of pages with `attrs`, of no contiguous group. Tables that have to be made are linked with the valid and
    /// table bits alone, as in [`Mapping::new`].
    ///
    /// # Errors
    /// No page has such attributes.
    pub fn new(attrs: F::Attrs) -> Result<Self, EncodeError> {
        let level = last_level::<F>().level;
        let attrs = F::leaf_attrs(attrs, level, false);
        F::encode(Entry::Leaf { base: PhysAddr(0), attrs }, level)?;
        Ok(Self { bits: F::bits(attrs), table_bits: 0b11, format: PhantomData })
    }

    /// The same form with other attributes on the entries that link new tables.
    #[must_use]
    pub fn with_table_attrs(mut self, table_attrs: F::Attrs) -> Self {
        self.table_bits = F::bits(table_attrs);
        self
    }

    /// The bits of `pa` that keep it from being the address of a page.
    #[inline]
    fn beyond(pa: PhysAddr) -> u64 {
        let shape = last_level::<F>();
        F::place(pa) & !F::address_bits(shape.level) | pa.0 & (shape.bytes() - 1)
    }

    #[inline]
    fn raw(self, pa: PhysAddr) -> u64 {
        F::place(pa) | self.bits
    }

    /// Why `pa` cannot be mapped at `va`.
    #[cold]
    fn refuse(self, va: VirtAddr, pa: PhysAddr) -> MapError {
        let shape = last_level::<F>();
        if pa.is_aligned(shape.bytes()) {
            EncodeError { level: shape.level, raw: self.raw(pa) }.into()
        } else {
            MapError::Misaligned { va, pa }
        }
    }
}

/// Writes the leaf of a page into a table of pages.
///
/// # Errors
/// Nothing has changed then: something is there, or `pa` cannot be mapped.
#[inline]
pub(crate) fn put_page<F: EntryFormat>(
    leaves: Leaves<'_, F::Slot>,
    va: VirtAddr,
    pa: PhysAddr,
    form: &PageForm<F>,
) -> Result<(), MapError> {
    if PageForm::<F>::beyond(pa) != 0 {
        return Err(form.refuse(page_of::<F>(va), pa));
    }
    let shape = last_level::<F>();
    match leaves.slots.get(shape.index(va)) {
        Some(slot) if slot.peek() == 0 => {
            slot.store(form.raw(pa));
            leaves.note.add_leaves(1);
            Ok(())
        }
        _ => Err(MapError::Occupied { va: page_of::<F>(va), level: shape.level }),
    }
}

/// The first address of the page around `va`.
fn page_of<F: EntryFormat>(va: VirtAddr) -> VirtAddr {
    va.align_down(last_level::<F>().bytes())
}

/// Takes the page of `va` out of a table of pages; `None` leaves it as it was: what is there is no page by itself, or
/// the last entry of its table.
#[inline]
pub(crate) fn take_page<F: EntryFormat>(leaves: Leaves<'_, F::Slot>, va: VirtAddr) -> Option<Stale> {
    let shape = last_level::<F>();
    let slot = leaves.slots.get(shape.index(va))?;
    match F::decode(slot.peek(), shape.level) {
        Entry::Leaf { attrs, .. } if !F::is_contiguous(attrs) && leaves.note.used() > 1 => {
            slot.store(0);
            leaves.note.take_some(1);
            Some(Stale::range_only(block_around(va, shape.bytes())))
        }
        _ => None,
    }
}

/// A table of pages in its machine's memory.
#[derive(Debug)]
pub(crate) struct Leaves<'m, S> {
    pub slots: &'m [S],
    pub note: &'m TableNote,
}

impl<S> Clone for Leaves<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Leaves<'_, S> {}

impl<'m, S: Slot> Leaves<'m, S> {
    /// The table of pages for `va` below `top`, if there is one.
    #[inline]
    pub(crate) fn find<F, M>(mem: &'m M, top: Node, va: VirtAddr) -> Result<Option<Self>, BusError>
    where
        F: EntryFormat<Slot = S>,
        M: PhysMem,
    {
        Ok(Self::find_at::<F, M>(mem, top, va)?.map(|(_, leaves)| leaves))
    }

    /// The same, with its address.
    #[inline]
    fn find_at<F, M>(mem: &'m M, top: Node, va: VirtAddr) -> Result<Option<(PhysAddr, Self)>, BusError>
    where
        F: EntryFormat<Slot = S>,
        M: PhysMem,
    {
        let mut table = top.table;
        let (above, last) = levels::<F>();
        for shape in &above[top.depth.min(above.len())..] {
            match F::decode(mem.entry::<S>(table, shape.index(va))?, shape.level) {
                Entry::Table { next, .. } => table = next,
                _ => return Ok(None),
            }
        }
        let slots = mem.table_mut::<S>(table, last.entries())?;
        Ok(Some((table, Self { slots, note: mem.note(table)? })))
    }
}

/// Maps consecutive base pages from `va` on below `top`, which translates them all: one for each of `pages`.
///
/// What `Stopped` names is the first page that was not mapped. Every address is proven before anything is written.
pub(crate) fn map_pages<F: EntryFormat, M: PhysMem, T>(
    mem: &M,
    top: Node,
    va: VirtAddr,
    (form, pa): (&PageForm<F>, &impl Fn(&T) -> PhysAddr),
    pages: &[T],
    frames: &mut impl FrameSource,
) -> Result<(), Stopped> {
    let page_at = |number: usize| va.wrapping_add((number as u64) << last_level::<F>().shift);
    if pages.iter().fold(0, |beyond, page| beyond | PageForm::<F>::beyond(pa(page))) != 0 {
        let bad = pages.iter().position(|page| PageForm::<F>::beyond(pa(page)) != 0).unwrap_or(0);
        return Err(Stopped { va, error: form.refuse(page_at(bad), pa(&pages[bad])) });
    }
    let mut done = 0;
    while let Some(page) = pages.get(done) {
        let va = page_at(done);
        done += match Leaves::find_at::<F, M>(mem, top, va).map_err(Stopped::at(va))? {
            Some(table) => map_some::<F, M, T>(mem, table, va, (form, pa), &pages[done..])?,
            None => map_first::<F, M>(mem, top, va, form, pa(page), frames)?,
        };
    }
    Ok(())
}

/// Maps as many of `pages` as lie in one table, and returns how many.
fn map_some<F: EntryFormat, M: PhysMem, T>(
    mem: &M,
    (table, leaves): (PhysAddr, Leaves<'_, F::Slot>),
    va: VirtAddr,
    (form, pa): (&PageForm<F>, &impl Fn(&T) -> PhysAddr),
    pages: &[T],
) -> Result<usize, Stopped> {
    let shape = last_level::<F>();
    let first = shape.index(va);
    let slots = &leaves.slots[first..];
    let slots = &slots[..slots.len().min(pages.len())];
    let any = mem.any::<F::Slot>(table, (first, slots.len())).map_err(Stopped::at(va))?;
    let is_free = |slot: &F::Slot| slot.peek() == 0;
    let free = if any == 0 { slots.len() } else { slots.iter().take_while(|slot| is_free(slot)).count() };
    let form = *form;
    slots[..free].iter().zip(pages).for_each(|(slot, page)| slot.store(form.raw(pa(page))));
    leaves.note.add_leaves(free as u16);
    if free == slots.len() {
        return Ok(free);
    }
    let va = va + ((free as u64) << shape.shift);
    Err(Stopped { va, error: MapError::Occupied { va, level: shape.level } })
}

/// Maps one page where tables are missing, with the tables. Returns the one.
fn map_first<F: EntryFormat, M: PhysMem>(
    mem: &M,
    top: Node,
    va: VirtAddr,
    form: &PageForm<F>,
    pa: PhysAddr,
    frames: &mut impl FrameSource,
) -> Result<usize, Stopped> {
    let mapping = Mapping::<F>::new(pa, F::attrs(form.bits), Sizes::PAGES).with_table_attrs(F::attrs(form.table_bits));
    let run = block_around(va, last_level::<F>().bytes());
    Filler::new(mem, &mapping, run).map_err(Stopped::at(va))?.fill(top, frames)?;
    Ok(1)
}

/// Maps one page in the tree below `top`, by whatever is missing.
pub(crate) fn map_page<F: EntryFormat, M: PhysMem>(
    mem: &M,
    top: Node,
    va: VirtAddr,
    pa: PhysAddr,
    form: &PageForm<F>,
    frames: &mut impl FrameSource,
) -> Result<(), MapError> {
    let va = page_of::<F>(va);
    if PageForm::<F>::beyond(pa) != 0 {
        return Err(form.refuse(va, pa));
    }
    map_first(mem, top, va, form, pa, frames).map(drop).map_err(|stopped| stopped.error)
}
