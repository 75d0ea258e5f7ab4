//! The boot log's lines about memory, in the order in which they were told.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c, mm/mm_init.c `free_area_init`; drivers/base/arch_numa.c; arch/arm64/mm/init.c;
//! arch/x86/mm/numa.c, arch/x86/kernel/setup.c.

use core::fmt;

use kernmem::{HardwareTags, LogEntry};
use kernmem_base::{Era, PhysRange};
use kernmem_view::{BootRecord, Format, Told};

use crate::memblock_log::{self, Style};
use crate::mm_init_log;

/// Prints every line that the log would have, those of `memblock=debug` only if it is on.
///
/// The symbols of callers, with which Linux ends the lines of `memblock=debug`, are left out.
///
/// # Errors
/// The writer failed.
pub fn print(
    record: &BootRecord,
    format: Format,
    era: Era,
    memblock_debug: bool,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let mut parsed = false;
    for told in &record.told {
        match told {
            Told::Memblock(event) => {
                let event = event.as_event();
                if !event.needs_debug() || memblock_debug && parsed {
                    writeln!(out, "{}", memblock_log::line(Style::new(era), event))?;
                }
            }
            Told::Log(LogEntry::ParamsParsed) => parsed = true,
            Told::Log(LogEntry::KasanReady) => kasan_ready(format, era, out)?,
            Told::Log(LogEntry::KasanTagsReady { hardware, stacktrace }) => {
                kasan_tags(*hardware, *stacktrace, era, out)?;
            }
            Told::Log(entry) => line(entry, format, era, out)?,
        }
    }
    Ok(())
}

/// The shadow of KASAN is in place.
///
/// | era | arm64 names its mode | x86 |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | no | no |
/// | 6.1, 6.12 | yes | no |
/// | 7.2 | yes | yes |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c, arch/x86/mm/kasan_init_64.c `kasan_init`.
fn kasan_ready(format: Format, era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    let names_mode = match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 => matches!(format, Format::Arm64(_)),
        Era::V7_2 => true,
    };
    let mode = if names_mode { " (generic)" } else { "" };
    writeln!(out, "kasan: KernelAddressSanitizer initialized{mode}")
}

/// The tags of KASAN are in use; 7.2 also tells whether writes alone are checked.
///
/// Source: Linux 6.1–7.2 mm/kasan/sw_tags.c `kasan_init_sw_tags`, hw_tags.c `kasan_init_hw_tags`.
fn kasan_tags(hardware: Option<HardwareTags>, stacktrace: bool, era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    let on_off = |on| if on { "on" } else { "off" };
    write!(out, "kasan: KernelAddressSanitizer initialized (")?;
    match hardware {
        None => write!(out, "sw-tags")?,
        Some(tags) => write!(out, "hw-tags, mode={}, vmalloc={}", tags.mode, on_off(tags.vmalloc))?,
    }
    write!(out, ", stacktrace={}", on_off(stacktrace))?;
    if let (Some(tags), Era::V7_2) = (hardware, era) {
        write!(out, ", write_only={}", on_off(tags.write_only))?;
    }
    writeln!(out, ")")
}

/// A range as the log prints it: sixteen digits, the end inclusive.
pub(crate) struct Mem(pub(crate) PhysRange);

impl fmt::Display for Mem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[mem {:#018x}-{:#018x}]", self.0.start.0, self.0.end.0.wrapping_sub(1))
    }
}

/// Prints one entry; several lines where Linux prints several.
fn line(entry: &LogEntry, format: Format, era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    let arm64 = matches!(format, Format::Arm64(_));
    match entry {
        LogEntry::MemoryLimited(bytes) => writeln!(out, "Memory limited to {}MB", bytes >> 20),
        LogEntry::NoNuma if arm64 => no_nodes_of_arm64(era, out),
        LogEntry::NoNuma => writeln!(out, "No NUMA configuration found"),
        LogEntry::NumaOff if arm64 => writeln!(out, "NUMA: NUMA disabled"),
        LogEntry::NumaOff => writeln!(out, "NUMA turned off"),
        LogEntry::FakeNode(range) if arm64 => writeln!(out, "NUMA: Faking a node at {}", Mem(*range)),
        LogEntry::FakeNode(range) => writeln!(out, "Faking a node at {}", Mem(*range)),
        LogEntry::NodeData { nid, range } => node_data(*nid, *range, arm64, era, out),
        LogEntry::ZoneRanges(zones) => {
            writeln!(out, "Zone ranges:")?;
            zones.iter().try_for_each(|(name, range)| match range {
                Some(range) => writeln!(out, "  {name:<8} {}", Mem(*range)),
                None => writeln!(out, "  {name:<8} empty"),
            })
        }
        LogEntry::MovableStarts(nodes) => {
            writeln!(out, "Movable zone start for each node")?;
            nodes.iter().try_for_each(|(nid, start)| writeln!(out, "  Node {nid}: {:#018x}", start.0))
        }
        LogEntry::NodeRanges(ranges) => {
            writeln!(out, "Early memory node ranges")?;
            ranges.iter().try_for_each(|(nid, range)| writeln!(out, "  node {nid:3}: {}", Mem(*range)))
        }
        LogEntry::InitmemSetup { nid, span } => writeln!(out, "Initmem setup node {nid} {}", Mem(*span)),
        LogEntry::Unavailable { nid, zone, pages } => {
            writeln!(out, "On node {nid}, zone {zone}: {pages} pages in unavailable ranges")
        }
        LogEntry::CrashKernel { range, low, ram } => crash_kernel(*range, *low, *ram, arm64, era, out),
        LogEntry::Percpu(_)
        | LogEntry::FallbackOrder { .. }
        | LogEntry::ZonelistsBuilt { .. }
        | LogEntry::PolicyZone(_)
        | LogEntry::UnknownParameters(_)
        | LogEntry::LogBuffer { .. }
        | LogEntry::HashTable { .. }
        | LogEntry::AutoInit(_)
        | LogEntry::SwiotlbAreas(_)
        | LogEntry::SwiotlbAdjusted(_)
        | LogEntry::SwiotlbRounded(_)
        | LogEntry::SwiotlbMapped(_)
        | LogEntry::Memory(_)
        | LogEntry::Unmapped(_)
        | LogEntry::Freed { .. } => mm_init_log::line(entry, arm64, out),
        LogEntry::HighMemory(bytes) => writeln!(out, "{}MB HIGHMEM available.", bytes >> 20),
        LogEntry::LowMemory(bytes) => writeln!(out, "{}MB LOWMEM available.", bytes >> 20),
        LogEntry::CrashLowMemory => writeln!(out, "Reserving the low 1M of memory for crashkernel"),
        LogEntry::GbPages => writeln!(out, "Using GB pages for direct mapping"),
        LogEntry::ParamsParsed | LogEntry::SectionsReady | LogEntry::HandOver { .. } => Ok(()),
        _ => Ok(()),
    }
}

/// | era | arm64 without nodes |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | is told so |
/// | 6.12, 7.2 | only which node is made up |
fn no_nodes_of_arm64(era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => writeln!(out, "NUMA: No NUMA configuration found"),
        Era::V6_12 | Era::V7_2 => Ok(()),
    }
}

/// x86's line, which arm64 has from 6.12 on.
fn node_data(nid: u32, range: PhysRange, arm64: bool, era: Era, out: &mut impl fmt::Write) -> fmt::Result {
    let (start, last) = (range.start.0, range.end.0.wrapping_sub(1));
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 if arm64 => writeln!(out, "NUMA: NODE_DATA [mem {start:#x}-{last:#x}]"),
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            writeln!(out, "NODE_DATA({nid}) allocated [mem {start:#010x}-{last:#010x}]")
        }
    }
}

/// arm64's lines, which x86 has from 6.12 on; before, x86 tells sizes in MiB.
///
/// | era | x86's low part is told with |
/// |---|---|
/// | 4.14, 5.10 | memory below 4 GiB (UNVERIFIED) |
/// | 6.1 | its limit, 4 GiB |
///
/// Source: Linux 5.10, 6.1 arch/x86/kernel/setup.c `reserve_crashkernel_low`; 6.12, 7.2 kernel/crash_reserve.c.
fn crash_kernel(
    range: PhysRange,
    low: bool,
    ram: u64,
    arm64: bool,
    era: Era,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let by_place = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => arm64,
        Era::V6_12 | Era::V7_2 => true,
    };
    let (size, ram) = (range.size() >> 20, ram >> 20);
    if by_place {
        let (words, width) = if low { ("low memory ", 10) } else { ("", 18) };
        let (start, end) = (range.start.0, range.end.0);
        return writeln!(out, "crashkernel {words}reserved: {start:#0width$x} - {end:#0width$x} ({size} MB)");
    }
    let start = range.start.0 >> 20;
    if !low {
        return writeln!(out, "Reserving {size}MB of memory at {start}MB for crashkernel (System RAM: {ram}MB)");
    }
    match era {
        Era::V4_14 | Era::V5_10 => {
            writeln!(out, "Reserving {size}MB of low memory at {start}MB for crashkernel (System low RAM: {ram}MB)")
        }
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            writeln!(out, "Reserving {size}MB of low memory at {start}MB for crashkernel (low RAM limit: 4096MB)")
        }
    }
}
