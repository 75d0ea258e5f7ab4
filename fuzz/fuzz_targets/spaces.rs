//! Any bytes as operations of several processes, beside a naive model: words, counts, tables, frames and TLB after
//! each.
#![no_main]

#[path = "../../virtual/mm/tests/play/mod.rs"]
mod play;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_base::Era;
use libfuzzer_sys::fuzz_target;
use play::{Op, play};

/// Operations that one input may hold: bounds the time of a run.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&[how, frames], data)) = data.split_first_chunk() else { return };
    let words = data
        .as_chunks::<10>()
        .0
        .iter()
        .take(MOST)
        .map(|bytes| core::array::from_fn(|nr| u16::from_le_bytes([bytes[2 * nr], bytes[2 * nr + 1]])));
    let ops = words.map(Op::of_words);
    let era = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2][usize::from(how >> 1 & 3)];
    // Few frames: memory runs short in the middle of forks, copies and tables.
    let frames = 8 + u64::from(frames);
    match (how & 1, how & 8) {
        (0, _) => play::<Arm64Granule4K>(era, frames, ops),
        (_, 0) => play::<X86Level4>(era, frames, ops),
        _ => play::<X86Level5>(era, frames, ops),
    }
});
