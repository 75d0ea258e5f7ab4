//! The frames that tables of the stress may be in: those of the two lowest zones, made when they are first used.

use std::sync::OnceLock;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernmem_base::{BusError, BusFault, PhysAddr, PhysMem, PhysRange, PhysRead, Slot, TableNote, Words};
use kernmem_page_alloc::Gfp;

/// Frames below this number may be tables: those of node 0's DMA and DMA32.
pub(crate) const TABLE_FRAMES: u64 = 0x6400;

/// The word with which tables are asked for, which keeps them below [`TABLE_FRAMES`].
pub(crate) const GFP: Gfp = Gfp(Gfp::KERNEL.0 | Gfp::DMA32.0);

const ENTRIES: usize = 512;
const FRAME_BYTES: u64 = 4096;

/// What an entry of a frame that is no table any more says: reserved, in every format and at every level.
const SPOILT: u64 = 0xf000_0000_0000_0f81;

/// Memory of tables.
#[derive(Debug)]
pub(crate) struct TableMem {
    frames: Vec<OnceLock<Box<[AtomicU64]>>>,
    notes: Vec<TableNote>,
}

impl TableMem {
    /// The root's frame lies in a hole: it is none of the allocator's.
    pub const ROOT: PhysAddr = PhysAddr(0x9f * FRAME_BYTES);

    pub fn new() -> Self {
        Self {
            frames: (0..TABLE_FRAMES).map(|_| OnceLock::new()).collect(),
            notes: (0..TABLE_FRAMES).map(|_| TableNote::new()).collect(),
        }
    }

    fn frame(&self, pa: PhysAddr) -> Result<&[AtomicU64], BusError> {
        let frame = self.frames.get((pa.0 / FRAME_BYTES) as usize);
        let frame = frame.ok_or(BusError { pa, fault: BusFault::Hole })?;
        Ok(frame.get_or_init(|| (0..ENTRIES).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Makes the entries of a frame that came back such that a walk which met them would say so.
    pub fn spoil(&self, pa: PhysAddr) {
        if let Ok(entries) = self.frame(pa) {
            // Relaxed: nobody may read them.
            entries.iter().for_each(|entry| entry.store(SPOILT, Ordering::Relaxed));
        }
    }
}

impl Words for TableMem {
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError> {
        let first = (pa.0 % FRAME_BYTES / 8) as usize;
        self.frame(pa)?.get(first..first + count).ok_or(BusError { pa, fault: BusFault::Truncated })
    }

    fn narrow(&self, pa: PhysAddr, _count: usize) -> Result<&[AtomicU32], BusError> {
        Err(BusError { pa, fault: BusFault::Misaligned })
    }
}

impl PhysRead for TableMem {
    type Lent<'m, S: Slot> = &'m [S];

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        S::lend(self, pa, entries)
    }
}

impl PhysMem for TableMem {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.table(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        self.notes.get((pa.0 / FRAME_BYTES) as usize).ok_or(BusError { pa, fault: BusFault::Hole })
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        for entry in self.wide(range.start, (range.size() / 8) as usize)? {
            // Relaxed: nobody walks through memory that is being cleared.
            entry.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}
