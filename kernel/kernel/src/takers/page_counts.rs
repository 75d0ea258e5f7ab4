//! Pages that the kernel counts on before it has any: the figures from which hash tables get their sizes.
//!
//! Here: the cost of a zone's descriptors, what x86 sets aside below 16 MiB, the two sums.
//! Not here: pages that are really free (`hand_over`).
//!
//! Source: Linux 6.1 mm/page_alloc.c `calc_memmap_size`, `free_area_init_core`; arch/x86/mm/init.c
//! `memblock_find_dma_reserve`.

use alloc::vec::Vec;

use kernmem_base::{Era, Granule, Pfn};
use kernmem_memblock::{Flags, Memblock, RegionArray};

use crate::Witness;
use crate::zones::{Nodes, Zone, ZoneLimits};

/// What the counts follow from.
#[derive(Clone, Copy, Debug)]
pub struct PageCountFacts {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// Bytes of a page's descriptor.
    pub page_bytes: u64,
    /// Whether memory is in sections.
    pub sparse: bool,
    /// Pages that count as taken in the first zone of the first node that has one: [`dma_reserve`].
    pub dma_reserve: u64,
}

/// Whole free pages of the boot allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FreePages {
    /// All of them.
    pub all: u64,
    /// Those that the kernel reaches directly: below high memory.
    pub low: u64,
}

/// The pages that the kernel counts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageCounts {
    /// Pages for the kernel's own use.
    pub nr_kernel_pages: u64,
    /// All pages: those and high memory's, of which a 64-bit kernel has none.
    pub nr_all_pages: u64,
    /// Managed pages of all zones as they are counted before the hand-over.
    pub managed: u64,
}

/// Pages for the descriptors of a zone with so many pages. Large holes do not count where memory is in sections.
#[must_use]
pub const fn memmap_pages(facts: &PageCountFacts, spanned: u64, present: u64) -> u64 {
    let pages = if facts.sparse && spanned > present + (present >> 4) { present } else { spanned };
    (pages * facts.page_bytes).div_ceil(facts.granule.bytes())
}

/// Adds up the zones.
///
/// | era | kernel pages | managed before the hand-over |
/// |---|---|---|
/// | 4.14–6.1 | present without the descriptors and the reserve | the same |
/// | 6.12, 7.2 | whole free pages of the boot allocator when the zones were made | present |
///
/// High memory counts whole and not among kernel pages; up to 6.1 its descriptors are taken off the kernel pages before
/// it, if those are more than twice as many.
#[must_use]
pub fn page_counts(facts: &PageCountFacts, nodes: &Nodes) -> PageCounts {
    let zones = || nodes.nodes.iter().flat_map(|node| node.zones.iter().enumerate());
    match facts.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {
            let mut counts = PageCounts::default();
            for (index, zone) in zones() {
                let pages = early_managed(facts, index, zone);
                let memmap = zone_memmap(facts, zone);
                if !is_high(zone) {
                    counts.nr_kernel_pages += pages;
                } else if counts.nr_kernel_pages > 2 * memmap {
                    counts.nr_kernel_pages -= memmap;
                }
                counts.nr_all_pages += pages;
                counts.managed += pages;
            }
            counts
        }
        Era::V6_12 | Era::V7_2 => PageCounts {
            nr_kernel_pages: nodes.free.low,
            nr_all_pages: nodes.free.all,
            managed: zones().map(|(_, zone)| zone.present).sum(),
        },
    }
}

fn is_high(zone: &Zone) -> bool {
    zone.name == "HighMem"
}

fn zone_memmap(facts: &PageCountFacts, zone: &Zone) -> u64 {
    memmap_pages(facts, zone.span.end.0 - zone.span.start.0, zone.present)
}

/// Present pages of a zone without its descriptors, and in the first zone without the reserve.
fn early_managed(facts: &PageCountFacts, index: usize, zone: &Zone) -> u64 {
    let memmap = if is_high(zone) { 0 } else { zone_memmap(facts, zone) };
    let pages = zone.present.checked_sub(memmap).unwrap_or(zone.present);
    if index == 0 && pages > facts.dma_reserve { pages - facts.dma_reserve } else { pages }
}

/// x86-64 up to 6.1: pages below 16 MiB that are taken when the zones are about to be made.
#[must_use]
pub fn dma_reserve<A: RegionArray, W: Witness>(memblock: &Memblock<A, W>) -> u64 {
    const MAX_DMA: Pfn = Pfn(4096);
    match memblock.era() {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
        Era::V6_12 | Era::V7_2 => return 0,
    }
    let below = |start: Pfn, end: Pfn| end.min(MAX_DMA).0.saturating_sub(start.min(MAX_DMA).0);
    let memory: u64 = memblock.pfn_ranges(None).map(|range| below(range.start, range.end)).sum();
    memory - free_spans(memblock).into_iter().map(|(start, end)| below(start, end)).sum::<u64>().min(memory)
}

/// Whole free pages of the boot allocator, and those of them below the zone of high memory.
#[must_use]
pub fn free_pages<A: RegionArray, W: Witness>(memblock: &Memblock<A, W>, limits: &[ZoneLimits]) -> FreePages {
    let high = limits.iter().find(|zone| zone.name == "HighMem").map_or(Pfn(u64::MAX), |zone| zone.span.start);
    let spans = free_spans(memblock);
    let below = |limit: Pfn| spans.iter().map(|&(start, end)| end.min(limit).0.saturating_sub(start.0)).sum();
    FreePages { all: below(Pfn(u64::MAX)), low: below(high) }
}

fn free_spans<A: RegionArray, W: Witness>(memblock: &Memblock<A, W>) -> Vec<(Pfn, Pfn)> {
    let shift = memblock.limits().granule.shift();
    let whole = |range: kernmem_base::PhysRange| {
        let (start, end) = (range.start.0.div_ceil(1 << shift), range.end.0 >> shift);
        (start < end).then_some((Pfn(start), Pfn(end)))
    };
    memblock.free_ranges(None, Flags::NONE).filter_map(|free| whole(free.range)).collect()
}
