//! The word that belongs to a table frame: eight bytes a table, in place before there is any page descriptor.
//!
//! ```text
//! bits 13:0   entries in use
//! bit  14     an entry may link a table: set with the first, cleared with the last entry in use
//! bit  15     locked: somebody changes the table, or counts on it
//! bit  16     climbing: who holds the lock waits for the lock of the table above
//! bit  17     dead: no entry links the table any more, and CPUs that still find it turn back
//! bits 60:20  link: frame number of the next dead table while a subtree waits for its flush, plus one
//! bits 63:61  of a dead table, how deep below the root it stood
//! ```
//!
//! # Protocol
//! Whoever reaches a table exclusively, through the lock or through `&mut` of the whole tree, is the only one who
//! changes the note: the others do nothing but set the lock bit of a note that is neither locked nor dead.
//! So counts, links and the other bits need no exchange, and readers outside bear a stale count: Relaxed.
//! 1. [`TableNote::try_lock`] is an exchange, Acquire; its partner is the Release of [`TableNote::unlock`]: who has the
//!    lock sees the entries and the count that the last holder left.
//! 2. [`TableNote::kill`] is Release, and so is [`TableNote::bury`], which may link a dead table anew; their partner is
//!    the Acquire load in [`TableNote::try_lock`]: who sees a dead table sees that nothing links it.

use crate::Pfn;
use crate::sync::atomic::{AtomicU64, Ordering};

const USED: u64 = 0x3fff;
const LINKS: u64 = 1 << 14;
const LOCKED: u64 = 1 << 15;
const CLIMBING: u64 = 1 << 16;
const DEAD: u64 = 1 << 17;
const SHARED: u64 = LOCKED | CLIMBING | DEAD;
const LINK_SHIFT: u32 = 20;
const LINK: u64 = (1 << 41) - 1;
const DEPTH_SHIFT: u32 = 61;

/// Counts the used entries of one table, holds its lock, and links the table while it is dying.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct TableNote(AtomicU64);

/// What the note of a dead table says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grave {
    /// The next dead table behind this one.
    pub next: Option<Pfn>,
    /// How deep below the root the table stood.
    pub depth: usize,
    /// Whether an entry of it may link another table.
    pub may_link: bool,
}

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

    // Relaxed, as the next one: see "Protocol".
    #[inline]
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&self, word: u64) {
        self.0.store(word, Ordering::Relaxed);
    }

    /// Entries in use, 0 to 8192.
    #[inline]
    #[must_use]
    pub fn used(&self) -> u16 {
        (self.load() & USED) as u16
    }

    /// Whether an entry of the table may link another one. Never false while one does.
    #[inline]
    #[must_use]
    pub fn may_link(&self) -> bool {
        self.load() & LINKS != 0
    }

    /// Sets the number of used entries: for tables that were filled by other means. Any of them may link a table.
    pub fn set_used(&self, used: u16) {
        let links = if used == 0 { 0 } else { LINKS };
        self.store(self.load() & !(USED | LINKS) | links | u64::from(used));
    }

    /// Sets the number of used entries, of which none links a table.
    #[inline]
    pub fn set_leaves(&self, used: u16) {
        self.store(self.load() & !(USED | LINKS) | u64::from(used));
    }

    /// Counts `entries` more in use, which may link tables: once per run, never per entry.
    #[inline]
    pub fn add(&self, entries: u16) {
        self.add_leaves(entries);
        self.set_may_link();
    }

    /// Says that an entry in use may link a table from now on.
    #[inline]
    pub fn set_may_link(&self) {
        self.store(self.load() | LINKS);
    }

    /// Counts `entries` more in use, of which none links a table.
    #[inline]
    pub fn add_leaves(&self, entries: u16) {
        let word = self.load();
        debug_assert!(word & USED <= USED - u64::from(entries), "a table has at most 8192 entries");
        self.store(word + u64::from(entries));
    }

    /// Counts `entries` fewer in use and returns what is left.
    #[inline]
    pub fn take(&self, entries: u16) -> u16 {
        let word = self.load();
        debug_assert!(word & USED >= u64::from(entries), "a table loses no more entries than it has");
        let left = word.wrapping_sub(u64::from(entries)) & USED;
        let links = if left == 0 { LINKS } else { 0 };
        self.store(word & !(USED | links) | left);
        left as u16
    }

    /// Counts `entries` fewer in use, of a table that has more.
    #[inline]
    pub fn take_some(&self, entries: u16) {
        let word = self.load();
        debug_assert!(word & USED > u64::from(entries), "something is left");
        self.store(word.wrapping_sub(u64::from(entries)));
    }

    /// What is known of a dead table, by one look.
    #[inline]
    #[must_use]
    pub fn grave(&self) -> Grave {
        let word = self.load();
        let next = (word >> LINK_SHIFT & LINK).checked_sub(1).map(Pfn);
        Grave { next, depth: (word >> DEPTH_SHIFT) as usize, may_link: word & LINKS != 0 }
    }

    /// Marks the table, which stood `depth` levels below the root, at most 7, as dead, with `next` behind it. How many
    /// entries it has, and whether it links tables, stays known, and a lock stays until [`TableNote::kill`].
    #[inline]
    pub fn bury(&self, depth: usize, next: Option<Pfn>) {
        let link = next.map_or(0, |pfn| pfn.0 + 1);
        let rest = self.load() & (USED | LINKS | SHARED);
        let word = (depth as u64) << DEPTH_SHIFT | (link & LINK) << LINK_SHIFT | rest;
        // Release: partner of the load in `try_lock`, if the table is dead already and only its link changes.
        self.0.store(word, Ordering::Release);
    }

    /// Makes the note that of a frame that is no table and that no walker can reach.
    #[inline]
    pub fn clear(&self) {
        self.store(0);
    }

    /// Makes the note that of a table without entries that its maker has locked, in a frame that no walker can reach.
    #[inline]
    pub fn clear_locked(&self) {
        self.store(LOCKED);
    }

    /// Locks the table if nobody has it: one exchange at the most, and none if the answer is no.
    #[inline]
    pub fn try_lock(&self) -> Claim {
        // Acquire: partner of `kill`.
        let seen = self.0.load(Ordering::Acquire);
        if seen & DEAD != 0 {
            return Claim::Dead;
        }
        if seen & LOCKED != 0 {
            return if seen & CLIMBING != 0 { Claim::Climbing } else { Claim::Held };
        }
        // Acquire: partner of `unlock`. Relaxed on failure: it decides nothing, the caller looks again.
        match self.0.compare_exchange(seen, seen | LOCKED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Claim::Taken,
            Err(_) => Claim::Held,
        }
    }

    /// Gives the lock back.
    #[inline]
    pub fn unlock(&self) {
        // Release: partner of the exchange in `try_lock`.
        self.0.store(self.load() & !(LOCKED | CLIMBING), Ordering::Release);
    }

    /// Ends the lock of a table that no entry links any more; nobody can take it again.
    #[inline]
    pub fn kill(&self) {
        // Release: partner of the load in `try_lock`.
        self.0.store(self.load() & !(LOCKED | CLIMBING) | DEAD, Ordering::Release);
    }

    /// Says, as the holder of the lock, whether the table above is waited for: a hint for others, by which nothing about
    /// the entries is decided.
    pub fn set_climbing(&self, climbing: bool) {
        self.store(self.load() & !CLIMBING | if climbing { CLIMBING } else { 0 });
    }

    /// Whether the holder of the lock waits for the table above: for who gave way to it, and looks anew afterwards.
    #[must_use]
    pub fn is_climbing(&self) -> bool {
        self.load() & CLIMBING != 0
    }

    /// Whether the table is locked or dead: for checks of trees that nobody else reaches.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.load() & SHARED != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn count_and_link_do_not_disturb_each_other() {
        let grave = |depth, next| Grave { next, depth, may_link: true };
        let note = TableNote::new();
        note.add(512);
        assert_eq!(note.take(500), 12);
        note.bury(3, Some(Pfn(0)));
        assert_eq!((note.grave(), note.used()), (grave(3, Some(Pfn(0))), 12));
        note.bury(1, None);
        assert_eq!(note.grave(), grave(1, None));
        note.bury(4, Some(Pfn((1 << 40) - 1))); // the last frame of 52 bits
        assert_eq!(note.grave(), grave(4, Some(Pfn((1 << 40) - 1))));
    }

    #[test]
    fn a_table_may_link_others_until_it_is_empty() {
        let note = TableNote::new();
        note.add_leaves(8192);
        assert_eq!((note.used(), note.may_link()), (8192, false));
        note.take_some(4000);
        assert_eq!((note.take(4191), note.may_link()), (1, false));
        note.add(1);
        assert_eq!((note.used(), note.may_link()), (2, true));
        assert_eq!((note.take(1), note.may_link()), (1, true), "which of the two went is not known");
        note.bury(2, None);
        assert!(note.may_link());
        note.clear();
        assert_eq!((note.used(), note.may_link()), (0, false));
        note.set_used(3);
        assert!(note.may_link());
        assert_eq!((note.take(3), note.may_link()), (0, false));
    }

    #[test]
    fn a_table_is_locked_once_and_counts_while_it_is() {
        let note = TableNote::new();
        note.add(3);
        assert_eq!((note.try_lock(), note.try_lock()), (Claim::Taken, Claim::Held));
        note.set_climbing(true);
        assert_eq!((note.take(1), note.try_lock(), note.is_climbing()), (2, Claim::Climbing, true));
        note.set_climbing(false);
        assert_eq!((note.try_lock(), note.is_climbing()), (Claim::Held, false));
        note.set_leaves(8192);
        note.unlock();
        assert_eq!((note.used(), note.is_busy(), note.try_lock()), (8192, false, Claim::Taken));
    }

    #[test]
    fn a_dead_table_is_never_locked_before_its_frame_is_a_table_again() {
        let note = TableNote::new();
        note.add(1);
        assert_eq!(note.try_lock(), Claim::Taken);
        note.bury(2, Some(Pfn(9)));
        assert_eq!(note.try_lock(), Claim::Held);
        note.kill();
        assert_eq!((note.try_lock(), note.grave().next, note.grave().depth), (Claim::Dead, Some(Pfn(9)), 2));
        assert!(note.may_link());
        note.clear();
        assert_eq!((note.used(), note.is_busy()), (0, false));
        note.clear_locked();
        assert_eq!((note.used(), note.try_lock()), (0, Claim::Held));
    }
}
