//! The lines of `memblock=debug`, the MEMBLOCK configuration, and the files under `/sys/kernel/debug/memblock`.
//!
//! Here: one text per event of `kernmem-memblock`.
//! Not here: the symbol of the caller, with which the kernel ends most of these lines, and the blank before it.
//!
//! Ends of ranges are inclusive. An empty range shows an end below its start, and a range whose end passes the
//! address space wraps, as in the kernel.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_dbg`, `memblock_dump`, `memblock_debug_show`.

use core::fmt;

use kernmem_base::{Era, PhysAddr};
use kernmem_memblock::{Api, Dump, Event, Flags, Nid, Region};

/// What decides the looks of a line besides the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    era: Era,
    /// Hexadecimal digits of an address.
    digits: usize,
}

impl Style {
    /// The lines of a kernel with 64-bit physical addresses: all but i386 without PAE.
    #[must_use]
    pub const fn new(era: Era) -> Self {
        Self { era, digits: 16 }
    }

    /// The same with 32-bit physical addresses.
    #[must_use]
    pub const fn with_32bit_addresses(self) -> Self {
        Self { digits: 8, ..self }
    }

    const fn pa(self, value: u64) -> Pa {
        Pa { value, digits: self.digits }
    }

    /// `[first-last]` of a range.
    const fn span(self, base: PhysAddr, size: u64) -> Span {
        let last = base.0.wrapping_add(size).wrapping_sub(1);
        Span { first: self.pa(base.0), last: self.pa(last), separator: "-" }
    }
}

/// An address or size as the kernel prints physical addresses: all digits.
#[derive(Clone, Copy)]
struct Pa {
    value: u64,
    digits: usize,
}

impl fmt::Display for Pa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.digits == 8 { self.value & 0xffff_ffff } else { self.value };
        write!(f, "{value:#0width$x}", width = self.digits + 2)
    }
}

struct Span {
    first: Pa,
    last: Pa,
    separator: &'static str,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.first, self.separator, self.last)
    }
}

/// A node number as `%d` prints it: -1 for none.
fn node(nid: Option<Nid>) -> i64 {
    nid.map_or(-1, |nid| i64::from(nid.0))
}

/// One event as text.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    style: Style,
    event: Event<'a>,
}

/// The line of `event`, without an end of line; a dump has several. Its `Display` is the text.
#[must_use]
pub const fn line(style: Style, event: Event<'_>) -> Line<'_> {
    Line { style, event }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.style;
        match self.event {
            Event::Add { base, size } => write!(f, "memblock_add: [{}]", style.span(base, size)),
            Event::AddNode { base, size, nid, flags } => {
                write!(f, "memblock_add_node: [{}] {}", style.span(base, size), NodeAndFlags { nid, flags })
            }
            Event::Remove { base, size } => write!(f, "memblock_remove: [{}]", style.span(base, size)),
            Event::Reserve { base, size, nid, flags } => {
                let span = style.span(base, size);
                match style.era {
                    Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => write!(f, "memblock_reserve: [{span}]"),
                    Era::V7_2 => write!(f, "__memblock_reserve: [{span}] {}", NodeAndFlags { nid, flags }),
                }
            }
            Event::Free { base, size } => write!(f, "{}: [{}]", free_name(style.era), style.span(base, size)),
            Event::FreeLate { base, size } => write!(f, "{}: [{}]", late_name(style.era), style.span(base, size)),
            Event::Alloc { api, size, align, nid, from, max } => {
                let (name, nid, from, max) = (api_name(api), node(nid), style.pa(from.0), style.pa(max.0));
                write!(f, "{name}: {size} bytes align={align:#x} nid={nid} from={from} max_addr={max}")
            }
            Event::PhysAllocRange { size, align, from, max } => {
                let (from, max) = (style.pa(from.0), style.pa(max.0));
                write!(f, "memblock_phys_alloc_range: {size} bytes align={align:#x} from={from} max_addr={max}")
            }
            Event::Doubled { list, entries, base, size } => {
                let (list, span) = (list.name(), style.span(base, size));
                write!(f, "memblock: {list} is doubled to {entries} at [{span}]")
            }
            Event::DoubleFailed { list, from, to } => {
                write!(f, "memblock: Failed to double {} array from {from} to {to} entries !", list.name())
            }
            Event::MirrorExhausted { size } => {
                write!(f, "Could not allocate {} bytes of mirrored memory", style.pa(size))
            }
            Event::CapWithoutMemory => f.write_str("memblock_cap_memory_range: No memory registered yet"),
            Event::Uncovered { bytes, total } => {
                write!(f, "NUMA: no nodes coverage for {}MB of {}MB RAM", bytes >> 20, total >> 20)
            }
            Event::Dump(dump) => write_dump(f, style, dump),
            // An event that is newer than this file has no line yet; showing its fields beats hiding it.
            other => write!(f, "{other:?}"),
        }
    }
}

/// `nid=N flags=X`.
struct NodeAndFlags {
    nid: Option<Nid>,
    flags: Flags,
}

impl fmt::Display for NodeAndFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nid={} flags={:x}", node(self.nid), self.flags.bits())
    }
}

const fn api_name(api: Api) -> &'static str {
    match api {
        Api::TryNid => "memblock_alloc_try_nid",
        Api::TryNidRaw => "memblock_alloc_try_nid_raw",
        Api::ExactNidRaw => "memblock_alloc_exact_nid_raw",
    }
}

/// Source: Linux 5.10 mm/memblock.c `memblock_free`; 6.1–7.2 `memblock_phys_free`.
const fn free_name(era: Era) -> &'static str {
    match era {
        Era::V4_14 | Era::V5_10 => "memblock_free",
        Era::V6_1 | Era::V6_12 | Era::V7_2 => "memblock_phys_free",
    }
}

/// Source: Linux 5.10 mm/memblock.c `__memblock_free_late`; 6.1–6.12 `memblock_free_late`. 7.2 has no such line.
const fn late_name(era: Era) -> &'static str {
    match era {
        Era::V4_14 | Era::V5_10 => "__memblock_free_late",
        Era::V6_1 | Era::V6_12 | Era::V7_2 => "memblock_free_late",
    }
}

/// The regions that a listing shows: up to 6.1 an empty list has one region of size 0.
///
/// Source: Linux 5.10–7.2 mm/memblock.c `memblock`, `memblock_remove_region`.
fn shown(era: Era, regions: &[Region]) -> &[Region] {
    const DUMMY: [Region; 1] = [Region { base: PhysAddr(0), size: 0, nid: None, flags: Flags::NONE }];
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 if regions.is_empty() => &DUMMY,
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => regions,
    }
}

fn write_dump(f: &mut fmt::Formatter<'_>, style: Style, dump: Dump<'_>) -> fmt::Result {
    writeln!(f, "MEMBLOCK configuration:")?;
    let (memory, reserved) = (style.pa(dump.memory_size), style.pa(dump.reserved_size));
    write!(f, " memory size = {memory} reserved size = {reserved}")?;
    write_list(f, style, "memory", dump.memory)?;
    write_list(f, style, "reserved", dump.reserved)
}

fn write_list(f: &mut fmt::Formatter<'_>, style: Style, name: &str, regions: &[Region]) -> fmt::Result {
    let regions = shown(style.era, regions);
    write!(f, "\n {name}.cnt  = {:#x}", regions.len())?;
    for (index, region) in regions.iter().enumerate() {
        let (span, size) = (style.span(region.base, region.size), style.pa(region.size));
        write!(f, "\n {name}[{index:#x}]\t[{span}], {size} bytes")?;
        if let Some(nid) = region.nid {
            write!(f, " on node {}", nid.0)?;
        }
        write!(f, " flags: {:#x}", region.flags.bits())?;
    }
    Ok(())
}

/// One list as its file under `/sys/kernel/debug/memblock` shows it.
#[derive(Clone, Copy, Debug)]
pub struct DebugFile<'a> {
    style: Style,
    regions: &'a [Region],
}

/// The file `memory` or `reserved` under `/sys/kernel/debug/memblock`, each line with its end.
#[must_use]
pub const fn debug_file(style: Style, regions: &[Region]) -> DebugFile<'_> {
    DebugFile { style, regions }
}

impl fmt::Display for DebugFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, region) in shown(self.style.era, self.regions).iter().enumerate() {
            let span = Span { separator: "..", ..self.style.span(region.base, region.size) };
            write!(f, "{index:4}: {span}")?;
            match self.style.era {
                Era::V4_14 | Era::V5_10 | Era::V6_1 => writeln!(f)?,
                Era::V6_12 | Era::V7_2 => {
                    match region.nid {
                        Some(nid) => write!(f, " {:4} ", nid.0)?,
                        None => write!(f, " {:>4} ", "x")?,
                    }
                    writeln!(f, "{}", FlagNames(region.flags))?;
                }
            }
        }
        Ok(())
    }
}

/// The names of a region's flags, lowest bit first.
///
/// Source: Linux 6.12–7.2 mm/memblock.c `flagname`.
struct FlagNames(Flags);

impl fmt::Display for FlagNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["HOTPLUG", "MIRROR", "NOMAP", "DRV_MNG", "RSV_NIT", "RSV_KERN", "KHO_SCRATCH"];
        if self.0 == Flags::NONE {
            return f.write_str("NONE");
        }
        let mut rest = self.0.bits();
        while rest != 0 {
            f.write_str(NAMES.get(rest.trailing_zeros() as usize).unwrap_or(&"UNKNOWN"))?;
            rest &= rest - 1;
            f.write_str(if rest == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use kernmem_memblock::UpTo;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[track_caller]
    fn check(era: Era, event: Event<'_>, expected: &str) {
        assert_eq!(line(Style::new(era), event).to_string(), expected);
    }

    #[test]
    fn lines_are_those_of_recorded_boots() {
        let reserve = |base, size, nid, flags| Event::Reserve { base: PhysAddr(base), size, nid, flags };
        check(
            Era::V6_1,
            reserve(0x1_3fff_f000, 0x1000, None, Flags::NONE),
            "memblock_reserve: [0x000000013ffff000-0x000000013fffffff]",
        );
        check(
            Era::V7_2,
            reserve(0x1_3fff_8fc0, 0x4040, Some(Nid(0)), Flags::RSRV_KERN),
            "__memblock_reserve: [0x000000013fff8fc0-0x000000013fffcfff] nid=0 flags=20",
        );
        check(
            Era::V5_10,
            Event::Remove { base: PhysAddr(1 << 48), size: u64::MAX },
            "memblock_remove: [0x0001000000000000-0x0000fffffffffffe]",
        );
        let (size, align, from) = (1792, 64, PhysAddr(0x1_3800_0000));
        check(
            Era::V6_1,
            Event::Alloc { api: Api::TryNid, size, align, nid: Some(Nid(0)), from, max: UpTo(0x1_4000_0000) },
            "memblock_alloc_try_nid: 1792 bytes align=0x40 nid=0 from=0x0000000138000000 max_addr=0x0000000140000000",
        );
        check(
            Era::V7_2,
            Event::PhysAllocRange { size: 4096, align: 4096, from: PhysAddr(0), max: UpTo::NOLEAKTRACE },
            "memblock_phys_alloc_range: 4096 bytes align=0x1000 from=0x0000000000000000 max_addr=0x0000000000000001",
        );
        check(
            Era::V6_1,
            Event::Free { base: PhysAddr(0x1_3fac_0000), size: 0 },
            "memblock_phys_free: [0x000000013fac0000-0x000000013fabffff]",
        );
    }

    #[test]
    fn an_empty_list_shows_a_region_up_to_6_1() {
        let memory = [Region { base: PhysAddr(GIB), size: GIB, nid: Some(Nid(0)), flags: Flags::NOMAP }];
        let dump = Event::Dump(Dump { memory: &memory, reserved: &[], memory_size: GIB, reserved_size: 0 });
        let head = "MEMBLOCK configuration:\n \
                    memory size = 0x0000000040000000 reserved size = 0x0000000000000000\n \
                    memory.cnt  = 0x1\n \
                    memory[0x0]\t[0x0000000040000000-0x000000007fffffff], 0x0000000040000000 bytes on node 0 flags: 0x4\n ";
        let old = "reserved.cnt  = 0x1\n \
                   reserved[0x0]\t[0x0000000000000000-0xffffffffffffffff], 0x0000000000000000 bytes flags: 0x0";
        check(Era::V6_1, dump, &format!("{head}{old}"));
        check(Era::V6_12, dump, &format!("{head}reserved.cnt  = 0x0"));
    }

    #[test]
    fn debug_files_gain_node_and_flags_in_6_12() {
        let flags = Flags::RSRV_NOINIT | Flags::RSRV_KERN;
        let regions = [
            Region { base: PhysAddr(0), size: 0x1000, nid: None, flags: Flags::NONE },
            Region { base: PhysAddr(GIB), size: GIB, nid: Some(Nid(3)), flags },
        ];
        assert_eq!(
            debug_file(Style::new(Era::V6_1), &regions).to_string(),
            "   0: 0x0000000000000000..0x0000000000000fff\n   1: 0x0000000040000000..0x000000007fffffff\n"
        );
        assert_eq!(
            debug_file(Style::new(Era::V7_2).with_32bit_addresses(), &regions).to_string(),
            "   0: 0x00000000..0x00000fff    x NONE\n   1: 0x40000000..0x7fffffff    3 RSV_NIT|RSV_KERN\n"
        );
    }
}
