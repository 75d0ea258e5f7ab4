//! The part of `/proc/iomem` that follows from memory, reservations and the image.
//!
//! Not here: devices. They hang their lines into the same tree.
//!
//! # Invariants
//! 1. Resources come in the order of their addresses, parents before children.
//!
//! Source: Linux 5.10–7.2 arch/arm64/kernel/setup.c `request_standard_resources`, `reserve_memblock_reserved_regions`;
//! arch/x86/kernel/e820.c `e820__reserve_resources`; arch/x86/kernel/setup.c `setup_arch`; kernel/resource.c
//! `__reserve_region_with_split`.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule, PhysAddr, PhysRange};
use kernmem_memblock::{Flags, Region};

use super::{IoMem, Resource};

/// A part of the image: its name in the file, and the symbols where it starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The name.
    pub name: &'static str,
    /// The symbol of its first byte.
    pub start: &'static str,
    /// The symbol behind its last byte.
    pub end: &'static str,
}

/// The parts of an arm64 image.
///
/// | era | code starts at |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.12, 7.2 | `_text` |
/// | 6.1 | `_stext` |
///
/// Source: Linux 5.10–7.2 arch/arm64/kernel/setup.c `request_standard_resources`; arch/arm64/mm/init.c.
#[must_use]
pub const fn arm64_segments(era: Era) -> [Segment; 2] {
    let start = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_12 | Era::V7_2 => "_text",
        Era::V6_1 => "_stext",
    };
    [
        Segment { name: "Kernel code", start, end: "__init_begin" },
        Segment { name: "Kernel data", start: "_sdata", end: "_end" },
    ]
}

/// The parts of an x86 image, the same in all eras.
///
/// Source: Linux 5.10–7.2 arch/x86/kernel/setup.c `setup_arch`.
pub const X86_SEGMENTS: [Segment; 4] = [
    Segment { name: "Kernel code", start: "_text", end: "_etext" },
    Segment { name: "Kernel rodata", start: "__start_rodata", end: "__end_rodata" },
    Segment { name: "Kernel data", start: "_sdata", end: "_edata" },
    Segment { name: "Kernel bss", start: "__bss_start", end: "__bss_stop" },
];

/// A named range.
pub type Named = (&'static str, PhysRange);

/// What Linux calls memory for a crash kernel.
pub const CRASH_KERNEL: &str = "Crash kernel";

/// arm64: a line for each region of memory, and inside it the image, crash kernels, and what the boot allocator gave
/// away.
///
/// `memory` and `reserved` are the boot allocator's lists, `named` the parts of the image and crash kernels.
///
/// | era | edges of memory that is not mapped |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | rounded inward, as those of memory |
/// | 6.12, 7.2 | rounded outward |
///
/// A reservation is rounded outward; what overlaps a line that is there already is left out of it.
///
/// Source: Linux 5.10–7.2 arch/arm64/kernel/setup.c `request_standard_resources`,
/// `reserve_memblock_reserved_regions`.
#[must_use]
pub fn arm64_iomem_of_boot(
    era: Era,
    granule: Granule,
    memory: &[Region],
    reserved: &[Region],
    named: &[Named],
) -> IoMem {
    let mut resources = Vec::new();
    for region in memory {
        let unmapped = region.flags.contains(Flags::NOMAP);
        let outward = match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
            Era::V6_12 | Era::V7_2 => unmapped,
        };
        let range = if outward { outer(region.range(), granule) } else { inner(region.range(), granule) };
        if range.is_empty() {
            continue;
        }
        resources.push(resource(0, range, if unmapped { "reserved" } else { "System RAM" }));
        let children = children(granule, range, reserved, named);
        resources.extend(children.into_iter().map(|(name, range)| resource(1, range, name)));
    }
    IoMem { resources }
}

/// What lies inside one region of memory, in order.
fn children(granule: Granule, memory: PhysRange, reserved: &[Region], named: &[Named]) -> Vec<Named> {
    let is_inside = |range: &PhysRange| memory.start <= range.start && range.end <= memory.end && !range.is_empty();
    let mut found: Vec<Named> = named.iter().copied().filter(|(_, range)| is_inside(range)).collect();
    found.sort_by_key(|(_, range)| *range);
    for region in reserved {
        let range = outer(region.range(), granule).intersect(&memory);
        if !range.is_empty() {
            reserve_with_split(&mut found, range);
        }
    }
    found
}

/// Puts `range` into `found`, which is in order and without overlaps, in as many pieces as are free.
fn reserve_with_split(found: &mut Vec<Named>, range: PhysRange) {
    let mut at = range.start;
    let from = found.partition_point(|(_, other)| other.end <= range.start);
    let mut index = from;
    while at < range.end {
        let next = found.get(index).map(|(_, other)| *other).filter(|other| other.start < range.end);
        let end = next.map_or(range.end, |other| other.start);
        if at < end {
            found.insert(index, ("reserved", PhysRange { start: at, end }));
            index += 1;
        }
        at = next.map_or(range.end, |other| other.end);
        index += 1;
    }
}

/// An entry of an x86 firmware map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirmwareEntry {
    /// What Linux calls its type.
    pub name: &'static str,
    /// Its addresses.
    pub range: PhysRange,
    /// Whether nothing else may ask for it; types that devices may lie in wait until the bus is surveyed.
    pub is_busy: bool,
}

/// x86: a line for each entry of the firmware's map as the kernel left it, and inside it the image and crash kernels.
///
/// Entries that are not busy and begin above the first MiB get their lines when the PCI bus is surveyed: in a kernel
/// without PCI (`has_pci`) they have none.
///
/// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820__reserve_resources`, `do_mark_busy`,
/// `e820__reserve_resources_late`; arch/x86/kernel/setup.c `setup_arch`.
#[must_use]
pub fn x86_iomem_of_boot(has_pci: bool, entries: &[FirmwareEntry], named: &[Named]) -> IoMem {
    const LOW: PhysAddr = PhysAddr(1 << 20);
    let mut resources = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.range.is_empty()) {
        let range = entry.range;
        if !has_pci && !entry.is_busy && range.start >= LOW {
            continue;
        }
        resources.push(resource(0, range, entry.name));
        let is_inside = |own: &PhysRange| range.start <= own.start && own.end <= range.end && !own.is_empty();
        let mut inside: Vec<Named> = named.iter().copied().filter(|(_, own)| is_inside(own)).collect();
        inside.sort_by_key(|(_, own)| *own);
        resources.extend(inside.into_iter().map(|(name, own)| resource(1, own, name)));
    }
    IoMem { resources }
}

fn resource(depth: u32, range: PhysRange, name: &str) -> Resource {
    Resource { depth, first: range.start, last: PhysAddr(range.end.0 - 1), name: name.to_owned() }
}

/// The whole pages in `range`.
fn inner(range: PhysRange, granule: Granule) -> PhysRange {
    let start = range.start.align_up(granule.bytes()).unwrap_or(range.end);
    PhysRange::new(start, range.end.align_down(granule.bytes()))
}

/// The pages that `range` touches; cut at the last page below 2^64.
fn outer(range: PhysRange, granule: Granule) -> PhysRange {
    let end = range.end.align_up(granule.bytes()).unwrap_or(PhysAddr(u64::MAX).align_down(granule.bytes()));
    PhysRange::new(range.start.align_down(granule.bytes()), end)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn range(start: u64, end: u64) -> PhysRange {
        PhysRange::new(PhysAddr(start), PhysAddr(end))
    }

    #[test]
    fn a_reservation_is_split_around_what_is_there() {
        let code = ("Kernel code", range(0x2000, 0x4000));
        let data = ("Kernel data", range(0x6000, 0x7000));
        let mut found = vec![code, data];
        reserve_with_split(&mut found, range(0x1000, 0x9000));
        let free = |start, end| ("reserved", range(start, end));
        assert_eq!(found, [free(0x1000, 0x2000), code, free(0x4000, 0x6000), data, free(0x7000, 0x9000)]);
        reserve_with_split(&mut found, range(0x3000, 0x7000));
        assert_eq!(found.len(), 5, "everything was taken");
        reserve_with_split(&mut found, range(0x8000, 0xa000));
        assert_eq!(found.last(), Some(&free(0x9000, 0xa000)));
    }

    #[test]
    fn unmapped_memory_grows_to_whole_pages_from_6_12_on() {
        let memory = [Region { base: PhysAddr(0x8000_0800), size: 0x1000, nid: None, flags: Flags::NOMAP }];
        let of = |era| arm64_iomem_of_boot(era, Granule::K4, &memory, &[], &[]).resources;
        assert_eq!(of(Era::V6_1), []);
        let [only] = of(Era::V7_2).try_into().unwrap();
        assert_eq!((only.first, only.last), (PhysAddr(0x8000_0000), PhysAddr(0x8000_1fff)));
    }

    #[test]
    fn the_end_of_the_bus_is_no_trap() {
        let memory = [Region { base: PhysAddr(0), size: u64::MAX, nid: None, flags: Flags::NONE }];
        let all = arm64_iomem_of_boot(Era::V6_12, Granule::K64, &memory, &memory, &[]);
        assert_eq!(all.resources.len(), 2);
    }
}
