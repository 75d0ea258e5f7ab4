//! `/proc/iomem`: the machine that a running kernel saw.
//!
//! Here: the outermost entries that tell memory. Not here: what that kernel put there (its image, its reservations).
//!
//! Source: Linux 5.10–7.2 kernel/resource.c `r_show`; arch/arm64/kernel/setup.c `request_standard_resources`;
//! arch/x86/kernel/e820.c `e820_type_to_string`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{PhysAddr, PhysRange};

use crate::e820::{E820Entry, E820Table, E820Type};
use crate::{Arch, Bank, Machine, Reserved};

/// A text that describes no machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IomemError {
    /// All addresses are 0: it was read without the right to see them.
    Hidden,
    /// No line says where memory is.
    NoMemory,
}

impl fmt::Display for IomemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "all addresses are 0: read /proc/iomem as root",
            Self::NoMemory => "no line names memory",
        })
    }
}

impl core::error::Error for IomemError {}

/// What the file calls each type of the firmware's map.
const NAMES: [(E820Type, &str); 8] = [
    (E820Type::RAM, "System RAM"),
    (E820Type::RESERVED, "Reserved"),
    (E820Type::ACPI, "ACPI Tables"),
    (E820Type::NVS, "ACPI Non-volatile Storage"),
    (E820Type::UNUSABLE, "Unusable memory"),
    (E820Type::PMEM, "Persistent Memory"),
    (E820Type::PRAM, "Persistent Memory (legacy)"),
    (E820Type::SOFT_RESERVED, "Soft Reserved"),
];

impl E820Type {
    /// What `/proc/iomem` calls a range of this type.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820_type_to_string`.
    #[must_use]
    pub fn resource_name(self) -> &'static str {
        let kind = if self == Self::RESERVED_KERN { Self::RAM } else { self };
        NAMES.iter().find(|(own, _)| *own == kind).map_or("Unknown E820 type", |(_, name)| name)
    }

    /// Whether nothing else may ask for a range of this type; devices may lie in the others.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `do_mark_busy`.
    #[must_use]
    pub const fn is_busy(self) -> bool {
        !matches!(self, Self::RESERVED | Self::SOFT_RESERVED | Self::PRAM | Self::PMEM)
    }
}

/// One outermost line.
struct Resource<'a> {
    start: u64,
    last: u64,
    name: &'a str,
}

/// `FIRST-LAST : NAME`, not indented.
fn resource(line: &str) -> Option<Resource<'_>> {
    let (range, name) = line.split_once(" : ")?;
    let (start, last) = range.split_once('-')?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex(start) || !is_hex(last) {
        return None;
    }
    let (start, last) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
    (start <= last).then_some(Resource { start, last, name: name.trim_end() })
}

/// Whether a text looks like this file: some line names a resource.
#[must_use]
pub fn is_iomem(text: &str) -> bool {
    let named = |name: &str| matches!(name, "System RAM" | "System ROM" | "reserved" | "Reserved");
    text.lines().filter_map(|line| resource(line.trim_start())).any(|resource| named(resource.name))
}

/// Names that only x86 gives.
fn is_x86(name: &str) -> bool {
    let names = ["Reserved", "Local APIC", "System ROM", "Video ROM", "ACPI Tables", "ACPI Non-volatile Storage"];
    names.contains(&name) || name.starts_with("IOAPIC")
}

/// Reads the file. On x86 the entries become a firmware map; on arm64 an outermost `reserved` is memory that may not
/// be mapped.
///
/// # Errors
/// [`IomemError`]: there is no memory in it.
pub fn parse_iomem(text: &str) -> Result<Machine, IomemError> {
    let resources: Vec<Resource<'_>> = text.lines().filter_map(resource).collect();
    if resources.iter().all(|resource| resource.name != "System RAM") {
        return Err(IomemError::NoMemory);
    }
    if resources.iter().all(|resource| resource.last == 0) {
        return Err(IomemError::Hidden);
    }
    let names = text.lines().filter_map(|line| resource(line.trim_start()));
    if names.into_iter().any(|resource| is_x86(resource.name)) { Ok(x86(&resources)) } else { Ok(arm64(&resources)) }
}

fn x86(resources: &[Resource<'_>]) -> Machine {
    let entries = resources.iter().filter_map(|resource| {
        let (kind, _) = *NAMES.iter().find(|(_, name)| *name == resource.name)?;
        let size = (resource.last - resource.start).saturating_add(1);
        Some(E820Entry { start: resource.start, size, kind })
    });
    Machine::with_e820(E820Table::from_entries(entries))
}

fn arm64(resources: &[Resource<'_>]) -> Machine {
    let mut machine = Machine::new(Arch::Arm64);
    for resource in resources {
        let end = PhysAddr(resource.last.saturating_add(1));
        let range = PhysRange { start: PhysAddr(resource.start), end };
        let is_no_map = resource.name == "reserved";
        if is_no_map {
            let (name, ranges) = (String::from("reserved"), alloc::vec![range]);
            machine.reserved.push(Reserved { name, ranges, no_map: true, ..Reserved::default() });
        }
        if !is_no_map && resource.name != "System RAM" {
            continue;
        }
        match machine.memory.last_mut() {
            Some(bank) if bank.range.end == range.start => bank.range.end = range.end,
            _ => machine.memory.push(Bank { range, nid: None, hotplug: false }),
        }
    }
    machine
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: &str = "09000000-09000fff : pl011@9000000\n40000000-90000fff : System RAM\n  40210000-4068ffff : \
                       Kernel code\n90001000-90003fff : reserved\n90004000-13fffffff : System RAM\n";

    #[test]
    fn a_hole_in_arm64_memory_is_one_bank_with_a_reservation() {
        let machine = parse_iomem(ARM).unwrap();
        assert_eq!(machine.arch, Arch::Arm64);
        let [bank] = machine.memory.as_slice() else { panic!("one bank expected") };
        assert_eq!(bank.range, PhysRange { start: PhysAddr(0x4000_0000), end: PhysAddr(0x1_4000_0000) });
        let [hole] = machine.reserved.as_slice() else { panic!("one reservation expected") };
        assert!(hole.no_map);
        assert_eq!(hole.ranges, [PhysRange { start: PhysAddr(0x9000_1000), end: PhysAddr(0x9000_4000) }]);
    }

    #[test]
    fn an_x86_file_becomes_a_firmware_map() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n100000000-13fffffff : System RAM\n";
        let machine = parse_iomem(text).unwrap();
        assert_eq!((machine.arch, machine.e820.entries().len(), machine.memory.len()), (Arch::X86_64, 3, 2));
    }

    #[test]
    fn hidden_addresses_are_told() {
        let text = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n";
        assert_eq!(parse_iomem(text), Err(IomemError::Hidden));
        assert_eq!(parse_iomem("no such thing"), Err(IomemError::NoMemory));
        assert!(is_iomem(text) && !is_iomem("hello"));
    }
}
