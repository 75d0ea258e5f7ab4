//! The e820 map: what x86 firmware says about each range of addresses, and Linux's arithmetic on it.
//!
//! Here: entries, sanitising, updates and removals, the ends that the kernel computes. In `user`: what the command
//! line changes. In `text`: the map as a boot log prints it.
//! Not here: what the boot allocator makes of it.
//!
//! # Invariants
//! 1. An entry may be empty, and entries may overlap, until [`E820Table::sanitise`] has run.
//! 2. A table holds at most [`E820Table::CAPACITY`] entries; more are dropped, as Linux does.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/e820.c.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{Era, PhysAddr, PhysRange};

#[cfg(test)]
mod tests;
mod text;
mod user;

pub use text::{NumaBlock, SratText, parse_e820, parse_srat};
pub use user::{UserEdits, UserFault};

/// What a range is, by the number that firmware uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct E820Type(pub u32);

impl E820Type {
    /// Usable memory.
    pub const RAM: Self = Self(1);
    /// Not to be touched.
    pub const RESERVED: Self = Self(2);
    /// ACPI tables, usable once read.
    pub const ACPI: Self = Self(3);
    /// ACPI's own storage.
    pub const NVS: Self = Self(4);
    /// Memory with errors.
    pub const UNUSABLE: Self = Self(5);
    /// Persistent memory.
    pub const PMEM: Self = Self(7);
    /// Persistent memory by the older number.
    pub const PRAM: Self = Self(12);
    /// Usable, but holds the boot loader's data (Linux's own number, up to 6.12).
    pub const RESERVED_KERN: Self = Self(128);
    /// Memory set aside for special purposes.
    pub const SOFT_RESERVED: Self = Self(0xefff_ffff);

    /// Whether neighbours of this type stay apart.
    const fn stays_apart(self) -> bool {
        matches!(self, Self::PRAM | Self::SOFT_RESERVED)
    }
}

/// One range of the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct E820Entry {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub kind: E820Type,
}

impl E820Entry {
    /// One past the last byte, modulo 2^64.
    const fn end(&self) -> u64 {
        self.start.wrapping_add(self.size)
    }

    /// The range; cut at 2^64 - 1.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        PhysRange { start: PhysAddr(self.start), end: PhysAddr(self.start.saturating_add(self.size)) }
    }
}

/// A table that cannot be sanitised; it is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsanitised {
    /// It has fewer than two entries.
    TooFew,
    /// An entry passes 2^64.
    Wraps,
}

impl fmt::Display for Unsanitised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooFew => "the map has fewer than two entries",
            Self::Wraps => "an entry of the map passes 2^64",
        })
    }
}

impl core::error::Error for Unsanitised {}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct E820Table {
    entries: Vec<E820Entry>,
}

impl E820Table {
    /// Most entries: Linux's 128 and three for each of at most 1024 nodes.
    pub const CAPACITY: usize = 128 + 3 * 1024;

    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// A map of these entries, as they are.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = E820Entry>) -> Self {
        Self { entries: entries.into_iter().take(Self::CAPACITY).collect() }
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[E820Entry] {
        &self.entries
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an entry; a full table drops it.
    pub fn add(&mut self, start: u64, size: u64, kind: E820Type) {
        if self.entries.len() < Self::CAPACITY {
            self.entries.push(E820Entry { start, size, kind });
        }
    }

    /// Sorts, resolves overlaps in favour of the numerically largest type, and merges neighbours of one type.
    ///
    /// # Errors
    /// [`Unsanitised`]; the table is unchanged then.
    pub fn sanitise(&mut self) -> Result<(), Unsanitised> {
        if self.entries.len() < 2 {
            return Err(Unsanitised::TooFew);
        }
        if self.entries.iter().any(|entry| entry.end() < entry.start) {
            return Err(Unsanitised::Wraps);
        }
        let used = self.entries.iter().filter(|entry| entry.size != 0);
        // At one address starts come before ends.
        let mut points: Vec<(u64, bool, E820Type)> =
            used.flat_map(|entry| [(entry.start, false, entry.kind), (entry.end(), true, entry.kind)]).collect();
        points.sort_unstable();
        let mut open: BTreeMap<E820Type, usize> = BTreeMap::new();
        let mut current: Option<(u64, E820Type)> = None;
        let mut entries = Vec::new();
        for (at, is_end, kind) in points {
            let count = open.entry(kind).or_default();
            *count = if is_end { count.saturating_sub(1) } else { *count + 1 };
            if *count == 0 {
                open.remove(&kind);
            }
            // Type 0 is nothing, as in Linux.
            let largest = open.last_key_value().map(|(kind, _)| *kind).filter(|kind| kind.0 != 0);
            if largest == current.map(|(_, kind)| kind) && !largest.is_some_and(E820Type::stays_apart) {
                continue;
            }
            if let Some((start, kind)) = current.filter(|(start, _)| *start < at) {
                entries.push(E820Entry { start, size: at - start, kind });
            }
            current = largest.map(|kind| (at, kind));
        }
        entries.truncate(Self::CAPACITY);
        self.entries = entries;
        Ok(())
    }

    /// Turns `old` into `new` in `size` bytes from `start`.
    pub fn range_update(&mut self, start: u64, size: u64, old: E820Type, new: E820Type) {
        self.change(start, size, Some(old), Some(new));
    }

    /// Forgets entries of type `kind`, or of any type, in `size` bytes from `start`.
    pub fn range_remove(&mut self, start: u64, size: u64, kind: Option<E820Type>) {
        self.change(start, size, kind, None);
    }

    fn change(&mut self, start: u64, size: u64, old: Option<E820Type>, new: Option<E820Type>) {
        let end = start.saturating_add(size);
        let size = end - start;
        let mut at = 0;
        // Entries that are appended here are visited too.
        while let Some(&entry) = self.entries.get(at) {
            let index = at;
            at += 1;
            if old.is_some_and(|old| old != entry.kind) {
                continue;
            }
            let changed = if entry.start >= start && entry.end() <= end {
                match new {
                    Some(kind) => E820Entry { kind, ..entry },
                    None => E820Entry { start: 0, size: 0, kind: E820Type(0) },
                }
            } else if entry.start < start && entry.end() > end {
                if let Some(kind) = new {
                    self.add(start, size, kind);
                }
                self.add(end, entry.end() - end, entry.kind);
                E820Entry { size: start - entry.start, ..entry }
            } else {
                let (first, last) = (start.max(entry.start), end.min(entry.end()));
                if first >= last {
                    continue;
                }
                if let Some(kind) = new {
                    self.add(first, last - first, kind);
                }
                let size = entry.size.saturating_sub(last - first);
                E820Entry { start: if entry.start < first { entry.start } else { last }, size, ..entry }
            };
            if let Some(entry) = self.entries.get_mut(index) {
                *entry = changed;
            }
        }
    }

    /// Whether entries of type `kind` cover `[start, end)`; the entries must be sorted.
    #[must_use]
    pub fn is_all(&self, mut start: u64, end: u64, kind: E820Type) -> bool {
        for entry in self.entries.iter().filter(|entry| entry.kind == kind) {
            if entry.start <= start && start < entry.end() {
                start = entry.end();
            }
            if start >= end {
                return true;
            }
        }
        start >= end
    }

    /// Makes the kernel image's range usable where firmware forgot to; tells whether it had to.
    pub fn add_kernel(&mut self, start: u64, end: u64) -> bool {
        if self.is_all(start, end, E820Type::RAM) {
            return false;
        }
        let size = end.saturating_sub(start);
        self.range_remove(start, size, None);
        self.add(start, size, E820Type::RAM);
        true
    }

    /// Reserves the first page and forgets memory between 640 KiB and 1 MiB.
    pub fn trim_bios(&mut self) {
        self.range_update(0, 0x1000, E820Type::RAM, E820Type::RESERVED);
        self.range_remove(0xa_0000, 0x6_0000, Some(E820Type::RAM));
        // A table of one entry stays as it is.
        let _ = self.sanitise();
    }

    /// One past the last page frame of memory below `limit_pfn`, at most `max_arch_pfn`.
    ///
    /// | era | counts |
    /// |---|---|
    /// | 4.14–6.1 | usable entries |
    /// | 6.12, 7.2 | usable entries and ACPI tables |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820_end_pfn`.
    #[must_use]
    pub fn end_pfn(&self, era: Era, limit_pfn: u64, max_arch_pfn: u64) -> u64 {
        let counts = |kind| match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => kind == E820Type::RAM,
            Era::V6_12 | Era::V7_2 => kind == E820Type::RAM || kind == E820Type::ACPI,
        };
        let mut last = 0;
        for entry in self.entries.iter().filter(|entry| counts(entry.kind)) {
            let (start, end) = (entry.start >> 12, entry.end() >> 12);
            if start >= limit_pfn {
                continue;
            }
            if end > limit_pfn {
                last = limit_pfn;
                break;
            }
            last = end.max(last);
        }
        last.min(max_arch_pfn)
    }

    /// The ranges that become memory, in the table's order, not rounded to pages.
    pub fn memory(&self) -> impl Iterator<Item = PhysRange> {
        let usable = |entry: &&E820Entry| matches!(entry.kind, E820Type::RAM | E820Type::RESERVED_KERN);
        self.entries.iter().filter(usable).map(E820Entry::range).filter(|range| !range.is_empty())
    }

    /// The ranges that are reserved although they are memory of a special kind.
    pub fn soft_reserved(&self) -> impl Iterator<Item = PhysRange> {
        self.entries.iter().filter(|entry| entry.kind == E820Type::SOFT_RESERVED).map(E820Entry::range)
    }

    /// Gives the machine `bytes` of memory in a PC's places: all below 1 MiB as it is, up to 3 GiB below
    /// 4 GiB, the rest from 4 GiB on. The last 128 KiB below 3 GiB stay firmware's.
    pub fn replace_memory(&mut self, bytes: u64) {
        const LOW_END: u64 = 0xc000_0000;
        const FIRMWARE: u64 = 0xbffe_0000;
        const FOUR_GIB: u64 = 1 << 32;
        self.range_remove(0x10_0000, u64::MAX, Some(E820Type::RAM));
        self.entries.retain(|entry| entry.size != 0);
        let low = bytes.min(FIRMWARE);
        self.add(0x10_0000, low.saturating_sub(0x10_0000), E820Type::RAM);
        if bytes > LOW_END {
            self.add(FOUR_GIB, (bytes - LOW_END).min(u64::MAX - FOUR_GIB), E820Type::RAM);
        }
        let _ = self.sanitise();
    }
}
