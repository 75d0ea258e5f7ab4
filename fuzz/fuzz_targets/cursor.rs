//! Any bytes as operations on a cursor, beside a naive model: every page and every invariant after each operation.
#![no_main]

#[path = "../../tables/pgtable/tests/model/mod.rs"]
mod model;

use kernmem_arch::arm64::{Arm64, Arm64Granule4K};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use libfuzzer_sys::fuzz_target;
use model::{Subject, Window, play};

/// Operations that one input may hold: bounds the time of a run.
const MOST: usize = 64;

/// In pages, groups or blocks of the format, as the number of frames has it.
fn anywhere<F: Subject>(frames: usize, words: &[[u16; 5]]) {
    let window = [Window::top::<F>(), Window::seam::<F>(), Window::blocks::<F>()][frames % 3];
    play::<F>(window, frames + 2, words);
}

fuzz_target!(|data: &[u8]| {
    let Some((&[how, frames], data)) = data.split_first_chunk() else { return };
    let words: Vec<[u16; 5]> = data
        .chunks_exact(10)
        .take(MOST)
        .map(|bytes| core::array::from_fn(|word| u16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]])))
        .collect();
    let frames = usize::from(frames) + 1;
    match how % 23 {
        0 | 1 => play::<Arm64Granule4K>(Window::TOP, frames % 20 + 2, &words),
        2 | 3 => play::<X86Level4>(Window::TOP, frames % 20 + 2, &words),
        4 => play::<Arm64Granule4K>(Window::SEAM, frames, &words),
        5 => play::<X86Level4>(Window::SEAM, frames, &words),
        6 => play::<Arm64Granule4K>(Window::GIBS, frames, &words),
        7 => play::<X86Level4>(Window::GIBS, frames, &words),
        8 => play::<X86Level5>(Window::TOP, frames % 20 + 2, &words),
        9 => play::<X86Level5>(Window::SEAM_OF_FIVE, frames, &words),
        10 => play::<X86Level5>(Window::GIBS, frames, &words),
        11 => play::<I386Pae>(Window::SEAM_32, frames, &words),
        12 => play::<I386Level2>(Window::SEAM_32, frames, &words),
        13 => anywhere::<Arm64<12, 39>>(frames, &words),
        14 => anywhere::<Arm64<12, 52>>(frames, &words),
        15 => anywhere::<Arm64<14, 36>>(frames, &words),
        16 => anywhere::<Arm64<14, 52>>(frames, &words),
        17 => anywhere::<Arm64<16, 42>>(frames, &words),
        18 => anywhere::<Arm64<16, 48>>(frames, &words),
        19 => anywhere::<Arm64<16, 52>>(frames, &words),
        20 => play::<I386Pae>(Window::TOP_32, frames % 20 + 2, &words),
        21 => play::<I386Level2>(Window::TOP_32, frames % 20 + 2, &words),
        _ => play::<I386Pae>(Window::GIBS_32, frames, &words),
    }
});
