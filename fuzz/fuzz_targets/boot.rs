//! Any banks of memory and any words of a command line, on either architecture: a boot ends with a kernel whose
//! listing can be printed, or with an error; never with a panic.
#![no_main]

use std::cell::OnceCell;

use arbitrary::Arbitrary;
use kernmem::Boot;
use kernmem_base::{PhysAddr, PhysRange};
use kernmem_config::CommandLine;
use kernmem_firmware::e820::{E820Entry, E820Table, E820Type};
use kernmem_firmware::{Bank, Machine};
use kernmem_sim::Memory;
use kernmem_source::Source;
use kernmem_view::{BootRecord, RootKind};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    arm64: bool,
    banks: Vec<(u32, u32, Option<u8>)>,
    no_map: Vec<(u32, u16)>,
    seed: Option<u64>,
    words: &'a str,
}

thread_local! {
    static ARM64: OnceCell<Source> = const { OnceCell::new() };
    static X86: OnceCell<Source> = const { OnceCell::new() };
}

/// Addresses in steps that hit and miss pages, sections and gigabytes.
fn place(raw: u32) -> u64 {
    let step = [0x200, 0x1000, 0x20_0000, 0x800_0000][(raw >> 30) as usize];
    u64::from(raw & 0x3fff) * step
}

fn input_source(input: &Input<'_>) -> Source {
    let open = |name| Source::open(name).expect("a preset");
    let mut source = match input.arm64 {
        true => ARM64.with(|source| source.get_or_init(|| open("arm64-4g")).clone()),
        false => X86.with(|source| source.get_or_init(|| open("x86-4g")).clone()),
    };
    source.config.cmdline = CommandLine::parse(input.words);
    let banks = input.banks.iter().take(8).map(|&(start, size, nid)| {
        let start = PhysAddr(place(start));
        Bank { range: PhysRange::new(start, start + place(size)), nid: nid.map(u32::from), hotplug: false }
    });
    if input.arm64 {
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
        source.machine = Machine::with_e820(map);
    }
    source
}

fuzz_target!(|input: Input<'_>| {
    let source = input_source(&input);
    let boot = Boot::new(&source.machine, &source.config);
    let Ok(memory) = Memory::new(kernmem::memory_ranges(&boot)) else { return };
    if let Ok(kernel) = kernmem::boot(&memory, &boot, BootRecord::default()) {
        let mut text = String::new();
        kernmem_report::ptdump::linux(&kernel, RootKind::Kernel, &mut text).expect("a listing");
        assert!(text.len() > 1000);
    }
});
