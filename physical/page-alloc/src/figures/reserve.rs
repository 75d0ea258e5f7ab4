//! Pages of low zones that requests which could go higher may not take.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `setup_per_zone_lowmem_reserve`, `calculate_totalreserve_pages`.

use super::ZoneFacts;
use crate::{MAX_ZONES, ZoneKind};

/// For each kind of zone, one page in how many of the higher zones is kept; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowmemRatio(pub [u64; MAX_ZONES]);

/// The ratios, unless the user wrote others.
pub const LOWMEM_RESERVE_RATIO: LowmemRatio = LowmemRatio([256, 256, 32, 0, 0, 0]);

impl LowmemRatio {
    /// The ratio of zones of `kind`.
    #[must_use]
    pub const fn of(&self, kind: ZoneKind) -> u64 {
        self.0[kind as usize]
    }
}

/// What the zone at `index` of its node keeps from each request, by the highest zone that the request could use.
///
/// `node` is all configured zones of one node in order; of the answer as many entries count as `node` has, and Linux
/// prints them as `protection`.
/// A request that may go up to zone `j` finds `1 / ratio` of the managed pages of the zones above `index`, up to `j`.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `setup_per_zone_lowmem_reserve`.
#[must_use]
pub fn lowmem_reserve(node: &[ZoneFacts], index: usize, ratio: &LowmemRatio) -> [u64; MAX_ZONES] {
    let mut kept = [0; MAX_ZONES];
    let Some(zone) = node.get(index).filter(|zone| zone.managed != 0) else { return kept };
    let mut above: u64 = 0;
    for (slot, higher) in kept.iter_mut().zip(node).skip(index + 1) {
        above = above.saturating_add(higher.managed);
        *slot = above.checked_div(ratio.of(zone.kind)).unwrap_or(0);
    }
    kept
}

/// What no program may count on in one zone: the most that it keeps from a request and its high watermark, but not more
/// than it manages.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `calculate_totalreserve_pages`.
#[must_use]
pub const fn zone_reserve(kept: u64, high: u64, managed: u64) -> u64 {
    let wanted = kept.saturating_add(high);
    if wanted < managed { wanted } else { managed }
}

/// Pages that no program may count on: in each zone its high watermark and the largest of its reserves, but not more
/// than it manages.
///
/// `high` gives the high watermarks in the order of `zones`, which are all zones of the machine, node by node.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `calculate_totalreserve_pages`.
#[must_use]
pub fn total_reserve(zones: &[ZoneFacts], high: &[u64], ratio: &LowmemRatio) -> u64 {
    let mut total: u64 = 0;
    let mut high = high.iter().copied().chain(core::iter::repeat(0));
    for node in zones.chunk_by(|one, next| one.node == next.node) {
        for (index, zone) in node.iter().enumerate() {
            let kept = lowmem_reserve(node, index, ratio).into_iter().max().unwrap_or(0);
            total = total.saturating_add(zone_reserve(kept, high.next().unwrap_or(0), zone.managed));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(kind: ZoneKind, managed: u64) -> ZoneFacts {
        ZoneFacts { kind, node: 0, spanned: managed, present: managed, managed }
    }

    fn node() -> [ZoneFacts; 4] {
        [
            zone(ZoneKind::Dma, 3840),
            zone(ZoneKind::Dma32, 763_781),
            zone(ZoneKind::Normal, 243_935),
            zone(ZoneKind::Movable, 0),
        ]
    }

    /// x86-64 with 4 GiB: 763781 / 256, (763781 + 243935) / 256, 243935 / 256.
    #[test]
    fn lower_zones_keep_a_part_of_what_lies_above() {
        let of = |index| lowmem_reserve(&node(), index, &LOWMEM_RESERVE_RATIO);
        assert_eq!(of(0)[..4], [0, 2983, 3936, 3936]);
        assert_eq!(of(1)[..4], [0, 0, 952, 952]);
        assert_eq!(of(2)[..4], [0; 4]);
        assert_eq!(of(3), [0; MAX_ZONES]);
        assert_eq!(of(9), [0; MAX_ZONES]);
    }

    #[test]
    fn a_small_zone_reserves_no_more_than_it_has() {
        // 3840 of DMA (its reserve alone is 3936), 952 + 10 of DMA32, 20 of Normal.
        assert_eq!(total_reserve(&node(), &[5, 10, 20], &LOWMEM_RESERVE_RATIO), 3840 + 962 + 20);
    }
}
