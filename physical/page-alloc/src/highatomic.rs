//! Pageblocks that are kept for urgent requests of higher orders.
//!
//! # Invariants
//! 1. `reserved_highatomic` counts the frames of all pageblocks of this type.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `reserve_highatomic_pageblock`, `unreserve_highatomic_pageblock`.

use kernmem_base::{Era, Pfn};
use kernmem_sparse::MigrateType;

use crate::store::Store;
use crate::zone::Locked;

/// The most frames that may be kept.
///
/// | era | frames |
/// |---|---|
/// | 4.14, 5.10, 6.1 | a hundredth of the zone and one pageblock (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | a hundredth, rounded up to pageblocks; none if that is less than one |
pub(crate) const fn limit(era: Era, managed: u64, pageblock: u64) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => managed / 100 + pageblock,
        Era::V6_12 | Era::V7_2 if managed / 100 < pageblock => 0,
        Era::V6_12 | Era::V7_2 => (managed / 100).next_multiple_of(pageblock),
    }
}

impl<S: Store> Locked<'_, S> {
    /// Keeps the pageblock that an urgent request was just served from.
    pub fn reserve_highatomic(&mut self, pfn: Pfn) {
        let pageblock = self.ground().block_frames();
        let is_plain = self.ground().kind(pfn) < MigrateType::HighAtomic;
        let limit = limit(self.zone.facts.era, self.zone.managed(), pageblock);
        if !is_plain || self.inner.reserved_highatomic >= limit {
            return;
        }
        if self.retype(pfn, MigrateType::HighAtomic) {
            self.inner.reserved_highatomic += pageblock;
            self.changed = true;
        }
    }

    /// Gives one kept pageblock that has free frames to the type of a request that found nothing.
    pub fn unreserve_highatomic(&mut self, kind: MigrateType) -> bool {
        let kept = MigrateType::HighAtomic;
        let Some(block) = (0..=self.max_order()).find_map(|order| self.first(order, kept)) else { return false };
        let pageblock = self.ground().block_frames();
        if !self.retype(block.pfn, kind) {
            return false;
        }
        self.inner.reserved_highatomic = self.inner.reserved_highatomic.saturating_sub(pageblock);
        self.changed = true;
        true
    }
}
