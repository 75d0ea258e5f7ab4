//! What labs ask of the tables of a running kernel: the leaf behind an address, and which entries a step has changed.
//!
//! # Invariants
//! 1. Nothing here writes.

use kernmem_arch::Entry;
use kernmem_base::{BusError, Level, PhysAddr, VirtAddr, VirtRange};
use kernmem_live::Live;
use kernmem_view::entries::{EntryVisitor, Place, entries, root_ranges, walk};
use kernmem_view::{KernelView, RootKind};

use crate::LabError;
use crate::bench::reached;

/// A leaf, and where an address lies behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// Where the entry stands.
    pub at: PhysAddr,
    /// Its bits.
    pub raw: u64,
    /// Bytes that it maps.
    pub bytes: u64,
    /// The byte behind the address.
    pub pa: PhysAddr,
}

/// The leaf that maps `va` under `root`; `None` if nothing does.
pub(crate) fn leaf(live: &Live<'_>, root: PhysAddr, va: VirtAddr) -> Result<Option<Leaf>, LabError> {
    let steps = walk(&live.running.kernel, root, va)?;
    let place = steps.last().map(|step| step.place);
    let found = reached(&steps, va).zip(place);
    Ok(found.map(|((pa, bytes), place)| Leaf { at: place.at, raw: place.raw, bytes, pa }))
}

/// The leaf that maps an address of the kernel.
pub(crate) fn kernel_leaf(live: &Live<'_>, va: VirtAddr) -> Result<Leaf, LabError> {
    let root = live.running.kernel.roots.kernel;
    leaf(live, root, va)?.ok_or(LabError::Missing("mapping of an address of the kernel"))
}

/// An entry of the kernel's tables that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    at: PhysAddr,
    raw: u64,
    va: VirtAddr,
    is_leaf: bool,
}

/// All entries of the kernel's tables that are not empty, by their place.
pub(crate) struct Snapshot(Vec<Written>);

/// Entries that one snapshot has and another has not, or not so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Changed {
    /// Leaves, new or gone or with other bits.
    pub leaves: u64,
    /// Entries that name tables.
    pub tables: u64,
}

impl Changed {
    /// Entries of both kinds.
    pub(crate) const fn entries(self) -> u64 {
        self.leaves + self.tables
    }
}

impl Snapshot {
    /// The entries as they are now.
    pub(crate) fn of(live: &Live<'_>) -> Self {
        let kernel = &live.running.kernel;
        let mut snapshot = Self(Vec::new());
        for range in root_ranges(kernel.format(), RootKind::Kernel) {
            entries(kernel, kernel.roots.kernel, range, &mut snapshot);
        }
        // A table that two entries name is read twice.
        snapshot.0.sort_unstable_by_key(|entry| entry.at);
        snapshot.0.dedup_by_key(|entry| entry.at);
        snapshot
    }

    /// The bits of the entry at `at`.
    pub(crate) fn raw(&self, at: PhysAddr) -> Option<u64> {
        let found = self.0.binary_search_by_key(&at, |entry| entry.at).ok()?;
        self.0.get(found).map(|entry| entry.raw)
    }

    /// What has changed until `later` among the entries that map addresses of `range`.
    pub(crate) fn changed(&self, later: &Self, range: VirtRange) -> Changed {
        let mut changed = Changed::default();
        let mut note = |entry: &Written| match (range.start <= entry.va && entry.va <= range.last, entry.is_leaf) {
            (false, _) => {}
            (true, true) => changed.leaves += 1,
            (true, false) => changed.tables += 1,
        };
        let mut before = self.0.iter().peekable();
        for entry in &later.0 {
            while let Some(gone) = before.next_if(|old| old.at < entry.at) {
                note(gone);
            }
            match before.next_if(|old| old.at == entry.at) {
                Some(old) if old.raw == entry.raw => {}
                _ => note(entry),
            }
        }
        before.for_each(note);
        changed
    }
}

impl EntryVisitor for Snapshot {
    fn table(&mut self, place: &Place, _next: PhysAddr, _attrs: u64) -> bool {
        self.0.push(Written { at: place.at, raw: place.raw, va: place.va, is_leaf: false });
        true
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        if matches!(entry, Entry::Leaf { .. }) {
            self.0.push(Written { at: place.at, raw: place.raw, va: place.va, is_leaf: true });
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(entries: &[(u64, u64)]) -> Snapshot {
        let written = |&(at, raw)| Written { at: PhysAddr(at), raw, va: VirtAddr(at << 12), is_leaf: raw & 1 == 1 };
        Snapshot(entries.iter().map(written).collect())
    }

    #[test]
    fn new_gone_and_other_entries_are_counted_by_kind_and_range() {
        let before = snapshot(&[(8, 0x11), (16, 0x21), (24, 0x30), (32, 0x41)]);
        let after = snapshot(&[(8, 0x11), (16, 0x23), (32, 0x41), (40, 0x51), (48, 0x60)]);
        let all = Changed { leaves: 2, tables: 2 };
        assert_eq!(before.changed(&after, VirtRange::ALL), all);
        assert_eq!(after.changed(&before, VirtRange::ALL), all);
        assert_eq!(before.changed(&before, VirtRange::ALL), Changed::default());
        let first = VirtRange { start: VirtAddr(0), last: VirtAddr(16 << 12) };
        assert_eq!(before.changed(&after, first), Changed { leaves: 1, tables: 0 });
        assert_eq!((before.raw(PhysAddr(24)), after.raw(PhysAddr(24))), (Some(0x30), None));
    }
}
