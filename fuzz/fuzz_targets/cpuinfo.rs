//! Any text as `/proc/cpuinfo` and as a table of arm64 models.
#![no_main]

use kernmem_config::{Arm64Cpu, KptiFacts, X86Cpu};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(cpu) = X86Cpu::from_cpuinfo(text) {
        assert!(cpu.flags().all(|flag| cpu.has(flag)));
    }
    let _ = X86Cpu::from_features("", text);
    let model = text.split([',', '"', '\n']).find(|model| !model.is_empty()).unwrap_or("");
    if let Some(cpu) = Arm64Cpu::from_csv(text, model) {
        assert!((32..=56).contains(&cpu.physical_bits()));
        assert!(cpu.dcache_line() >= 4);
        assert!(!cpu.kpti_needed(KptiFacts::default()));
    }
});
