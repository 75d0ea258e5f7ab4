//! One CPU's cursors and walks.

use kernmem_arch::Entry;
use kernmem_base::{FrameSource, Level, NoTlb, PhysAddr};
use kernmem_pgtable::{Change, CpuTables, Failed, MapError, Mapping, SharedCursor, Sizes, Stale, Walk};

use super::memory::TableMem;
use super::tree::{BookedTree, MARKED, PAGES, entry, page, range, va};
use super::{CpuTree, Marked};
use crate::broken::What;
use crate::draw::Draw;
use crate::op::Sort;
use crate::tally::Outcome;

/// Places that pages are mapped to: each page to its own offset behind one of them, so that blocks may be used.
const PLACES: u64 = 8;
const PLACE: u64 = 1 << 30;

/// Pages of a table of the lowest level.
const LEAF_PAGES: u64 = 512;

/// The handle of one CPU.
pub(super) struct TableCpu<'t, 'm, F: Marked> {
    tree: &'t BookedTree<'m, F>,
    cpu: CpuTables<'t, 'm, F, TableMem>,
}

type Cursor<'c, 'm, F> = SharedCursor<'c, 'm, F, TableMem>;

impl<'t, 'm, F: Marked> TableCpu<'t, 'm, F> {
    pub const fn new(tree: &'t BookedTree<'m, F>, cpu: CpuTables<'t, 'm, F, TableMem>) -> Self {
        Self { tree, cpu }
    }

    /// Holds pages, compares them with the book, works on them, writes down what was done up to where the cursor stands
    /// then, and pays.
    fn with(
        &mut self,
        (first, end): (u64, u64),
        frames: &mut dyn FrameSource,
        work: impl FnOnce(&mut Cursor<'_, 'm, F>, &mut dyn FrameSource) -> Result<Stale, Failed>,
        becomes: impl Fn(u64, u64) -> u64,
    ) -> Result<Outcome, What> {
        let mut cursor = self.cpu.cursor(range(first, end)).map_err(What::Map)?;
        compare(&mut cursor, &self.tree.book[first as usize..end as usize], first)?;
        cursor.seek(va(first));
        let (stale, outcome) = match work(&mut cursor, frames) {
            Ok(stale) => (stale, Outcome::Done),
            Err(Failed { error, stale }) => (stale, outcome_of(error)?),
        };
        let reached = cursor.position().map_or(end, page);
        for page in first..reached {
            let word = &self.tree.book[page as usize];
            word.set(becomes(page, word.get()));
        }
        drop(cursor);
        self.cpu.pay(stale, &mut NoTlb, &mut &mut *frames);
        Ok(outcome)
    }

    fn map(&mut self, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        let (first, end) = pages(draw);
        let place = (1 + draw.below(PLACES)) * PLACE;
        let sizes = draw.one_of([Sizes::ALL, Sizes::PAGES]);
        let mapping = Mapping::new(PhysAddr(place + va(first).0), F::attrs(F::PAGE), sizes);
        let mapping = mapping.with_table_attrs(F::attrs(F::TABLE));
        let becomes = |page, _| entry(place + va(page).0, false);
        self.with((first, end), frames, |cursor, mut frames| cursor.map(&mut frames, &mapping), becomes)
    }

    fn unmap(&mut self, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        self.with(pages(draw), frames, |cursor, _| cursor.unmap(), |_, _| 0)
    }

    fn protect(&mut self, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        let marks = draw.below(2) == 0;
        let change = if marks { Change { set: F::MARK, clear: 0 } } else { Change { set: 0, clear: F::MARK } };
        let becomes = |_, word| match (word, marks) {
            (0, _) => 0,
            (word, true) => word | MARKED,
            (word, false) => word & !MARKED,
        };
        self.with(pages(draw), frames, |cursor, _| cursor.protect(change), becomes)
    }

    fn split(&mut self, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        let first = draw.below(PAGES);
        let split = |cursor: &mut Cursor<'_, 'm, F>, mut frames: &mut dyn FrameSource| {
            cursor.split(&mut frames, &mut NoTlb, F::attrs(F::TABLE)).map(|(_, stale)| stale)
        };
        self.with((first, first + 1), frames, split, |_, word| word)
    }

    fn collapse(&mut self, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        let first = draw.below(PAGES / LEAF_PAGES) * LEAF_PAGES;
        let collapse =
            |cursor: &mut Cursor<'_, 'm, F>, _: &mut dyn FrameSource| cursor.collapse(Level::Pmd, &mut NoTlb);
        self.with((first, first + LEAF_PAGES), frames, collapse, |_, word| word)
    }

    /// Pages that others may be changing: each is mapped to one of its places or to nothing.
    fn walk(&mut self, draw: &mut Draw) -> Result<Outcome, What> {
        let reading = self.cpu.read();
        let mut outcome = Outcome::Nothing;
        for _ in 0..8 {
            let va = va(draw.below(PAGES));
            match reading.translate(va) {
                Ok(Walk::Mapped { pa, .. }) if is_place(pa.0.wrapping_sub(va.0)) => outcome = Outcome::Done,
                Ok(Walk::Mapped { pa, .. }) => {
                    return Err(What::Page { va, booked: 0, found: entry(pa.0, false) });
                }
                Ok(Walk::Hole { .. }) => {}
                Err(error) => return Err(What::Walk(error)),
            }
        }
        Ok(outcome)
    }
}

const fn is_place(offset: u64) -> bool {
    offset.is_multiple_of(PLACE) && offset / PLACE >= 1 && offset / PLACE <= PLACES
}

impl<F: Marked> CpuTree for TableCpu<'_, '_, F> {
    fn step(&mut self, sort: Sort, draw: &mut Draw, frames: &mut dyn FrameSource) -> Result<Outcome, What> {
        match sort {
            Sort::Map => self.map(draw, frames),
            Sort::Unmap => self.unmap(draw, frames),
            Sort::Protect => self.protect(draw, frames),
            Sort::SplitBlock => self.split(draw, frames),
            Sort::Collapse => self.collapse(draw, frames),
            _ => self.walk(draw),
        }
    }

    fn clear(&mut self, frames: &mut dyn FrameSource) -> Result<(), What> {
        self.with((0, PAGES), frames, |cursor, _| cursor.unmap(), |_, _| 0).map(|_| ())
    }

    fn settle(&mut self, mut frames: &mut dyn FrameSource) -> Result<(), What> {
        let left = [(); 3].map(|()| self.cpu.collect(&mut frames));
        match left {
            [.., 0] => Ok(()),
            [.., subtrees] => Err(What::Waits { subtrees: subtrees as u64 }),
        }
    }
}

/// A few pages, up to two tables of them, or whole tables.
fn pages(draw: &mut Draw) -> (u64, u64) {
    let (first, frames) = match draw.below(8) {
        0..4 => (draw.below(PAGES), 1 + draw.below(8)),
        4..6 => (draw.below(PAGES), 1 + draw.below(2 * LEAF_PAGES)),
        6 => (draw.below(PAGES / LEAF_PAGES) * LEAF_PAGES, LEAF_PAGES),
        _ => (draw.below(PAGES / LEAF_PAGES) * LEAF_PAGES, (1 + draw.below(8)) * LEAF_PAGES),
    };
    (first, (first + frames).min(PAGES))
}

/// What an error that others may cause counts as.
fn outcome_of(error: MapError) -> Result<Outcome, What> {
    match error {
        MapError::Occupied { .. } | MapError::Inside { .. } | MapError::Hole { .. } | MapError::Unequal { .. } => {
            Ok(Outcome::Busy)
        }
        // A contiguous group on arm64 changes its rights only when it is broken.
        MapError::Live { .. } => Ok(Outcome::Refused),
        MapError::NoFrame(_) => Ok(Outcome::NoMemory),
        error => Err(What::Map(error)),
    }
}

/// Compares what a cursor has under it with the book.
fn compare<F: Marked>(cursor: &mut Cursor<'_, '_, F>, book: &[crate::word::Word], first: u64) -> Result<(), What> {
    while let Some((slot, level, found)) = cursor.next_slot().map_err(|error| What::Map(error.into()))? {
        let shape = F::shape().levels.iter().find(|shape| shape.level == level);
        let size = shape.map_or(0, |shape| shape.bytes());
        let (start, end) = (page(slot.start), page(slot.last) + 1);
        for page in start..end {
            let found = match found {
                Entry::Leaf { base, attrs } => entry(base.0 + va(page).0 % size, F::bits(attrs) & F::MARK != 0),
                Entry::Absent { sw: 0 } => 0,
                Entry::Absent { sw: raw } | Entry::Reserved { raw } => raw,
                Entry::Table { next, .. } => next.0,
            };
            let booked = book.get((page - first) as usize).map_or(0, |word| word.get());
            if found != booked {
                return Err(What::Page { va: va(page), booked, found });
            }
        }
    }
    Ok(())
}
