//! Limits of the zones, and what the DMA zone's watermarks leave out.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init.c `zone_sizes_init`, `memblock_find_dma_reserve`.

use kernmem_base::{Era, Granule, Pfn, PhysRange};

const PAGE_SHIFT: u32 = 12;
/// One past the last frame that the oldest devices reach: 16 MiB.
pub const MAX_DMA_PFN: Pfn = Pfn(16 << (20 - PAGE_SHIFT));
/// One past the last frame that 32-bit devices reach: 4 GiB.
pub const MAX_DMA32_PFN: Pfn = Pfn(1 << (32 - PAGE_SHIFT));

/// One past the last frame of each zone of x86-64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneLimits {
    /// DMA, if built.
    pub dma: Option<Pfn>,
    /// DMA32, if built.
    pub dma32: Option<Pfn>,
    /// Normal: the end of memory.
    pub normal: Pfn,
}

impl ZoneLimits {
    /// The limits for memory that ends at `max_pfn` (64-bit kernels know no high memory).
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `zone_sizes_init`, 7.2 `arch_zone_limits_init`.
    #[must_use]
    pub const fn new(zone_dma: bool, zone_dma32: bool, max_pfn: Pfn) -> Self {
        Self {
            dma: if zone_dma { Some(lower(MAX_DMA_PFN, max_pfn)) } else { None },
            dma32: if zone_dma32 { Some(lower(MAX_DMA32_PFN, max_pfn)) } else { None },
            normal: max_pfn,
        }
    }
}

const fn lower(a: Pfn, b: Pfn) -> Pfn {
    if a.0 < b.0 { a } else { b }
}

/// Frames below 16 MiB that boot has taken: watermarks of the first zone leave them out.
///
/// | era | reserve |
/// |---|---|
/// | to 6.1 | frames of memory less whole free frames below the limit (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | none |
///
/// Source: Linux 5.10, 6.1 arch/x86/mm/init.c `memblock_find_dma_reserve`.
pub fn dma_reserve(
    era: Era,
    memory: impl IntoIterator<Item = PhysRange>,
    free: impl IntoIterator<Item = PhysRange>,
) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
        Era::V6_12 | Era::V7_2 => return 0,
    }
    let present: u64 = memory.into_iter().map(|range| frames_below_limit(&range)).sum();
    let unused: u64 = free.into_iter().map(|range| frames_below_limit(&range)).sum();
    present - unused
}

/// Whole frames of a range below the limit.
fn frames_below_limit(range: &PhysRange) -> u64 {
    let first = range.start.align_up(Granule::K4.bytes()).map_or(MAX_DMA_PFN, |pa| pa.pfn(Granule::K4));
    let end = range.end.pfn(Granule::K4);
    lower(end, MAX_DMA_PFN).0.saturating_sub(first.0)
}
