//! Where the movable zone starts on each node.
//!
//! Source: Linux 6.1 mm/page_alloc.c `find_zone_movable_pfns_for_nodes`.

use alloc::vec::Vec;

use kernmem_base::{Era, Pfn};
use kernmem_config::Config;
use kernmem_config::cmdline::CoreMemory;
use kernmem_memblock::{Flags, Memblock, PfnRange, RegionArray};

use crate::Witness;
use crate::orders::Orders;
use crate::zones::ZoneLimits;

/// The start of the movable zone on each node that has one; `kernelcore=`, `movablecore=` and `movable_node` ask
/// for it.
#[must_use]
pub fn starts<A: RegionArray, W: Witness>(
    config: &Config,
    memblock: &Memblock<A, W>,
    limits: &[ZoneLimits],
) -> Vec<(u32, Pfn)> {
    let block = Orders::of(config, memblock.limits().granule).largest_pages();
    let ranges: Vec<PfnRange> = memblock.pfn_ranges(None).collect();
    let kernelcore = config.cmdline.kernelcore(config.era).value;
    let starts = if memblock.limits().movable_node {
        lowest_by_node(memblock, |flags| flags.contains(Flags::HOTPLUG), Pfn(0))
    } else if kernelcore == Some(CoreMemory::Mirror) {
        let has_mirror = memblock.memory().regions().iter().any(|region| region.flags.contains(Flags::MIRROR));
        if !mirror_counts(config.era, has_mirror) {
            return Vec::new();
        }
        lowest_by_node(
            memblock,
            |flags| !flags.contains(Flags::MIRROR),
            Pfn(1 << (32 - memblock.limits().granule.shift())),
        )
    } else {
        let total = ranges.iter().map(pages).sum();
        let amount = |core| match core {
            Some(CoreMemory::Bytes(bytes)) => bytes >> memblock.limits().granule.shift(),
            Some(CoreMemory::Percent(percent)) => (u128::from(total) * 100 * u128::from(percent) / 10_000) as u64,
            Some(CoreMemory::Mirror) | None => 0,
        };
        let mut core: u64 = amount(kernelcore);
        let movable = amount(config.cmdline.movablecore(config.era).value);
        if movable > 0 {
            let movable = movable.next_multiple_of(block).min(total);
            core = core.max(total - movable);
        }
        if core == 0 || core >= total {
            return Vec::new();
        }
        spread(core, &ranges, usable_start(limits))
    };
    let end_of =
        |nid: u32| ranges.iter().filter(|range| node(range) == nid).map(|range| range.end.0).max().unwrap_or(0);
    starts
        .into_iter()
        .map(|(nid, start)| (nid, Pfn(start.0.next_multiple_of(block))))
        .filter(|(nid, start)| start.0 < end_of(*nid))
        .collect()
}

/// Whether `kernelcore=mirror` counts on a machine with or without mirrored memory.
///
/// | era | without |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | everything from 4 GiB on becomes movable |
/// | 6.12, 7.2 | it does not count |
///
/// Source: Linux 6.12, 7.2 mm/mm_init.c `find_zone_movable_pfns_for_nodes`.
const fn mirror_counts(era: Era, has_mirror: bool) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
        Era::V6_12 | Era::V7_2 => has_mirror,
    }
}

fn node(range: &PfnRange) -> u32 {
    range.nid.map_or(0, |nid| nid.0)
}

fn pages(range: &PfnRange) -> u64 {
    range.end.0 - range.start.0
}

/// The lowest frame of the highest zone that is not empty: kernel memory below it counts by itself.
fn usable_start(limits: &[ZoneLimits]) -> Pfn {
    limits.iter().rev().find(|zone| !zone.span.is_empty()).map_or(Pfn(0), |zone| zone.span.start)
}

/// The lowest matching memory of each node at or above `from`.
fn lowest_by_node<A: RegionArray, W: Witness>(
    memblock: &Memblock<A, W>,
    matches: impl Fn(Flags) -> bool,
    from: Pfn,
) -> Vec<(u32, Pfn)> {
    let mut starts: Vec<(u32, Pfn)> = Vec::new();
    for region in memblock.memory().regions().iter().filter(|region| matches(region.flags)) {
        let (nid, start) = (region.nid.map_or(0, |nid| nid.0), region.base.pfn(memblock.limits().granule));
        if start >= from && !starts.iter().any(|(known, _)| *known == nid) {
            starts.push((nid, start));
        }
    }
    starts
}

/// Spreads `core` pages of kernel memory evenly over the nodes; what a node cannot take goes to the others.
fn spread(core: u64, ranges: &[PfnRange], usable: Pfn) -> Vec<(u32, Pfn)> {
    let mut nids: Vec<u32> = ranges.iter().map(node).collect();
    nids.sort_unstable();
    nids.dedup();
    let mut starts: Vec<(u32, Pfn)> = nids.iter().map(|&nid| (nid, Pfn(0))).collect();
    let mut remaining = core;
    let mut nodes = nids.len() as u64;
    while nodes > 0 {
        let mut share = remaining / nodes;
        for (nid, start) in &mut starts {
            if remaining < share {
                share = remaining / nodes;
            }
            take_share(*nid, start, share, ranges, usable, &mut remaining);
        }
        nodes -= 1;
        if remaining <= nodes {
            break;
        }
    }
    starts
}

/// One node takes up to `share` pages, from where its movable zone would start so far.
fn take_share(nid: u32, movable: &mut Pfn, share: u64, ranges: &[PfnRange], usable: Pfn, remaining: &mut u64) {
    let mut share = share;
    for range in ranges.iter().filter(|range| node(range) == nid) {
        let mut start = range.start.max(*movable);
        if start >= range.end {
            continue;
        }
        if start < usable {
            let below = usable.min(range.end).0 - start.0;
            *remaining -= below.min(*remaining);
            share -= below.min(share);
            if range.end <= usable {
                // Such memory is never movable, even if the share is used up: the zone starts behind it.
                *movable = range.end;
                continue;
            }
            start = usable;
        }
        let taken = (range.end.0 - start.0).min(share);
        *movable = Pfn(start.0 + taken);
        *remaining -= taken.min(*remaining);
        share -= taken;
        if share == 0 {
            break;
        }
    }
}
