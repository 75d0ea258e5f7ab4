//! The tree of tables with equal stretches folded.
//!
//! A run of leaves is one line. Tables side by side that say the same about their addresses (each byte maps the byte
//! at the same distance, with the same rights) are one line and the contents of the first.

use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::{Entry, named};
use kernmem_base::{BusError, Level, PhysAddr, Size, VirtAddr};
use kernmem_view::KernelView;
use kernmem_view::entries::{EntryVisitor, Place, entries};

use super::{Kind, Selection, fields, parts, root_table};
use crate::ptdump::ListingError;

/// A stretch of entries of one table.
struct Stretch {
    kind: Kind,
    first: Place,
    entry: Entry<u64>,
    count: u64,
    below: Vec<Stretch>,
    error: Option<BusError>,
}

impl Stretch {
    const fn new(kind: Kind, first: Place, entry: Entry<u64>) -> Self {
        Self { kind, first, entry, count: 1, below: Vec::new(), error: None }
    }

    /// Whether `other`, somewhere else, says the same about its addresses.
    fn says_the_same(&self, other: &Self) -> bool {
        let same_meaning = match (&self.entry, &other.entry) {
            (Entry::Leaf { base, attrs }, Entry::Leaf { base: other_base, attrs: other_attrs }) => {
                let distance = |base: &PhysAddr, place: &Place| base.0.wrapping_sub(place.va.0);
                attrs == other_attrs && distance(base, &self.first) == distance(other_base, &other.first)
            }
            (Entry::Table { next, attrs }, Entry::Table { next: other_next, attrs: other_attrs }) => {
                attrs == other_attrs && (self.kind != Kind::Shared || next == other_next)
            }
            (one, two) => one == two,
        };
        same_meaning
            && self.kind == other.kind
            && self.count == other.count
            && self.error == other.error
            && self.holds_the_same(other)
    }

    /// Whether the tables behind both say the same.
    fn holds_the_same(&self, other: &Self) -> bool {
        let pairs = || self.below.iter().zip(&other.below);
        self.below.len() == other.below.len()
            && pairs().all(|(one, two)| one.first.index == two.first.index && one.says_the_same(two))
    }

    /// Whether `next`, the neighbour behind it, goes on where it ends.
    fn is_continued_by(&self, next: &Self) -> bool {
        if self.first.index as u64 + self.count != next.first.index as u64 {
            return false;
        }
        match (&self.entry, &next.entry) {
            (Entry::Table { next: table, attrs }, Entry::Table { next: same, attrs: own }) => {
                let is_same = self.kind != Kind::Shared || table == same;
                self.kind == next.kind && is_same && attrs == own && self.holds_the_same(next)
            }
            (Entry::Leaf { base, attrs }, Entry::Leaf { base: behind, attrs: own }) => {
                attrs == own && behind.0 == base.0.wrapping_add(self.first.bytes * self.count)
            }
            (Entry::Absent { sw }, Entry::Absent { sw: own }) => {
                sw == own || *own == sw.wrapping_add(self.first.bytes * self.count)
            }
            _ => false,
        }
    }
}

/// Open tables, the root first.
struct Tree<W> {
    open: Vec<Stretch>,
    root: Vec<Stretch>,
    out: W,
    level_count: usize,
    result: fmt::Result,
}

impl<W: FnMut(&Stretch, usize) -> fmt::Result> Tree<W> {
    fn add(&mut self, stretch: Stretch) {
        let list = self.open.last_mut().map_or(&mut self.root, |table| &mut table.below);
        if let Some(last) = list.last_mut()
            && last.is_continued_by(&stretch)
        {
            last.count += 1;
            return;
        }
        list.push(stretch);
        // What is before the last stretch of the root is finished.
        if self.open.is_empty() && self.root.len() > 1 {
            let done = self.root.remove(0);
            self.print(&done);
        }
    }

    fn print(&mut self, stretch: &Stretch) {
        if self.result.is_ok() {
            self.result = (self.out)(stretch, 0);
        }
    }

    /// Closes tables until those above `depth` are left.
    fn close_to(&mut self, depth: usize) {
        while self.open.len() > depth {
            let Some(table) = self.open.pop() else { return };
            self.add(table);
        }
    }

    fn finish(&mut self) {
        self.close_to(0);
        for done in core::mem::take(&mut self.root) {
            self.print(&done);
        }
    }
}

/// Levels of one format, to know how deep an entry stands.
struct Visit<'t, W> {
    tree: &'t mut Tree<W>,
    depth: &'t dyn Fn(Level) -> usize,
}

impl<W: FnMut(&Stretch, usize) -> fmt::Result> EntryVisitor for Visit<'_, W> {
    fn table(&mut self, place: &Place, next: PhysAddr, attrs: u64) -> bool {
        self.tree.close_to((self.depth)(place.level));
        let entry = Entry::Table { next, attrs };
        self.tree.open.push(Stretch::new(Kind::Table, *place, entry));
        self.tree.result.is_ok() && self.tree.open.len() < self.tree.level_count
    }

    fn again(&mut self, place: &Place, next: PhysAddr, attrs: u64) {
        self.tree.close_to((self.depth)(place.level));
        self.tree.add(Stretch::new(Kind::Shared, *place, Entry::Table { next, attrs }));
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        self.tree.close_to((self.depth)(place.level));
        let kind = match entry {
            Entry::Leaf { .. } => Kind::Leaf,
            Entry::Absent { sw: 0 } => Kind::Hole,
            Entry::Absent { .. } => Kind::Marked,
            Entry::Reserved { .. } | Entry::Table { .. } => Kind::Malformed,
        };
        self.tree.add(Stretch::new(kind, *place, entry));
    }

    fn unreadable(&mut self, va: VirtAddr, level: Level, error: BusError) {
        self.tree.close_to((self.depth)(level));
        let table = error.pa;
        let first = Place { va, bytes: 1, level, table, index: 0, at: table, raw: 0, contiguous: false };
        let stretch = Stretch::new(Kind::Unreadable, first, Entry::Absent { sw: 0 });
        self.tree.add(Stretch { error: Some(error), ..stretch });
    }
}

/// The tree of tables, equal stretches folded.
///
/// # Errors
/// There is no such tree, or the writer failed.
pub fn fold<V: KernelView>(view: &V, selection: &Selection, out: &mut impl fmt::Write) -> Result<(), ListingError> {
    let root = root_table(view, selection)?;
    let shape = view.format().shape();
    let depth = |level: Level| shape.depth(level);
    let root_level = shape.levels.first().map_or("", |level| level.level.name());
    writeln!(out, "{root_level} table at {:#x}", root.0)?;
    let (holes, level_count) = (selection.holes, shape.levels.len());
    let print = |stretch: &Stretch, depth: usize| line(view, stretch, depth + 1, holes, out);
    let mut tree = Tree { open: Vec::new(), root: Vec::new(), out: print, level_count, result: Ok(()) };
    for part in parts(view, selection) {
        entries(view, root, part, &mut Visit { tree: &mut tree, depth: &depth });
        tree.finish();
    }
    Ok(tree.result?)
}

fn line<V: KernelView>(
    view: &V,
    stretch: &Stretch,
    depth: usize,
    holes: bool,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    if stretch.kind == Kind::Hole && !holes {
        return Ok(());
    }
    let first = &stretch.first;
    write!(out, "{:1$}", "", 2 * depth)?;
    if let Some(error) = stretch.error {
        return writeln!(out, "{}: {error}", stretch.kind.name());
    }
    match stretch.count {
        1 => write!(out, "[{}]", first.index)?,
        count => write!(out, "[{}-{}]", first.index, first.index as u64 + count - 1)?,
    }
    write!(out, " {:#018x}  ", first.va.0)?;
    if stretch.count > 1 {
        write!(out, "{} × ", stretch.count)?;
    }
    write!(out, "{} {}", Size(first.bytes), first.level)?;
    match stretch.entry {
        Entry::Table { next, .. } if stretch.kind == Kind::Shared => writeln!(out, " table at {:#x} again", next.0)?,
        Entry::Table { next, .. } if stretch.count > 1 => {
            writeln!(out, " table, the first at {:#x}; each goes on where the one before it ends:", next.0)?;
        }
        Entry::Table { next, .. } => writeln!(out, " table at {:#x}", next.0)?,
        Entry::Leaf { base, .. } => {
            write!(out, " -> {:#x} ", base.0)?;
            attributes(view, stretch, out)?;
        }
        Entry::Absent { sw: 0 } => writeln!(out, " empty")?,
        Entry::Absent { sw } => writeln!(out, " {} {sw:#018x}", stretch.kind.name())?,
        Entry::Reserved { raw } => writeln!(out, " {} {raw:#018x}", stretch.kind.name())?,
    }
    stretch.below.iter().try_for_each(|below| line(view, below, depth + 1, holes, out))
}

fn attributes<V: KernelView>(view: &V, stretch: &Stretch, out: &mut impl fmt::Write) -> fmt::Result {
    let raw = stretch.first.raw;
    for field in named(fields(view.format(), view.era(), stretch.first.level, &stretch.entry), raw) {
        match field.value_name(raw) {
            Some(value) => write!(out, " {}={value}", field.name)?,
            None => write!(out, " {}", field.name)?,
        }
    }
    writeln!(out)
}
