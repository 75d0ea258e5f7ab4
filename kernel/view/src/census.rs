//! What the tables hold, counted from the tables themselves.

use alloc::vec::Vec;

use kernmem_arch::{Entry, LeafSize};
use kernmem_base::{BusError, Level, PhysAddr, VirtAddr, VirtRange};

use crate::entries::{EntryVisitor, Place, entries};
use crate::{KernelView, RootKind};

/// The leaves of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafCount {
    /// The size; of the whole group where leaves are marked as contiguous.
    pub size: LeafSize,
    /// Entries.
    pub entries: u64,
    /// Bytes that they map.
    pub bytes: u64,
}

impl LeafCount {
    /// TLB entries that reach all of it: one for each leaf, or for each contiguous group.
    #[must_use]
    pub const fn tlb_entries(&self) -> u64 {
        self.bytes.div_ceil(self.size.bytes)
    }
}

/// What one tree, or a range of it, holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Census {
    /// Leaves by size, largest first; sizes without a leaf are left out.
    pub leaves: Vec<LeafCount>,
    /// Tables by level, the root first; levels without a table are left out.
    pub tables: Vec<(Level, u64)>,
    /// Bytes of one table frame.
    pub table_bytes: u64,
    /// Entries that are not zero and that the MMU does not use.
    pub marked: u64,
    /// Entries that the architecture does not define.
    pub malformed: u64,
    /// Tables that could not be read.
    pub unreadable: u64,
}

impl Census {
    /// Bytes that are mapped.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.leaves.iter().map(|leaf| leaf.bytes).sum()
    }

    /// Leaf entries.
    #[must_use]
    pub fn leaf_entries(&self) -> u64 {
        self.leaves.iter().map(|leaf| leaf.entries).sum()
    }

    /// TLB entries that reach everything at once.
    #[must_use]
    pub fn tlb_entries(&self) -> u64 {
        self.leaves.iter().map(LeafCount::tlb_entries).sum()
    }

    /// Tables, the root included.
    #[must_use]
    pub fn table_count(&self) -> u64 {
        self.tables.iter().map(|(_, count)| count).sum()
    }

    /// Bytes of all tables.
    #[must_use]
    pub fn bytes_of_tables(&self) -> u64 {
        self.table_count() * self.table_bytes
    }
}

/// Counts what `ranges` of one tree hold; the root counts as one table, and a table that KASAN's shadow reaches again and
/// again counts once, with its leaves, in each range.
///
/// # Errors
/// There is no such tree, and why.
pub fn census<V: KernelView>(view: &V, kind: RootKind, ranges: &[VirtRange]) -> Result<Census, &'static str> {
    let root = match view.root(kind) {
        crate::Answer::Known(root) => root,
        crate::Answer::Absent(why) => return Err(why),
    };
    let shape = view.format().shape();
    let sizes = shape.leaves.iter().map(|&size| LeafCount { size, entries: 0, bytes: 0 });
    let levels = shape.levels.iter().enumerate().map(|(depth, level)| (level.level, u64::from(depth == 0)));
    let table_bytes = shape.granule.bytes();
    let mut census = Census {
        leaves: sizes.collect(),
        tables: levels.collect(),
        table_bytes,
        marked: 0,
        malformed: 0,
        unreadable: 0,
    };
    for range in ranges {
        entries(view, root, *range, &mut census);
    }
    census.leaves.retain(|leaf| leaf.entries > 0);
    census.tables.retain(|(_, count)| *count > 0);
    Ok(census)
}

impl EntryVisitor for Census {
    fn table(&mut self, place: &Place, _next: PhysAddr, _attrs: u64) -> bool {
        let above = self.tables.iter().position(|(level, _)| *level == place.level);
        if let Some((_, count)) = above.and_then(|depth| self.tables.get_mut(depth + 1)) {
            *count += 1;
        }
        true
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        match entry {
            Entry::Leaf { .. } => {
                let own =
                    |leaf: &&mut LeafCount| leaf.size.level == place.level && leaf.size.contiguous == place.contiguous;
                if let Some(leaf) = self.leaves.iter_mut().find(own) {
                    leaf.entries += 1;
                    leaf.bytes += place.bytes;
                }
            }
            Entry::Absent { sw: 0 } => {}
            Entry::Absent { .. } => self.marked += 1,
            Entry::Reserved { .. } | Entry::Table { .. } => self.malformed += 1,
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, _error: BusError) {
        self.unreadable += 1;
    }
}
