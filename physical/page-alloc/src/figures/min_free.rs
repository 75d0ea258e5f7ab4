//! The least memory that is kept free.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `calculate_min_free_kbytes`, `nr_free_buffer_pages`; mm/khugepaged.c
//! `set_recommended_min_free_kbytes`.

use kernmem_base::Granule;

use super::ZoneFacts;

/// The value before the first computation, in KiB.
pub const INITIAL_MIN_FREE_KBYTES: u64 = 1024;

/// Bounds of the computed value, in KiB, both inclusive.
const BOUNDS: (u64, u64) = (128, 262_144);

/// Migrate types that have lists of their own on each CPU.
const PCP_TYPES: u64 = 3;

/// Pages above the high watermark in the zones that serve programs, all nodes.
///
/// `high` gives each zone's high watermark at that moment in the order of `zones`; zones behind its end have 0.
#[must_use]
pub fn free_buffer_pages(zones: &[ZoneFacts], high: &[u64]) -> u64 {
    let high = high.iter().copied().chain(core::iter::repeat(0));
    zones
        .iter()
        .zip(high)
        .filter(|(zone, _)| zone.kind.serves_user() && zone.is_populated())
        .map(|(zone, high)| zone.managed.saturating_sub(high))
        .fold(0, u64::saturating_add)
}

/// The least memory kept free in KiB, of `pages` as [`free_buffer_pages`] counts them.
///
/// | era | value |
/// |---|---|
/// | 4.14 | root of 16 times the KiB, from 128 to 65536 (UNVERIFIED) |
/// | 5.10, 6.1, 6.12, 7.2 | root of 16 times the KiB, rounded down, from 128 to 262144 |
///
/// A larger value that the user wrote is kept instead; that is the caller's to see.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `calculate_min_free_kbytes`.
#[must_use]
pub fn min_free_kbytes(pages: u64, granule: Granule) -> u64 {
    let kib = pages.saturating_mul(granule.bytes() >> 10);
    kib.saturating_mul(16).isqrt().clamp(BOUNDS.0, BOUNDS.1)
}

/// What transparent huge pages want kept free, in KiB: two pageblocks a zone, and one for each pair of migrate types
/// that may steal from each other; never more than a twentieth of `pages` as [`free_buffer_pages`] counts them.
///
/// It replaces the plain value only if it is larger.
///
/// Source: Linux 5.10–7.2 mm/khugepaged.c `set_recommended_min_free_kbytes`.
#[must_use]
pub fn recommended_min_free_kbytes(zones: &[ZoneFacts], pageblock_pages: u64, pages: u64, granule: Granule) -> u64 {
    let populated = zones.iter().filter(|zone| zone.is_populated() && zone.kind.serves_user()).count() as u64;
    let wanted = pageblock_pages.saturating_mul(populated).saturating_mul(2 + PCP_TYPES * PCP_TYPES);
    wanted.min(pages / 20).saturating_mul(granule.bytes() >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ZoneKind;

    fn zone(kind: ZoneKind, managed: u64) -> ZoneFacts {
        ZoneFacts { kind, node: 0, spanned: managed, present: managed, managed }
    }

    #[test]
    fn the_value_is_a_root_between_two_bounds() {
        // 1 GiB: 16 * 2^20 KiB = 2^24, whose root is 2^12.
        assert_eq!(min_free_kbytes(1 << 18, Granule::K4), 4096);
        assert_eq!(min_free_kbytes(1, Granule::K4), 128);
        assert_eq!(min_free_kbytes(u64::MAX, Granule::K64), 262_144);
    }

    #[test]
    fn three_zones_of_huge_pages_want_66_mib() {
        let zones = [
            zone(ZoneKind::Dma, 3840),
            zone(ZoneKind::Dma32, 760_000),
            zone(ZoneKind::Normal, 240_000),
            zone(ZoneKind::Movable, 9),
        ];
        let pages = free_buffer_pages(&zones, &[]);
        assert_eq!(pages, 1_003_840);
        assert_eq!(recommended_min_free_kbytes(&zones, 512, pages, Granule::K4), 67_584);
        assert_eq!(recommended_min_free_kbytes(&zones, 512, 20_000, Granule::K4), 4000);
    }

    #[test]
    fn pages_below_a_high_watermark_do_not_count() {
        let zones = [zone(ZoneKind::Dma, 100), zone(ZoneKind::Normal, 1000), zone(ZoneKind::HighMem, 5000)];
        assert_eq!(free_buffer_pages(&zones, &[200, 10]), 990);
    }
}
