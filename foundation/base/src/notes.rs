//! The word that belongs to a table frame: eight bytes a table, in place before there is any page descriptor.
//!
//! ```text
//! bits 13:0   entries in use; while dying, how deep below the root the table stood
//! bit  14     an entry may link a table: set with the first, cleared with the last entry in use
//! bits 19:15  of whoever shares the table with others: nothing here reads or changes them
//! bits 63:20  link: frame number of the next dead table while a subtree waits for its flush, plus one
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use crate::Pfn;

const USED: u64 = 0x3fff;
const LINKS: u64 = 1 << 14;
const SHARED: u64 = 0x1f << 15;
const LINK_SHIFT: u32 = 20;

/// Counts the used entries of one table, and links the table while it is dying.
///
/// Whoever holds the table exclusively changes the note; readers tolerate a stale count, so all accesses are Relaxed.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct TableNote(AtomicU64);

impl TableNote {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

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

    /// The next dead table behind this one.
    #[must_use]
    pub fn link(&self) -> Option<Pfn> {
        (self.load() >> LINK_SHIFT).checked_sub(1).map(Pfn)
    }

    /// How deep below the root a dead table stood.
    #[must_use]
    pub fn dead_depth(&self) -> usize {
        usize::from(self.used())
    }

    /// Marks the table, which stood `depth` levels below the root, as dead, with `next` behind it. Whether it links
    /// tables stays known.
    #[inline]
    pub fn bury(&self, depth: usize, next: Option<Pfn>) {
        let link = next.map_or(0, |pfn| pfn.0 + 1);
        self.store(link << LINK_SHIFT | self.load() & (LINKS | SHARED) | depth as u64 & USED);
    }

    /// Makes the note that of a frame that is no table.
    #[inline]
    pub fn clear(&self) {
        self.store(self.load() & SHARED);
    }
}

#[cfg(test)]
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
        note.bury(4, Some(Pfn((1 << 40) - 1))); // the last frame of 52 bits
        assert_eq!((note.dead_depth(), note.link()), (4, Some(Pfn((1 << 40) - 1))));
    }

    #[test]
    fn a_table_may_link_others_until_it_is_empty() {
        let note = TableNote::new();
        note.add_leaves(8192);
        assert_eq!((note.used(), note.may_link()), (8192, false));
        assert_eq!((note.take(8191), note.may_link()), (1, false));
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
    fn the_bits_of_those_who_share_a_table_stay() {
        let note = TableNote::new();
        note.0.store(SHARED, Ordering::Relaxed);
        note.add(5);
        note.take(2);
        note.set_leaves(7);
        note.bury(1, Some(Pfn(9)));
        note.clear();
        assert_eq!(note.load(), SHARED);
    }
}
