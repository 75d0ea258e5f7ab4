//! Any banks of memory and any words of a command line, on every architecture, with any tables, in any era: a boot ends with a kernel whose
//! listing can be printed, or with an error; never with a panic.
#![no_main]

use std::cell::OnceCell;

use arbitrary::Arbitrary;
use kernmem::Boot;
use kernmem_arch::arm64::Geometry;
use kernmem_base::{Era, PhysAddr, PhysRange};
use kernmem_config::{Arch, Arm64Cpu, CommandLine, Cpu};
use kernmem_firmware::e820::{E820Entry, E820Table, E820Type};
use kernmem_firmware::{Bank, Machine};
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::{BootRecord, RootKind};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    arch: u8,
    era: u8,
    tables: u8,
    banks: Vec<(u32, u32, Option<u8>)>,
    no_map: Vec<(u32, u16)>,
    seed: Option<u64>,
    words: &'a str,
}

thread_local! {
    static ARM64: OnceCell<Source> = const { OnceCell::new() };
    static X86: OnceCell<Source> = const { OnceCell::new() };
    static I386: OnceCell<Source> = const { OnceCell::new() };
}

/// The most bytes of a bank: tables of many terabytes fill the host's memory.
const MOST: u64 = 8 << 30;

/// Addresses in steps that hit and miss pages, sections and gigabytes.
fn place(raw: u32) -> u64 {
    let step = [0x200, 0x1000, 0x20_0000, 0x800_0000][(raw >> 30) as usize];
    u64::from(raw & 0x3fff) * step
}

/// Another era, and other tables: half of all inputs stay with what the preset has, whose image suits them.
fn choose_tables(source: &mut Source, input: &Input<'_>) {
    if input.era & 4 != 0 {
        source.config.era = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2][usize::from(input.era & 3)];
        source.config.kconfig.name_for_all_eras();
    }
    if input.tables & 0x80 == 0 {
        return;
    }
    let config = &mut source.config;
    match (source.machine.arch, &config.cpu) {
        (Arch::X86_64, Cpu::X86(cpu)) => {
            config.cpu = Cpu::X86(cpu.changed("+la57"));
            config.kconfig.insert("X86_5LEVEL", "y");
        }
        (Arch::I386, _) => config.kconfig.insert("X86_PAE", if input.tables & 1 == 0 { "n" } else { "y" }),
        _ => {
            let geometry = Geometry::ALL[usize::from(input.tables & 0x7f) % Geometry::ALL.len()];
            config.kconfig.set_arm64_pages(geometry.granule());
            config.kconfig.set_arm64_va_bits(geometry.va_bits());
            config.cpu = Cpu::Arm64(Arm64Cpu::by_model("max").expect("a model"));
        }
    }
}

fn input_source(input: &Input<'_>) -> Source {
    let open = |name| Source::open(name).expect("a preset");
    let mut source = match input.arch % 4 {
        0 | 3 => ARM64.with(|source| source.get_or_init(|| open("arm64-4g")).clone()),
        1 => X86.with(|source| source.get_or_init(|| open("x86-4g")).clone()),
        _ => I386.with(|source| source.get_or_init(|| open("i386-2g")).clone()),
    };
    choose_tables(&mut source, input);
    source.config.cmdline = CommandLine::parse(input.words);
    let banks = input.banks.iter().take(8).map(|&(start, size, nid)| {
        let start = PhysAddr(place(start));
        Bank { range: PhysRange::new(start, start + place(size).min(MOST)), nid: nid.map(u32::from), hotplug: false }
    });
    if source.machine.arch == Arch::Arm64 {
        let banks = banks.filter(|bank| !bank.range.is_empty());
        source.machine.memory.extend(banks);
        source.machine.kaslr_seed = input.seed;
        source.machine.memory_reservations.extend(input.no_map.iter().take(4).map(|&(start, size)| {
            let start = PhysAddr(place(start));
            PhysRange::new(start, start + (u64::from(size) << 8))
        }));
    } else {
        let added =
            banks.map(|bank| E820Entry { start: bank.range.start.0, size: bank.range.size(), kind: E820Type::RAM });
        let own: Vec<E820Entry> = source.machine.e820.entries().to_vec();
        let mut map = E820Table::from_entries(own.into_iter().chain(added));
        let _ = map.sanitise();
        let arch = source.machine.arch;
        source.machine = Machine::with_e820(map);
        source.machine.arch = arch;
    }
    source
}

fuzz_target!(|input: Input<'_>| {
    let source = input_source(&input);
    let boot = Boot::new(&source.machine, &source.config);
    let Ok(memory) = Memory::new(kernmem::memory_ranges(&boot)) else { return };
    if let Ok(kernel) = kernmem_live::boot(&memory, &boot, BootRecord::default()) {
        let mut text = String::new();
        kernmem_report::ptdump::linux(&kernel, RootKind::Kernel, &mut text).expect("a listing");
        assert!(text.len() > 1000);
    }
});
