//! The table of i386, in the form in which its kernels told it at boot up to 5.6: highest region first, ends exclusive.
//!
//! | region | size in |
//! |---|---|
//! | fixmap, CPU entry areas, descriptor tables, pkmap | kB |
//! | vmalloc, low memory, user half | MB |
//!
//! Source: Linux 4.14 arch/x86/mm/init_32.c `mem_init` (UNVERIFIED: seen in boot logs); 5.10–7.2
//! arch/x86/include/asm/pgtable_32_areas.h.

use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::i386::layout::{Layout, Paging, VIRTUAL_BITS};
use kernmem_arch::x86::fixmap::Fixmap;
use kernmem_base::{VirtAddr, VirtRange};

use super::{Row, Table, era_title, print_moved};

/// The table of one kernel, whose low memory is settled.
#[must_use]
pub fn table(layout: &Layout, fixmap: &Fixmap) -> Table {
    Table {
        era: layout.era,
        arch: "i386",
        page_bytes: 4096,
        levels: match layout.paging {
            Paging::Level2 => 2,
            Paging::Pae => 3,
        },
        va_bits: VIRTUAL_BITS,
        va_bits_in_use: VIRTUAL_BITS,
        kasan: "off",
        rows: rows(layout, fixmap),
        moved: Vec::new(),
    }
}

/// The regions, lowest first; what lies between them is unused.
#[must_use]
pub fn rows(layout: &Layout, fixmap: &Fixmap) -> Vec<Row> {
    let pkmap_end = layout.pkmap_base + (layout.paging.pkmap_pages() << 12);
    let regions = [
        Some((VirtAddr(0), layout.page_offset, "user")),
        Some((layout.page_offset, layout.high_memory, "lowmem")),
        Some((layout.vmalloc_start(), layout.vmalloc_end, "vmalloc")),
        Some((layout.pkmap_base, pkmap_end, "pkmap")).filter(|_| layout.highmem),
        Some((layout.ldt.start, layout.ldt.end(), "ldt")),
        Some((layout.cpu_entry_area, layout.cpu_entry_areas().end(), "cpu_entry")),
        Some((fixmap.start(), fixmap.top, "fixmap")),
    ];
    let rows = regions.into_iter().flatten();
    rows.filter_map(|(start, end, what)| Some(Row { range: VirtRange::until(start, end)?, what, inside: false }))
        .collect()
}

/// Prints the table of one kernel.
///
/// # Errors
/// The writer failed.
pub fn print(table: &Table, out: &mut impl fmt::Write) -> fmt::Result {
    let pae = if table.levels == 3 { " (PAE)" } else { "" };
    writeln!(out, "virtual kernel memory layout of i386 with {} levels{pae}, {}:", table.levels, era_title(table))?;
    for row in table.rows.iter().rev() {
        let (start, end, bytes) = (row.range.start.0, row.range.end().0, row.range.size());
        let (size, unit) = match row.what {
            "user" | "lowmem" | "vmalloc" => (bytes >> 20, "MB"),
            _ => (bytes >> 10, "kB"),
        };
        writeln!(out, "  {:>9} : {start:#010x} - {end:#010x}   ({size:4} {unit})", row.what)?;
    }
    print_moved(&table.moved, out)
}
