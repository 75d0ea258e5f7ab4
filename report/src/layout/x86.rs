//! The table of x86-64.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::x86::layout::{Layout, Paging, VSYSCALL};
use kernmem_base::{VirtAddr, VirtRange};

use super::{Moved, Row, Table, era_title, print_moved};

const HOLE: &str = "... unused";

/// The table of one kernel that was built for `built` levels.
#[must_use]
pub fn table(layout: &Layout, built: Paging, moved: Vec<Moved>) -> Table {
    Table {
        era: layout.era,
        arch: "x86_64",
        page_bytes: 4096,
        levels: levels(layout.paging),
        va_bits: built.user_bits() + 1,
        va_bits_in_use: layout.paging.user_bits() + 1,
        kasan: if layout.kasan_shadow.is_some() { "generic" } else { "off" },
        rows: rows(layout),
        moved,
    }
}

const fn levels(paging: Paging) -> u32 {
    match paging {
        Paging::Level4 => 4,
        Paging::Level5 => 5,
    }
}

/// Bytes that are kept for the direct map and for page descriptors: with five levels 512 times as much as with four,
/// more than physical addresses need; where bases were drawn, as much as memory needs.
fn reserved(layout: &Layout) -> (u64, u64) {
    let whole = 1 << layout.paging.physmem_bits();
    match layout.paging {
        Paging::Level5 if layout.physmem_last.0 + 1 == whole => (1 << 55, 1 << 49),
        // A descriptor of 64 bytes for each frame, in whole terabytes.
        Paging::Level4 | Paging::Level5 => {
            let direct = layout.physmem_last.0 + 1;
            (direct, ((direct >> 12) << 6).next_multiple_of(1 << 40))
        }
    }
}

/// The rows of an x86-64 kernel without a gap, lowest first.
#[must_use]
pub fn rows(layout: &Layout) -> Vec<Row> {
    let mut named: Vec<(VirtAddr, VirtAddr, &'static str)> = Vec::new();
    let half = layout.guard_hole.start;
    named.push((VirtAddr(0), layout.user_last.wrapping_add(1), "user half, of each process its own"));
    named.push((layout.user_last.wrapping_add(1), half, "... not canonical: no CPU accepts these addresses"));
    named.push((half, layout.guard_hole.end(), "... guard hole, left to a hypervisor"));
    if let Some(ldt) = layout.ldt {
        named.push((ldt.start, ldt.end(), "LDT remap for PTI"));
    }
    let (direct_bytes, map_bytes) = reserved(layout);
    let direct_end = layout.page_offset.wrapping_add(direct_bytes);
    let direct = "direct map of physical memory (page_offset_base)";
    named.push((layout.page_offset, direct_end.min(layout.vmalloc_start), direct));
    let vmalloc_end = layout.vmemory_last.wrapping_add(1);
    named.push((layout.vmalloc_start, vmalloc_end, "vmalloc and ioremap (vmalloc_base)"));
    named.push((layout.vmemmap, layout.vmemmap.wrapping_add(map_bytes), "page descriptors (vmemmap_base)"));
    if let Some(shadow) = layout.kasan_shadow {
        named.push((shadow.start, shadow.end(), "KASAN shadow"));
    }
    let slot = 1u64 << Paging::P4D_SHIFT;
    named.push((layout.cpu_entry_area, layout.cpu_entry_area + slot, "CPU entry areas (cpu_entry_area)"));
    named.push((layout.espfix, layout.espfix + slot, "espfix stacks"));
    named.push((layout.efi_end, layout.efi_start, "EFI run-time services"));
    let image_end = layout.start_kernel_map + layout.kernel_image_size;
    named.push((layout.start_kernel_map, image_end, "kernel image (__START_KERNEL_map)"));
    named.push((layout.modules_start, layout.modules_end, "modules"));
    named.push((layout.modules_end, VSYSCALL, "fixmap, as much of it as there is"));
    named.push((VSYSCALL, VSYSCALL + 0x1000, "vsyscall page"));
    let mut rows: Vec<Row> = Vec::new();
    let mut at = VirtAddr(0);
    for (start, end, what) in named {
        push(&mut rows, at, start, HOLE);
        push(&mut rows, start, end, what);
        at = end;
    }
    push(&mut rows, at, VirtAddr(0), HOLE);
    rows
}

fn push(rows: &mut Vec<Row>, start: VirtAddr, end: VirtAddr, what: &'static str) {
    if start != end
        && let Some(range) = VirtRange::until(start, end)
    {
        rows.push(Row { range, what, inside: false });
    }
}

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Distance from the nearer end of the address space.
fn offset(start: VirtAddr) -> String {
    if start.0 == 0 {
        return String::from("   0       ");
    }
    let (sign, bytes) = if start.0 >> 63 == 0 { ('+', start.0) } else { ('-', start.0.wrapping_neg()) };
    let unit = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) != 0).unwrap_or(0);
    let number = exact(bytes, unit).unwrap_or_else(|| format!("{}", rounded(bytes, unit)));
    format!("{:>7} {}", format!("{sign}{number}"), UNITS[unit])
}

/// A number with up to two digits behind the point, if that says it all.
fn exact(bytes: u64, unit: usize) -> Option<String> {
    let shift = 10 * unit;
    let (whole, rest) = (bytes >> shift, u128::from(bytes & ((1u64 << shift) - 1)) * 100);
    let hundredths = rest >> shift;
    if hundredths << shift != rest {
        return None;
    }
    Some(match hundredths {
        0 => format!("{whole}"),
        _ if hundredths.is_multiple_of(10) => format!("{whole}.{}", hundredths / 10),
        _ => format!("{whole}.{hundredths:02}"),
    })
}

const fn rounded(bytes: u64, unit: usize) -> u128 {
    let shift = 10 * unit;
    (bytes as u128 + if shift == 0 { 0 } else { 1 << (shift - 1) }) >> shift
}

/// A size in the largest unit that it fills (half is enough for terabytes, a quarter for more), or in the next one if only
/// that says it all. Nothing is larger than unit `top`: thousands of it are counted in powers of 1024.
fn quantity(bytes: u64, top: usize) -> String {
    const TERA: usize = 4;
    const THOUSANDS: [&str; 3] = ["", "K", "M"];
    if bytes >> (10 * top) >= 10_000 {
        let power = if bytes >> (10 * (top + 1)) >= 10_000 { 2 } else { 1 };
        return format!("~{}{} {}", rounded(bytes, top + power), THOUSANDS[power], UNITS[top]);
    }
    let part = |unit: usize| if unit < TERA { 0 } else { unit - TERA + 1 };
    let is_large = |unit: &usize| bytes >> (10 * unit - part(*unit)) != 0;
    let unit = (0..=top).rev().find(is_large).unwrap_or(0);
    let smaller = unit.saturating_sub(1);
    if let Some(number) = exact(bytes, unit) {
        return format!("{number} {}", UNITS[unit]);
    }
    match exact(bytes, smaller).filter(|_| bytes >> (10 * smaller) < 10_000) {
        Some(number) => format!("{number} {}", UNITS[smaller]),
        None => format!("~{} {}", rounded(bytes, unit), UNITS[unit]),
    }
}

/// Prints the table of one x86-64 kernel.
///
/// # Errors
/// The writer failed.
pub fn print(table: &Table, out: &mut impl fmt::Write) -> fmt::Result {
    const DOUBLE: &str = "========================================================================================";
    let (levels, title) = (table.levels, era_title(table));
    let built = if table.va_bits == table.va_bits_in_use { "" } else { ", built for 5 that the CPU lacks" };
    let shadow = if table.kasan == "off" { "" } else { ", KASAN" };
    writeln!(out, "Complete virtual memory map with {levels}-level page tables{built}{shadow}, {title}::\n")?;
    writeln!(
        out,
        "{DOUBLE}\n    Start addr    |   Offset   |     End addr     |  Size   | VM area description\n{DOUBLE}"
    )?;
    let top = if levels == 4 { 4 } else { 5 };
    for row in &table.rows {
        let (start, last) = (row.range.start.0, row.range.last.0);
        let (offset, size) = (offset(row.range.start), quantity(row.range.size(), top));
        writeln!(out, " {start:016x} | {offset:>10} | {last:016x} | {size:>7} | {}", row.what)?;
    }
    print_moved(&table.moved, out)
}
