//! The memory that our page tables lie in: the arena's frames, as a kernel with a linear map sees them.
//!
//! Physical memory begins at [`START`], low enough for tables with 32-bit entries. Walks see it as a bus that leaves the
//! upper address lines open: it repeats, so that an entry is read without asking where memory ends.
//!
//! # Invariants
//! 1. A frame is a table of one format at a time, and belongs to the tree that took it.
//! 2. In these rows nobody walks through entries that another thread changes, so [`Vectors`] may rewrite them.
#![allow(unsafe_code)]

use core::slice;
use core::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::OnceLock;

use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Level, NoFrame, PhysAddr, PhysMem, PhysRange, PhysRead, Slot,
    TableNote, Words,
};
use kernmem_host::Vectors;

use crate::arena::{self, SPAN};
use crate::host::Region;

/// Where the arena lies in physical memory.
pub const START: u64 = 0x1000_0000;

const _: () = assert!(START.is_multiple_of(SPAN as u64), "memory repeats from its start on");

/// The arena as memory, with a note for each frame.
#[derive(Debug)]
pub struct HostMem {
    region: &'static Region,
    lines: Lines,
    /// log2 of a frame's bytes.
    shift: u32,
    notes: Box<[TableNote]>,
    vectors: Vectors,
}

/// The variable of the environment that keeps the memory from vectors that not every machine has.
pub const BASELINE: &str = "KERNMEM_BENCH_BASELINE";

/// The memory in frames of `1 << shift` bytes: 4, 16 or 64 KiB. One for the program, as the arena is.
///
/// # Panics
/// There are no such frames, or the host has no memory for them.
pub fn host(shift: u32) -> &'static HostMem {
    static HOSTS: [OnceLock<HostMem>; 3] = [const { OnceLock::new() }; 3];
    HOSTS[(shift as usize - 12) / 2].get_or_init(|| {
        let region = arena::region();
        let notes = (0..region.bytes() >> shift).map(|_| TableNote::new()).collect();
        let lines = Lines::of(region).expect("the region has so many words");
        let is_baseline = std::env::var_os(BASELINE).is_some();
        let vectors = if is_baseline { Vectors::BASELINE } else { Vectors::widest() };
        HostMem { region, lines, shift, notes, vectors }
    })
}

/// The whole region by words, again and again.
#[derive(Debug)]
struct Lines {
    wide: &'static [AtomicU64; SPAN / 8],
    narrow: &'static [AtomicU32; SPAN / 4],
}

impl Lines {
    fn of(region: &'static Region) -> Option<Self> {
        let wide = region.wide(0, SPAN / 8)?.try_into().ok()?;
        Some(Self { wide, narrow: region.narrow(0, SPAN / 4)?.try_into().ok()? })
    }
}

/// One word at a time.
impl Words for Lines {
    #[inline]
    fn wide(&self, pa: PhysAddr, _count: usize) -> Result<&[AtomicU64], BusError> {
        Ok(slice::from_ref(&self.wide[(pa.0 / 8) as usize % (SPAN / 8)]))
    }

    #[inline]
    fn narrow(&self, pa: PhysAddr, _count: usize) -> Result<&[AtomicU32], BusError> {
        Ok(slice::from_ref(&self.narrow[(pa.0 / 4) as usize % (SPAN / 4)]))
    }
}

/// The byte of the arena at `pa`.
#[inline]
fn offset(pa: PhysAddr) -> Result<u64, BusError> {
    pa.0.checked_sub(START).ok_or(BusError { pa, fault: BusFault::Hole })
}

impl Words for HostMem {
    #[inline]
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        self.region.wide(offset(pa)?, count).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    #[inline]
    fn narrow(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU32], BusError> {
        self.region.narrow(offset(pa)?, count).ok_or(BusError { pa, fault: BusFault::Hole })
    }
}

impl PhysRead for HostMem {
    type Lent<'m, S: Slot> = &'m [S];

    #[inline]
    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::lend(self, pa, entries)
    }

    #[inline]
    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let at = PhysAddr(pa.0.wrapping_add(index as u64 * S::BYTES));
        Ok(S::lend(&self.lines, at, 1)?.first().map_or(0, Slot::load))
    }
}

impl PhysMem for HostMem {
    #[inline]
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    #[inline]
    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        let frame = offset(pa)? >> self.shift;
        self.notes.get(frame as usize).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    #[inline]
    fn fill<S: Slot>(&self, table: PhysAddr, from: usize, count: usize, first: u64, step: u64) -> Result<(), BusError> {
        self.vectors.fill::<S>(self, table, (from, count), (first, step))
    }

    #[inline]
    fn any<S: Slot>(&self, table: PhysAddr, run: (usize, usize)) -> Result<u64, BusError> {
        self.vectors.any::<S>(self, table, run)
    }

    #[inline]
    fn rewrite<S: Slot>(
        &self,
        table: PhysAddr,
        run: (usize, usize),
        ignored: u64,
        change: (u64, u64),
    ) -> Result<usize, BusError> {
        self.vectors.rewrite::<S>(self, table, run, ignored, change)
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        let words = self.wide(range.start, (range.size() / 8) as usize)?;
        let first = words.as_ptr().cast_mut();
        // SAFETY:
        // 1. The words lie in the region: `wide` checked it; atomics may be written through a shared borrow.
        // 2. Nobody walks memory that is being cleared: it belongs to the tree that took it (invariant 1).
        unsafe { first.write_bytes(0, words.len()) };
        Ok(())
    }
}

/// Frames of the arena, of the thread that asks.
#[derive(Clone, Copy, Debug)]
pub struct ArenaFrames {
    base: u64,
}

impl ArenaFrames {
    /// The source.
    #[must_use]
    pub fn new() -> Self {
        Self { base: arena::region().base().addr().get() as u64 }
    }
}

impl Default for ArenaFrames {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSource for ArenaFrames {
    #[inline]
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pa = PhysAddr(arena::take().ok_or(NoFrame { level })? - self.base + START);
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    #[inline]
    fn give_back(&mut self, frame: PhysAddr) {
        arena::give_back(frame.0 - START + self.base);
    }

    fn give_back_all(&mut self, frames: &[PhysAddr]) {
        arena::give_back_all(frames.iter().map(|frame| frame.0 - START + self.base));
    }
}
