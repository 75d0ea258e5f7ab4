//! The word that belongs to a table frame: eight bytes a table, in place before there is any page descriptor.
//!
//! ```text
//! bits 15:0   entries in use; of a dead table, how deep below the root it stood
//! bit  16     locked: somebody changes the table, or counts on it
//! bit  17     climbing: who holds the lock waits for the lock of the table above
//! bit  18     dead: no entry links the table any more, and it waits for its flush
//! bits 63:20  link: frame number of the next dead table, plus one
//! ```
//!
//! # Protocol
//! Whoever reaches a table exclusively, through the lock or through `&mut` of the whole tree, is the only one who
//! changes the note: the others do nothing but set the lock bit of a note that is neither locked nor dead.
//! So counts, links and the other bits need no exchange, and readers outside bear a stale count: Relaxed.
//! 1. [`TableNote::try_lock`] is an exchange, Acquire; its partner is the Release of [`TableNote::unlock`]: who has the
//!    lock sees the entries and the count that the last holder left.
//! 2. [`TableNote::bury`] and [`TableNote::kill`] are Release; their partner is the Acquire load in
//!    [`TableNote::try_lock`]: who sees a dead table sees what was done to the table above it before.

use crate::Pfn;
use crate::sync::atomic::{AtomicU64, Ordering};

const USED: u64 = 0xffff;
const LOCKED: u64 = 1 << 16;
const CLIMBING: u64 = 1 << 17;
const DEAD: u64 = 1 << 18;
const LINK_SHIFT: u32 = 20;

/// Counts the used entries of one table, holds its lock, and links the table while it is dying.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct TableNote(AtomicU64);

/// What an attempt to lock a table found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The lock is the caller's now.
    Taken,
    /// Somebody else has it.
    Held,
    /// Somebody else has it, who waits for the lock of the table above: whoever holds that one gives way.
    Climbing,
    /// Nothing links the table any more; it will never be locked again.
    Dead,
}

impl TableNote {
    /// A table without entries.
    #[must_use]
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A table without entries.
    #[must_use]
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Entries in use, 0 to 8192.
    #[must_use]
    pub fn used(&self) -> u16 {
        (self.0.load(Ordering::Relaxed) & USED) as u16
    }

    /// Sets the number of used entries: for tables that were filled by other means. The lock stays as it is.
    pub fn set_used(&self, used: u16) {
        let rest = self.0.load(Ordering::Relaxed) & !USED;
        self.0.store(rest | u64::from(used), Ordering::Relaxed);
    }

    /// Counts `entries` more in use: once per run, never per entry.
    pub fn add(&self, entries: u16) {
        self.set_used(self.used() + entries);
    }

    /// Counts `entries` fewer in use and returns what is left.
    pub fn take(&self, entries: u16) -> u16 {
        let left = self.used() - entries;
        self.set_used(left);
        left
    }

    /// The next dead table behind this one.
    #[must_use]
    pub fn link(&self) -> Option<Pfn> {
        (self.0.load(Ordering::Relaxed) >> LINK_SHIFT).checked_sub(1).map(Pfn)
    }

    /// How deep below the root a dead table stood.
    #[must_use]
    pub fn dead_depth(&self) -> usize {
        usize::from(self.used())
    }

    /// Marks the table, which stood `depth` levels below the root, as dead, with `next` behind it; a lock ends here.
    pub fn bury(&self, depth: usize, next: Option<Pfn>) {
        let link = next.map_or(0, |pfn| pfn.0 + 1);
        // Release: partner of `try_lock`.
        self.0.store(link << LINK_SHIFT | DEAD | depth as u64 & USED, Ordering::Release);
    }

    /// Marks a table below a buried one as dead; a lock ends here.
    pub fn kill(&self) {
        // Release: partner of `try_lock`.
        self.0.store(DEAD, Ordering::Release);
    }

    /// Makes the note that of a table without entries, alive, and locked by the caller or by nobody: for a frame that
    /// no walker can reach.
    pub fn renew(&self, locked: bool) {
        self.0.store(if locked { LOCKED } else { 0 }, Ordering::Relaxed);
    }

    /// Locks the table if nobody has it: one exchange at the most, and none if the answer is no.
    pub fn try_lock(&self) -> Claim {
        // Acquire: partner of `bury` and `kill`.
        let seen = self.0.load(Ordering::Acquire);
        if seen & DEAD != 0 {
            return Claim::Dead;
        }
        if seen & LOCKED != 0 {
            return if seen & CLIMBING != 0 { Claim::Climbing } else { Claim::Held };
        }
        // Acquire: partner of `unlock`. A failure decides nothing: the caller looks again.
        match self.0.compare_exchange(seen, seen | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Claim::Taken,
            Err(_) => Claim::Held,
        }
    }

    /// Says, as the holder of the lock, that the table above is waited for; [`TableNote::unlock`] takes it back.
    pub fn climb(&self) {
        let seen = self.0.load(Ordering::Relaxed);
        // Relaxed: a hint for who waits, which decides nothing about the entries.
        self.0.store(seen | CLIMBING, Ordering::Relaxed);
    }

    /// Takes back what [`TableNote::climb`] said; the lock stays.
    pub fn arrive(&self) {
        let seen = self.0.load(Ordering::Relaxed);
        // Relaxed: as `climb`.
        self.0.store(seen & !CLIMBING, Ordering::Relaxed);
    }

    /// Gives the lock back.
    pub fn unlock(&self) {
        let seen = self.0.load(Ordering::Relaxed);
        // Release: partner of the exchange in `try_lock`.
        self.0.store(seen & !(LOCKED | CLIMBING), Ordering::Release);
    }

    /// Whether somebody has the lock, or the table is dead: for checks of trees that nobody else can reach.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) & (LOCKED | DEAD) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn count_and_link_do_not_disturb_each_other() {
        let note = TableNote::new();
        note.add(512);
        assert_eq!(note.take(500), 12);
        note.bury(3, Some(Pfn(0)));
        assert_eq!((note.dead_depth(), note.link()), (3, Some(Pfn(0))));
        note.bury(1, None);
        assert_eq!((note.dead_depth(), note.link()), (1, None));
    }

    #[test]
    fn the_largest_frame_number_fits_beside_the_bits_and_the_largest_count() {
        let note = TableNote::new();
        let last = Pfn((1 << 40) - 1); // 52 bits of address, 4K pages
        note.bury(4, Some(last));
        assert_eq!((note.dead_depth(), note.link()), (4, Some(last)));
        note.renew(true);
        note.add(8192);
        assert_eq!((note.used(), note.link(), note.is_busy()), (8192, None, true));
    }

    #[test]
    fn a_table_is_locked_once_and_counts_while_it_is() {
        let note = TableNote::new();
        note.add(3);
        assert_eq!((note.try_lock(), note.try_lock()), (Claim::Taken, Claim::Held));
        note.climb();
        assert_eq!((note.take(1), note.try_lock()), (2, Claim::Climbing));
        note.arrive();
        assert_eq!(note.try_lock(), Claim::Held);
        note.unlock();
        assert_eq!((note.used(), note.is_busy(), note.try_lock()), (2, false, Claim::Taken));
    }

    #[test]
    fn a_dead_table_is_never_locked_before_it_is_renewed() {
        let note = TableNote::new();
        note.add(1);
        assert_eq!(note.try_lock(), Claim::Taken);
        note.kill();
        assert_eq!((note.try_lock(), note.link()), (Claim::Dead, None));
        note.bury(2, Some(Pfn(9)));
        assert_eq!(note.try_lock(), Claim::Dead);
        note.renew(false);
        assert_eq!((note.used(), note.try_lock()), (0, Claim::Taken));
    }
}
