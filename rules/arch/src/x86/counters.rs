//! The `DirectMap` counters of `/proc/meminfo`: they count events, not leaves.
//!
//! # Invariants
//! 1. A leaf that a later step of building the map finds already in place is counted again.
//! 2. A split of the kernel image's own map counts too, although its leaves were never added.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `update_page_count`, `split_page_count`,
//! `arch_report_meminfo`.

use kernmem_base::Level;

/// Leaves of 2 MiB that a leaf of 1 GiB becomes, and base pages that one of 2 MiB becomes.
const SPLIT_INTO: u64 = 512;

/// Leaves of the direct map by size, as the kernel counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectMapCounters {
    /// Base pages.
    pub k4: u64,
    /// Leaves of 2 MiB, or of 4 MiB with two levels of tables.
    pub m2: u64,
    /// Leaves of 1 GiB.
    pub g1: u64,
    /// Base pages of a leaf of the middle size.
    pages_of_m2: u64,
}

impl Default for DirectMapCounters {
    fn default() -> Self {
        Self::with_pages(SPLIT_INTO)
    }
}

impl DirectMapCounters {
    /// Nothing counted, where a leaf of the middle size has so many base pages.
    #[must_use]
    pub const fn with_pages(pages_of_m2: u64) -> Self {
        Self { k4: 0, m2: 0, g1: 0, pages_of_m2 }
    }

    /// Counts `leaves` of `level` that were written, or found.
    pub const fn add(&mut self, level: Level, leaves: u64) {
        if let Some(counter) = self.counter(level) {
            *counter += leaves;
        }
    }

    /// Counts `leaves` of `level` that went away with removed memory.
    pub const fn remove(&mut self, level: Level, leaves: u64) {
        if let Some(counter) = self.counter(level) {
            *counter -= leaves;
        }
    }

    /// Counts one leaf of `level` that became leaves of the next: nothing if none is counted.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `split_page_count`.
    pub const fn split(&mut self, level: Level) {
        match level {
            Level::Pud if self.g1 > 0 => {
                self.g1 -= 1;
                self.m2 += SPLIT_INTO;
            }
            Level::Pmd if self.m2 > 0 => {
                self.m2 -= 1;
                self.k4 += self.pages_of_m2;
            }
            Level::Pgd | Level::P4d | Level::Pud | Level::Pmd | Level::Pte => {}
        }
    }

    /// The three values of the listing in KiB; the last stands in it only if 1 GiB leaves are in use.
    #[must_use]
    pub const fn kib(&self) -> [u64; 3] {
        [self.k4 << 2, (self.m2 * self.pages_of_m2) << 2, self.g1 << 20]
    }

    const fn counter(&mut self, level: Level) -> Option<&mut u64> {
        match level {
            Level::Pud => Some(&mut self.g1),
            Level::Pmd => Some(&mut self.m2),
            Level::Pte => Some(&mut self.k4),
            Level::Pgd | Level::P4d => None,
        }
    }
}
