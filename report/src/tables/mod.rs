//! Page tables in our own forms: every entry that is not empty, with its raw bits.
//!
//! * [`Row`]: a table, or a run of leaves with equal attributes and contiguous memory.
//! * [`table`], [`csv`], [`json`]: a row a line, streamed. [`fold`]: the tree, equal stretches folded.
//!
//! # Invariants
//! 1. Any bit of any present entry that a walk reaches is in some row: in its raw bits, in its memory, or in the run's
//!    bounds. So one changed bit changes the rows.

mod fold;
mod lines;

pub use fold::fold;
pub use lines::{csv, json, table};

use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::{Entry, Field, arm64, i386, x86};
use kernmem_base::{BusError, Era, Level, PhysAddr, VirtAddr, VirtRange};
use kernmem_view::entries::{EntryVisitor, Place, entries, root_ranges};
use kernmem_view::{Answer, Format, KernelView, RootKind};

use crate::ptdump::ListingError;

/// The fields of an entry by name.
#[must_use]
pub fn fields(format: Format, era: Era, level: Level, entry: &Entry<u64>) -> &'static [Field] {
    match format {
        Format::Arm64(geometry) => arm64::fields(era, geometry.output(), level, entry),
        Format::I386Level2 => i386::fields(era, i386::layout::Paging::Level2, level, entry),
        Format::I386Pae => i386::fields(era, i386::layout::Paging::Pae, level, entry),
        _ => x86::fields(era, level, entry),
    }
}

/// What is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selection {
    /// The tree.
    pub root: RootKind,
    /// Only entries that touch these addresses.
    pub range: Option<VirtRange>,
    /// Tables have rows of their own.
    pub tables: bool,
    /// Empty stretches have rows.
    pub holes: bool,
}

/// What an entry is for the MMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It maps memory.
    Leaf,
    /// It points to a table.
    Table,
    /// It points to a table that has rows already: KASAN's shadow shares a few.
    Shared,
    /// It is empty.
    Hole,
    /// It is not empty, and the MMU does not use it.
    Marked,
    /// The architecture does not define it.
    Malformed,
    /// The table behind it cannot be read.
    Unreadable,
}

impl Kind {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Table => "table",
            Self::Shared => "table again",
            Self::Hole => "hole",
            Self::Marked => "invalid",
            Self::Malformed => "MALFORMED",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

/// One row: an entry, or a run of them.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it is.
    pub kind: Kind,
    /// The first entry.
    pub first: Place,
    /// Its meaning.
    pub entry: Entry<u64>,
    /// How many entries.
    pub count: u64,
    /// Why a table cannot be read.
    pub error: Option<BusError>,
}

impl Row {
    /// The addresses.
    #[must_use]
    pub fn range(&self) -> VirtRange {
        let bytes = self.first.bytes.saturating_mul(self.count).max(1);
        VirtRange { start: self.first.va, last: VirtAddr(self.first.va.0.saturating_add(bytes - 1)) }
    }

    /// The memory behind a leaf, or the table behind a table entry.
    #[must_use]
    pub const fn memory(&self) -> Option<PhysAddr> {
        match self.entry {
            Entry::Leaf { base, .. } => Some(base),
            Entry::Table { next, .. } => Some(next),
            Entry::Absent { .. } | Entry::Reserved { .. } => None,
        }
    }

    /// Whether `entry` at `place` goes on where this run ends.
    fn is_continued_by(&self, place: &Place, entry: &Entry<u64>) -> bool {
        let bytes = self.first.bytes * self.count;
        if place.level != self.first.level || place.va.0 != self.first.va.0.wrapping_add(bytes) {
            return false;
        }
        match (self.entry, *entry) {
            (Entry::Leaf { base, attrs }, Entry::Leaf { base: next, attrs: own }) => {
                attrs == own && next.0 == base.0.wrapping_add(bytes)
            }
            (Entry::Table { next, attrs }, Entry::Table { next: same, attrs: own }) => {
                self.kind == Kind::Shared && (next, attrs) == (same, own)
            }
            (Entry::Absent { sw: 0 }, Entry::Absent { sw: 0 }) => true,
            // A page that lost its valid bit keeps its address.
            (Entry::Absent { sw }, Entry::Absent { sw: own }) => own == sw.wrapping_add(bytes),
            _ => false,
        }
    }
}

/// Joins entries to rows and hands each to a function; a failure of that stops everything.
struct Rows<S> {
    selection: Selection,
    open: Option<Row>,
    sink: S,
    result: fmt::Result,
}

impl<S: FnMut(&Row) -> fmt::Result> Rows<S> {
    fn flush(&mut self) {
        if let Some(row) = self.open.take()
            && self.result.is_ok()
            && (row.kind != Kind::Hole || self.selection.holes)
        {
            self.result = (self.sink)(&row);
        }
    }

    fn row(&mut self, row: Row) {
        self.flush();
        self.open = Some(row);
    }
}

impl<S: FnMut(&Row) -> fmt::Result> EntryVisitor for Rows<S> {
    fn table(&mut self, place: &Place, next: PhysAddr, attrs: u64) -> bool {
        self.flush();
        if self.selection.tables {
            let entry = Entry::Table { next, attrs };
            self.row(Row { kind: Kind::Table, first: *place, entry, count: 1, error: None });
            self.flush();
        }
        self.result.is_ok()
    }

    fn again(&mut self, place: &Place, next: PhysAddr, attrs: u64) {
        let entry = Entry::Table { next, attrs };
        if let Some(open) = &mut self.open
            && open.is_continued_by(place, &entry)
        {
            open.count += 1;
            return;
        }
        self.row(Row { kind: Kind::Shared, first: *place, entry, count: 1, error: None });
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        if let Some(open) = &mut self.open
            && open.is_continued_by(place, &entry)
        {
            open.count += 1;
            return;
        }
        let kind = match entry {
            Entry::Leaf { .. } => Kind::Leaf,
            Entry::Absent { sw: 0 } => Kind::Hole,
            Entry::Absent { .. } => Kind::Marked,
            Entry::Reserved { .. } | Entry::Table { .. } => Kind::Malformed,
        };
        self.row(Row { kind, first: *place, entry, count: 1, error: None });
    }

    fn unreadable(&mut self, va: VirtAddr, level: Level, error: BusError) {
        let table = error.pa;
        let first = Place { va, bytes: 1, level, table, index: 0, at: table, raw: 0, contiguous: false };
        let entry = Entry::Absent { sw: 0 };
        self.row(Row { kind: Kind::Unreadable, first, entry, count: 1, error: Some(error) });
    }
}

/// The root table that a selection names.
fn root_table<V: KernelView>(view: &V, selection: &Selection) -> Result<PhysAddr, ListingError> {
    match view.root(selection.root) {
        Answer::Known(table) => Ok(table),
        Answer::Absent(why) => Err(ListingError::NoRoot(why)),
    }
}

/// The parts of the tree's ranges that a selection names.
fn parts<V: KernelView>(view: &V, selection: &Selection) -> Vec<VirtRange> {
    let whole = root_ranges(view.format(), selection.root);
    let Some(wanted) = selection.range else { return whole };
    let cut = |range: &VirtRange| VirtRange { start: range.start.max(wanted.start), last: range.last.min(wanted.last) };
    whole.iter().filter(|range| range.overlaps(&wanted)).map(cut).collect()
}

/// Hands the rows of a selection to `sink`.
///
/// # Errors
/// There is no such tree, or the sink failed.
pub fn rows<V: KernelView>(
    view: &V,
    selection: &Selection,
    sink: impl FnMut(&Row) -> fmt::Result,
) -> Result<(), ListingError> {
    let root = root_table(view, selection)?;
    let mut rows = Rows { selection: *selection, open: None, sink, result: Ok(()) };
    for part in parts(view, selection) {
        entries(view, root, part, &mut rows);
        rows.flush();
    }
    rows.result.map_err(ListingError::from)
}
