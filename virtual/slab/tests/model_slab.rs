//! Random requests of two CPUs beside a plain map, for every era, hardened or not, checked or not.

mod model;

use proptest::prelude::*;
use proptest::test_runner::Config;

proptest! {
    #![proptest_config(Config { cases: 192, failure_persistence: None, ..Config::default() })]

    #[test]
    fn requests_agree_with_a_plain_map(how in 0u8..16, words in prop::collection::vec(any::<[u16; 3]>(), 1..300)) {
        model::play(how, &words);
    }
}
