//! Any text as a configuration, and any table of sizes: what is listed is found.
#![no_main]

use kernmem_config::{KernelConfig, Sizes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let config = KernelConfig::parse(text);
    assert_eq!(config.iter().count(), config.len());
    for (name, value) in config.iter() {
        assert_eq!(config.value(name), Some(value));
        assert!(!config.is_set(name) || config.is_enabled(name));
        let _ = config.number(name);
    }
    let sizes = Sizes::parse(text);
    assert!(sizes.iter().all(|(name, value)| sizes.get(name) == Some(value)));
});
