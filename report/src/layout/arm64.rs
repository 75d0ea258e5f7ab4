//! The tables of arm64.
//!
//! | era | columns that are its own |
//! |---|---|
//! | 4.14 | the linear map last; no document has more than the two halves (UNVERIFIED) |
//! | 5.10 | shadow and BPF region above the linear map; fixed mappings that stay; sizes cut |
//! | 6.1 | the shadow inside the linear map; fixed mappings with all of their room; sizes rounded |
//! | 6.12, 7.2 | the same; memory map below PCI I/O and fixed mappings |
//!
//! Source: Linux 5.10, 6.1 Documentation/arm64/memory.rst; 6.12 Documentation/arch/arm64/memory.rst.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::arm64::{Geometry, Kasan, Layout, LayoutFacts, STRUCT_PAGE_SHIFT};
use kernmem_base::{Era, VirtAddr, VirtRange};

use super::{Moved, Row, Table, era_title, print_moved};

const GUARD: &str = "[guard region]";
const GAP: &str = "[gap]";
const LINEAR: &str = "kernel logical memory map";
const VMEMMAP: &str = "vmemmap";

/// A region on the way to its row; an end of 0 is that of the address space.
type Region = (VirtAddr, VirtAddr, &'static str);

/// The table of one kernel.
#[must_use]
pub fn table(facts: &LayoutFacts, moved: Vec<Moved>) -> Table {
    let layout = Layout::new(facts);
    let in_use = facts.va_bits_actual;
    let tables = Geometry::in_use(facts.granule, facts.va_bits, in_use);
    Table {
        era: facts.era,
        arch: "arm64",
        page_bytes: facts.granule.bytes(),
        levels: tables.map_or(0, Geometry::levels),
        va_bits: facts.va_bits,
        va_bits_in_use: in_use,
        kasan: match facts.kasan {
            Kasan::Off => "off",
            Kasan::Generic => "generic",
            Kasan::SwTags => "sw_tags",
        },
        rows: rows(&layout, facts),
        moved,
    }
}

/// The regions of a kernel's half and user mode's, in no order; what a kernel of 52 bits with fewer in use cannot reach
/// is left out.
fn regions(layout: &Layout, facts: &LayoutFacts) -> Vec<Region> {
    let old = matches!(facts.era, Era::V4_14 | Era::V5_10);
    let unused = layout.unused_below();
    let linear_start = layout.page_offset.wrapping_add(unused);
    let first_descriptor = layout.vmemmap_start.wrapping_add(unused >> (facts.granule.shift() - STRUCT_PAGE_SHIFT));
    // From 6.1 on the shadow is the top of the linear map's region.
    let linear_end = layout.kasan.filter(|_| !old).map_or(layout.page_end, |(_, end)| end);
    let (fixmap, fixmap_name) = match facts.era {
        Era::V4_14 | Era::V5_10 => (layout.fixaddr_start, "fixed mappings"),
        Era::V6_1 => (layout.vmalloc_end, "fixed mappings (top down)"),
        Era::V6_12 | Era::V7_2 => (layout.pci_io_end + (8 << 20), "fixed mappings (top down)"),
    };
    let mut regions = Vec::from([
        (VirtAddr(0), VirtAddr(1 << layout.va_bits_actual), "user"),
        (linear_start, linear_end, LINEAR),
        (layout.modules_start, layout.modules_end, "modules"),
        (layout.kimage, layout.vmalloc_end, "vmalloc"),
        (fixmap, layout.fixaddr_top, fixmap_name),
        (layout.pci_io_start, layout.pci_io_end, "PCI I/O space"),
        (first_descriptor, layout.vmemmap_end, VMEMMAP),
    ]);
    regions.extend(layout.kasan.filter(|_| old).map(|(start, end)| (start, end, "kasan shadow region")));
    regions.extend(layout.bpf.map(|(start, end)| (start, end, "bpf jit region")));
    regions
}

/// The rows of an arm64 kernel, lowest first, without a gap in the kernel's half.
///
/// The fixed mappings take all of their room from 6.1 on, as its documentation has it; before, the part of them that
/// stays after boot.
#[must_use]
pub fn rows(layout: &Layout, facts: &LayoutFacts) -> Vec<Row> {
    let old = matches!(facts.era, Era::V4_14 | Era::V5_10);
    let inner = layout.kasan.filter(|_| !old);
    let mut regions = regions(layout, facts);
    regions.sort_by_key(|(start, ..)| *start);
    let mut rows = Vec::new();
    let bottom = VirtAddr(!0 << facts.va_bits);
    let (mut at, mut below) = (bottom, LINEAR);
    // Room that the same kernel uses on another CPU is a gap; other room keeps neighbours apart.
    let has_spare_descriptors = layout.unused_below() != 0 && layout.vmemmap_start > layout.vmalloc_end;
    for (start, end, what) in regions {
        if start.0 == 0 {
            push(&mut rows, start, end, what, false);
            continue;
        }
        let apart = if below == LINEAR || what == VMEMMAP && has_spare_descriptors { GAP } else { GUARD };
        if at < start {
            push(&mut rows, at, start, apart, false);
        }
        push(&mut rows, start, end, what, false);
        if let (Some((start, end)), LINEAR) = (inner, what) {
            push(&mut rows, start, end, "kasan shadow region", true);
        }
        (at, below) = (end, what);
    }
    if at.0 != 0 {
        push(&mut rows, at, VirtAddr(0), GUARD, false);
    }
    rows
}

fn push(rows: &mut Vec<Row>, start: VirtAddr, end: VirtAddr, what: &'static str, inside: bool) {
    if start != end
        && let Some(range) = VirtRange::until(start, end)
    {
        rows.push(Row { range, what, inside });
    }
}

/// A size as the era's documentation writes it.
///
/// | era | exact | else |
/// |---|---|---|
/// | to 5.10 | in at most four digits | the whole units, with a tilde |
/// | 6.1 and later | in the largest unit | the nearest, with a tilde if it is off by more than one in 10,000 |
#[must_use]
pub fn size(era: Era, bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let largest = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) != 0).unwrap_or(0);
    let in_unit = |unit: usize| bytes >> (10 * unit);
    let exact = |unit: usize| bytes.is_multiple_of(1 << (10 * unit));
    if exact(largest) {
        return format!("{}{}", in_unit(largest), UNITS[largest]);
    }
    match era {
        Era::V4_14 | Era::V5_10 => {
            match largest.checked_sub(1).filter(|unit| exact(*unit) && in_unit(*unit) < 10_000) {
                Some(unit) => format!("{}{}", in_unit(unit), UNITS[unit]),
                None => format!("~{}{}", in_unit(largest), UNITS[largest]),
            }
        }
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            let shift = 10 * largest;
            let nearest = (u128::from(bytes) + (1 << (shift - 1))) >> shift;
            let off = (nearest << shift).abs_diff(u128::from(bytes));
            let tilde = if off * 10_000 > u128::from(bytes) { "~" } else { "" };
            format!("{tilde}{nearest}{}", UNITS[largest])
        }
    }
}

/// The bits as headings have them.
fn bits(table: &Table) -> String {
    match (table.va_bits, table.va_bits_in_use) {
        (52, 52) => String::from("52-bit with HW support"),
        (built, in_use) if built == in_use => format!("{built}-bit"),
        (built, in_use) => format!("{built}-bit without HW support: {in_use} in use"),
    }
}

/// The heading without its end: `4KB pages + 4 levels (48-bit)`.
fn title(table: &Table) -> String {
    let shadow = if table.kasan == "off" { "" } else { ", KASAN " };
    let mode = if table.kasan == "off" { "" } else { table.kasan };
    format!(
        "AArch64 Linux memory layout with {}KB pages + {} levels ({}){shadow}{mode}",
        table.page_bytes >> 10,
        table.levels,
        bits(table)
    )
}

/// Prints the table of one kernel.
///
/// # Errors
/// The writer failed.
pub fn print(table: &Table, out: &mut impl fmt::Write) -> fmt::Result {
    writeln!(out, "{}, {}::\n", title(table), era_title(table))?;
    writeln!(out, "  Start\t\t\tEnd\t\t\tSize\t\tUse")?;
    writeln!(out, "  -----------------------------------------------------------------------")?;
    for row in &table.rows {
        let (start, last, size) = (row.range.start.0, row.range.last.0, size(table.era, row.range.size()));
        if row.inside {
            writeln!(out, " [{start:016x}\t{last:016x}]\t{size:>6}\t\t[{}]", row.what)?;
        } else {
            writeln!(out, "  {start:016x}\t{last:016x}\t{size:>6}\t\t{}", row.what)?;
        }
    }
    print_moved(&table.moved, out)
}

/// Prints several eras side by side: where each region starts, and its size.
///
/// # Errors
/// The writer failed.
pub fn print_eras(all: &[Table], out: &mut impl fmt::Write) -> fmt::Result {
    let Some(first) = all.first() else { return Ok(()) };
    writeln!(out, "{}: start and size\n", title(first))?;
    write!(out, "  {:<26}", "Use")?;
    all.iter().try_for_each(|table| write!(out, "  {:<23}", format!("Linux {}", table.era)))?;
    writeln!(out)?;
    let mut names: Vec<&str> = Vec::new();
    for row in all.iter().flat_map(|table| &table.rows).filter(|row| row.what != GUARD && row.what != GAP) {
        if !names.iter().any(|name| same_use(name, row.what)) {
            names.push(row.what);
        }
    }
    for name in names {
        write!(out, "  {name:<26}")?;
        for table in all {
            let found = table.rows.iter().find(|row| same_use(row.what, name));
            let cell = found.map_or(String::from("-"), |row| {
                format!("{:016x} {:>6}", row.range.start.0, size(table.era, row.range.size()))
            });
            write!(out, "  {cell:<23}")?;
        }
        writeln!(out)?;
    }
    for table in all.iter().filter(|table| super::unverified(table.era, table.arch).is_some()) {
        writeln!(out, "\n  {}", era_title(table))?;
    }
    Ok(())
}

/// One region under the names of different eras.
fn same_use(one: &str, two: &str) -> bool {
    one.trim_end_matches(" (top down)") == two.trim_end_matches(" (top down)")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes in the tables of the documents, with the addresses that they stand beside.
    #[test]
    fn sizes_are_written_as_the_documentation_writes_them() {
        for (era, start, last, expected) in [
            (Era::V5_10, 0, 0x0000_ffff_ffff_ffff, "256TB"),
            (Era::V5_10, 0xffff_a000_1000_0000, 0xffff_fdff_bffe_ffff, "~93TB"),
            (Era::V5_10, 0xffff_fdff_bfff_0000, 0xffff_fdff_fe5f_8fff, "~998MB"),
            (Era::V5_10, 0xffff_fdff_fe5f_9000, 0xffff_fdff_fe9f_ffff, "4124KB"),
            (Era::V5_10, 0xfff8_0000_0000_0000, 0xfffd_9fff_ffff_ffff, "1440TB"),
            (Era::V5_10, 0xffff_fc1f_ffe0_0000, 0xffff_ffff_ffdf_ffff, "3968GB"),
            (Era::V6_1, 0xffff_8000_0800_0000, 0xffff_fbff_efff_ffff, "124TB"),
            (Era::V6_1, 0xffff_fbff_f000_0000, 0xffff_fbff_fdff_ffff, "224MB"),
            (Era::V6_12, 0xfff0_0000_0000_0000, 0xffff_7fff_ffff_ffff, "~4PB"),
            (Era::V6_12, 0xffff_fc00_0000_0000, 0xffff_ffdf_ffff_ffff, "~4TB"),
            (Era::V6_12, 0xffff_ffe0_0000_0000, 0xffff_ffff_ffff_ffff, "128GB"),
        ] {
            let bytes = last - start + 1_u64;
            assert_eq!(size(era, bytes), expected, "{start:x}");
        }
    }
}
