//! The memory that our page tables lie in: the arena's frames, as a kernel that runs on physical addresses sees them.
//!
//! Walks follow entries as every other contender does, and as a kernel may whose linear map has all memory: where an entry
//! says that a table is, there one is. All other accesses ask whether the arena has what they want.
//!
//! # Invariants
//! 1. A frame is a table of one format at a time, and belongs to the tree that took it.
//! 2. In these rows nobody walks through entries that another thread changes, so [`Vectors`] may rewrite them.
//! 3. Who has a [`HostMem`] has the arena's region mapped: it lies where its frames' addresses say for good, and is
//!    exposed.
//! 4. Who asks for an entry names one of a table of a tree in this memory. Roots are frames of [`ArenaFrames`], and what
//!    links tables is written by `kernmem-pgtable` alone, which links frames of [`ArenaFrames`]: so only the contenders
//!    beside this file see a [`HostMem`], and whoever else has frames of the arena has others. A tree is not used any
//!    more when the arena is reset: each row makes its own.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::{ptr, slice};
use std::sync::OnceLock;

use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Level, NoFrame, PhysAddr, PhysMem, PhysRange, PhysRead, Slot,
    TableNote, Words,
};
use kernmem_host::{Vectors, fetch};

use crate::arena::{self, BYTES, START};
use crate::host::Region;

/// The arena as memory, with a note for each frame.
#[derive(Debug)]
pub(super) struct HostMem {
    region: &'static Region,
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
pub(super) fn host(shift: u32) -> &'static HostMem {
    static HOSTS: [OnceLock<HostMem>; 3] = [const { OnceLock::new() }; 3];
    HOSTS[(shift as usize - 12) / 2].get_or_init(|| {
        let region = arena::region();
        let notes = (0..region.bytes() >> shift).map(|_| TableNote::new()).collect();
        assert!(region.base().expose_provenance().get() == START && region.bytes() == BYTES);
        let is_baseline = std::env::var_os(BASELINE).is_some();
        let vectors = if is_baseline { Vectors::BASELINE } else { Vectors::widest() };
        HostMem { region, shift, notes, vectors }
    })
}

/// Entry `index` of the table at `table`: one that is there (invariant 4 of the module).
struct Entry<'m> {
    table: usize,
    index: usize,
    memory: PhantomData<&'m HostMem>,
}

impl Entry<'_> {
    #[inline]
    const fn new(table: PhysAddr, index: usize) -> Self {
        Self { table: table.0 as usize, index, memory: PhantomData }
    }

    /// Where it lies.
    #[inline]
    fn at<S>(&self) -> *const S {
        ptr::with_exposed_provenance::<S>(self.table).wrapping_add(self.index)
    }
}

/// Whether the memory has something there.
fn has<S>(entry: *const S) -> bool {
    (START..START + BYTES).contains(&entry.addr()) && entry.is_aligned()
}

impl Words for Entry<'_> {
    #[inline]
    fn wide(&self, _pa: PhysAddr, _count: usize) -> Result<&[AtomicU64], BusError> {
        let first = self.at::<AtomicU64>();
        debug_assert!(has(first), "an entry at {first:p}");
        // SAFETY:
        // 1. The entry lies in a frame of the arena, aligned (invariant 4), which is mapped for good (invariant 3).
        // 2. Whoever touches it meanwhile does so atomically, or has its table alone (invariants 1 and 2).
        Ok(slice::from_ref(unsafe { &*first }))
    }

    #[inline]
    fn narrow(&self, _pa: PhysAddr, _count: usize) -> Result<&[AtomicU32], BusError> {
        let first = self.at::<AtomicU32>();
        debug_assert!(has(first), "an entry at {first:p}");
        // SAFETY:
        // 1. As in `wide`.
        Ok(slice::from_ref(unsafe { &*first }))
    }
}

/// The byte of the arena at `pa`.
#[inline]
fn offset(pa: PhysAddr) -> Result<u64, BusError> {
    pa.0.checked_sub(START as u64).ok_or(BusError { pa, fault: BusFault::Hole })
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
        Ok(S::lend(&Entry::new(pa, index), pa, 1)?.first().map_or(0, Slot::load))
    }

    #[inline]
    fn hint<S: Slot>(&self, pa: PhysAddr, index: usize) {
        fetch(Entry::new(pa, index).at::<S>().addr());
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
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct ArenaFrames;

impl FrameSource for ArenaFrames {
    #[inline]
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pa = PhysAddr(arena::take().ok_or(NoFrame { level })?);
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    #[inline]
    fn give_back(&mut self, frame: PhysAddr) {
        // SAFETY:
        // 1. `kernmem-pgtable` gives back tables that it took here and that nothing links any more (invariant 4).
        unsafe { arena::give_back(frame.0) };
    }

    fn give_back_all(&mut self, frames: &[PhysAddr]) {
        arena::give_back_all(frames.iter().map(|frame| frame.0));
    }
}
