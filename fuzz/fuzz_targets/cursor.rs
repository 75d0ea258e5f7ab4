//! Any bytes as operations on a cursor, beside a naive model: every page and every invariant after each operation.
#![no_main]

#[path = "../../tables/pgtable/tests/model/mod.rs"]
mod model;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::{X86Level4, X86Level5};
use libfuzzer_sys::fuzz_target;
use model::{Window, play};

/// Operations that one input may hold: bounds the time of a run.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&[how, frames], data)) = data.split_first_chunk() else { return };
    let words: Vec<[u16; 5]> = data
        .chunks_exact(10)
        .take(MOST)
        .map(|bytes| core::array::from_fn(|word| u16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]])))
        .collect();
    let frames = usize::from(frames) + 1;
    match how % 11 {
        0 | 1 => play::<Arm64Granule4K>(Window::TOP, frames % 20 + 2, &words),
        2 | 3 => play::<X86Level4>(Window::TOP, frames % 20 + 2, &words),
        4 => play::<Arm64Granule4K>(Window::SEAM, frames, &words),
        5 => play::<X86Level4>(Window::SEAM, frames, &words),
        6 => play::<Arm64Granule4K>(Window::GIBS, frames, &words),
        7 => play::<X86Level4>(Window::GIBS, frames, &words),
        8 => play::<X86Level5>(Window::TOP, frames % 20 + 2, &words),
        9 => play::<X86Level5>(Window::SEAM_OF_FIVE, frames, &words),
        _ => play::<X86Level5>(Window::GIBS, frames, &words),
    }
});
