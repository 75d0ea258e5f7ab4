//! What reports read of a zone: free blocks by order and type, what pageblocks are meant for.
//!
//! Here: figures. Not here: any listing's text.

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::free_area::Counts;
use crate::store::Store;
use crate::zone::Zone;

/// Free blocks of a zone by order and type, all of one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Census(Counts);

impl Census {
    /// Free blocks of an order and a type.
    #[must_use]
    pub fn free_blocks(&self, order: Order, kind: MigrateType) -> u64 {
        self.0.get(usize::from(order.0)).map_or(0, |counts| counts[kind as usize])
    }

    /// Free blocks of an order, of all types.
    #[must_use]
    pub fn nr_free(&self, order: Order) -> u64 {
        self.0.get(usize::from(order.0)).map_or(0, |counts| counts.iter().sum())
    }
}

impl<S: Store> Zone<S> {
    /// All free blocks. Under [`crate::Placement::Dense`] that is a pass over the zone, as is each of the two questions below
    /// by itself.
    #[must_use]
    pub fn census(&self) -> Census {
        Census(self.all_counts())
    }

    /// Free blocks of an order and a type.
    #[must_use]
    pub fn free_blocks(&self, order: Order, kind: MigrateType) -> u64 {
        if order > self.facts.max_order { 0 } else { self.counts(order.0)[kind as usize] }
    }

    /// Free blocks of an order, of all types.
    #[must_use]
    pub fn nr_free(&self, order: Order) -> u64 {
        if order > self.facts.max_order {
            return 0;
        }
        self.counts(order.0).iter().sum()
    }

    /// The type of a frame's pageblock; `None` outside the zone.
    #[must_use]
    pub fn migrate_type(&self, pfn: Pfn) -> Option<MigrateType> {
        self.contains(pfn).then(|| self.kind(pfn))
    }

    /// Pageblocks by type, in the order of `MigrateType::ALL`: one for each step of a pageblock's size from the zone's
    /// first frame, if `counts` says so of the frame that the step falls on.
    ///
    /// Source: Linux 6.1 mm/vmstat.c `pagetypeinfo_showblockcount_print`.
    pub fn pageblocks(&self, mut counts: impl FnMut(Pfn) -> bool) -> [u64; MigrateType::ALL.len()] {
        let mut blocks = [0; MigrateType::ALL.len()];
        let step = 1 << self.facts.pageblock_order.0;
        for pfn in (self.span.start.0..self.span.end.0).step_by(step).map(Pfn) {
            if counts(pfn) {
                blocks[self.kind(pfn) as usize] += 1;
            }
        }
        blocks
    }
}
