//! Any bytes as requests of two CPUs on the slab allocator, beside a plain map of what is live.
#![no_main]

#[path = "../../virtual/slab/tests/model/mod.rs"]
mod model;

use libfuzzer_sys::fuzz_target;

/// Requests that one input may hold: bounds the time of a run.
const MOST: usize = 256;

fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else { return };
    let words: Vec<[u16; 3]> = data
        .chunks_exact(6)
        .take(MOST)
        .map(|bytes| core::array::from_fn(|word| u16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]])))
        .collect();
    model::play(how % 16, &words);
});
