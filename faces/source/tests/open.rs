//! Sources of each kind, opened, and what is said about bad ones.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use std::path::Path;

use kernmem_base::{Era, Granule, PhysAddr};
use kernmem_config::{Arch, Rodata};
use kernmem_source::{Options, Source};

fn bytes(text: &str) -> Result<Source, String> {
    let source = Source::from_bytes("input", text.as_bytes().to_vec(), &Options::default());
    source.map_err(|error| error.to_string())
}

/// The one line that is said about a bad source.
#[track_caller]
fn refused(text: &str) -> String {
    let message = bytes(text).unwrap_err();
    assert!(!message.contains('\n') && message.starts_with("input: "), "{message}");
    message
}

#[test]
fn the_arm64_preset_is_the_recorded_machine() {
    let source = Source::open("arm64-4g").unwrap();
    assert_eq!(source.machine.arch, Arch::Arm64);
    let [bank] = source.machine.memory.as_slice() else { panic!("one bank expected") };
    assert_eq!((bank.range.start, bank.range.end), (PhysAddr(0x4000_0000), PhysAddr(0x1_4000_0000)));
    assert_eq!(source.config.rodata().value, Rodata::Off);
    assert_eq!(source.config.cmdline.text(), "console=ttyAMA0 rodata=off");
    assert!(source.config.symbols.address("_text").is_some());
    assert_eq!(source.config.sizes.get("sizeof_page"), Some(64));
    assert_eq!(source.config.possible_cpus, 2);
}

#[test]
fn the_x86_preset_is_the_recorded_machine() {
    let source = Source::open("x86-4g").unwrap();
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings/x86/x-4G");
    let recorded = Source::open(recording.to_str().unwrap()).unwrap();
    assert_eq!(source.machine.e820, recorded.machine.e820);
    assert_eq!(source.config.given, recorded.config.given);
    assert_eq!(source.config.cpu, recorded.config.cpu);
    assert_eq!(source.config.symbols, recorded.config.symbols);
    assert_eq!(source.config.kconfig, recorded.config.kconfig);
    assert!(source.config.cmdline.nokaslr(Era::V6_1, Arch::X86_64));
}

#[test]
fn memory_can_be_replaced() {
    let options = Options { memory: Some(64 << 40), seed: Some(5), ..Options::default() };
    let source = Source::open_with("arm64-4g", &options).unwrap();
    let [bank] = source.machine.memory.as_slice() else { panic!("one bank expected") };
    assert_eq!((bank.range.start, bank.range.size()), (PhysAddr(0x4000_0000), 64 << 40));
    assert_eq!(source.machine.kaslr_seed, Some(5));
    let source = Source::open_with("x86-4g", &options).unwrap();
    let last = source.machine.memory.last().unwrap();
    assert_eq!((last.range.start.0, last.range.end.0), (4 << 30, (64 << 40) + (1 << 30)));
    let none = Options { memory: Some(0), ..Options::default() };
    assert!(Source::open_with("arm64-4g", &none).is_err());
}

#[test]
fn options_replace_parts_and_are_told() {
    let options = Options {
        cmdline: Some("rodata=full nr_cpus=1".to_owned()),
        era: Some(Era::V6_12),
        cpu: Some("max".to_owned()),
        page_size: Some(Granule::K64),
        va_bits: Some(52),
        ..Options::default()
    };
    let source = Source::open_with("arm64-4g", &options).unwrap();
    assert_eq!((source.config.rodata().value, source.config.possible_cpus), (Rodata::Full, 1));
    assert_eq!(source.config.kconfig.arm64_granule(), Granule::K64);
    let parts: Vec<&str> = source.provenance.iter().map(|origin| origin.what).collect();
    assert_eq!(parts, ["machine", "kernel", "command line", "era", "cpu", "page size", "VA bits"]);
}

#[test]
fn another_era_has_the_built_in_kernel_of_the_same_build() {
    let options = Options { page_size: Some(Granule::K64), ..Options::default() };
    let source = Source::open_with("arm64-4g", &options).unwrap();
    assert_eq!((source.builtin, source.config.era), (Some("a61-64k52"), Era::V6_1));
    let other = source.with_builtin_of(Era::V5_10).unwrap().unwrap();
    assert_eq!((other.builtin, other.config.era, other.image_era), (Some("a510-64k52"), Era::V5_10, Era::V5_10));
    assert_eq!((&other.machine, &other.config.cpu), (&source.machine, &source.config.cpu));
    assert!(source.with_builtin_of(Era::V7_2).unwrap().is_none(), "none with 64K pages");
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings/x86/x-4G");
    let recorded = Source::open(recording.to_str().unwrap()).unwrap();
    assert!(recorded.with_builtin_of(Era::V7_2).unwrap().is_none(), "its kernel is its own");
}

#[test]
fn an_image_of_another_era_is_told() {
    let options = Options { era: Some(Era::V7_2), ..Options::default() };
    let source = Source::open_with("i386-2g", &options).unwrap();
    assert_eq!((source.config.era, source.image_era, source.builtin), (Era::V7_2, Era::V6_1, None));
    let from = source.provenance.iter().find(|origin| origin.what == "kernel").unwrap();
    assert_eq!(from.from, "built-in kernel i61-pae, for want of one of Linux 7.2");
}

#[test]
fn a_toml_description_makes_a_machine() {
    let text = "# a board\narch = \"arm64\"\ncmdline = \"rodata=off\"\ncpus = 4\nera = \"6.1\"\ncpu = \"max\"\n\
                kaslr_seed = \"0x1b2c\"\n[[memory]]\nstart = \"1G\"\nsize = \"2G\"\nnode = 1\n\
                [[no_map]]\nstart = \"0x50000000\"\nsize = 4096\n[given]\ntext_phys = \"0x4020_0000\"\n";
    let source = bytes(text).unwrap();
    assert_eq!(source.machine.memory.first().map(|bank| (bank.range.size(), bank.nid)), Some((2 << 30, Some(1))));
    assert!(source.machine.reserved.first().is_some_and(|entry| entry.no_map));
    assert_eq!(source.config.given.text_phys, Some(PhysAddr(0x4020_0000)));
    assert_eq!(source.config.cpu.arm64().map(|cpu| cpu.physical_bits()), Some(52));
    assert_eq!((source.machine.kaslr_seed, source.config.possible_cpus), (Some(0x1b2c), 4));
}

#[test]
fn an_x86_description_with_a_firmware_map() {
    let text = "arch = \"x86_64\"\n[[e820]]\nstart = 0\nsize = \"640K\"\ntype = \"usable\"\n\
                [[e820]]\nstart = \"1M\"\nsize = \"1023M\"\ntype = 1\n";
    let source = bytes(text).unwrap();
    assert_eq!(source.machine.memory.len(), 2);
    assert_eq!(source.machine.e820.end_pfn(Era::V6_1, u64::MAX, u64::MAX), 1 << 18);
}

#[test]
fn a_log_is_known_by_its_content() {
    let log = "[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n\
               [    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000003fffffff] usable\n";
    let source = bytes(log).unwrap();
    assert_eq!((source.machine.arch, source.machine.memory.len()), (Arch::X86_64, 2));
}

#[test]
fn bad_sources_are_one_line_each() {
    assert!(refused("hello").contains("give one of them"));
    assert!(refused("").contains("give one of them"));
    assert!(refused("arch = \"arm64\"\nmemery = 1\n").contains("line 2"));
    assert!(refused("arch = \"arm64\"\n").contains("no memory"));
    assert!(refused("arch = \"vax\"\n").contains("`arch`"));
    assert!(refused("arch = \"arm64\"\n[[memory]]\nstart = \"1Q\"\nsize = 1\n").contains("`memory`"));
    assert!(refused("00000000-00000000 : System RAM\n").contains("as root"));
    let damaged = Source::from_bytes("t.dtb", vec![0xd0, 0x0d, 0xfe, 0xed, 0, 0], &Options::default());
    assert!(damaged.unwrap_err().to_string().starts_with("t.dtb: byte 0x6: the blob ends inside its header"));
    let damaged = Source::from_bytes("t.gz", vec![0x1f, 0x8b, 8, 0, 0], &Options::default());
    assert!(damaged.unwrap_err().to_string().contains("cannot be unpacked"));
    assert!(Source::open("no-such-thing").unwrap_err().to_string().contains("presets"));
}
