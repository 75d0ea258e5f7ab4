//! Memory for the allocator's own records, lent by the caller.
//!
//! ```text
//! per zone, Linux's lists, in chunks of 2^15 frames, opened on demand:
//!   states   one byte a frame, then one byte a pageblock      shared, atomic
//!   words    links of free blocks                             under the zone lock
//! per zone, dense:
//!   field    bits, block entries and index (`dense::mem`)     shared, atomic
//!   bytes    one a pageblock, and a bit a pageblock           shared, atomic
//!   states   a bit a frame, in chunks, opened where memory has holes
//! per allocator: zones, order of nodes, drain requests; per CPU: slots and sets of its lists, or its dense caches
//! ```
//!
//! # Invariants
//! 1. Memory of all zeros says "nothing here": no frame is known, no list has members, every pageblock is of the type that
//!    zones begin with.
//! 2. A chunk that was not opened reads as zeros.
//!
//! Here: the traits and [`LentStore`]. Not here: what the bytes say (`ground`).

use kernmem_base::sync::atomic::{AtomicU8, AtomicU16, AtomicU64};

use crate::dense::mem::{self, LentMem, Line, Mem};
use crate::dense::{CpuSet, Shape};
use crate::drain::DrainRequest;
use crate::pcp::{PcpSet, PcpSlot};
use crate::zone::Zone;

/// log2 of the frames whose records are opened together.
pub const CHUNK_SHIFT: u32 = 15;

/// The states of a zone's frames: read and written without the zone lock.
pub trait States {
    /// The byte at `index`; `None` where its chunk is not open.
    fn byte(&self, index: u64) -> Option<&AtomicU8>;

    /// Opens chunk `chunk` of `bytes` bytes, all zero; false if there is no memory for it. Opening twice is no error.
    fn open(&self, chunk: u64, bytes: usize) -> bool;
}

/// The words of a zone: reached under the zone lock.
pub trait Words {
    /// The word at `index`; 0 where its chunk is not open.
    fn word(&self, index: u64) -> u64;

    /// Changes a word of a chunk that is open.
    fn set_word(&mut self, index: u64, value: u64);

    /// Opens chunk `chunk` of `words` words, all zero; false if there is no memory for it. Opening twice is no error.
    fn open(&mut self, chunk: u64, words: usize) -> bool;
}

/// How much memory a zone needs if all of it were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZoneNeeds {
    /// Chunks of [`CHUNK_SHIFT`] that the span touches.
    pub chunks: u64,
    /// Bytes of states a chunk.
    pub state_bytes: usize,
    /// Words a chunk.
    pub words: usize,
}

/// How much memory an allocator needs if all of it were opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Zones: nodes times configured kinds.
    pub zones: usize,
    /// Numbers for the order of nodes.
    pub numbers: usize,
    /// One drain request a CPU.
    pub requests: usize,
    /// Bytes of states of all zones with lists.
    pub state_bytes: u64,
    /// Bytes of states of all dense zones: a store with memory on demand lends them only where a pageblock has frames that
    /// were not handed over.
    pub hole_bytes: u64,
    /// Bytes for the pageblocks of all dense zones.
    pub pageblocks: usize,
    /// Words of all zones' lists.
    pub words: u64,
    /// Memory of all zones' fields.
    pub field: mem::Needs,
}

/// A lender of memory for one allocator.
pub trait Store: Sized {
    /// The states of one zone.
    type States: States;
    /// The words of one zone.
    type Words: Words + Send;
    /// The memory of one zone's field.
    type Field: Mem;
    /// Bytes for the pageblocks of a dense zone.
    type Pageblocks: AsRef<[AtomicU8]>;
    /// A place for each zone.
    type Zones: AsRef<[Option<Zone<Self>>]> + AsMut<[Option<Zone<Self>>]>;
    /// Numbers.
    type Numbers: AsRef<[u32]> + AsMut<[u32]>;
    /// Drain requests.
    type Requests: AsRef<[DrainRequest]>;
    /// The entries of one CPU's lists.
    type Slots: AsRef<[PcpSlot]> + AsMut<[PcpSlot]>;
    /// One CPU's lists, a set a zone.
    type Sets: AsRef<[PcpSet]> + AsMut<[PcpSet]>;
    /// One CPU's dense caches, one a zone.
    type Caches: AsRef<[CpuSet]> + AsMut<[CpuSet]>;

    /// Memory for the states of one zone.
    fn states(&mut self, needs: ZoneNeeds) -> Option<Self::States>;
    /// Memory for the words of one zone.
    fn words(&mut self, needs: ZoneNeeds) -> Option<Self::Words>;
    /// Memory for the field of one zone.
    fn field(&mut self, shape: &Shape) -> Option<Self::Field>;
    /// `count` zeros for the pageblocks of one zone, which asks twice: for their types and for which are known.
    fn pageblocks(&mut self, count: usize) -> Option<Self::Pageblocks>;
    /// `count` empty places.
    fn zones(&mut self, count: usize) -> Option<Self::Zones>;
    /// `count` zeros.
    fn numbers(&mut self, count: usize) -> Option<Self::Numbers>;
    /// `count` requests that nobody made.
    fn requests(&mut self, count: usize) -> Option<Self::Requests>;
}

/// A store in memory that the caller lends for the life of the allocator; all of it zero or default.
#[derive(Debug)]
pub struct LentStore<'m> {
    states: &'m [AtomicU8],
    words: &'m mut [u64],
    field: FieldParts<'m>,
    zones: &'m mut [Option<Zone<LentStore<'m>>>],
    numbers: &'m mut [u32],
    requests: &'m [DrainRequest],
}

/// What fields are cut from.
#[derive(Debug, Default)]
struct FieldParts<'m> {
    lines: &'m [Line],
    entries: &'m [AtomicU16],
    index: &'m [AtomicU64],
}

impl<'m> LentStore<'m> {
    /// Lends memory; [`crate::needs`] says how much: `states` has state bytes, hole bytes and pageblocks. What dense placement needs besides comes by
    /// [`LentStore::with_field`].
    pub fn new(
        states: &'m [AtomicU8],
        words: &'m mut [u64],
        zones: &'m mut [Option<Zone<LentStore<'m>>>],
        numbers: &'m mut [u32],
        requests: &'m [DrainRequest],
    ) -> Self {
        Self { states, words, field: FieldParts::default(), zones, numbers, requests }
    }

    /// The same with memory for the fields of dense zones.
    #[must_use]
    pub fn with_field(mut self, lines: &'m [Line], entries: &'m [AtomicU16], index: &'m [AtomicU64]) -> Self {
        self.field = FieldParts { lines, entries, index };
        self
    }
}

/// States in one lent piece.
#[derive(Clone, Copy, Debug)]
pub struct LentStates<'m>(&'m [AtomicU8]);

impl States for LentStates<'_> {
    fn byte(&self, index: u64) -> Option<&AtomicU8> {
        self.0.get(usize::try_from(index).ok()?)
    }

    fn open(&self, chunk: u64, bytes: usize) -> bool {
        (chunk + 1).saturating_mul(bytes as u64) <= self.0.len() as u64
    }
}

/// Words in one lent piece.
#[derive(Debug)]
pub struct LentWords<'m>(&'m mut [u64]);

impl Words for LentWords<'_> {
    fn word(&self, index: u64) -> u64 {
        usize::try_from(index).ok().and_then(|index| self.0.get(index)).copied().unwrap_or(0)
    }

    fn set_word(&mut self, index: u64, value: u64) {
        if let Some(word) = usize::try_from(index).ok().and_then(|index| self.0.get_mut(index)) {
            *word = value;
        }
    }

    fn open(&mut self, chunk: u64, words: usize) -> bool {
        (chunk + 1).saturating_mul(words as u64) <= self.0.len() as u64
    }
}

fn split<'m, T>(from: &mut &'m mut [T], count: usize) -> Option<&'m mut [T]> {
    if count > from.len() {
        return None;
    }
    let (taken, rest) = core::mem::take(from).split_at_mut(count);
    *from = rest;
    Some(taken)
}

impl<'m> Store for LentStore<'m> {
    type States = LentStates<'m>;
    type Words = LentWords<'m>;
    type Field = LentMem<'m>;
    type Pageblocks = &'m [AtomicU8];
    type Zones = &'m mut [Option<Zone<Self>>];
    type Numbers = &'m mut [u32];
    type Requests = &'m [DrainRequest];
    type Slots = &'m mut [PcpSlot];
    type Sets = &'m mut [PcpSet];
    type Caches = &'m mut [CpuSet];

    fn states(&mut self, needs: ZoneNeeds) -> Option<LentStates<'m>> {
        let bytes = usize::try_from(needs.chunks).ok()?.checked_mul(needs.state_bytes)?;
        let (taken, rest) = self.states.split_at_checked(bytes)?;
        self.states = rest;
        Some(LentStates(taken))
    }

    fn words(&mut self, needs: ZoneNeeds) -> Option<LentWords<'m>> {
        let words = usize::try_from(needs.chunks).ok()?.checked_mul(needs.words)?;
        split(&mut self.words, words).map(LentWords)
    }

    fn field(&mut self, shape: &Shape) -> Option<LentMem<'m>> {
        let needs = mem::Needs::of(shape);
        let (lines, more_lines) = self.field.lines.split_at_checked(needs.lines)?;
        let (entries, more_entries) = self.field.entries.split_at_checked(needs.entries)?;
        let (index, more_index) = self.field.index.split_at_checked(needs.index)?;
        self.field = FieldParts { lines: more_lines, entries: more_entries, index: more_index };
        Some(LentMem::new(lines, entries, index))
    }

    fn pageblocks(&mut self, count: usize) -> Option<&'m [AtomicU8]> {
        let (taken, rest) = self.states.split_at_checked(count)?;
        self.states = rest;
        Some(taken)
    }

    fn zones(&mut self, count: usize) -> Option<Self::Zones> {
        split(&mut self.zones, count)
    }

    fn numbers(&mut self, count: usize) -> Option<Self::Numbers> {
        split(&mut self.numbers, count)
    }

    fn requests(&mut self, count: usize) -> Option<Self::Requests> {
        self.requests.get(..count)
    }
}
