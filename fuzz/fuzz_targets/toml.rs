//! Any bytes as a source: no panic, and what is refused is refused in one line.
#![no_main]

use kernmem_source::{Options, Source, describe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = core::str::from_utf8(data) {
        // A description that can be read is cheap to check; the kernel's files are not.
        if describe::can_describe(text) && data.first() != Some(&b'#') {
            return;
        }
    }
    if let Err(error) = Source::from_bytes("input", data.to_vec(), &Options::default()) {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
});
