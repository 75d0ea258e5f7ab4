//! The firmware map and the affinity table as a boot log prints them.
//!
//! Here: lines that any prefix may precede (time stamps, the system log's). Not here: lines that tell what the kernel
//! made of them.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820__print_table`; arch/x86/mm/srat.c, drivers/acpi/numa/srat.c.

use alloc::vec::Vec;

use kernmem_base::{PhysAddr, PhysRange};

use super::{E820Entry, E820Table, E820Type};

/// A range of memory that belongs to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NumaBlock {
    /// The node.
    pub node: u32,
    /// Where it is.
    pub range: PhysRange,
    /// Whether it may be unplugged.
    pub hotplug: bool,
}

/// What a log tells of the affinity table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SratText {
    /// Memory, in the table's order.
    pub blocks: Vec<NumaBlock>,
    /// The node of each CPU, in the table's order.
    pub cpu_nodes: Vec<u32>,
}

/// `[mem 0xFIRST-0xLAST]` at the start of a text: the two ends and what follows.
fn mem_range(text: &str) -> Option<(u64, u64, &str)> {
    let (range, rest) = text.strip_prefix("[mem ")?.split_once(']')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last, rest))
}

impl E820Type {
    /// The type of that name, as a boot log of any era prints it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "usable" | "System RAM" => Self::RAM,
            "reserved" | "device reserved" => Self::RESERVED,
            "ACPI data" => Self::ACPI,
            "ACPI NVS" => Self::NVS,
            "unusable" => Self::UNUSABLE,
            "soft reserved" => Self::SOFT_RESERVED,
            "persistent (type 7)" | "persistent RAM (type 7)" => Self::PMEM,
            "persistent (type 12)" | "persistent RAM (type 12)" => Self::PRAM,
            _ => Self(name.strip_prefix("type ")?.parse().ok()?),
        })
    }
}

/// The map of the lines `BIOS-e820: [mem …] TYPE`, as printed; empty if there is none.
#[must_use]
pub fn parse_e820(log: &str) -> E820Table {
    let entries = log.lines().filter_map(|line| {
        let (_, entry) = line.split_once("BIOS-e820: ")?;
        let (start, last, name) = mem_range(entry)?;
        let size = (last - start).saturating_add(1);
        Some(E820Entry { start, size, kind: E820Type::from_name(name.trim())? })
    });
    E820Table::from_entries(entries)
}

/// The lines `SRAT: Node N PXM P [mem …]` and `SRAT: PXM P -> APIC A -> Node N`.
#[must_use]
pub fn parse_srat(log: &str) -> SratText {
    let mut srat = SratText::default();
    for line in log.lines() {
        let Some((_, entry)) = line.split_once("SRAT: ") else { continue };
        srat.blocks.extend(memory_block(entry));
        srat.cpu_nodes.extend(cpu_node(entry));
    }
    srat
}

fn memory_block(entry: &str) -> Option<NumaBlock> {
    let (node, rest) = entry.strip_prefix("Node ")?.split_once(' ')?;
    let (_, range) = rest.strip_prefix("PXM ")?.split_once(' ')?;
    let (start, last, flags) = mem_range(range)?;
    let range = PhysRange { start: PhysAddr(start), end: PhysAddr(last.saturating_add(1)) };
    Some(NumaBlock { node: node.parse().ok()?, range, hotplug: flags.contains("hotplug") })
}

fn cpu_node(entry: &str) -> Option<u32> {
    let (_, rest) = entry.strip_prefix("PXM ")?.split_once(" -> APIC ")?;
    let (_, node) = rest.split_once(" -> Node ")?;
    node.trim().parse().ok()
}
