//! The boot log's lines from the per-CPU areas to the last memory that boot frees.
//!
//! Source: Linux 6.1 mm/percpu.c `pcpu_embed_first_chunk`; mm/page_alloc.c `build_all_zonelists`,
//! `alloc_large_system_hash`, `mem_init_print_info`, `free_reserved_area`; init/main.c `report_meminit`,
//! `print_unknown_bootoptions`; kernel/dma/swiotlb.c; kernel/printk/printk.c `setup_log_buf`.

use core::fmt;

use kernmem::hand_over::MemoryFigures;
use kernmem::takers::auto_init::{AutoInit, StackInit};
use kernmem::takers::hash_tables::HashMemory;
use kernmem::{Freed, LogEntry};
use kernmem_base::PhysRange;

/// Prints one entry of these steps; others print nothing.
pub(crate) fn line(entry: &LogEntry, arm64: bool, out: &mut impl fmt::Write) -> fmt::Result {
    match entry {
        LogEntry::Percpu(sizes) => writeln!(
            out,
            "percpu: Embedded {} pages/cpu s{} r{} d{} u{}",
            sizes.pages(),
            sizes.static_bytes,
            sizes.reserved,
            sizes.dynamic,
            sizes.unit
        ),
        LogEntry::FallbackOrder { nid, order } => {
            write!(out, "Fallback order for Node {nid}: ")?;
            order.iter().try_for_each(|node| write!(out, "{node} "))?;
            writeln!(out)
        }
        LogEntry::ZonelistsBuilt { nodes, mobility, pages } => {
            let mobility = on_off(*mobility);
            writeln!(out, "Built {nodes} zonelists, mobility grouping {mobility}.  Total pages: {pages}")
        }
        LogEntry::PolicyZone(name) => writeln!(out, "Policy zone: {name}"),
        LogEntry::UnknownParameters(words) => {
            let words = words.join(" ");
            writeln!(out, "Unknown kernel command line parameters \"{words}\", will be passed to user space.")
        }
        LogEntry::LogBuffer { bytes } => writeln!(out, "log_buf_len: {bytes} bytes"),
        LogEntry::HashTable { name, entries, order, bytes, memory } => {
            let memory = match memory {
                HashMemory::Linear => "linear",
                HashMemory::Vmalloc => "vmalloc",
                HashMemory::VmallocHuge => "vmalloc hugepage",
            };
            writeln!(out, "{name} hash table entries: {entries} (order: {order}, {bytes} bytes, {memory})")
        }
        LogEntry::AutoInit(init) => auto_init(*init, out),
        LogEntry::SwiotlbAreas(areas) => writeln!(out, "software IO TLB: area num {areas}."),
        LogEntry::SwiotlbAdjusted(bytes) => {
            writeln!(out, "software IO TLB: SWIOTLB bounce buffer size adjusted to {}MB", bytes >> 20)
        }
        LogEntry::SwiotlbRounded(bytes) => {
            writeln!(out, "software IO TLB: SWIOTLB bounce buffer size roundup to {}MB", bytes >> 20)
        }
        LogEntry::SwiotlbMapped(pool) => mapped(*pool, out),
        LogEntry::Memory(figures) => memory(figures, out),
        LogEntry::Freed { what, bytes } => {
            let what = match what {
                Freed::Initrd => "initrd",
                Freed::SmpLocks => "SMP alternatives",
                Freed::Init if arm64 => "unused kernel",
                Freed::Init => "unused kernel image (initmem)",
                Freed::TextGap => "unused kernel image (text/rodata gap)",
                Freed::RodataGap => "unused kernel image (rodata/data gap)",
            };
            writeln!(out, "Freeing {what} memory: {}K", bytes >> 10)
        }
        LogEntry::Unmapped(range) => {
            writeln!(out, "debug: unmapping init [mem {:#010x}-{:#010x}]", range.start.0, range.last.0)
        }
        _ => Ok(()),
    }
}

const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn auto_init(init: AutoInit, out: &mut impl fmt::Write) -> fmt::Result {
    let stack = match init.stack {
        StackInit::Pattern => "all(pattern)",
        StackInit::Zero => "all(zero)",
        StackInit::ByReferenceAll => "byref_all(zero)",
        StackInit::ByReference => "byref(zero)",
        StackInit::User => "__user(zero)",
        StackInit::Off => "off",
    };
    let (alloc, free) = (on_off(init.heap_alloc), on_off(init.heap_free));
    writeln!(out, "mem auto-init: stack:{stack}, heap alloc:{alloc}, heap free:{free}")?;
    if init.heap_free {
        writeln!(out, "mem auto-init: clearing system memory may take some time...")?;
    }
    Ok(())
}

/// The end is not part of the pool.
fn mapped(pool: PhysRange, out: &mut impl fmt::Write) -> fmt::Result {
    let (start, end) = (pool.start.0, pool.end.0);
    writeln!(out, "software IO TLB: mapped [mem {start:#018x}-{end:#018x}] ({}MB)", pool.size() >> 20)
}

fn memory(figures: &MemoryFigures, out: &mut impl fmt::Write) -> fmt::Result {
    let MemoryFigures { available, total, code, data, rodata, init, bss, reserved, cma, highmem } = *figures;
    let k = |bytes: u64| bytes >> 10;
    write!(
        out,
        "Memory: {}K/{}K available ({}K kernel code, {}K rwdata, {}K rodata, {}K init, {}K bss, {}K reserved, {}K cma-reserved",
        k(available),
        k(total),
        k(code),
        k(data),
        k(rodata),
        k(init),
        k(bss),
        k(reserved),
        k(cma)
    )?;
    if let Some(highmem) = highmem {
        write!(out, ", {}K highmem", k(highmem))?;
    }
    writeln!(out, ")")
}
