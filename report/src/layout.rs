//! The regions as the kernel's documentation prints them.
//!
//! Source: Linux 5.10, 6.1 Documentation/arm64/memory.rst; 6.12 Documentation/arch/arm64/memory.rst; 5.10–7.2
//! Documentation/x86/x86_64/mm.rst.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::arm64;
use kernmem_base::{Era, Granule, VirtAddr, VirtRange};

use crate::json::Json;

mod x86;

pub use x86::print as print_x86;

/// A row of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The addresses.
    pub range: VirtRange,
    /// What they are for.
    pub what: &'static str,
    /// Whether the region lies inside the row before it.
    pub inside: bool,
}

const GUARD: &str = "[guard region]";

/// The rows of an arm64 kernel, lowest first, without a gap.
///
/// The fixed mappings take all of their room from 6.1 on, as its documentation has it; before, the part of them that
/// stays after boot.
#[must_use]
pub fn arm64_rows(layout: &arm64::Layout, facts: &arm64::LayoutFacts) -> Vec<Row> {
    let mut named: Vec<(VirtAddr, VirtAddr, &'static str)> = Vec::new();
    let user_end = VirtAddr(1u64 << layout.va_bits_actual);
    named.push((VirtAddr(0), user_end, "user"));
    let old = matches!(facts.era, Era::V4_14 | Era::V5_10);
    let kasan = layout.kasan.filter(|_| old).map(|(start, end)| (start, end, "kasan shadow region"));
    let inner = layout.kasan.filter(|_| !old);
    // From 6.1 on the shadow is the top of the linear map's region.
    let linear_end = inner.map_or(layout.page_end, |(_, end)| end);
    named.push((layout.page_offset, linear_end, "kernel logical memory map"));
    named.extend(kasan);
    named.extend(layout.bpf.map(|(start, end)| (start, end, "bpf jit region")));
    named.push((layout.modules_start, layout.modules_end, "modules"));
    named.push((layout.kimage, layout.vmalloc_end, "vmalloc"));
    let (fixmap, fixmap_name) = match facts.era {
        Era::V4_14 | Era::V5_10 => (layout.fixaddr_start, "fixed mappings"),
        Era::V6_1 => (layout.vmalloc_end, "fixed mappings (top down)"),
        Era::V6_12 | Era::V7_2 => (layout.pci_io_end + (8 << 20), "fixed mappings (top down)"),
    };
    named.push((fixmap, layout.fixaddr_top, fixmap_name));
    named.push((layout.pci_io_start, layout.pci_io_end, "PCI I/O space"));
    named.push((layout.vmemmap_start, layout.vmemmap_end, "vmemmap"));
    named.sort_by_key(|(start, ..)| *start);
    let mut rows = Vec::new();
    let mut at = layout.page_offset.min(layout.kasan.map_or(layout.page_offset, |(start, _)| start));
    at = at.min(layout.modules_start);
    for (start, end, what) in named {
        if start.0 != 0 && at < start {
            push(&mut rows, at, start, GUARD, false);
        }
        push(&mut rows, start, end, what, false);
        if let (Some((start, end)), "kernel logical memory map") = (inner, what) {
            push(&mut rows, start, end, "kasan shadow region", true);
        }
        if start.0 != 0 {
            at = end;
        }
    }
    if at.0 != 0 {
        push(&mut rows, at, VirtAddr(0), GUARD, false);
    }
    rows
}

fn push(rows: &mut Vec<Row>, start: VirtAddr, end: VirtAddr, what: &'static str, inside: bool) {
    if let Some(range) = VirtRange::until(start, end) {
        rows.push(Row { range, what, inside });
    }
}

/// A size as the documentation writes it: exact in at most four digits, otherwise the whole units with a tilde.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let largest = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) != 0).unwrap_or(0);
    let exact = |unit: usize| bytes.is_multiple_of(1 << (10 * unit));
    let in_unit = |unit: usize| bytes >> (10 * unit);
    if exact(largest) {
        return format!("{}{}", in_unit(largest), UNITS[largest]);
    }
    match largest.checked_sub(1).filter(|unit| exact(*unit) && in_unit(*unit) < 10_000) {
        Some(unit) => format!("{}{}", in_unit(unit), UNITS[unit]),
        None => format!("~{}{}", in_unit(largest), UNITS[largest]),
    }
}

const fn page_size(granule: Granule) -> &'static str {
    match granule {
        Granule::K4 => "4KB",
        Granule::K16 => "16KB",
        Granule::K64 => "64KB",
    }
}

/// How many levels of tables a kernel has.
const fn levels(facts: &arm64::LayoutFacts) -> u32 {
    (facts.va_bits - 4) / (facts.granule.shift() - 3)
}

/// Prints the table of one arm64 kernel.
///
/// # Errors
/// The writer failed.
pub fn print_arm64(facts: &arm64::LayoutFacts, out: &mut impl fmt::Write) -> fmt::Result {
    let layout = arm64::Layout::new(facts);
    let (page, levels, bits) = (page_size(facts.granule), levels(facts), facts.va_bits);
    let bits = if facts.va_bits_actual == bits {
        format!("{bits}-bit")
    } else {
        format!("{bits}-bit, {} in use", facts.va_bits_actual)
    };
    let era = facts.era;
    writeln!(out, "AArch64 Linux memory layout with {page} pages + {levels} levels ({bits}), Linux {era}::\n")?;
    writeln!(out, "  Start\t\t\tEnd\t\t\tSize\t\tUse")?;
    writeln!(out, "  -----------------------------------------------------------------------")?;
    for row in arm64_rows(&layout, facts) {
        let (start, last, size) = (row.range.start.0, row.range.last.0, size(row.range.size()));
        if row.inside {
            writeln!(out, " [{start:016x}\t{last:016x}]\t{size:>6}\t\t[{}]", row.what)?;
        } else {
            writeln!(out, "  {start:016x}\t{last:016x}\t{size:>6}\t\t{}", row.what)?;
        }
    }
    Ok(())
}

/// Prints several eras side by side: where each region starts, and its size.
///
/// # Errors
/// The writer failed.
pub fn print_arm64_eras(all: &[arm64::LayoutFacts], out: &mut impl fmt::Write) -> fmt::Result {
    let columns: Vec<Vec<Row>> = all.iter().map(|facts| arm64_rows(&arm64::Layout::new(facts), facts)).collect();
    if let Some(first) = all.first() {
        let (page, levels, bits) = (page_size(first.granule), levels(first), first.va_bits);
        writeln!(
            out,
            "AArch64 Linux memory layout with {page} pages + {levels} levels ({bits}-bit): start and size\n"
        )?;
    }
    write!(out, "  {:<26}", "Use")?;
    all.iter().try_for_each(|facts| write!(out, "  {:<23}", format!("Linux {}", facts.era)))?;
    writeln!(out)?;
    let mut names: Vec<&str> = Vec::new();
    for row in columns.iter().flatten().filter(|row| row.what != GUARD) {
        if !names.iter().any(|name| same_use(name, row.what)) {
            names.push(row.what);
        }
    }
    for name in names {
        write!(out, "  {name:<26}")?;
        for rows in &columns {
            let cell = rows
                .iter()
                .find(|row| same_use(row.what, name))
                .map_or(String::from("-"), |row| format!("{:016x} {:>6}", row.range.start.0, size(row.range.size())));
            write!(out, "  {cell:<23}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// One region under the names of different eras.
fn same_use(one: &str, two: &str) -> bool {
    one.trim_end_matches(" (top down)") == two.trim_end_matches(" (top down)")
}

/// Rows as JSON, schema `kernmem.layout`, one object for each era.
///
/// # Errors
/// The writer failed.
pub fn json(layouts: &[(Era, &str, Vec<Row>)], out: &mut impl fmt::Write) -> fmt::Result {
    let mut json = Json::new(out);
    json.answer("kernmem.layout")?;
    json.open(Some("layouts"), '[')?;
    for (era, arch, rows) in layouts {
        json.open(None, '{')?;
        json.text("era", era.name())?;
        json.text("arch", arch)?;
        json.open(Some("regions"), '[')?;
        for row in rows {
            json.open(None, '{')?;
            json.hex("start", row.range.start.0)?;
            json.hex("last", row.range.last.0)?;
            json.number("size", row.range.size())?;
            json.text("use", row.what)?;
            json.close('}')?;
        }
        json.close(']')?;
        json.close('}')?;
    }
    json.close(']')?;
    json.finish()
}

pub use x86::rows as x86_rows;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_the_documentation_writes_them() {
        assert_eq!(size(256 << 40), "256TB");
        assert_eq!(size(0x5dff_afff_0000), "~93TB");
        assert_eq!(size(0x3e60_9000), "~998MB");
        assert_eq!(size(4124 << 10), "4124KB");
        assert_eq!(size(1440 << 40), "1440TB");
        assert_eq!(size(3968 << 30), "3968GB");
    }
}
