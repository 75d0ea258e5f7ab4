//! One bit of one present entry is changed in the memory of a booted machine: the rows change.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use kernmem::Boot;
use kernmem_arch::Entry;
use kernmem_base::Seed;
use kernmem_base::{BusError, Level, PhysAddr, PhysMem, PhysRead, Slot, VirtAddr};
use kernmem_report::tables::{self, Selection};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::entries::{EntryVisitor, Place, entries, root_ranges};
use kernmem_view::{KernelView, RootKind};

/// The addresses of all present entries.
#[derive(Default)]
struct Present {
    at: Vec<(PhysAddr, usize)>,
}

impl EntryVisitor for Present {
    fn table(&mut self, place: &Place, _next: PhysAddr, _attrs: u64) -> bool {
        self.at.push((place.table, place.index));
        true
    }

    fn slot(&mut self, place: &Place, entry: Entry<u64>) {
        if matches!(entry, Entry::Leaf { .. }) {
            self.at.push((place.table, place.index));
        }
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, error: BusError) {
        panic!("{error}");
    }
}

fn rows<V: KernelView>(view: &V) -> String {
    let selection = Selection { root: RootKind::Kernel, range: None, tables: true, holes: false };
    let mut text = String::new();
    tables::table(view, &selection, &mut text).unwrap();
    text
}

/// Flips a drawn bit of a drawn entry, once a seed.
fn flip_each<V: KernelView<Mem: PhysMem>>(view: &V, seeds: u64) {
    let root = view.root(RootKind::Kernel).known().unwrap();
    let mut present = Present::default();
    for range in root_ranges(view.format(), RootKind::Kernel) {
        entries(view, root, range, &mut present);
    }
    let before = rows(view);
    for seed in 0..seeds {
        let mut draws = Seed(seed);
        let (table, index) = present.at[(draws.draw() % present.at.len() as u64) as usize];
        let bit = draws.draw() % 64;
        let slots = view.mem().table::<core::sync::atomic::AtomicU64>(table, index + 1).unwrap();
        let raw = Slot::load(&slots[index]);
        Slot::store(&slots[index], raw ^ 1 << bit);
        let after = rows(view);
        Slot::store(&slots[index], raw);
        assert_ne!(after, before, "seed {seed}: bit {bit} of {raw:#x}, entry {index} of the table at {table}");
    }
    assert_eq!(rows(view), before);
}

fn check(source: &str, cmdline: &str, seeds: u64) {
    let options = Options { cmdline: Some(cmdline.to_owned()), ..Options::default() };
    let source = Source::open_with(source, &options).unwrap();
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).unwrap();
    let kernel = kernmem_live::boot(&memory, &boot, ()).unwrap();
    flip_each(&kernel, seeds);
}

#[test]
fn a_flipped_bit_of_an_arm64_entry_is_seen() {
    check("arm64-4g", "rodata=off", 1000);
}

#[test]
fn a_flipped_bit_of_an_x86_entry_is_seen() {
    check("x86-4g", "nokaslr", 1000);
}
