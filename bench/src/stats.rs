//! The arithmetic of a run: medians, ratios of what ran side by side, shares of a limit.

/// The middle of the values, or the mean of the two in the middle; not a number if there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The median over the rounds of `a / b`: both ran in each round, side by side, so what disturbed one disturbed both.
#[must_use]
pub fn paired_ratio(a: &[f64], b: &[f64]) -> f64 {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

/// The smallest and the largest value.
#[must_use]
pub fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// How much of a limit a figure reaches, in percent: 100 is the limit itself.
#[must_use]
pub fn share(limit: f64, figure: f64) -> f64 {
    100.0 * limit / figure
}

/// How much worse than the recorded ratio a run may be: times are noisy where other work runs.
pub const SLACK: f64 = 1.3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // The second round was disturbed for both; medians apart would say 2/10.
        assert_eq!(paired_ratio(&[1.0, 20.0, 2.0], &[10.0, 40.0, 4.0]), 0.5);
        assert!(paired_ratio(&[], &[]).is_nan());
    }

    #[test]
    fn a_share_grows_towards_the_limit() {
        assert_eq!((share(0.1, 0.4), share(2.0, 2.0)), (25.0, 100.0));
    }

    #[test]
    fn spread_has_both_ends() {
        assert_eq!(spread(&[2.0, 1.0, 3.0]), (1.0, 3.0));
    }
}
