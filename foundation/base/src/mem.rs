//! How the layers see physical memory: whole tables of entries, checked once per table.
//!
//! A walk asks for a table, not for an entry: the machine checks once that the table lies in memory and lends its
//! slots; each entry is then a single atomic load. Machines count their memory references where they hand out
//! slots and loads (see `kernmem-sim`).

use core::fmt;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::{PhysAddr, PhysRange, TableNote, bulk};

/// One page-table entry in memory that the MMU may read and write at any time.
///
/// 64-bit entries are [`AtomicU64`]; the 32-bit entries of i386's two-level tables are [`AtomicU32`]. Values are
/// exchanged as `u64` so that one walk serves both.
pub trait Slot: Send + Sync + 'static {
    /// Bytes of one entry.
    const BYTES: u64;

    /// A slot that holds `raw`: for machines that lend decoded copies.
    fn new(raw: u64) -> Self;

    /// Asks a machine for slots of this width: the one place that goes from a kind of slot to the machine's words.
    ///
    /// # Errors
    /// As [`Words::wide`].
    fn lend<W: Words>(memory: &W, pa: PhysAddr, entries: usize) -> Result<&[Self], BusError>
    where
        Self: Sized;

    /// Reads the entry. Acquire: pairs with [`Slot::publish`] of the table that the entry points to.
    fn load(&self) -> u64;

    /// Reads the entry of a table that the caller holds exclusively. Relaxed: the holder wrote what it links, or got the
    /// table from who did.
    fn peek(&self) -> u64;

    /// Writes an entry into a table that no walker can reach yet, or where an older value may be seen for a while.
    fn store(&self, raw: u64);

    /// Writes an entry that makes earlier stores to a table reachable. Release: pairs with [`Slot::load`].
    fn publish(&self, raw: u64);

    /// Replaces the entry and returns what was there. Acquire and release: takes over a subtree and hides it.
    fn swap(&self, raw: u64) -> u64;

    /// Replaces the entry by `new` if it is still `current`: how an MMU sets its marks in an entry that others write.
    /// Acquire and release, as [`Slot::swap`].
    ///
    /// # Errors
    /// What is there instead; nothing was written.
    fn exchange(&self, current: u64, new: u64) -> Result<(), u64>;
}

macro_rules! slot {
    ($atomic:ty, $int:ty, $words:ident) => {
        impl Slot for $atomic {
            const BYTES: u64 = size_of::<$int>() as u64;

            #[inline]
            fn new(raw: u64) -> Self {
                <$atomic>::new(raw as $int)
            }

            #[inline]
            fn lend<W: Words>(memory: &W, pa: PhysAddr, entries: usize) -> Result<&[Self], BusError> {
                memory.$words(pa, entries)
            }

            #[inline]
            fn load(&self) -> u64 {
                <$atomic>::load(self, Ordering::Acquire) as u64
            }

            #[inline]
            fn peek(&self) -> u64 {
                <$atomic>::load(self, Ordering::Relaxed) as u64
            }

            #[inline]
            fn store(&self, raw: u64) {
                <$atomic>::store(self, raw as $int, Ordering::Relaxed);
            }

            #[inline]
            fn publish(&self, raw: u64) {
                <$atomic>::store(self, raw as $int, Ordering::Release);
            }

            #[inline]
            fn swap(&self, raw: u64) -> u64 {
                <$atomic>::swap(self, raw as $int, Ordering::AcqRel) as u64
            }

            #[inline]
            fn exchange(&self, current: u64, new: u64) -> Result<(), u64> {
                let seen = self.compare_exchange(current as $int, new as $int, Ordering::AcqRel, Ordering::Acquire);
                seen.map(drop).map_err(u64::from)
            }
        }
    };
}

slot!(AtomicU64, u64, wide);
slot!(AtomicU32, u32, narrow);

/// Memory that can be seen as entries of either width.
pub trait Words {
    /// The `count` 64-bit words at `pa`.
    ///
    /// # Errors
    /// [`BusError`] says where and why memory cannot be lent.
    fn wide(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU64], BusError>;

    /// The `count` 32-bit words at `pa`.
    ///
    /// # Errors
    /// As [`Words::wide`].
    fn narrow(&self, pa: PhysAddr, count: usize) -> Result<&[AtomicU32], BusError>;
}

/// Physical memory that can be read as tables: a simulator, a dump, real hardware.
pub trait PhysRead {
    /// The slots of one kind of entry; a simulator lends the memory itself, a dump a decoded copy.
    type Lent<'m, S: Slot>: core::ops::Deref<Target = [S]>
    where
        Self: 'm;

    /// Lends the `entries` slots of the table at `pa`.
    ///
    /// # Errors
    /// [`BusError`] says where and why memory cannot be read; nothing is lent then.
    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<Self::Lent<'_, S>, BusError>;

    /// Reads the entry `index` of the table at `pa`: one memory reference.
    ///
    /// # Errors
    /// As [`PhysRead::table`].
    #[inline]
    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let table = self.table::<S>(pa, index + 1)?;
        table.get(index).map(Slot::load).ok_or(BusError { pa, fault: BusFault::Truncated })
    }
}

/// Physical memory whose tables may be written: a simulator or real hardware.
pub trait PhysMem: PhysRead {
    /// Lends the slots for writing; the slots are atomic, so a shared borrow suffices.
    ///
    /// # Errors
    /// As [`PhysRead::table`].
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError>;

    /// Lends the slot `index` of the table at `pa` for writing; no memory reference is counted.
    ///
    /// # Errors
    /// As [`PhysRead::table`].
    #[inline]
    fn slot<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<&S, BusError> {
        let table = self.table_mut::<S>(pa, index + 1)?;
        table.get(index).ok_or(BusError { pa, fault: BusFault::Truncated })
    }

    /// The word that belongs to the table frame at `pa`.
    ///
    /// # Errors
    /// As [`PhysRead::table`].
    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError>;

    /// Writes the `count` entries `first`, `first + step`, … from entry `from` of a table that nobody can reach yet.
    /// A machine may use any width of store here: the table is published by its parent's entry afterwards.
    ///
    /// # Errors
    /// As [`PhysRead::table`]; nothing was written then.
    #[inline]
    fn fill<S: Slot>(&self, table: PhysAddr, from: usize, count: usize, first: u64, step: u64) -> Result<(), BusError> {
        let slots = self.table_mut::<S>(table, from + count)?;
        bulk::fill(&slots[from..], first, step);
        Ok(())
    }

    /// The bits that any of `count` entries from entry `from` of a table has: zero if all are empty. For a caller who holds
    /// the table.
    ///
    /// # Errors
    /// As [`PhysRead::table`].
    #[inline]
    fn any<S: Slot>(&self, table: PhysAddr, (from, count): (usize, usize)) -> Result<u64, BusError> {
        Ok(bulk::any(&self.table_mut::<S>(table, from + count)?[from..]))
    }

    /// Makes the entries that are equal to entry `from` of a table, leaving the bits of `ignored` aside, `entry & keep |
    /// set`, from that one on up to one that is not, of `count` at most. Returns how many.
    ///
    /// The caller holds the table exclusively: nobody else writes it but an MMU that sets its marks, and these may be
    /// lost. A walker may meet any entry meanwhile: a machine may use any width of load and store that tears none.
    ///
    /// # Errors
    /// As [`PhysRead::table`]; nothing was written then.
    #[inline]
    fn rewrite<S: Slot>(
        &self,
        table: PhysAddr,
        (from, count): (usize, usize),
        ignored: u64,
        (keep, set): (u64, u64),
    ) -> Result<usize, BusError> {
        let slots = self.table_mut::<S>(table, from + count)?;
        Ok(bulk::rewrite(&slots[from..], ignored, keep, set))
    }

    /// Fills a range with zero bytes.
    ///
    /// # Errors
    /// As [`PhysRead::table`]; nothing was written then.
    fn zero(&self, range: PhysRange) -> Result<(), BusError>;

    /// Says that nobody needs the contents of `range` any more, whole frames: a machine may give the memory behind it
    /// back to whoever lent it, and reads zeroes or what was there afterwards.
    fn discard(&self, range: PhysRange) {
        let _ = range;
    }
}

/// Why an access to physical memory failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BusFault {
    /// No memory answers at this address.
    Hole,
    /// The dump left this page out on purpose.
    Excluded,
    /// The dump names the page but its data is damaged.
    Lost,
    /// The dump ends before the page.
    Truncated,
    /// The address is no multiple of the entry size.
    Misaligned,
}

/// An access to physical memory that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BusError {
    /// The address asked for.
    pub pa: PhysAddr,
    /// Why it failed.
    pub fault: BusFault,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.fault {
            BusFault::Hole => "no memory",
            BusFault::Excluded => "page excluded from the dump",
            BusFault::Lost => "page damaged in the dump",
            BusFault::Truncated => "beyond the end of the dump",
            BusFault::Misaligned => "misaligned",
        };
        write!(f, "physical address {:#x}: {why}", self.pa.0)
    }
}

impl core::error::Error for BusError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_writes_only_over_what_it_expects() {
        fn check<S: Slot>() {
            let slot = S::new(5);
            assert_eq!((slot.exchange(4, 9), slot.load()), (Err(5), 5));
            assert_eq!((slot.exchange(5, 9), slot.load()), (Ok(()), 9));
        }
        check::<AtomicU64>();
        check::<AtomicU32>();
    }
}
