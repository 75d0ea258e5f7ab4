//! Any tables, registers and addresses in any format: walks, visits and the software MMU agree with a second walker
//! written from the manuals, in what they answer and in every mark that the MMU leaves.
//!
//! The walkers share no code: `manual` knows bits by number, and reads and marks a memory of its own.
#![no_main]

#[path = "../../machines/sim/tests/manual/mod.rs"]
mod manual;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&which, data)) = data.split_first() else { return };
    let mut words = data.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    manual::play(usize::from(which) % manual::FORMATS, &mut || words.next().unwrap_or(0));
});
