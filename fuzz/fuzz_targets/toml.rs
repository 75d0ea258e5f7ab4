//! Any text as a description, and any packed bytes as a source: no panic, and one line about what is refused.
#![no_main]

use kernmem_source::{Options, Source, describe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = core::str::from_utf8(data) {
        if let Err(error) = describe::check("input", text) {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
    // Reading the kernel that goes with a plain machine is slow: only packed bytes go that way.
    if data.starts_with(&[0x1f, 0x8b]) || data.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        if let Err(error) = Source::from_bytes("input", data.to_vec(), &Options::default()) {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
});
