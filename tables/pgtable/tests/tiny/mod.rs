//! A format with tables of a few entries, memory for it that threads share, and frames that are spoilt when they come
//! back: small enough for a model checker, and quick to show a walk through a table that was given back.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::collections::BTreeSet;

use kernmem_arch::{Entry, EntryFormat, LeafSize, LevelShape, Shape};
use kernmem_base::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, PhysAddr, PhysMem, PhysRange,
    PhysRead, Slot, TableNote, VirtAddr, VirtRange, Words,
};
use kernmem_pgtable::{Mapping, Sizes, Walk, WalkError};

pub const PAGE: u64 = 4096;
const VALID: u64 = 1;
const TABLE: u64 = 2;
/// An attribute that a change may set or clear.
pub const MARK: u64 = 4;
/// What an entry of a frame that came back says: reserved at every level.
const SPOILT: u64 = 0xdead_0008;
const RESERVED: u64 = 8;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Three levels of `1 << BITS` entries each; leaves are pages and blocks of one table.
pub enum Tiny<const BITS: u32> {}

const fn level(level: Level, shift: u32, bits: u32, leaf: bool) -> LevelShape {
    LevelShape { level, shift, index_bits: bits, leaf, contiguous_bits: 0 }
}

const fn shape(levels: &'static [LevelShape; 3], leaves: &'static [LeafSize; 2]) -> Shape {
    Shape { arch: "tiny", granule: Granule::K4, levels, leaves }
}

impl<const BITS: u32> Tiny<BITS> {
    const LEVELS: [LevelShape; 3] = [
        level(Level::Pgd, 12 + 2 * BITS, BITS, false),
        level(Level::Pmd, 12 + BITS, BITS, true),
        level(Level::Pte, 12, BITS, true),
    ];
    const LEAVES: [LeafSize; 2] = [
        LeafSize { bytes: PAGE << BITS, level: Level::Pmd, contiguous: false },
        LeafSize { bytes: PAGE, level: Level::Pte, contiguous: false },
    ];
    const SHAPE: Shape = shape(&Self::LEVELS, &Self::LEAVES);
}

impl<const BITS: u32> EntryFormat for Tiny<BITS> {
    type Attrs = u64;
    type Slot = AtomicU64;

    const BREAK_BEFORE_MAKE: bool = false;

    fn shape() -> &'static Shape {
        &Self::SHAPE
    }

    fn decode(raw: u64, level: Level) -> Entry<u64> {
        let (base, attrs) = (PhysAddr(raw & ADDRESS), raw & !ADDRESS);
        match raw & (VALID | TABLE | RESERVED) {
            0 | TABLE => Entry::Absent { sw: raw },
            3 if level != Level::Pte => Entry::Table { next: base, attrs },
            1 if level == Level::Pmd && base.is_aligned(PAGE << BITS) => Entry::Leaf { base, attrs },
            1 if level == Level::Pte => Entry::Leaf { base, attrs },
            _ => Entry::Reserved { raw },
        }
    }

    fn address_bits(level: Level) -> u64 {
        if level == Level::Pmd { ADDRESS & !((PAGE << BITS) - 1) } else { ADDRESS }
    }

    fn bits(attrs: u64) -> u64 {
        attrs
    }

    fn attrs(bits: u64) -> u64 {
        bits
    }

    fn leaf_attrs(page: u64, _level: Level, _contiguous: bool) -> u64 {
        page
    }

    fn page_attrs(leaf: u64, _level: Level) -> u64 {
        leaf
    }

    fn is_contiguous(_attrs: u64) -> bool {
        false
    }

    fn change_is_safe(old: u64, new: u64) -> bool {
        (old ^ new) & ADDRESS == 0
    }
}

/// Frames of `1 << bits` entries: frame 0 is the root, the others are handed out.
pub struct TinyMem {
    entries: usize,
    slots: Vec<AtomicU64>,
    notes: Vec<TableNote>,
}

impl TinyMem {
    pub fn new(bits: u32, frames: usize) -> Self {
        let entries = 1 << bits;
        Self {
            entries,
            slots: (0..frames * entries).map(|_| AtomicU64::new(0)).collect(),
            notes: (0..frames).map(|_| TableNote::new()).collect(),
        }
    }

    pub const ROOT: PhysAddr = PhysAddr(0);

    /// A source of the frames from `first` on, `count` of them.
    pub fn frames(&self, first: usize, count: usize) -> Pool<'_> {
        let free = (first..first + count).rev().map(|frame| PhysAddr(frame as u64 * PAGE)).collect();
        Pool { mem: self, free, left: None }
    }

    /// Tables that nothing links and that have not been given back.
    pub fn dead(&self) -> usize {
        self.notes.iter().filter(|note| note.is_busy()).count()
    }

    fn frame(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        let hole = BusError { pa, fault: BusFault::Hole };
        let (frame, index) = ((pa.0 / PAGE) as usize, (pa.0 % PAGE / 8) as usize);
        if index + count > self.entries {
            return Err(hole);
        }
        let first = frame * self.entries + index;
        self.slots.get(first..first + count).ok_or(hole)
    }
}

impl Words for TinyMem {
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        self.frame(pa, count)
    }

    fn narrow(&self, pa: PhysAddr, _count: usize) -> Result<&[AtomicU32], BusError> {
        Err(BusError { pa, fault: BusFault::Misaligned })
    }
}

impl PhysRead for TinyMem {
    type Lent<'m, S: Slot> = &'m [S];

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::lend(self, pa, entries)
    }
}

impl PhysMem for TinyMem {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        self.notes.get((pa.0 / PAGE) as usize).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        for slot in self.frame(range.start, self.entries)? {
            slot.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Frames that one thread owns; what comes back is spoilt at once.
pub struct Pool<'m> {
    mem: &'m TinyMem,
    pub free: Vec<PhysAddr>,
    /// Takes until one fails, once.
    pub left: Option<usize>,
}

impl FrameSource for Pool<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        match self.left {
            Some(0) => {
                self.left = None;
                return Err(NoFrame { level });
            }
            left => self.left = left.map(|left| left - 1),
        }
        let pa = self.free.pop().ok_or(NoFrame { level })?;
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        for slot in self.mem.frame(frame, self.mem.entries).unwrap() {
            slot.store(SPOILT, Ordering::Relaxed);
        }
        assert!(!self.free.contains(&frame), "{frame} came back twice");
        self.free.push(frame);
    }
}

/// The pages from `first` to `last`, inclusive.
pub fn pages(first: u64, last: u64) -> VirtRange {
    VirtRange { start: VirtAddr(first * PAGE), last: VirtAddr(last * PAGE + PAGE - 1) }
}

/// Where the memory behind page 0 lies.
pub const PA: u64 = 0x10_0000;

/// Maps each page of a range to the frame that belongs to it.
pub fn mapping<F: EntryFormat>(range: VirtRange, attrs: u64, sizes: Sizes) -> Mapping<F> {
    Mapping::new(PhysAddr(PA + range.start.0), F::attrs(VALID | attrs), sizes).with_table_attrs(F::attrs(VALID | TABLE))
}

pub fn table_attrs<F: EntryFormat>() -> F::Attrs {
    F::attrs(VALID | TABLE)
}

/// What a walk found for a page: whether its own frame is there, with which mark. Nothing else may be there, and no
/// walk may meet a frame that was given back.
#[track_caller]
pub fn found(page: u64, walk: Result<Walk<u64>, WalkError>) -> Option<u64> {
    match walk {
        Ok(Walk::Hole { .. }) => None,
        Ok(Walk::Mapped { pa, attrs, .. }) => {
            assert_eq!(pa.0, PA + page * PAGE, "page {page}");
            Some(attrs & MARK)
        }
        other => panic!("page {page}: {other:?}"),
    }
}

/// The tables of a tree whose notes are true and of which nobody holds any; each is met once, and none below the root
/// is empty.
pub fn census<F: EntryFormat>(mem: &TinyMem, may_be_empty: bool) -> BTreeSet<PhysAddr> {
    let mut tables = BTreeSet::new();
    count::<F>(mem, TinyMem::ROOT, 0, may_be_empty, &mut tables);
    tables
}

fn count<F: EntryFormat>(mem: &TinyMem, table: PhysAddr, depth: usize, empty: bool, tables: &mut BTreeSet<PhysAddr>) {
    assert!(tables.insert(table), "{table} is linked twice");
    let (shape, note) = (&F::shape().levels[depth], mem.note(table).unwrap());
    assert!(!note.is_busy(), "{table} stays locked or dead");
    let mut used = 0;
    for slot in mem.table::<F::Slot>(table, shape.entries()).unwrap() {
        used += u16::from(slot.load() != 0);
        match F::decode(slot.load(), shape.level) {
            Entry::Table { next, .. } => {
                assert!(note.may_link());
                count::<F>(mem, next, depth + 1, empty, tables);
            }
            Entry::Reserved { raw } => panic!("{raw:#x} in {table}"),
            _ => {}
        }
    }
    assert_eq!(note.used(), used, "the note of {table}");
    assert!(empty || depth == 0 || used > 0, "{table} is empty");
}
