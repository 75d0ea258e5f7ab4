//! Managed pages: those that the page allocator has, by zone and by moment.
//!
//! Boot goes on giving pages to the page allocator after the hand-over, and figures that are computed on the way see
//! only what came before them.
//!
//! # Invariants
//! 1. The moments of [`Managed`] never decrease: what is released at one counts at all later ones.
//! 2. A page is released once.
//!
//! Source: Linux 6.1 mm/page_alloc.c `adjust_managed_page_count`, `free_reserved_area`, `init_per_zone_wmark_min`;
//! mm/khugepaged.c `set_recommended_min_free_kbytes`.

use kernmem_base::{Pfn, PhysRange};

use crate::zones::{Nodes, Span};

/// When pages were released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Moment {
    /// At the hand-over.
    HandOver,
    /// Before the reserves of lower zones are computed, which happens once (postcore initcall).
    BeforeReserves,
    /// Before the watermarks are computed for the last time, with huge pages (subsys initcall).
    BeforeWatermarks,
    /// Later.
    Later,
}

/// Pages of a zone that the page allocator has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Managed {
    /// At the hand-over.
    pub handed_over: u64,
    /// When the reserves of lower zones are computed.
    pub at_reserves: u64,
    /// When the watermarks, and batches of per-CPU lists, are computed for the last time.
    pub at_watermarks: u64,
    /// When boot is over.
    pub at_end: u64,
}

impl Managed {
    const fn add(&mut self, pages: u64, moment: Moment) {
        if matches!(moment, Moment::HandOver) {
            self.handed_over += pages;
        }
        if matches!(moment, Moment::HandOver | Moment::BeforeReserves) {
            self.at_reserves += pages;
        }
        if matches!(moment, Moment::HandOver | Moment::BeforeReserves | Moment::BeforeWatermarks) {
            self.at_watermarks += pages;
        }
        self.at_end += pages;
    }
}

impl Nodes {
    /// Counts the frames of `span` as managed from `moment` on; each belongs to the zone of its memory.
    pub fn release(&mut self, span: Span, moment: Moment) {
        for &(nid, memory) in &self.memory {
            let part = span.cut(&memory);
            if part.is_empty() {
                continue;
            }
            let node = self.nodes.iter_mut().find(|node| node.nid == nid);
            for zone in node.into_iter().flat_map(|node| node.zones.iter_mut()) {
                let part = part.cut(&zone.span);
                if !part.is_empty() {
                    zone.managed.add(part.end.0 - part.start.0, moment);
                }
            }
        }
    }

    /// Counts the whole pages inside `range`; the answer is their number.
    pub fn release_whole_pages(&mut self, range: PhysRange, moment: Moment) -> u64 {
        let shift = self.granule.shift();
        let span = Span { start: Pfn(range.start.0.div_ceil(1 << shift)), end: Pfn(range.end.0 >> shift) };
        if span.is_empty() {
            return 0;
        }
        self.release(span, moment);
        span.end.0 - span.start.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_released_counts_from_its_moment_on() {
        let mut managed = Managed::default();
        managed.add(100, Moment::HandOver);
        managed.add(10, Moment::BeforeReserves);
        managed.add(5, Moment::BeforeWatermarks);
        managed.add(1, Moment::Later);
        let expected = Managed { handed_over: 100, at_reserves: 110, at_watermarks: 115, at_end: 116 };
        assert_eq!(managed, expected);
    }
}
