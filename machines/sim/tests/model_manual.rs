//! Drawn tables of every format against a walker written from the manuals; see `manual`.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod manual;

use kernmem_base::Seed;
use manual::{FORMATS, play};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_format_is_read_as_its_manual_says(seed: u64) {
        for which in 0..FORMATS {
            let mut seed = Seed(seed);
            play(which, &mut || seed.draw());
        }
    }
}

#[test]
fn many_drawn_accesses_reach_memory() {
    for which in 0..FORMATS {
        let reached = (0..100).map(|seed| {
            let mut seed = Seed(seed);
            play(which, &mut || seed.draw())
        });
        let reached: usize = reached.sum();
        assert!(reached > 20, "format {which}: {reached} of 1,600");
    }
}
