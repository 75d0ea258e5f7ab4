//! The figures in the order of a boot.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `init_per_zone_wmark_min`; mm/huge_memory.c `hugepage_init`.

use kernmem_base::{Era, Granule};

use super::{
    WATERMARK_SCALE_FACTOR, ZoneFacts, free_buffer_pages, min_free_kbytes, recommended_min_free_kbytes, watermarks,
};
use crate::Watermarks;

/// What becomes of transparent huge pages during boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thp {
    /// Not built, or given up: the machine has less than 512 MiB, or its CPU has no huge pages.
    Absent,
    /// Switched off on the command line or by configuration.
    Disabled,
    /// At work for some or all memory.
    Enabled,
}

/// What the figures of a boot depend on, besides the zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootFigures {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// Pages of a pageblock.
    pub pageblock_pages: u64,
    /// Transparent huge pages.
    pub thp: Thp,
}

/// Fills `out` with each zone's watermarks as they stand after boot, and returns `min_free_kbytes`.
///
/// `early` has each zone when the value is computed first, `zones` when huge pages come up.
/// They differ by gigantic pages that were taken before there was a page allocator and what their optimization gave
/// back, and in 7.2 on x86 by the memory of alternatives for one CPU, which is freed between the two moments.
/// An `early` of another length is taken as `zones`; entries of `out` behind the last zone stay.
///
/// | step | 4.14 (UNVERIFIED), 5.10 | 6.1, 6.12, 7.2 |
/// |---|---|---|
/// | first | the plain value, of all managed pages | same |
/// | huge pages enabled | raised to what they recommend; watermarks again | same |
/// | huge pages disabled | nothing | the plain value above the watermarks that stand; watermarks again |
/// | huge pages absent | nothing | nothing |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `init_per_zone_wmark_min`; mm/khugepaged.c
/// `set_recommended_min_free_kbytes`.
pub fn boot_watermarks(facts: &BootFigures, zones: &[ZoneFacts], early: &[ZoneFacts], out: &mut [Watermarks]) -> u64 {
    let first = if early.len() == zones.len() { early } else { zones };
    let mut kbytes = min_free_kbytes(free_buffer_pages(first, &[]), facts.granule);
    fill(facts, first, kbytes, out);
    let above = buffer_pages_above(zones, out);
    match (facts.thp, facts.era) {
        (Thp::Absent, _) | (Thp::Disabled, Era::V4_14 | Era::V5_10) => return kbytes,
        (Thp::Disabled, Era::V6_1 | Era::V6_12 | Era::V7_2) => kbytes = min_free_kbytes(above, facts.granule),
        (Thp::Enabled, _) => {
            let wanted = recommended_min_free_kbytes(zones, facts.pageblock_pages, above, facts.granule);
            kbytes = kbytes.max(wanted);
        }
    }
    fill(facts, zones, kbytes, out);
    kbytes
}

fn fill(facts: &BootFigures, zones: &[ZoneFacts], kbytes: u64, out: &mut [Watermarks]) {
    for (index, marks) in out.iter_mut().take(zones.len()).enumerate() {
        *marks = watermarks(facts.era, facts.granule, zones, index, kbytes, WATERMARK_SCALE_FACTOR);
    }
}

fn buffer_pages_above(zones: &[ZoneFacts], marks: &[Watermarks]) -> u64 {
    let mut pages: u64 = 0;
    for (index, zone) in zones.iter().enumerate() {
        let high = marks.get(index).map_or(0, |marks| marks.high);
        pages = pages.saturating_add(free_buffer_pages(core::slice::from_ref(zone), &[high]));
    }
    pages
}
