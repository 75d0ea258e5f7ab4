//! What is known of each frame and each pageblock of a zone: one byte a frame, one byte a pageblock.
//!
//! ```text
//! frame      0            nothing: no block begins here
//!            0x20|order   a free block of the zone begins here
//!            0x40|order   a block in some CPU's list begins here
//!            0x80|order   a block that somebody was given begins here
//!            0xc0|order   the same, asked for as movable
//! pageblock  0            of the type that zones begin with: movable
//!            n + 1        of migrate type n, counted as in `MigrateType::ALL`
//! ```
//!
//! # Invariants
//! 1. Whoever changes an owned block to another state does it by one compare-and-exchange, so of two who give the same
//!    block back one learns that it was too late.
//! 2. Bytes of free blocks and of pageblocks change under the zone lock alone.

use kernmem_base::sync::atomic::Ordering;
use kernmem_base::{Era, Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::Facts;
use crate::store::{CHUNK_SHIFT, States, ZoneNeeds};

/// What begins at a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No block.
    Nothing,
    /// A block of the zone's free area.
    Free(Order),
    /// A block in a CPU's list.
    Cached(Order),
    /// A block that belongs to somebody.
    Owned(Order),
    /// A block that belongs to somebody who asked for movable pages.
    OwnedMovable(Order),
}

impl State {
    /// A block that is given to somebody.
    pub(crate) const fn owned(order: u8, movable: bool) -> Self {
        if movable { Self::OwnedMovable(Order(order)) } else { Self::Owned(Order(order)) }
    }

    /// The order of a block that somebody owns.
    pub(crate) const fn owned_order(self) -> Option<Order> {
        match self {
            Self::Owned(order) | Self::OwnedMovable(order) => Some(order),
            Self::Nothing | Self::Free(_) | Self::Cached(_) => None,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Free(order) => 0x20 | order.0,
            Self::Cached(order) => 0x40 | order.0,
            Self::Owned(order) => 0x80 | order.0,
            Self::OwnedMovable(order) => 0xc0 | order.0,
        }
    }

    const fn of(byte: u8) -> Self {
        let order = Order(byte & 0x1f);
        match byte & 0xe0 {
            0x20 => Self::Free(order),
            0x40 => Self::Cached(order),
            0x80 => Self::Owned(order),
            0xc0 => Self::OwnedMovable(order),
            _ => Self::Nothing,
        }
    }
}

/// The records of one zone's frames, and the few facts that its rules need.
#[derive(Debug)]
pub(crate) struct Ground<T> {
    states: T,
    /// First frame.
    pub start: Pfn,
    /// Past the last frame.
    pub end: Pfn,
    pub era: Era,
    pub max_order: u8,
    pub pageblock_order: u8,
}

const fn chunk_of(pfn: u64) -> u64 {
    pfn >> CHUNK_SHIFT
}

impl<T: States> Ground<T> {
    pub fn new(states: T, start: Pfn, end: Pfn, facts: &Facts) -> Self {
        let (max_order, pageblock_order) = (facts.max_order.0, facts.pageblock_order.0);
        Self { states, start, end, era: facts.era, max_order, pageblock_order }
    }

    /// What a zone of that span needs.
    pub fn needs(start: Pfn, end: Pfn, facts: &Facts) -> ZoneNeeds {
        if start >= end {
            return ZoneNeeds::default();
        }
        let frames = 1_usize << CHUNK_SHIFT;
        ZoneNeeds {
            chunks: chunk_of(end.0 - 1) - chunk_of(start.0) + 1,
            state_bytes: frames + (frames >> facts.pageblock_order.0),
            words: 2 * frames,
        }
    }

    /// The chunk of a frame, counted from the zone's first.
    pub fn chunk(&self, pfn: Pfn) -> u64 {
        chunk_of(pfn.0) - chunk_of(self.start.0)
    }

    pub fn contains(&self, pfn: Pfn) -> bool {
        self.start <= pfn && pfn < self.end
    }

    fn bytes(&self) -> u64 {
        (1 << CHUNK_SHIFT) + (1 << CHUNK_SHIFT >> self.pageblock_order)
    }

    fn frame_index(&self, pfn: Pfn) -> Option<u64> {
        let in_chunk = pfn.0 & ((1 << CHUNK_SHIFT) - 1);
        self.contains(pfn).then(|| self.chunk(pfn) * self.bytes() + in_chunk)
    }

    /// The pageblock at a zone's edge may begin before the zone; its byte is in the chunk all the same.
    fn block_index(&self, pfn: Pfn) -> Option<u64> {
        let block = (pfn.0 & ((1 << CHUNK_SHIFT) - 1)) >> self.pageblock_order;
        self.contains(pfn).then(|| self.chunk(pfn) * self.bytes() + (1 << CHUNK_SHIFT) + block)
    }

    /// Opens the records around a frame; false if there is no memory for them.
    pub fn open(&self, pfn: Pfn) -> bool {
        self.states.open(self.chunk(pfn), self.bytes() as usize)
    }

    /// Whether there are records around a frame.
    pub fn is_open(&self, pfn: Pfn) -> bool {
        self.frame_index(pfn).is_some_and(|index| self.states.byte(index).is_some())
    }

    pub fn state(&self, pfn: Pfn) -> State {
        let byte = self.frame_index(pfn).and_then(|index| self.states.byte(index));
        // Acquire pairs with the Release of `set` and `change`: who sees a state sees what was done before it.
        byte.map_or(State::Nothing, |byte| State::of(byte.load(Ordering::Acquire)))
    }

    pub fn set(&self, pfn: Pfn, state: State) {
        if let Some(byte) = self.frame_index(pfn).and_then(|index| self.states.byte(index)) {
            // Release pairs with the Acquire of `state` and `change`.
            byte.store(state.byte(), Ordering::Release);
        }
    }

    /// Changes a state if it is the one that is expected; false, and nothing is changed, if it is not.
    pub fn change(&self, pfn: Pfn, from: State, to: State) -> bool {
        let Some(byte) = self.frame_index(pfn).and_then(|index| self.states.byte(index)) else { return false };
        // AcqRel pairs with itself on another CPU: the block passes from one owner to the next. A failure publishes
        // nothing.
        byte.compare_exchange(from.byte(), to.byte(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The type of a frame's pageblock.
    pub fn kind(&self, pfn: Pfn) -> MigrateType {
        let byte = self.block_index(pfn).and_then(|index| self.states.byte(index));
        // Relaxed: who reads it without the zone lock bears a stale type, as a free that began earlier.
        let number = byte.map_or(0, |byte| byte.load(Ordering::Relaxed));
        match number.checked_sub(1) {
            Some(kind) => MigrateType::ALL.get(usize::from(kind)).copied().unwrap_or(MigrateType::Movable),
            None => MigrateType::Movable,
        }
    }

    /// Up to where the frames `[start, end)` are of the type of `start`, as far as one look says: where no records are open
    /// a whole chunk, else one pageblock.
    pub fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        let shift = if self.is_open(start) { self.pageblock_order.into() } else { CHUNK_SHIFT };
        Pfn(((start.0 >> shift) + 1) << shift).min(end)
    }

    /// Changes the type of a frame's pageblock; under the zone lock, in an open chunk.
    pub fn set_kind(&self, pfn: Pfn, kind: MigrateType) {
        if let Some(byte) = self.block_index(pfn).and_then(|index| self.states.byte(index)) {
            byte.store(kind as u8 + 1, Ordering::Relaxed);
        }
    }

    /// First frame of the pageblock of a frame; it may lie before the zone.
    pub fn block_start(&self, pfn: Pfn) -> Pfn {
        Pfn(pfn.0 >> self.pageblock_order << self.pageblock_order)
    }

    /// Frames of a pageblock.
    pub fn block_frames(&self) -> u64 {
        1 << self.pageblock_order
    }

    /// The block that a frame lies in, if somebody owns it or a CPU's list holds it.
    pub fn taken_block(&self, pfn: Pfn) -> Option<(Pfn, State)> {
        (0..=self.max_order).find_map(|order| {
            let head = Pfn(pfn.0 >> order << order);
            let state = self.state(head);
            let is_it = matches!(state, State::Owned(o) | State::OwnedMovable(o) | State::Cached(o) if o.0 == order);
            is_it.then_some((head, state))
        })
    }
}
