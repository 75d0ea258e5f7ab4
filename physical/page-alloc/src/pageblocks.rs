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
use kernmem_base::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use kernmem_sparse::MigrateType;

use crate::dense::Kinds;
use crate::free_area::KINDS;

const KNOWN: u8 = 0x80;

/// The type by the low bits.
const KIND_OF: [MigrateType; 8] = {
    let mut kinds = [MigrateType::Movable; 8];
    let mut number = 0;
    while number < KINDS {
        kinds[number + 1] = MigrateType::ALL[number];
        number += 1;
    }
    kinds
};

/// The bytes of one zone.
#[derive(Debug)]
pub(crate) struct Pageblocks<T> {
    bytes: T,
    /// The first pageblock, counted from frame 0.
    first: u64,
    order: u8,
    of_kind: [AtomicU64; KINDS],
    /// Pageblocks of which no frame was handed over.
    unknown: AtomicU64,
    /// Pageblocks of types that not every request may have.
    special: AtomicU64,
}

/// Pageblocks of `[start, end)`.
pub(crate) const fn count(start: Pfn, end: Pfn, order: u8) -> usize {
    if start.0 >= end.0 { 0 } else { (((end.0 - 1) >> order) - (start.0 >> order) + 1) as usize }
}

impl<T: AsRef<[AtomicU8]>> Kinds for Pageblocks<T> {
    #[inline]
    fn kind(&self, pfn: Pfn) -> MigrateType {
        KIND_OF[usize::from(self.byte(pfn) % 8)]
    }
}

impl<T: AsRef<[AtomicU8]>> Pageblocks<T> {
    /// Movable pageblocks of which nothing is known: `bytes` are zeros.
    pub fn new(bytes: T, start: Pfn, order: u8) -> Self {
        let of_kind = core::array::from_fn(|_| AtomicU64::new(0));
        let unknown = AtomicU64::new(bytes.as_ref().len() as u64);
        Self { bytes, first: start.0 >> order, order, of_kind, unknown, special: AtomicU64::new(0) }
    }

    #[inline]
    fn place(&self, pfn: Pfn) -> Option<&AtomicU8> {
        self.bytes.as_ref().get((pfn.0 >> self.order).wrapping_sub(self.first) as usize)
    }

    #[inline]
    fn byte(&self, pfn: Pfn) -> u8 {
        // Relaxed: who reads it without the set-up lock bears a stale type, and looks again after it acted on it.
        self.place(pfn).map_or(0, |byte| byte.load(Ordering::Relaxed))
    }

    fn set(&self, pfn: Pfn, value: u8) {
        if let Some(byte) = self.place(pfn) {
            // Relaxed: a field's index, changed next by a read-modify-write, carries it to the CPU that follows the change.
            byte.store(value, Ordering::Relaxed);
        }
    }

    /// Whether some frame of a frame's pageblock was handed over.
    #[inline]
    pub fn is_known(&self, pfn: Pfn) -> bool {
        self.byte(pfn) & KNOWN != 0
    }

    pub fn set_known(&self, pfn: Pfn, known: bool) {
        let byte = self.byte(pfn);
        self.set(pfn, byte & !KNOWN | if known { KNOWN } else { 0 });
        match (byte & KNOWN != 0, known) {
            // Relaxed: as the bytes.
            (false, true) => self.unknown.fetch_sub(1, Ordering::Relaxed),
            (true, false) => self.unknown.fetch_add(1, Ordering::Relaxed),
            _ => return,
        };
    }

    /// Changes the type of a frame's pageblock; answers what it was.
    pub fn set_kind(&self, pfn: Pfn, kind: MigrateType) -> MigrateType {
        let from = self.kind(pfn);
        self.set(pfn, self.byte(pfn) & KNOWN | (kind as u8 + 1));
        // Relaxed: figures.
        self.of_kind[from as usize].fetch_sub(u64::from(from != MigrateType::Movable), Ordering::Relaxed);
        self.of_kind[kind as usize].fetch_add(u64::from(kind != MigrateType::Movable), Ordering::Relaxed);
        self.special.fetch_sub(u64::from(from >= MigrateType::HighAtomic), Ordering::Relaxed);
        self.special.fetch_add(u64::from(kind >= MigrateType::HighAtomic), Ordering::Relaxed);
        from
    }

    /// Pageblocks of a type other than movable.
    #[inline]
    pub fn of(&self, kind: MigrateType) -> u64 {
        self.of_kind[kind as usize].load(Ordering::Relaxed)
    }

    /// Whether all are unmovable, movable or reclaimable.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.special.load(Ordering::Relaxed) == 0
    }

    /// Whether some frame of each was handed over.
    #[inline]
    pub fn are_known(&self) -> bool {
        self.unknown.load(Ordering::Relaxed) == 0
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
