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

    /// By type, in the order of `MigrateType::ALL`, the pageblocks of `count` frames of the zone from `first` on in steps of
    /// a pageblock.
    ///
    /// Source: Linux 6.1 mm/vmstat.c `pagetypeinfo_showblockcount_print`.
    #[must_use]
    pub fn pageblocks(&self, first: Pfn, count: u64) -> [u64; MigrateType::ALL.len()] {
        let mut blocks = [0; MigrateType::ALL.len()];
        let step = 1_u64 << self.facts.pageblock_order.0;
        let end = Pfn(first.0.saturating_add(count.saturating_mul(step))).min(self.span.end);
        let mut at = first.max(self.span.start);
        while at < end {
            let steps = (self.alike(at, end).0 - at.0).div_ceil(step).max(1);
            blocks[self.kind(at) as usize] += steps;
            at = Pfn(at.0 + steps * step);
        }
        blocks
    }
}
