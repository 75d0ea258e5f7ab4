//! The shadow of addresses that are always accessible: one page of zeroes, reached through one table a level.
//!
//! Here: those tables, and what maps a range of shadow through them. Not here: shadow with memory of its own, and which
//! address needs which: the boot of an architecture knows.
//!
//! # Invariants
//! 1. Every entry of a shared table leads to the shared table below, and in the last one to the page.
//!
//! Source: Linux 6.1 mm/kasan/init.c `kasan_populate_early_shadow`, `zero_p4d_populate`, `zero_pte_populate`.

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{Level, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_memblock::{Memblock, RegionArray, Request};
use kernmem_pgtable::{MapError, Tables};

use crate::frames::Ask;
use crate::{BootError, EarlyFrames, Image, Witness};

/// The page of zeroes and the tables that lead to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZeroShadow {
    /// The page.
    pub page: PhysAddr,
    /// The table of each level, in the order of [`Level::ALL`]; none at the root and at levels that the kernel lacks.
    tables: [Option<PhysAddr>; Level::ALL.len()],
}

impl ZeroShadow {
    /// The tables as the image has them, for a kernel with `levels`, root first.
    ///
    /// # Errors
    /// The symbols lack one of them.
    pub fn of_image(image: &Image<'_>, levels: &[LevelShape]) -> Result<Self, BootError> {
        let mut tables = [None; Level::ALL.len()];
        for shape in levels.iter().skip(1) {
            let symbol = match shape.level {
                Level::Pgd => continue,
                Level::P4d => "kasan_early_shadow_p4d",
                Level::Pud => "kasan_early_shadow_pud",
                Level::Pmd => "kasan_early_shadow_pmd",
                Level::Pte => "kasan_early_shadow_pte",
            };
            tables[place(shape.level)] = Some(image.phys(symbol)?);
        }
        Ok(Self { page: image.phys("kasan_early_shadow_page")?, tables })
    }

    /// The shared table of `level`.
    #[must_use]
    pub fn table(&self, level: Level) -> Option<PhysAddr> {
        self.tables[place(level)]
    }

    /// Whether `table` is a shared one.
    #[must_use]
    pub fn is_shared(&self, table: PhysAddr) -> bool {
        self.tables.contains(&Some(table))
    }

    /// Fills the shared tables: `link` leads to the table below, `page` to the page.
    ///
    /// # Errors
    /// A table lies outside memory.
    pub fn fill<F: EntryFormat, M: PhysMem>(&self, mem: &M, link: F::Attrs, page: F::Attrs) -> Result<(), BootError> {
        let below = F::shape().levels.iter().skip(2).map(Some).chain([None]);
        for (shape, below) in F::shape().levels.iter().skip(1).zip(below) {
            let Some(table) = self.table(shape.level) else { continue };
            let entry = match below.and_then(|below| self.table(below.level)) {
                Some(next) => Entry::Table { next, attrs: link },
                None => Entry::Leaf { base: self.page, attrs: page },
            };
            let raw = F::encode(entry, shape.level).map_err(not_encodable)?;
            mem.fill::<F::Slot>(table, 0, shape.entries(), raw, 0)?;
            mem.note(table)?.set_used(shape.entries() as u16);
        }
        Ok(())
    }
}

fn place(level: Level) -> usize {
    Level::ALL.iter().position(|other| *other == level).unwrap_or_default()
}

pub(crate) fn not_encodable(error: EncodeError) -> BootError {
    BootError::Map(MapError::Encode(error))
}

/// Maps shadow to the page of zeroes, with tables from the boot allocator where a range covers a table in part.
#[derive(Debug)]
pub struct ZeroMap<'b, 'm, F: EntryFormat, M, A, W> {
    /// The kernel's tables.
    pub tables: &'b mut Tables<'m, F, M>,
    /// The boot allocator.
    pub memblock: &'b mut Memblock<A, W>,
    /// What is mapped.
    pub shadow: ZeroShadow,
    /// Attributes of the page: it is never written.
    pub page: F::Attrs,
    /// Attributes of entries that link tables.
    pub link: F::Attrs,
    /// How the boot allocator is asked for a table.
    pub wish: Request,
}

impl<F: EntryFormat, M: PhysMem, A: RegionArray, W: Witness> ZeroMap<'_, '_, F, M, A, W> {
    /// Maps the whole pages of `range`.
    ///
    /// # Errors
    /// No memory for a table, or something else is mapped there; what was mapped before stays.
    pub fn map(&mut self, range: VirtRange) -> Result<(), BootError> {
        self.fill(self.tables.root(), 0, range)
    }

    fn fill(&mut self, table: PhysAddr, depth: usize, range: VirtRange) -> Result<(), BootError> {
        let shape = &F::shape().levels[depth];
        for part in parts(shape, range) {
            let is_whole = part.size() == shape.bytes();
            let Some(below) = F::shape().levels.get(depth + 1) else {
                if is_whole {
                    let raw = F::encode(Entry::Leaf { base: self.shadow.page, attrs: self.page }, shape.level);
                    self.tables.set_entry(table, depth, shape.index(part.start), raw.map_err(not_encodable)?)?;
                }
                continue;
            };
            match self.shadow.table(below.level).filter(|_| is_whole) {
                Some(shared) => self.share(table, depth, part.start, shared)?,
                None => {
                    let next = self.table_below(part.start, below.level)?;
                    self.fill(next, depth + 1, part)?;
                }
            }
        }
        Ok(())
    }

    /// Links the shared table below. As Linux does, links the first entry of each shared table further down anew too, so
    /// that it carries the marks of ordinary tables.
    fn share(&mut self, table: PhysAddr, depth: usize, va: VirtAddr, shared: PhysAddr) -> Result<(), BootError> {
        let (mut table, mut next) = (table, Some(shared));
        for (at, shape) in F::shape().levels.iter().enumerate().skip(depth) {
            let Some(linked) = next else { return Ok(()) };
            let raw = F::encode(Entry::Table { next: linked, attrs: self.link }, shape.level).map_err(not_encodable)?;
            self.tables.set_entry(table, at, shape.index(va), raw)?;
            table = linked;
            next = F::shape().levels.get(at + 2).and_then(|below| self.shadow.table(below.level));
        }
        Ok(())
    }

    fn table_below(&mut self, va: VirtAddr, level: Level) -> Result<PhysAddr, BootError> {
        let mut frames = EarlyFrames::new(self.memblock, F::shape().granule, Ask::Plain(self.wish));
        self.tables.make_table(va, level, self.link, &mut frames).map_err(BootError::Map)
    }
}

/// The parts of `range` that single entries map, in order.
pub(crate) fn parts(shape: &LevelShape, range: VirtRange) -> impl Iterator<Item = VirtRange> + use<> {
    let low = shape.bytes() - 1;
    let mut next = Some(range.start);
    core::iter::from_fn(move || {
        let start = next?;
        let last = VirtAddr(start.0 | low).min(range.last);
        next = (last < range.last).then(|| VirtAddr(last.0 + 1));
        Some(VirtRange { start, last })
    })
}
