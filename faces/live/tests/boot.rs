//! A machine with too little memory: boot and start end with an error that says so, and never by a panic.
//!
//! Every frame of a boot comes from the machine's memory, so that sizes that differ by a page end the boot at one
//! request after the other.

use std::collections::BTreeSet;

use crate::common::{PRESETS, source};
use kernmem::BootError;
use kernmem_arch::Format;
use kernmem_base::PhysAddr;
use kernmem_firmware::Arch;
use kernmem_live::{Live, LiveError, Options};
use kernmem_source::Source;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// Where the presets' memory of arm64 starts.
const ARM64: PhysAddr = PhysAddr(0x4000_0000);

/// Boots the machine with `bytes` of memory, and runs the kernel.
fn boots(source: &mut Source, bytes: u64) -> Result<Format, LiveError> {
    match source.machine.arch {
        Arch::Arm64 => source.machine.replace_memory(ARM64, bytes),
        Arch::X86_64 | Arch::I386 => source.machine.replace_e820_memory(bytes),
    }
    let memory = Live::memory(source)?;
    Live::start(&memory, source, Options::default()).map(|live| live.running.facts.format)
}

/// Starts at `bytes` and adds `step` until the kernel runs; that size, and the sentences of all failures before.
fn least(source: &mut Source, bytes: u64, step: u64) -> (u64, Vec<String>) {
    let mut failures = Vec::new();
    for bytes in (bytes..256 * MIB).step_by(step as usize) {
        match boots(source, bytes) {
            Ok(_) => return (bytes, failures),
            Err(LiveError::Boot(BootError::Beyond(what))) => panic!("{bytes:#x}: {what}"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    panic!("no size is enough: {failures:?}");
}

#[test]
fn a_machine_that_is_too_small_is_refused_page_by_page_until_it_is_large_enough() {
    for preset in PRESETS {
        let mut source = source(preset, None, Some(24 * MIB));
        let (enough, coarse) = least(&mut source, MIB, MIB);
        // Behind the last size in steps of a MiB that is too small, page by page.
        let (first, fine) = least(&mut source, enough - MIB + PAGE, PAGE);
        assert!(coarse.len() >= 6 && first <= enough, "{preset}: {first:#x} of {enough:#x}");
        assert_eq!(fine.len() as u64, (first - (enough - MIB)) / PAGE - 1, "{preset}: each page was tried");
        for failure in coarse.iter().chain(&fine) {
            assert!(failure.contains("no memory") || failure.contains("free bytes"), "{preset}: {failure}");
        }
        let distinct: BTreeSet<&String> = coarse.iter().chain(&fine).collect();
        assert!(distinct.len() >= 3, "{preset}: {distinct:?}");
    }
}
