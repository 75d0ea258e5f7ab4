//! The word that belongs to a table frame: eight bytes a table, in place before there is any page descriptor.
//!
//! ```text
//! bits 15:0   entries in use; while dying, how deep below the root the table stood
//! bits 63:16  link: frame number of the next dead table while a subtree waits for its flush, plus one
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use crate::Pfn;

const USED: u64 = 0xffff;
const LINK_SHIFT: u32 = 16;

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

    /// Entries in use, 0 to 8192.
    #[must_use]
    pub fn used(&self) -> u16 {
        (self.0.load(Ordering::Relaxed) & USED) as u16
    }

    /// Sets the number of used entries: for tables that were filled by other means.
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

    /// Marks the table, which stood `depth` levels below the root, as dead, with `next` behind it.
    pub fn bury(&self, depth: usize, next: Option<Pfn>) {
        let link = next.map_or(0, |pfn| pfn.0 + 1);
        self.0.store(link << LINK_SHIFT | depth as u64 & USED, Ordering::Relaxed);
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
    }
}
