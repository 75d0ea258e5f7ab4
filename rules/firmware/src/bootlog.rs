//! What a boot log tells where no firmware map is printed: memory by node, and the command line.
//!
//! Here: lines that any prefix may precede. Not here: the e820 map and the affinity table (`e820`).
//!
//! Source: Linux 5.10–6.12 mm/page_alloc.c, mm/mm_init.c, 7.2 mm/mm_init.c `free_area_init`; init/main.c
//! `start_kernel`.

use alloc::vec::Vec;

use kernmem_base::{PhysAddr, PhysRange};

use crate::{Arch, Bank, Machine};

/// Words that only arm64 logs have; the first line may be lost where the log was long.
const ARM64_WORDS: [&str; 2] = ["Booting Linux on physical CPU 0x", "psci: "];

/// The command line that the log shows.
#[must_use]
pub fn command_line(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once("Kernel command line: ").map(|(_, text)| text.trim_end()))
}

/// `node N: [mem 0xFIRST-0xLAST]`, after any prefix.
fn bank(line: &str) -> Option<Bank> {
    let (_, entry) = line.split_once("  node ")?;
    let (node, range) = entry.split_once(": [mem 0x")?;
    let (start, last) = range.trim_end().strip_suffix(']')?.split_once("-0x")?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, last) = (number(start)?, number(last)?);
    let range = PhysRange { start: PhysAddr(start), end: PhysAddr(last.checked_add(1)?) };
    (start <= last).then_some(Bank { range, nid: Some(node.trim().parse().ok()?), hotplug: false })
}

/// The arm64 machine of a log: the early ranges of its nodes, neighbours of one node joined. `None` if the log is not
/// arm64's or shows no range.
#[must_use]
pub fn parse_arm64_log(log: &str) -> Option<Machine> {
    if !ARM64_WORDS.iter().any(|word| log.contains(word)) {
        return None;
    }
    let mut memory: Vec<Bank> = Vec::new();
    for bank in log.lines().filter_map(bank) {
        match memory.last_mut() {
            Some(last) if last.range.end == bank.range.start && last.nid == bank.nid => last.range.end = bank.range.end,
            _ => memory.push(bank),
        }
    }
    if memory.is_empty() {
        return None;
    }
    if memory.iter().all(|bank| bank.nid == Some(0)) {
        // One node is what a machine without nodes shows.
        for bank in &mut memory {
            bank.nid = None;
        }
    }
    Some(Machine { memory, ..Machine::new(Arch::Arm64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_ranges_become_banks() {
        let log = "[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd083]\n\
                   [    0.000000] Early memory node ranges\n\
                   [    0.000000]   node   0: [mem 0x0000000040000000-0x0000000090000fff]\n\
                   [    0.000000]   node   0: [mem 0x0000000090001000-0x000000009fffffff]\n\
                   [    0.000000]   node   1: [mem 0x00000000a0000000-0x000000013fffffff]\n\
                   [    0.000000] Kernel command line: a=b c \n";
        let machine = parse_arm64_log(log).unwrap();
        let banks: Vec<_> =
            machine.memory.iter().map(|bank| (bank.range.start.0, bank.range.end.0, bank.nid)).collect();
        assert_eq!(banks, [(0x4000_0000, 0xa000_0000, Some(0)), (0xa000_0000, 0x1_4000_0000, Some(1))]);
        assert_eq!(command_line(log), Some("a=b c"));
        assert_eq!(parse_arm64_log("  node   0: [mem 0x0-0xfff]\n"), None);
    }
}
