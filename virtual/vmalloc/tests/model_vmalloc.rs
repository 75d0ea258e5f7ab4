//! Random operations beside the naive model of `model`.

mod common;
mod model;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use model::{Window, play};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tight_addresses_on_arm64(words in vec(any::<[u16; 4]>(), 1..80)) {
        play::<Arm64Granule4K>(Window::TIGHT, &words);
    }

    #[test]
    fn tight_addresses_on_x86(words in vec(any::<[u16; 4]>(), 1..80)) {
        play::<X86Level4>(Window::TIGHT, &words);
    }

    #[test]
    fn few_frames_on_arm64(words in vec(any::<[u16; 4]>(), 1..80)) {
        play::<Arm64Granule4K>(Window::POOR, &words);
    }

    #[test]
    fn few_frames_on_x86(words in vec(any::<[u16; 4]>(), 1..80)) {
        play::<X86Level4>(Window::POOR, &words);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_on_arm64(words in vec(any::<[u16; 4]>(), 1..40)) {
        play::<Arm64Granule4K>(Window::WIDE, &words);
    }

    #[test]
    fn blocks_on_x86(words in vec(any::<[u16; 4]>(), 1..40)) {
        play::<X86Level4>(Window::WIDE, &words);
    }
}
