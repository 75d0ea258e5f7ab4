//! Random operations on a cursor against a naive model, in windows that cross tables and touch the top.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

mod model;

use kernmem_arch::arm64::{Arm64, Arm64Granule4K};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use model::{Subject, Window, play};
use proptest::prelude::*;

/// Operations as words; see `Op::draw`.
fn words() -> impl Strategy<Value = Vec<[u16; 5]>> {
    prop::collection::vec(any::<[u16; 5]>(), 1..48)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn arm64_pages_up_to_the_top(frames in 4_usize..20, words in words()) {
        play::<Arm64Granule4K>(Window::TOP, frames, &words);
    }

    #[test]
    fn x86_pages_up_to_the_top(frames in 4_usize..20, words in words()) {
        play::<X86Level4>(Window::TOP, frames, &words);
    }

    #[test]
    fn i386_pages_up_to_the_top(frames in 3_usize..20, words in words()) {
        play::<I386Level2>(Window::TOP_32, frames, &words);
    }

    #[test]
    fn i386_groups_over_a_seam(frames in 3_usize..20, words in words()) {
        play::<I386Level2>(Window::SEAM_32, frames, &words);
    }

    #[test]
    fn pae_pages_up_to_the_top(frames in 3_usize..20, words in words()) {
        play::<I386Pae>(Window::TOP_32, frames, &words);
    }

    #[test]
    fn pae_groups_over_a_seam(frames in 4_usize..40, words in words()) {
        play::<I386Pae>(Window::SEAM_32, frames, &words);
    }

    #[test]
    fn x86_pages_up_to_the_top_of_five_levels(frames in 5_usize..20, words in words()) {
        play::<X86Level5>(Window::TOP, frames, &words);
    }

    #[test]
    fn arm64_groups_over_a_seam(frames in 8_usize..80, words in words()) {
        play::<Arm64Granule4K>(Window::SEAM, frames, &words);
    }

    #[test]
    fn x86_groups_over_a_seam(frames in 8_usize..80, words in words()) {
        play::<X86Level4>(Window::SEAM, frames, &words);
    }

    #[test]
    fn x86_groups_over_a_seam_of_five_levels(frames in 10_usize..80, words in words()) {
        play::<X86Level5>(Window::SEAM_OF_FIVE, frames, &words);
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn arm64_gibibytes(frames in 16_usize..1700, words in words()) {
        play::<Arm64Granule4K>(Window::GIBS, frames, &words);
    }

    #[test]
    fn pae_gibibytes(frames in 16_usize..1600, words in words()) {
        play::<I386Pae>(Window::GIBS_32, frames, &words);
    }

    #[test]
    fn x86_gibibytes(frames in 16_usize..1700, words in words()) {
        play::<X86Level4>(Window::GIBS, frames, &words);
    }

    #[test]
    fn x86_gibibytes_of_five_levels(frames in 17_usize..1700, words in words()) {
        play::<X86Level5>(Window::GIBS, frames, &words);
    }
}

/// The same words in pages, groups and blocks of a format.
fn play_everywhere<F: Subject>(frames: usize, words: &[[u16; 5]]) {
    let levels = F::shape().levels.len();
    play::<F>(Window::top::<F>(), levels + frames % 8, words);
    play::<F>(Window::seam::<F>(), 2 * levels + frames % 16, words);
    play::<F>(Window::blocks::<F>(), 2 * levels + frames, words);
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn arm64_of_every_page_size(frames in 0_usize..200, words in words()) {
        play_everywhere::<Arm64<12, 39>>(frames, &words);
        play_everywhere::<Arm64<12, 52>>(frames, &words);
        play_everywhere::<Arm64<14, 36>>(frames, &words);
        play_everywhere::<Arm64<14, 47>>(frames, &words);
        play_everywhere::<Arm64<14, 48>>(frames, &words);
        play_everywhere::<Arm64<14, 52>>(frames, &words);
        play_everywhere::<Arm64<16, 42>>(frames, &words);
        play_everywhere::<Arm64<16, 48>>(frames, &words);
        play_everywhere::<Arm64<16, 52>>(frames, &words);
    }
}
