//! A naive model of a window of addresses, played beside a tree of tables.
//!
//! The window is an array of units. Every operation starts and ends at a unit and every memory address behind a unit
//! is a multiple of its size, so all pages of a unit have leaves of one size: with a unit of one page the model is a
//! page array. After each operation [`Play::check`] compares every unit and the numbered invariants of the crate.

mod arm64;

use std::collections::BTreeSet;

use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::X86;
use kernmem_arch::{EncodeError, Entry, EntryFormat, LeafSize, Shape};
use kernmem_base::{BusError, Level, PhysAddr, PhysMem, PhysRange, PhysRead, Slot, Tlb, VirtAddr, VirtRange};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{
    CachedTables, Change, Failed, MapError, Mapping, PageForm, Sizes, Stale, Tables, Walk, translate, translate_many,
};

/// A format with attributes and changes to play with.
pub trait Subject: EntryFormat {
    /// Page attributes.
    const ATTRS: [u64; 3];
    /// Attributes of entries that link tables.
    const TABLE: u64;
    /// Changes: safe ones, unsafe ones, one that makes entries absent, one that moves them.
    const CHANGES: [(u64, u64); 6];
    /// Where the memory behind addresses begins, and which bits of an address are its place there.
    const MEMORY: (u64, u64) = (1 << 41, 0xff_ffff_ffff);
    /// A bit that no address of that memory has.
    const MOVE: u64 = MOVE;
}

const MOVE: u64 = 1 << 45; // no memory of the model lies there

impl<const LEVELS: usize> Subject for X86<LEVELS> {
    const ATTRS: [u64; 3] = [0x8000_0000_0000_0163, 0x8000_0000_0000_0161, 0x8000_0000_0000_01fb];
    const TABLE: u64 = 0x63;
    // read only; writable; executable; not executable; not present; elsewhere
    const CHANGES: [(u64, u64); 6] = [(0, 2), (2, 0), (0, 1 << 63), (1 << 63, 0), (0, 1), (MOVE, 0)];
}

impl Subject for I386Pae {
    const ATTRS: [u64; 3] = X86::<4>::ATTRS;
    const TABLE: u64 = X86::<4>::TABLE;
    const CHANGES: [(u64, u64); 6] = X86::<4>::CHANGES;
}

impl Subject for I386Level2 {
    const ATTRS: [u64; 3] = [0x163, 0x161, 0x1fb];
    const TABLE: u64 = 0x63;
    // read only; writable; for user mode; not; not present; elsewhere
    const CHANGES: [(u64, u64); 6] = [(0, 2), (2, 0), (4, 0), (0, 4), (0, 1), (Self::MOVE, 0)];
    const MEMORY: (u64, u64) = (1 << 30, 0x1fff_ffff);
    const MOVE: u64 = 1 << 31;
}

/// Where an operation plays.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub start: VirtAddr,
    pub unit: u64,
    pub units: usize,
}

impl Window {
    /// Pages, up to the last of the address space: several tables of pages.
    pub const TOP: Self = Self { start: VirtAddr(!0 << 23), unit: 1 << 12, units: 2048 };
    /// Groups of 64K around the end of a root entry: two tables at every level.
    pub const SEAM: Self = Self { start: VirtAddr(0xffff_807f_fe00_0000), unit: 1 << 16, units: 1536 };
    /// Pages, up to the last of 32 bits: two entries of the wider kind.
    pub const TOP_32: Self = Self { start: VirtAddr(0xff80_0000), unit: 1 << 12, units: 2048 };
    /// Groups of 16K around the end of a root entry.
    pub const SEAM_32: Self = Self { start: VirtAddr(0xbf80_0000), unit: 1 << 14, units: 1024 };
    /// Blocks of 2M, up to the last of 32 bits.
    pub const GIBS_32: Self = Self { start: VirtAddr(0x4000_0000), unit: 1 << 21, units: 1536 };
    /// The same around the end of a root entry of five levels.
    pub const SEAM_OF_FIVE: Self = Self { start: VirtAddr(0xff8f_ffff_fe00_0000), ..Self::SEAM };
    /// Blocks of 2M around the end of a root entry.
    pub const GIBS: Self = Self { start: VirtAddr(0xffff_ff7f_8000_0000), unit: 1 << 21, units: 1536 };

    fn va(&self, unit: usize) -> VirtAddr {
        self.start + unit as u64 * self.unit
    }

    fn range(&self, first: usize, units: usize) -> VirtRange {
        VirtRange::of_size(self.va(first), units as u64 * self.unit).unwrap()
    }

    fn whole(&self) -> VirtRange {
        self.range(0, self.units)
    }

    /// The units that `range` touches, inside the window.
    fn units_of(&self, range: VirtRange) -> core::ops::Range<usize> {
        let index = |va: VirtAddr| ((va.max(self.start) - self.start) / self.unit) as usize;
        index(range.start)..(index(range.last.min(self.whole().last)) + 1)
    }
}

/// What one unit holds.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Page {
    pa: u64,
    /// Attribute bits of a base page; of no meaning where the entry is not live.
    attrs: u64,
    leaf: LeafSize,
    is_live: bool,
}

/// One operation, drawn from five words.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Map {
        first: usize,
        units: usize,
        skew: u64,
        sizes: Sizes,
        attrs: usize,
    },
    /// Pages to frames that lie anywhere.
    MapPages {
        first: usize,
        units: usize,
        place: u16,
        attrs: usize,
    },
    /// One page, through the cache of tables.
    MapPage {
        first: usize,
        place: u16,
        attrs: usize,
    },
    /// One page, through the cache of tables.
    UnmapPage {
        first: usize,
    },
    Unmap {
        first: usize,
        units: usize,
    },
    Clear {
        first: usize,
        units: usize,
    },
    Protect {
        first: usize,
        units: usize,
        change: usize,
    },
    Split {
        first: usize,
    },
    /// `seeks`: at the next unit where that is possible, if any.
    Collapse {
        first: usize,
        units: usize,
        level: Level,
        seeks: bool,
    },
    Walk {
        first: usize,
        units: usize,
    },
}

impl Op {
    /// The operation that the words mean in `window`; all words mean one.
    pub fn draw(window: &Window, shape: &Shape, [kind, at, len, pa, how]: [u16; 5]) -> Self {
        let aligned = |value: usize, class: u16| value & !([1, 16, 512, 1][usize::from(class % 4)] - 1);
        let first = aligned(usize::from(at) % window.units, kind >> 4);
        let units = aligned(usize::from(len) % (window.units - first), kind >> 6).max(1);
        let skew = u64::from(pa >> 2) * [0, 1, 16, 512][usize::from(pa % 4)] % (1 << 14);
        let is_page = window.unit == shape.granule.bytes();
        match kind % 16 {
            3 if is_page => Self::MapPages { first, units, place: pa, attrs: usize::from(how >> 8) % 3 },
            4 if is_page => Self::MapPage { first, place: pa, attrs: usize::from(how >> 8) % 3 },
            5 if is_page => Self::UnmapPage { first },
            0..=5 => {
                let sizes = Sizes::only(shape, |leaf| {
                    shape.leaves.iter().position(|own| own == leaf).is_some_and(|bit| how >> bit & 1 != 0)
                });
                let sizes = if how & 1 << 12 != 0 { Sizes::ALL } else { sizes };
                Self::Map { first, units, skew, sizes, attrs: usize::from(how >> 8) % 3 }
            }
            6 | 7 => Self::Unmap { first, units },
            8 => Self::Clear { first, units },
            9 | 10 => Self::Protect { first, units, change: usize::from(how) % 6 },
            11 | 12 => Self::Split { first },
            13 | 14 => {
                let units = if how & 8 != 0 { units } else { window.units - first };
                let level =
                    [Level::Pgd, Level::P4d, Level::Pud, Level::Pmd, Level::Pte, Level::Pud, Level::Pmd, Level::Pmd];
                Self::Collapse { first, units, level: level[usize::from(how % 8)], seeks: how & 16 != 0 }
            }
            _ => Self::Walk { first, units },
        }
    }
}

/// A translation cache that remembers what it was told to forget.
#[derive(Default)]
pub struct Flushed(pub Vec<VirtRange>);

impl Tlb for Flushed {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.0.push(range);
    }
}

/// A tree and its model.
pub struct Play<'m, F: Subject> {
    mem: &'m HeapMem,
    frames: usize,
    window: Window,
    tables: CachedTables<'m, F, HeapMem>,
    pages: Vec<Option<Page>>,
    tlb: Flushed,
    bare_tables: usize,
}

/// Plays `words` in `window` with `frames` frames of table memory, and takes everything down at the end.
pub fn play<F: Subject>(window: Window, frames: usize, words: &[[u16; 5]]) {
    let granule = F::shape().granule;
    let end = PhysAddr((1 << 30) + frames as u64 * granule.bytes());
    let mem = HeapMem::with_frames(PhysRange::new(PhysAddr(1 << 30), end), granule);
    let tables = CachedTables::new(Tables::new(&mem, mem.take_root()));
    let pages = vec![None; window.units];
    let mut play = Play::<F> { mem: &mem, frames, window, tables, pages, tlb: Flushed::default(), bare_tables: 0 };
    for words in words {
        let op = Op::draw(&window, F::shape(), *words);
        play.step(op);
        play.check(&op);
    }
    play.unmap(0, window.units, true);
    play.check(&"the end");
    assert_eq!(mem.free_frames(), frames - 1, "every table was given back");
}

impl<F: Subject> Play<'_, F> {
    fn step(&mut self, op: Op) {
        let before = self.pages.clone();
        self.tlb.0.clear();
        match op {
            Op::Map { first, units, skew, sizes, attrs } => {
                let (memory, place) = F::MEMORY;
                let pa = memory + (self.window.va(first).0 & place) + skew * self.window.unit;
                self.map(first, units, pa, sizes, F::ATTRS[attrs]);
            }
            Op::MapPages { first, units, place, attrs } => self.map_pages(first, units, place, F::ATTRS[attrs]),
            Op::MapPage { first, place, attrs } => self.map_page(first, place, F::ATTRS[attrs]),
            Op::UnmapPage { first } => self.unmap_page(first),
            Op::Unmap { first, units } => self.unmap(first, units, true),
            Op::Clear { first, units } => self.unmap(first, units, false),
            Op::Protect { first, units, change } => {
                let (set, clear) = F::CHANGES[change];
                self.protect(first, units, Change { set, clear });
            }
            Op::Split { first } => self.split(first),
            Op::Collapse { first, units, level, seeks } => {
                let can = |unit: &usize| seeks && self.expect_collapse(*unit, first + units - unit, level).is_ok();
                let at = (first..first + units).find(can).unwrap_or(first);
                self.collapse(at, first + units - at, level);
            }
            Op::Walk { first, units } => self.walk(first, units),
        }
        for (unit, old) in before.iter().enumerate().filter(|(_, old)| old.is_some_and(|old| old.is_live)) {
            let range = self.window.range(unit, 1);
            let is_flushed =
                self.tlb.0.iter().any(|flushed| flushed.start <= range.start && range.last <= flushed.last);
            assert!(self.pages[unit] == *old || is_flushed, "{op:?}: {range:?} may be cached");
        }
    }

    /// Runs `op` on a cursor over `units`, pays its debt, and compares its error and where the cursor stands with
    /// what is expected.
    fn run(
        &mut self,
        (first, units): (usize, usize),
        expected: Result<(), (VirtAddr, MapError)>,
        op: impl FnOnce(&mut kernmem_pgtable::CursorMut<'_, '_, F, HeapMem>, &mut Flushed) -> Result<Stale, Failed>,
    ) {
        let mut cursor = self.tables.cursor(self.window.range(first, units));
        let done = op(&mut cursor, &mut self.tlb);
        let position = cursor.position();
        let (stale, found) = match done {
            Ok(stale) => (stale, Ok(())),
            Err(Failed { error, stale }) => (stale, Err((position.unwrap(), error))),
        };
        assert_eq!(found, expected);
        self.tables.pay(stale, &mut self.tlb, &mut self.mem.frames());
    }

    fn depth(level: Level) -> usize {
        F::shape().depth(level)
    }

    /// How deep below the root the last table on the path to a unit stands.
    fn table_depth(&self, unit: usize) -> usize {
        let steps = kernmem_pgtable::steps::<F, _>(self.mem, self.tables.tables().root(), self.window.va(unit));
        steps.count() - 1
    }

    fn map(&mut self, first: usize, units: usize, pa: u64, sizes: Sizes, attrs: u64) {
        let window = self.window;
        let depths: Vec<usize> = (0..window.units).map(|unit| self.table_depth(unit)).collect();
        let mapping = Mapping::<F>::new(PhysAddr(pa), F::attrs(attrs), sizes).with_table_attrs(F::attrs(F::TABLE));
        let mut cursor = self.tables.cursor(window.range(first, units));
        let done = cursor.map(&mut self.mem.frames(), &mapping);
        let position = cursor.position();
        let used = (first..first + units).find(|unit| self.pages[*unit].is_some());
        let end = match done {
            Ok(stale) => {
                assert_eq!((stale, position, used), (Stale::default(), None, None));
                first + units
            }
            Err(Failed { error, stale }) => {
                assert_eq!(stale, Stale::default());
                let va = position.unwrap();
                let end = ((va - window.start) / window.unit) as usize;
                if let MapError::NoFrame(_) = error {
                    assert!(self.mem.free_frames() <= F::shape().levels.len(), "frames were left");
                    assert!(used.is_none_or(|used| end <= used));
                } else {
                    let level = self.pages[used.unwrap()].unwrap().leaf.level;
                    assert_eq!((error, Some(end)), (MapError::Occupied { va, level }, used));
                }
                assert_eq!(va, window.va(end), "the cursor stands at a unit");
                end
            }
        };
        let run = first..end;
        let added: Vec<Page> = run
            .clone()
            .map(|unit| {
                let leaf = self.largest_leaf(&depths, &run, unit, pa, sizes);
                Page { pa: pa + (unit - first) as u64 * window.unit, attrs, leaf, is_live: true }
            })
            .collect();
        for (unit, page) in run.zip(added) {
            self.pages[unit] = Some(page);
        }
    }

    /// The largest allowed leaf around a unit that lies in the run, is as far into its size on both sides, and has
    /// none of the tables that were there (`depths`) in its way.
    fn largest_leaf(
        &self,
        depths: &[usize],
        run: &core::ops::Range<usize>,
        unit: usize,
        pa: u64,
        sizes: Sizes,
    ) -> LeafSize {
        let (window, shape) = (self.window, F::shape());
        let (first, last) = (window.va(run.start), window.range(run.start, run.len()).last);
        let fits = |leaf: &&LeafSize| {
            let start = window.va(unit).align_down(leaf.bytes);
            let block = VirtRange { start, last: VirtAddr(start.0 | (leaf.bytes - 1)) };
            sizes.allow(shape, leaf)
                && (first.0 ^ pa).is_multiple_of(leaf.bytes)
                && first <= block.start
                && block.last <= last
                && window.units_of(block).all(|unit| depths[unit] <= Self::depth(leaf.level))
        };
        let small = |leaf: &&LeafSize| leaf.bytes <= window.unit && depths[unit] <= Self::depth(leaf.level);
        let allowed = shape.leaves.iter().filter(|leaf| sizes.allow(shape, leaf));
        *allowed.clone().find(|leaf| if leaf.bytes <= window.unit { small(leaf) } else { fits(leaf) }).unwrap()
    }

    /// The addresses that change together with a unit.
    fn leaf_range(&self, unit: usize, page: &Page) -> VirtRange {
        let whole_group = page.is_live || !page.leaf.contiguous;
        let bytes = if whole_group { page.leaf.bytes } else { F::shape().level(page.leaf.level).bytes() };
        let start = self.window.va(unit).align_down(bytes);
        VirtRange { start, last: VirtAddr(start.0 | (bytes - 1)) }
    }

    fn is_cut(&self, unit: usize, page: &Page, range: VirtRange) -> bool {
        let leaf = self.leaf_range(unit, page);
        page.leaf.bytes > self.window.unit && !(range.contains(leaf.start) && range.contains(leaf.last))
    }

    /// A frame that a page of the model may have: no neighbour of the one before.
    fn frame(&self, unit: usize, place: u16) -> PhysAddr {
        let (memory, bits) = F::MEMORY;
        let drawn = (unit as u64 ^ u64::from(place) << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        PhysAddr(memory + (drawn & bits & !(self.window.unit - 1)))
    }

    /// What the model holds of a page that was mapped by itself.
    fn page_at(&self, unit: usize, place: u16, attrs: u64) -> Page {
        let leaf = *F::shape().leaves.last().unwrap();
        Page { pa: self.frame(unit, place).0, attrs, leaf, is_live: true }
    }

    fn form(attrs: u64) -> PageForm<F> {
        PageForm::new(F::attrs(attrs)).unwrap().with_table_attrs(F::attrs(F::TABLE))
    }

    fn map_pages(&mut self, first: usize, units: usize, place: u16, attrs: u64) {
        let window = self.window;
        let used = (first..first + units).find(|unit| self.pages[*unit].is_some());
        let pages: Vec<PhysAddr> = (first..first + units).map(|unit| self.frame(unit, place)).collect();
        let mut cursor = self.tables.cursor(window.range(first, window.units - first));
        let done = cursor.map_pages(&mut self.mem.frames(), &Self::form(attrs), &pages, |pa| *pa);
        let behind = if first + units < window.units { Some(first + units) } else { None };
        let position = cursor.position().map(|va| ((va - window.start) / window.unit) as usize);
        let end = match done {
            Ok(()) => {
                assert_eq!((position, used), (behind, None));
                first + units
            }
            Err(MapError::NoFrame(_)) => {
                assert!(self.mem.free_frames() <= F::shape().levels.len(), "frames were left");
                assert!(used.is_none_or(|used| position.unwrap() <= used));
                position.unwrap()
            }
            Err(error) => {
                let (va, level) = (window.va(used.unwrap()), self.pages[used.unwrap()].unwrap().leaf.level);
                assert_eq!((error, position), (MapError::Occupied { va, level }, used));
                used.unwrap()
            }
        };
        for unit in first..end {
            self.pages[unit] = Some(self.page_at(unit, place, attrs));
        }
    }

    fn map_page(&mut self, unit: usize, place: u16, attrs: u64) {
        let va = self.window.va(unit);
        let pa = self.frame(unit, place);
        let done = self.tables.map_page(va + 0x123, pa, &Self::form(attrs), &mut self.mem.frames());
        match (done, self.pages[unit]) {
            (Ok(()), None) => self.pages[unit] = Some(self.page_at(unit, place, attrs)),
            (Err(MapError::NoFrame(_)), None) => {
                assert!(self.mem.free_frames() <= F::shape().levels.len(), "frames were left");
            }
            (done, page) => {
                assert_eq!(done, Err(MapError::Occupied { va, level: page.unwrap().leaf.level }));
            }
        }
    }

    fn unmap_page(&mut self, unit: usize) {
        let expected = self.expect_unmap(unit, 1);
        let (stale, found) = match self.tables.unmap_page(self.window.va(unit) + 0x321) {
            Ok(stale) => (stale, Ok(())),
            Err(error) => (Stale::default(), Err((self.window.va(unit), error))),
        };
        assert_eq!(found, expected);
        self.tables.pay(stale, &mut self.tlb, &mut self.mem.frames());
    }

    /// Takes from the model what an unmap removes, and tells where it stops.
    fn expect_unmap(&mut self, first: usize, units: usize) -> Result<(), (VirtAddr, MapError)> {
        let range = self.window.range(first, units);
        for unit in first..first + units {
            let Some(page) = self.pages[unit] else { continue };
            if self.is_cut(unit, &page, range) {
                let va = self.window.va(unit);
                return Err((va, MapError::Inside { va, level: page.leaf.level }));
            }
            self.pages[unit] = None;
        }
        Ok(())
    }

    fn unmap(&mut self, first: usize, units: usize, drops_tables: bool) {
        let expected = self.expect_unmap(first, units);
        self.run((first, units), expected, |cursor, _| if drops_tables { cursor.unmap() } else { cursor.clear() });
        if drops_tables && expected.is_ok() {
            for unit in first..first + units {
                let path = kernmem_pgtable::steps::<F, _>(self.mem, self.tables.tables().root(), self.window.va(unit));
                for step in path.skip(1) {
                    let used = self.mem.note(step.unwrap().table).unwrap().used();
                    assert_ne!(used, 0, "an empty table stays behind");
                }
            }
        }
    }

    fn protect(&mut self, first: usize, units: usize, change: Change) {
        let range = self.window.range(first, units);
        let mut expected = Ok(());
        for unit in first..first + units {
            let Some(page) = self.pages[unit].filter(|page| page.is_live) else { continue };
            let (va, level) = (self.window.va(unit), page.leaf.level);
            if self.is_cut(unit, &page, range) {
                expected = Err((va, MapError::Inside { va, level }));
                break;
            }
            let old = F::bits(F::leaf_attrs(F::attrs(page.attrs), level, false));
            let new = old & !change.clear | change.set;
            if change.set & F::MOVE != 0 {
                let leaf = F::leaf_attrs(F::attrs(page.attrs), level, page.leaf.contiguous);
                let base = F::place(PhysAddr(page.pa & !(F::shape().level(level).bytes() - 1)));
                let raw = base | F::bits(leaf) | F::MOVE;
                expected = Err((va, MapError::Encode(EncodeError { level, raw })));
                break;
            }
            if new != old && !F::change_is_safe(old, new) {
                expected = Err((va, MapError::Live { va, level }));
                break;
            }
            let attrs = F::bits(F::page_attrs(F::attrs(new), level));
            self.pages[unit] = Some(Page { attrs, is_live: new & 1 != 0, ..page });
        }
        self.run((first, units), expected, |cursor, _| cursor.protect(change));
    }

    fn split(&mut self, unit: usize) {
        let shape = F::shape();
        let va = self.window.va(unit);
        let range = self.window.range(unit, 1);
        let live = self.pages[unit].filter(|page| page.is_live);
        if live.is_some_and(|page| page.leaf.contiguous && page.leaf.bytes < self.window.unit) {
            return; // would leave a unit with leaves of two sizes
        }
        let hole = MapError::Hole { va, level: shape.levels[self.table_depth(unit)].level };
        let mut cursor = self.tables.cursor(range);
        let done = cursor.split(&mut self.mem.frames(), &mut self.tlb, F::attrs(F::TABLE));
        assert_eq!(cursor.position(), Some(va), "the cursor stays");
        let (bytes, stale) = match (done, live) {
            (Ok(done), Some(_)) => done,
            (Err(Failed { error: MapError::NoFrame(_), stale }), Some(_)) => {
                assert_eq!((self.mem.free_frames(), stale), (0, Stale::default()));
                return;
            }
            (Err(Failed { error, stale }), None) => return assert_eq!((error, stale), (hole, Stale::default())),
            (done, live) => panic!("{done:?} of {live:?}"),
        };
        assert_eq!(
            F::BREAK_BEFORE_MAKE || bytes == F::shape().granule.bytes() && stale == Stale::default(),
            stale == Stale::default()
        );
        self.tables.pay(stale, &mut self.tlb, &mut self.mem.frames());
        let page = live.unwrap();
        let is_next = |leaf: &&LeafSize| {
            let depth = Self::depth(page.leaf.level) + usize::from(!page.leaf.contiguous);
            !leaf.contiguous && Self::depth(leaf.level) == depth
        };
        let leaf = *shape.leaves.iter().find(is_next).unwrap_or(&page.leaf);
        assert_eq!(leaf.bytes, bytes);
        for unit in self.window.units_of(self.leaf_range(unit, &page)) {
            self.pages[unit].as_mut().unwrap().leaf = leaf;
        }
    }

    fn collapse(&mut self, first: usize, units: usize, level: Level) {
        let expected = self.expect_collapse(first, units, level);
        let va = self.window.va(first);
        if expected.is_ok() {
            let leaf = *F::shape().leaves.iter().find(|leaf| leaf.level == level && !leaf.contiguous).unwrap();
            let start = va.align_down(leaf.bytes);
            let block = VirtRange { start, last: VirtAddr(start.0 | (leaf.bytes - 1)) };
            for unit in self.window.units_of(block) {
                self.pages[unit].as_mut().unwrap().leaf = leaf;
            }
        }
        // the cursor's range begins where the window does, so that a block may begin before `first`
        self.run((0, first + units), expected.map_err(|error| (va, error)), |cursor, tlb| {
            cursor.seek(va);
            let done = cursor.collapse(level, tlb);
            assert_eq!(cursor.position(), Some(va), "the cursor stays");
            done
        });
    }

    fn expect_collapse(&self, first: usize, units: usize, level: Level) -> Result<(), MapError> {
        let (shape, va, range) = (F::shape(), self.window.va(first), self.window.range(0, first + units));
        let Some(leaf) = shape.leaves.iter().find(|leaf| leaf.level == level && !leaf.contiguous) else {
            return Err(MapError::Encode(EncodeError { level, raw: 0 }));
        };
        let start = va.align_down(leaf.bytes);
        if !(range.contains(start) && range.contains(VirtAddr(start.0 | (leaf.bytes - 1)))) {
            return Err(MapError::Inside { va, level });
        }
        let depth = self.table_depth(first);
        if depth <= Self::depth(level) {
            let is_live = self.pages[first].is_some_and(|page| page.is_live);
            let hole = MapError::Hole { va, level: shape.levels[depth].level };
            return Err(if is_live { MapError::Unequal { va: start } } else { hole });
        }
        let below = &shape.levels[Self::depth(level) + 1];
        let page_at = |va: VirtAddr| {
            let unit = ((va - self.window.start) / self.window.unit) as usize;
            let offset = (va - self.window.start) % self.window.unit;
            self.pages[unit].map(|page| Page { pa: page.pa + offset, ..page })
        };
        for va in (0..below.entries() as u64).map(|entry| start + entry * below.bytes()) {
            let head = page_at(start).filter(|page| page.is_live && page.pa.is_multiple_of(leaf.bytes));
            let fits = head.zip(page_at(va)).is_some_and(|(head, page)| {
                page.is_live
                    && page.leaf.level == below.level
                    && page.attrs == head.attrs
                    && page.pa == head.pa + (va - start)
            });
            if !fits {
                return Err(MapError::Unequal { va });
            }
        }
        Ok(())
    }

    /// Goes over the slots of a range, from a unit inside it.
    fn walk(&mut self, first: usize, units: usize) {
        let range = self.window.range(first, units);
        let mut cursor = self.tables.cursor(range);
        cursor.seek(range.start - 1);
        assert_eq!(cursor.next_slot(), Ok(None), "outside the range");
        let mut va = self.window.va(first + units / 2);
        cursor.seek(va);
        while let Some((slot, level, entry)) = cursor.next_slot().unwrap() {
            assert_eq!(slot.start, va);
            assert!(slot.last <= range.last);
            let page = self.pages[self.window.units_of(slot).start];
            match entry {
                Entry::Leaf { .. } => assert_eq!(page.unwrap().leaf.level, level),
                Entry::Absent { sw } => assert_eq!(sw != 0, page.is_some()),
                Entry::Table { .. } | Entry::Reserved { .. } => panic!("{entry:?}"),
            }
            va = slot.last.wrapping_add(1);
        }
        assert_eq!((va, cursor.position()), (range.end(), None));
    }

    fn check(&mut self, after: &dyn core::fmt::Debug) {
        for unit in 0..self.window.units {
            self.check_unit(unit, after);
        }
        self.check_others();
        let mut census = Census { tables: BTreeSet::new(), bare: 0 };
        census.count::<F>(self.mem, self.tables.tables().root(), 0).unwrap();
        assert_eq!(census.tables.len() + self.mem.free_frames(), self.frames, "{after:?}: frames");
        let format = format!("{after:?}");
        if format.starts_with("Map") || format.starts_with("Unmap") {
            assert!(census.bare <= self.bare_tables, "{after:?}: new tables without entries");
        }
        self.bare_tables = census.bare;
    }

    /// A walk from a remembered table, and walks in batches, end where each by itself does.
    fn check_others(&mut self) {
        let vas: Vec<VirtAddr> = (0..self.window.units).map(|unit| self.window.va(unit) + 0x42).collect();
        let mut walks = vec![None; vas.len()];
        let root = self.tables.tables().root();
        translate_many::<F, _>(self.mem, root, &vas, |number, walk| {
            assert_eq!(walks[number].replace(walk), None, "once each");
        });
        for (va, walk) in vas.into_iter().zip(walks) {
            let alone = translate::<F, _>(self.mem, root, va);
            assert_eq!((self.tables.translate(va), walk), (alone, Some(alone)), "{va}");
        }
    }

    fn check_unit(&self, unit: usize, after: &dyn core::fmt::Debug) {
        for offset in [0x123, self.window.unit / 2 + 8, self.window.unit - 1] {
            let va = self.window.va(unit) + offset;
            let walk = translate::<F, _>(self.mem, self.tables.tables().root(), va);
            match self.pages[unit].filter(|page| page.is_live) {
                Some(Page { pa, attrs, leaf, .. }) => {
                    let attrs = F::leaf_attrs(F::attrs(attrs), leaf.level, leaf.contiguous);
                    let mapped = Walk::Mapped { pa: PhysAddr(pa + offset), level: leaf.level, attrs };
                    assert_eq!(walk, Ok(mapped), "{after:?}: {va}");
                }
                None => assert!(matches!(walk, Ok(Walk::Hole { .. })), "{after:?}: {va}: {walk:?}"),
            }
        }
    }
}

/// The tables of a tree, each met once, and how many below the root hold nothing.
struct Census {
    tables: BTreeSet<PhysAddr>,
    bare: usize,
}

impl Census {
    fn count<F: EntryFormat>(&mut self, mem: &HeapMem, table: PhysAddr, depth: usize) -> Result<(), BusError> {
        assert!(self.tables.insert(table), "{table} is linked twice");
        let shape = &F::shape().levels[depth];
        let mut used = 0;
        for slot in mem.table::<F::Slot>(table, shape.entries())? {
            used += u16::from(slot.load() != 0);
            if let Entry::Table { next, .. } = F::decode(slot.load(), shape.level) {
                self.count::<F>(mem, next, depth + 1)?;
            }
        }
        assert_eq!(mem.note(table)?.used(), used, "the note of {table}");
        self.bare += usize::from(used == 0 && depth > 0);
        Ok(())
    }
}
