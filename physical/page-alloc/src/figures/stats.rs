//! How far a CPU's counters may drift from a zone's.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `calculate_normal_threshold`.

use kernmem_base::Granule;

/// The most that a CPU's counter of a zone of `managed` pages may hold back, with `online` CPUs.
///
/// Twice the bits of the number of CPUs, times one more than the bits of the zone's number of 128 MiB; at most 125.
/// A kernel for one CPU has no such thing.
///
/// Source: Linux 5.10–7.2 mm/vmstat.c `calculate_normal_threshold`.
#[must_use]
pub fn stat_threshold(granule: Granule, managed: u64, online: u32) -> u64 {
    let bits = |value: u64| u64::from(u64::BITS - value.leading_zeros());
    (2 * bits(online.into()) * (1 + bits(managed >> (27 - granule.shift())))).min(125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cpus_hold_back_little() {
        assert_eq!(stat_threshold(Granule::K4, 3840, 2), 4);
        assert_eq!(stat_threshold(Granule::K4, 251_300, 2), 16);
    }

    #[test]
    fn a_counter_of_a_byte_bounds_it() {
        assert_eq!(stat_threshold(Granule::K4, u64::MAX, 4096), 125);
    }
}
