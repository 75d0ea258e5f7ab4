//! Any bytes as operations on areas of kernel addresses, beside a naive model: every page and every invariant after
//! each operation.
#![no_main]

#[path = "../../virtual/vmalloc/tests/common/mod.rs"]
mod common;
#[path = "../../virtual/vmalloc/tests/model/mod.rs"]
mod model;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::{X86Level4, X86Level5};
use libfuzzer_sys::fuzz_target;
use model::{Window, play};

/// Operations that one input may hold: bounds the time of a run.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let words: Vec<[u16; 4]> = data
        .chunks_exact(8)
        .take(MOST)
        .map(|bytes| core::array::from_fn(|word| u16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]])))
        .collect();
    match how % 7 {
        0 => play::<Arm64Granule4K>(Window::TIGHT, &words),
        1 => play::<X86Level4>(Window::TIGHT, &words),
        2 => play::<Arm64Granule4K>(Window::POOR, &words),
        3 => play::<X86Level4>(Window::POOR, &words),
        4 => play::<Arm64Granule4K>(Window::WIDE, &words),
        5 => play::<X86Level4>(Window::WIDE, &words),
        _ => play::<X86Level5>(Window::POOR, &words),
    }
});
