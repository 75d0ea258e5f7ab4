//! Physical memory on the host's heap, for examples and tests: an array of slots of each width, one of notes.
//!
//! # Invariants
//! 1. A frame is used as a table of one width: the two arrays do not see each other.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;

use kernmem_base::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, PhysAddr, PhysMem, PhysRange,
    PhysRead, Slot, TableNote, Words,
};

/// A range of physical memory; frames are handed out from its start.
#[derive(Debug)]
pub struct HeapMem {
    range: PhysRange,
    frame: u64,
    wide: Box<[AtomicU64]>,
    narrow: Box<[AtomicU32]>,
    notes: Box<[TableNote]>,
    free: RefCell<Vec<PhysAddr>>,
}

impl HeapMem {
    /// Memory for tables of 4K at `range`, all free and zero.
    ///
    /// # Panics
    /// The range is no whole number of frames.
    #[must_use]
    pub fn new(range: PhysRange) -> Self {
        Self::with_frames(range, Granule::K4)
    }

    /// The same with frames of `granule`.
    ///
    /// # Panics
    /// The range is no whole number of frames.
    #[must_use]
    pub fn with_frames(range: PhysRange, granule: Granule) -> Self {
        let frame = granule.bytes();
        assert!(range.start.is_aligned(frame) && range.end.is_aligned(frame), "whole frames");
        let frames = range.size() / frame;
        Self {
            range,
            frame,
            wide: (0..range.size() / 8).map(|_| AtomicU64::new(0)).collect(),
            narrow: (0..range.size() / 4).map(|_| AtomicU32::new(0)).collect(),
            notes: (0..frames).map(|_| TableNote::new()).collect(),
            free: RefCell::new((0..frames).rev().map(|number| range.start + number * frame).collect()),
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

    /// Which slot of `S` stands at `pa`.
    fn index<S: Slot>(&self, pa: PhysAddr) -> Result<usize, BusError> {
        if !pa.is_aligned(S::BYTES) {
            return Err(BusError { pa, fault: BusFault::Misaligned });
        }
        let offset = pa.0.checked_sub(self.range.start.0).ok_or(BusError { pa, fault: BusFault::Hole })?;
        Ok((offset / S::BYTES) as usize)
    }
}

impl Words for HeapMem {
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        let first = self.index::<AtomicU64>(pa)?;
        self.wide.get(first..first + count).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    fn narrow(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU32], BusError> {
        let first = self.index::<AtomicU32>(pa)?;
        self.narrow.get(first..first + count).ok_or(BusError { pa, fault: BusFault::Hole })
    }
}

impl PhysRead for HeapMem {
    type Lent<'m, S: Slot> = &'m [S];

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::lend(self, pa, entries)
    }
}

impl PhysMem for HeapMem {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        let hole = BusError { pa, fault: BusFault::Hole };
        let index = pa.0.checked_sub(self.range.start.0).ok_or(hole)? / self.frame;
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
        for slot in self.wide(range.start, (range.size() / 8) as usize)? {
            slot.store(0, Ordering::Relaxed);
        }
        for slot in self.narrow(range.start, (range.size() / 4) as usize)? {
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
