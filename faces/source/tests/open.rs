//! Sources of each kind, opened.

use kernmem_base::PhysAddr;
use kernmem_config::{Arch, Rodata};
use kernmem_source::{Options, Source};

#[test]
fn the_arm64_preset_is_the_recorded_machine() {
    let source = Source::open("arm64-4g").unwrap();
    assert_eq!(source.machine.arch, Arch::Arm64);
    let [bank] = source.machine.memory.as_slice() else { panic!("one bank expected") };
    assert_eq!((bank.range.start, bank.range.end), (PhysAddr(0x4000_0000), PhysAddr(0x1_4000_0000)));
    assert_eq!(source.machine.cpus, 2);
    assert_eq!(source.config.rodata().value, Rodata::Off);
    assert_eq!(source.config.cmdline.text(), "console=ttyAMA0 rodata=off");
    assert!(source.config.symbols.address("_text").is_some());
    assert_eq!(source.config.sizes.get("sizeof_page"), Some(64));
    assert_eq!(source.config.possible_cpus, 2);
}

#[test]
fn memory_can_be_replaced() {
    let options = Options { memory: Some(64 << 40), seed: Some(5), ..Options::default() };
    let source = Source::open_with("arm64-4g", &options).unwrap();
    let [bank] = source.machine.memory.as_slice() else { panic!("one bank expected") };
    assert_eq!((bank.range.start, bank.range.size()), (PhysAddr(0x4000_0000), 64 << 40));
    assert_eq!(source.machine.kaslr_seed, Some(5));
}
