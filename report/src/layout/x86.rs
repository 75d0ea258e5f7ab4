//! The table of x86-64.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::x86::layout::{Layout, Paging, VSYSCALL};
use kernmem_base::{VirtAddr, VirtRange};

use super::Row;

const HOLE: &str = "... unused hole";
const NON_CANONICAL: &str = "... huge, almost 64 bits wide hole of non-canonical virtual memory addresses";

/// The rows of an x86-64 kernel without a gap, lowest first.
#[must_use]
pub fn rows(layout: &Layout) -> Vec<Row> {
    let mut named: Vec<(VirtAddr, VirtAddr, &'static str)> = Vec::new();
    let half = layout.guard_hole.start;
    named.push((VirtAddr(0), layout.user_last.wrapping_add(1), "user-space virtual memory, different per mm"));
    named.push((layout.user_last.wrapping_add(1), half, NON_CANONICAL));
    named.push((half, layout.guard_hole.end(), "... guard hole, also reserved for hypervisor"));
    if let Some(ldt) = layout.ldt {
        named.push((ldt.start, ldt.end(), "LDT remap for PTI"));
    }
    let direct_end = layout.page_offset.wrapping_add(layout.physmem_last.0 + 1);
    let direct = "direct mapping of all physical memory (page_offset_base)";
    named.push((layout.page_offset, direct_end.min(layout.vmalloc_start), direct));
    let vmalloc_end = layout.vmemory_last.wrapping_add(1);
    named.push((layout.vmalloc_start, vmalloc_end, "vmalloc/ioremap space (vmalloc_base)"));
    // A descriptor of 64 bytes for each frame, in whole terabytes.
    let map_bytes = (((layout.physmem_last.0 >> 12) + 1) << 6).next_multiple_of(1 << 40);
    named.push((layout.vmemmap, layout.vmemmap.wrapping_add(map_bytes), "virtual memory map (vmemmap_base)"));
    if let Some(shadow) = layout.kasan_shadow {
        named.push((shadow.start, shadow.end(), "KASAN shadow memory"));
    }
    let slot = 1u64 << Paging::P4D_SHIFT;
    named.push((layout.cpu_entry_area, layout.cpu_entry_area + slot, "cpu_entry_area mapping"));
    named.push((layout.espfix, layout.espfix + slot, "%esp fixup stacks"));
    named.push((layout.efi_end, layout.efi_start, "EFI region mapping space"));
    let image_end = layout.start_kernel_map + layout.kernel_image_size;
    named.push((layout.start_kernel_map, image_end, "kernel text mapping, mapped to physical address 0"));
    named.push((layout.modules_start, layout.modules_end, "module mapping space"));
    let fixmap = "kernel-internal fixmap range, variable size and offset";
    named.push((layout.modules_end, VSYSCALL, fixmap));
    named.push((VSYSCALL, VSYSCALL + 0x1000, "legacy vsyscall ABI"));
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

/// A size in the largest unit that it fills (half is enough for terabytes and more), or in the next one if only that
/// says it all.
fn quantity(bytes: u64) -> String {
    const TERA: usize = 4;
    let is_large = |unit: &usize| bytes >> (10 * unit) != 0 || *unit >= TERA && bytes >> (10 * unit - 1) != 0;
    let unit = (0..UNITS.len()).rev().find(is_large).unwrap_or(0);
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
pub fn print(layout: &Layout, out: &mut impl fmt::Write) -> fmt::Result {
    const DOUBLE: &str = "========================================================================================";
    let levels = match layout.paging {
        Paging::Level4 => 4,
        Paging::Level5 => 5,
    };
    writeln!(out, "Complete virtual memory map with {levels}-level page tables, Linux {}::\n", layout.era)?;
    writeln!(
        out,
        "{DOUBLE}\n    Start addr    |   Offset   |     End addr     |  Size   | VM area description\n{DOUBLE}"
    )?;
    for row in rows(layout) {
        let (start, last) = (row.range.start.0, row.range.last.0);
        let (offset, size) = (offset(row.range.start), quantity(row.range.size()));
        writeln!(out, " {start:016x} | {offset:>10} | {last:016x} | {size:>7} | {}", row.what)?;
    }
    Ok(())
}
