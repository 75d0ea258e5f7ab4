//! What the pageblocks of a dense zone are meant for, and which of them were handed over: a byte each.
//!
//! ```text
//! bits 2..0   0: of the type that zones begin with, movable; n + 1: of migrate type n, counted as in `MigrateType::ALL`
//! bit  7      some frame of it was handed over
//! ```
//!
//! # Invariants
//! 1. Bytes change under the zone's set-up lock alone.
//! 2. `of_kind` counts the pageblocks of each type but the first one, which is not counted.

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, Ordering};
use kernmem_sparse::MigrateType;

use crate::dense::Kinds;
use crate::free_area::KINDS;
use crate::store::States;

const KNOWN: u8 = 0x80;

/// The bytes of one zone.
#[derive(Debug)]
pub(crate) struct Pageblocks<T> {
    bytes: T,
    /// The first pageblock, counted from frame 0.
    first: u64,
    order: u8,
    of_kind: [AtomicU64; KINDS],
}

/// Pageblocks of `[start, end)`.
pub(crate) const fn count(start: Pfn, end: Pfn, order: u8) -> usize {
    if start.0 >= end.0 { 0 } else { (((end.0 - 1) >> order) - (start.0 >> order) + 1) as usize }
}

impl<T: States> Kinds for Pageblocks<T> {
    #[inline]
    fn kind(&self, pfn: Pfn) -> MigrateType {
        match self.byte(pfn) & !KNOWN {
            0 => MigrateType::Movable,
            number => MigrateType::ALL.get(usize::from(number) - 1).copied().unwrap_or(MigrateType::Movable),
        }
    }
}

impl<T: States> Pageblocks<T> {
    /// Movable pageblocks of which nothing is known; `None` if there is no memory for them.
    pub fn new(bytes: T, start: Pfn, end: Pfn, order: u8) -> Option<Self> {
        let count = count(start, end, order);
        let of_kind = core::array::from_fn(|_| AtomicU64::new(0));
        (count == 0 || bytes.open(0, count)).then_some(Self { bytes, first: start.0 >> order, order, of_kind })
    }

    fn byte(&self, pfn: Pfn) -> u8 {
        let byte = (pfn.0 >> self.order).checked_sub(self.first).and_then(|index| self.bytes.byte(index));
        // Relaxed: who reads it without the set-up lock bears a stale type, and looks again after it acted on it.
        byte.map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    fn set(&self, pfn: Pfn, value: u8) {
        let byte = (pfn.0 >> self.order).checked_sub(self.first).and_then(|index| self.bytes.byte(index));
        if let Some(byte) = byte {
            // AcqRel: a swap and no store, so that the two looks of a CPU that follows a change see it in one order.
            byte.swap(value, Ordering::AcqRel);
        }
    }

    /// Whether some frame of a frame's pageblock was handed over.
    #[inline]
    pub fn is_known(&self, pfn: Pfn) -> bool {
        self.byte(pfn) & KNOWN != 0
    }

    pub fn set_known(&self, pfn: Pfn, known: bool) {
        let kind = self.byte(pfn) & !KNOWN;
        self.set(pfn, kind | if known { KNOWN } else { 0 });
    }

    /// Changes the type of a frame's pageblock; answers what it was.
    pub fn set_kind(&self, pfn: Pfn, kind: MigrateType) -> MigrateType {
        let from = self.kind(pfn);
        self.set(pfn, self.byte(pfn) & KNOWN | (kind as u8 + 1));
        // Relaxed: figures.
        self.of_kind[from as usize].fetch_sub(u64::from(from != MigrateType::Movable), Ordering::Relaxed);
        self.of_kind[kind as usize].fetch_add(u64::from(kind != MigrateType::Movable), Ordering::Relaxed);
        from
    }

    /// Pageblocks of a type other than movable.
    #[inline]
    pub fn of(&self, kind: MigrateType) -> u64 {
        self.of_kind[kind as usize].load(Ordering::Relaxed)
    }

    /// First frame of the pageblock of a frame.
    pub fn start(&self, pfn: Pfn) -> Pfn {
        Pfn(pfn.0 >> self.order << self.order)
    }

    /// Frames of a pageblock.
    pub const fn frames(&self) -> u64 {
        1 << self.order
    }
}
