//! Watermarks of a zone.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `__setup_per_zone_wmarks`.

use kernmem_base::{Era, Granule};

use super::ZoneFacts;
use super::zone::is_high;
use crate::{Watermarks, ZoneKind};

/// Distance between watermarks in ten-thousandths of a zone, unless the user wrote another.
pub const WATERMARK_SCALE_FACTOR: u64 = 10;

/// Pages among which the least free memory is shared out.
///
/// | era | zones that count |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | all but high memory |
/// | 6.12, 7.2 | all but high memory and Movable |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `__setup_per_zone_wmarks`.
#[must_use]
pub fn lowmem_pages(era: Era, zones: &[ZoneFacts]) -> u64 {
    let counts = |kind| match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => !is_high(kind, zones),
        Era::V6_12 | Era::V7_2 => !is_high(kind, zones) && kind != ZoneKind::Movable,
    };
    zones.iter().filter(|zone| counts(zone.kind)).map(|zone| zone.managed).fold(0, u64::saturating_add)
}

/// The watermarks of the zone at `index` of `zones`, which are all zones of the machine.
///
/// With `share` = pages of `min_free_kbytes` × managed / [`lowmem_pages`], rounded down:
///
/// | era | `min` of high memory | `min` of Movable | `min` of others | `high` |
/// |---|---|---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | managed / 1024, from 32 to 128 | share | share | `min` + 2 steps |
/// | 6.1 | same | share | share | `low` + step |
/// | 6.12, 7.2 | same | as high memory | share | `low` + step |
///
/// `low` is `min` + step, `promo` is `high` + step; a step is the larger of share / 4 and managed × `scale` / 10000.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `__setup_per_zone_wmarks`.
#[must_use]
pub fn watermarks(
    era: Era,
    granule: Granule,
    zones: &[ZoneFacts],
    index: usize,
    min_free_kbytes: u64,
    scale: u64,
) -> Watermarks {
    let Some(zone) = zones.get(index) else { return Watermarks::default() };
    let pages_min = min_free_kbytes >> (granule.shift() - 10);
    let share = mul_div(pages_min, zone.managed, lowmem_pages(era, zones));
    let by_size = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => is_high(zone.kind, zones),
        Era::V6_12 | Era::V7_2 => is_high(zone.kind, zones) || zone.kind == ZoneKind::Movable,
    };
    let min = if by_size { (zone.managed / 1024).clamp(32, 128) } else { share };
    let step = (share / 4).max(mul_div(zone.managed, scale, 10_000));
    let above = |steps: u64| min.saturating_add(step.saturating_mul(steps));
    Watermarks { min, low: above(1), high: above(2), promo: above(3) }
}

/// `a` × `b` / `c`, rounded down, without a wider product getting lost; 0 where `c` is.
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    (u128::from(a) * u128::from(b)).checked_div(u128::from(c)).map_or(0, |all| u64::try_from(all).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(kind: ZoneKind, node: u32, managed: u64) -> ZoneFacts {
        ZoneFacts { kind, node, spanned: managed, present: managed, managed }
    }

    /// A boot of 6.1 on x86-64 with two nodes, counted by hand from its 16896 pages.
    #[test]
    fn two_nodes_share_the_least_free_memory() {
        let zones =
            [zone(ZoneKind::Dma, 0, 3840), zone(ZoneKind::Dma32, 0, 250_305), zone(ZoneKind::Dma32, 1, 515_758)];
        let of = |index| watermarks(Era::V6_1, Granule::K4, &zones, index, 67_584, 10);
        assert_eq!(of(0).min, 84);
        assert_eq!((of(1).min, of(1).low, of(1).high), (5493, 6866, 8239));
        assert_eq!(of(2).min, 11_318);
        assert_eq!(of(3), Watermarks::default());
    }

    #[test]
    fn an_empty_movable_zone_has_watermarks_from_6_12_on() {
        let zones = [zone(ZoneKind::Normal, 0, 100_000), zone(ZoneKind::Movable, 0, 0)];
        let of = |era| watermarks(era, Granule::K4, &zones, 1, 4096, 10);
        assert_eq!(of(Era::V6_1), Watermarks::default());
        assert_eq!(of(Era::V6_12), Watermarks { min: 32, low: 32, high: 32, promo: 32 });
    }

    #[test]
    fn no_size_of_zones_panics() {
        let zones = [zone(ZoneKind::Dma, 0, u64::MAX), zone(ZoneKind::Normal, 0, u64::MAX)];
        for era in Era::ALL {
            let marks = watermarks(era, Granule::K64, &zones, 0, u64::MAX, u64::MAX);
            assert!(marks.min <= marks.low && marks.low <= marks.high);
        }
        assert_eq!(watermarks(Era::V6_1, Granule::K4, &zones[..0], 0, 1, 1), Watermarks::default());
    }
}
