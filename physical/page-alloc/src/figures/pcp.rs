//! Sizes of a CPU's lists of free pages.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `zone_batchsize`, `zone_highsize`, `zone_set_pageset_high_and_batch`.

use kernmem_base::{Era, Granule};

use crate::PcpLimits;

/// The CPUs that share a zone's lists out among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneCpus {
    /// Online CPUs of the zone's node.
    pub of_node: u64,
    /// Online CPUs of the machine.
    pub online: u64,
}

/// The batch of a zone of `managed` pages as computed: 0 where a CPU would hold less than one page.
///
/// | era | pages |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | a 1024th, at most 1 MiB; of it a quarter, at least 1 |
/// | 7.2 | a 4096th, at most 256 KiB, at least 1 |
///
/// Half as much again, rounded down to a power of two, less one; 7.2 keeps a single page.
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `zone_batchsize`.
#[must_use]
pub fn pcp_batch(era: Era, granule: Granule, managed: u64) -> u64 {
    let (pages, keeps_one) = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
            ((managed / 1024).min((1 << 20) / granule.bytes()) / 4, false)
        }
        Era::V7_2 => ((managed / 4096).min((256 << 10) / granule.bytes()), true),
    };
    if pages <= 1 && keeps_one {
        return 1;
    }
    let pages = pages.max(1);
    let wanted = pages + pages / 2;
    (1 << wanted.ilog2()) - 1
}

/// The limits of each CPU's lists for a zone of `managed` pages whose low watermark is `low`.
///
/// `fraction` is `percpu_pagelist_high_fraction` (5.10: `percpu_pagelist_fraction`), 0 unless the user wrote one.
///
/// | era | `high_min` | `high_max` |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | 6 batches as computed; with a fraction managed / fraction, and a quarter of it is the batch | same |
/// | 6.1 | low watermark (or managed / fraction) / CPUs, at least 4 batches | same |
/// | 6.12, 7.2 | as 6.1 | managed / 8 (or managed / fraction) / CPUs, at least 4 batches |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `zone_set_pageset_high_and_batch`, `zone_highsize`; 5.10
/// `pageset_set_high_and_batch`.
#[must_use]
pub fn pcp_limits(era: Era, granule: Granule, managed: u64, low: u64, cpus: ZoneCpus, fraction: u64) -> PcpLimits {
    let computed = pcp_batch(era, granule, managed);
    let batch = computed.max(1);
    let sharing = if cpus.of_node != 0 { cpus.of_node } else { cpus.online.max(1) };
    let by_fraction = managed.checked_div(fraction);
    let each = |pages: u64| (pages / sharing).max(4 * batch);
    match era {
        Era::V4_14 | Era::V5_10 => match by_fraction {
            Some(high) => {
                let batch = (high / 4).clamp(1, u64::from(granule.shift()) * 8);
                PcpLimits { batch, high_min: high, high_max: high }
            }
            None => PcpLimits { batch, high_min: 6 * computed, high_max: 6 * computed },
        },
        Era::V6_1 => {
            let high = each(by_fraction.unwrap_or(low));
            PcpLimits { batch, high_min: high, high_max: high }
        }
        Era::V6_12 | Era::V7_2 => {
            let high_min = each(by_fraction.unwrap_or(low));
            PcpLimits { batch, high_min, high_max: each(by_fraction.unwrap_or(managed / 8)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_zone_moves_63_pages_of_4k_15_of_16k_3_of_64k() {
        for era in Era::ALL {
            let of = |granule| pcp_batch(era, granule, 1 << 24);
            assert_eq!([of(Granule::K4), of(Granule::K16), of(Granule::K64)], [63, 15, 3], "{era}");
        }
    }

    #[test]
    fn a_zone_of_15_mib_moves_single_pages_and_5_10_keeps_none_of_them() {
        let cpus = ZoneCpus { of_node: 2, online: 2 };
        let of = |era| pcp_limits(era, Granule::K4, 3840, 79, cpus, 0);
        assert_eq!(of(Era::V5_10), PcpLimits { batch: 1, high_min: 0, high_max: 0 });
        assert_eq!(of(Era::V6_1), PcpLimits { batch: 1, high_min: 39, high_max: 39 });
        // An eighth of 3840 for two CPUs.
        assert_eq!(of(Era::V7_2), PcpLimits { batch: 1, high_min: 39, high_max: 240 });
    }

    #[test]
    fn a_node_without_cpus_is_shared_by_all() {
        let cpus = ZoneCpus { of_node: 0, online: 4 };
        assert_eq!(pcp_limits(Era::V6_1, Granule::K4, 1 << 20, 8000, cpus, 0).high_min, 2000);
        assert_eq!(pcp_limits(Era::V6_1, Granule::K4, 1 << 20, 8000, cpus, 8).high_min, 32_768);
    }

    #[test]
    fn a_fraction_sets_the_batch_of_5_10() {
        let cpus = ZoneCpus { of_node: 1, online: 1 };
        let of = |managed| pcp_limits(Era::V5_10, Granule::K4, managed, 0, cpus, 8);
        assert_eq!(of(1600), PcpLimits { batch: 50, high_min: 200, high_max: 200 });
        assert_eq!(of(1 << 20).batch, 96);
    }
}
