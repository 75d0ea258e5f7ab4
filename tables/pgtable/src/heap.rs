//! Physical memory on the host's heap, for examples and tests: one array of slots, one of notes.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Level, NoFrame, PhysAddr, PhysMem, PhysRange, PhysRead, Slot,
    TableNote,
};

const FRAME: u64 = 4096;

/// A range of physical memory made of 64-bit slots; 4K frames are handed out from its start.
#[derive(Debug)]
pub struct HeapMem {
    range: PhysRange,
    slots: Box<[AtomicU64]>,
    notes: Box<[TableNote]>,
    free: RefCell<Vec<PhysAddr>>,
}

impl HeapMem {
    /// Memory for tables at `range`, all free and zero.
    ///
    /// # Panics
    /// The range is no whole number of 4K frames.
    #[must_use]
    pub fn new(range: PhysRange) -> Self {
        assert!(range.start.is_aligned(FRAME) && range.end.is_aligned(FRAME), "whole frames");
        let frames = range.size() / FRAME;
        Self {
            range,
            slots: (0..range.size() / 8).map(|_| AtomicU64::new(0)).collect(),
            notes: (0..frames).map(|_| TableNote::new()).collect(),
            free: RefCell::new((0..frames).rev().map(|frame| range.start + frame * FRAME).collect()),
        }
    }

    /// Takes a frame for a root table.
    ///
    /// # Panics
    /// No frame is left.
    #[must_use]
    pub fn take_root(&self) -> PhysAddr {
        self.free.borrow_mut().pop().expect("a frame for the root")
    }

    /// A source of this memory's frames.
    #[must_use]
    pub fn frames(&self) -> HeapFrames<'_> {
        HeapFrames { mem: self }
    }

    /// Frames that nobody holds.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.free.borrow().len()
    }

    fn slot_range(&self, pa: PhysAddr, entries: usize) -> Result<&[AtomicU64], BusError> {
        let hole = BusError { pa, fault: BusFault::Hole };
        if !pa.is_aligned(8) {
            return Err(BusError { pa, fault: BusFault::Misaligned });
        }
        let first = pa.0.checked_sub(self.range.start.0).ok_or(hole)? / 8;
        self.slots.get(first as usize..first as usize + entries).ok_or(hole)
    }
}

impl PhysRead for HeapMem {
    type Lent<'m, S: Slot> = &'m [S];

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::of_words(self.slot_range(pa, entries)?).ok_or(BusError { pa, fault: BusFault::Misaligned })
    }
}

impl PhysMem for HeapMem {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        let hole = BusError { pa, fault: BusFault::Hole };
        let index = pa.0.checked_sub(self.range.start.0).ok_or(hole)? / FRAME;
        self.notes.get(index as usize).ok_or(hole)
    }

    fn fill<S: Slot>(&self, table: PhysAddr, from: usize, count: usize, first: u64, step: u64) -> Result<(), BusError> {
        let mut raw = first;
        for slot in &self.table::<S>(table, from + count)?[from..] {
            slot.store(raw);
            raw = raw.wrapping_add(step);
        }
        Ok(())
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        for slot in self.slot_range(range.start, (range.size() / 8) as usize)? {
            slot.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Hands out the frames of a [`HeapMem`], lowest first; frames that came back are not cleared.
#[derive(Debug)]
pub struct HeapFrames<'m> {
    mem: &'m HeapMem,
}

impl FrameSource for HeapFrames<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pa = self.mem.free.borrow_mut().pop().ok_or(NoFrame { level })?;
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.mem.free.borrow_mut().push(frame);
    }
}
