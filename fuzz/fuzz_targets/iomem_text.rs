//! Any text as `/proc/iomem`: no panic, no empty bank, and a machine only where the text looks like one.
#![no_main]

use kernmem_firmware::iomem::{is_iomem, parse_iomem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(machine) = parse_iomem(text) {
        assert!(is_iomem(text));
        assert!(machine.memory.iter().all(|bank| bank.range.start <= bank.range.end));
    }
});
