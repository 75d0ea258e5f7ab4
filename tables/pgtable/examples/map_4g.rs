//! Maps 4 GiB by 4K pages, changes their rights, and takes them down again: a million entries each time.
//!
//! Build with `cargo build --release -p kernmem-pgtable --features heap --example map_4g`; the argument `x86` takes that
//! format. To count instructions by phase:
//! `valgrind --tool=callgrind --dump-before='map_4g::timed*' target/release/examples/map_4g`.

use core::hint::black_box;
use std::time::Instant;

use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::X86Level4;
use kernmem_base::{NoTlb, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::heap::{HeapFrames, HeapMem};
use kernmem_pgtable::{Change, Mapping, Sizes, Tables};

const ENTRIES: u64 = 1 << 20;

fn main() {
    let is_x86 = std::env::args().nth(1).is_some_and(|arg| arg == "x86");
    if is_x86 {
        run::<X86Level4>(0x8000_0000_0000_0163, 1 << 1)
    } else {
        run::<Arm64Granule4K>(0x00e8_0000_0000_0703, 1 << 51)
    }
}

fn run<F: EntryFormat>(attrs: u64, writable: u64) {
    let mem = HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(2100 << 12)));
    let mut frames = mem.frames();
    let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
    let run = VirtRange::of_size(VirtAddr(0xffff_8000_0000_0000), ENTRIES << 12).expect("4 GiB");
    let mapping = Mapping::<F>::new(PhysAddr(0x1_0000_0000), F::attrs(attrs), Sizes::PAGES);
    let read_only = Change { set: 0, clear: writable };
    for (what, bytes) in [("first", 0), ("again", 0), ("page by page", 1 << 12)] {
        timed(&format!("map {what}"), || map(&mut tables, &mut frames, run, bytes, &mapping));
        timed("protect", || protect(&mut tables, run, read_only));
        timed("unmap", || unmap(&mut tables, &mut frames, run, bytes));
    }
}

/// A function of its own, so that a profiler tells the phases apart.
#[inline(never)]
fn timed(what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!("{what}: {:.2} ns an entry", start.elapsed().as_secs_f64() * 1e9 / ENTRIES as f64);
}

fn map<F: EntryFormat>(
    tables: &mut Tables<'_, F, HeapMem>,
    frames: &mut HeapFrames<'_>,
    run: VirtRange,
    bytes: u64,
    mapping: &Mapping<F>,
) {
    if bytes == 0 {
        tables.cursor(black_box(run)).map(frames, mapping).expect("free").forgive("nothing was mapped there");
        return;
    }
    for start in (0..run.size()).step_by(bytes as usize) {
        let page = VirtRange::of_size(run.start + start, bytes).expect("a page");
        let here = Mapping::<F>::new(mapping.pa + start, mapping.attrs, mapping.sizes);
        tables.cursor(black_box(page)).map(frames, &here).expect("free").forgive("nothing was mapped there");
    }
}

fn protect<F: EntryFormat>(tables: &mut Tables<'_, F, HeapMem>, run: VirtRange, change: Change) {
    tables.cursor(black_box(run)).protect(change).expect("mapped").forgive("no CPU runs with these tables");
}

fn unmap<F: EntryFormat>(tables: &mut Tables<'_, F, HeapMem>, frames: &mut HeapFrames<'_>, run: VirtRange, bytes: u64) {
    let step = if bytes == 0 { run.size() } else { bytes };
    for start in (0..run.size()).step_by(step as usize) {
        let part = VirtRange::of_size(run.start + start, step).expect("a page");
        let stale = tables.cursor(black_box(part)).unmap().expect("mapped");
        stale.pay(&mut NoTlb, tables, frames);
    }
}
