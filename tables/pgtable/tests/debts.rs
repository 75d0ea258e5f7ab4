//! Flush debts and break-before-make: what is flushed, when, and what the tables say meanwhile.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::cell::RefCell;
use core::sync::atomic::AtomicU64;

use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
use kernmem_arch::x86::{X86Attrs, X86Level4};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{
    Frame, FrameSource, Level, NoFrame, NoTlb, PhysAddr, PhysMem, PhysRange, PhysRead, Tlb, VirtAddr, VirtRange,
};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Change, Mapping, Sizes, Stale, Tables, steps};

const ARM64_DATA: Arm64Attrs = Arm64Attrs(0x00e8_0000_0000_0703);
const ARM64_TABLE: Arm64Attrs = Arm64Attrs(3);
const X86_DATA: X86Attrs = X86Attrs(0x8000_0000_0000_0163);
const X86_TABLE: X86Attrs = X86Attrs(0x63);
const BASE: VirtAddr = VirtAddr(0xffff_8000_4000_0000);

fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x20_0000)))
}

fn range(start: u64, bytes: u64) -> VirtRange {
    VirtRange::of_size(BASE + start, bytes).unwrap()
}

fn map<F: EntryFormat>(tables: &mut Tables<'_, F, HeapMem>, run: VirtRange, pa: u64, attrs: F::Attrs, sizes: Sizes) {
    let mapping = Mapping::<F>::new(PhysAddr(pa), attrs, sizes);
    let mem = tables.mem();
    let stale = tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap();
    assert_eq!(stale, Stale::default());
}

/// The raw entry that ends the path to `va`.
fn entry<F: EntryFormat>(mem: &HeapMem, root: PhysAddr, va: VirtAddr) -> u64 {
    steps::<F, _>(mem, root, va).last().unwrap().unwrap().raw
}

/// Reads the entry for each address while a flush runs.
struct Watch<'m> {
    mem: &'m HeapMem,
    root: PhysAddr,
    vas: Vec<VirtAddr>,
    seen: Vec<(VirtRange, bool, Vec<u64>)>,
}

impl<'m> Watch<'m> {
    fn new(mem: &'m HeapMem, root: PhysAddr, vas: impl IntoIterator<Item = VirtAddr>) -> Self {
        Self { mem, root, vas: vas.into_iter().collect(), seen: Vec::new() }
    }
}

impl Tlb for Watch<'_> {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        let raws = self.vas.iter().map(|va| entry::<Arm64Granule4K>(self.mem, self.root, *va)).collect();
        self.seen.push((range, tables, raws));
    }
}

#[test]
fn a_live_arm64_block_is_invalid_while_the_flush_of_its_split_runs() {
    let mem = memory();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 2 << 20), 0x8000_0000, ARM64_DATA, Sizes::ALL);
    let mut watch = Watch::new(&mem, tables.root(), [BASE]);
    let mut cursor = tables.cursor(range(0x5000, 0x1000));
    let (bytes, stale) = cursor.split(&mut mem.frames(), &mut watch, ARM64_TABLE).unwrap();
    assert_eq!((bytes, stale), (4096, Stale::default()), "the flush is done");
    assert_eq!(watch.seen, [(range(0, 2 << 20), false, vec![0])]);
    assert_eq!(entry::<Arm64Granule4K>(&mem, tables.root(), BASE + 0x5000), 0x8000_5000 | ARM64_DATA.0);
}

#[test]
fn every_member_of_an_arm64_group_is_invalid_while_its_mark_is_taken_off() {
    let mem = memory();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 128 << 10), 0x8000_0000, ARM64_DATA, Sizes::ALL);
    let members = (0..16).map(|page| BASE + 0x1_0000 + page * 4096);
    let mut watch = Watch::new(&mem, tables.root(), members.chain([BASE]));
    let mut cursor = tables.cursor(range(0x1_3000, 0x1000));
    let (bytes, stale) = cursor.split(&mut mem.frames(), &mut watch, ARM64_TABLE).unwrap();
    assert_eq!((bytes, stale), (4096, Stale::default()));
    let mut raws = vec![0; 16];
    raws.push(0x8000_0000 | ARM64_DATA.0 | 1 << 52); // the group beside it is left alone
    assert_eq!(watch.seen, [(range(0x1_0000, 0x1_0000), false, raws)]);
    assert_eq!(entry::<Arm64Granule4K>(&mem, tables.root(), BASE + 0x1_f000), 0x8001_f000 | ARM64_DATA.0);
}

#[test]
fn an_arm64_table_is_unlinked_while_the_flush_of_its_collapse_runs_and_freed_when_the_debt_is_paid() {
    let mem = memory();
    let mut frames = mem.frames();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 2 << 20), 0x8000_0000, ARM64_DATA, Sizes::PAGES);
    let free = mem.free_frames();
    let mut watch = Watch::new(&mem, tables.root(), [BASE]);
    let stale = tables.cursor(range(0, 2 << 20)).collapse(Level::Pmd, &mut watch).unwrap();
    assert_eq!(watch.seen, [(range(0, 2 << 20), true, vec![0])]);
    assert_eq!((stale.range(), stale.frees_tables(), mem.free_frames()), (None, true, free));
    stale.pay(&mut watch, &mut tables, &mut frames);
    assert_eq!((watch.seen.len(), mem.free_frames()), (1, free + 1), "flushed once");
    assert_eq!(entry::<Arm64Granule4K>(&mem, tables.root(), BASE), 0x8000_0000 | ARM64_DATA.0 & !2);
}

/// A cache that must not be flushed.
struct NoFlush;

impl Tlb for NoFlush {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        panic!("flush of {range:?}");
    }
}

#[test]
fn a_live_x86_block_is_split_by_one_store_and_leaves_a_debt() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 2 << 20), 0x8000_0000, X86_DATA, Sizes::ALL);
    let mut cursor = tables.cursor(range(0x5000, 0x1000));
    let (bytes, stale) = cursor.split(&mut mem.frames(), &mut NoFlush, X86_TABLE).unwrap();
    assert_eq!((bytes, stale.range(), stale.frees_tables()), (4096, Some(range(0, 2 << 20)), false));
    stale.forgive("no CPU runs with these tables");
    let free = mem.free_frames();
    let stale = tables.cursor(range(0, 2 << 20)).collapse(Level::Pmd, &mut NoFlush).unwrap();
    assert_eq!((stale.range(), stale.frees_tables(), mem.free_frames()), (Some(range(0, 2 << 20)), true, free));
    stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    assert_eq!(mem.free_frames(), free + 1);
}

/// What happened, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Flush(VirtRange, bool),
    GiveBack(PhysAddr),
}

struct Recorder<'l>(&'l RefCell<Vec<Event>>);

impl Tlb for Recorder<'_> {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        self.0.borrow_mut().push(Event::Flush(range, tables));
    }
}

impl FrameSource for Recorder<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        Err(NoFrame { level })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.0.borrow_mut().push(Event::GiveBack(frame));
    }
}

#[test]
fn a_debt_merges_its_ranges_and_is_flushed_once_before_any_table_is_given_back() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0x1000, 0x1000), 0x8000_1000, X86_DATA, Sizes::PAGES);
    map(&mut tables, range(6 << 20, 0x3000), 0x8060_0000, X86_DATA, Sizes::PAGES);
    let stale = tables.cursor(range(0, 1 << 30)).unmap().unwrap();
    // the gigabyte's entry is covered whole: its table goes with both tables of pages below it
    assert_eq!((stale.range(), stale.frees_tables()), (Some(range(0, 1 << 30)), true));
    let log = RefCell::default();
    stale.pay(&mut Recorder(&log), &mut tables, &mut Recorder(&log));
    let log = log.into_inner();
    assert_eq!(log[0], Event::Flush(range(0, 1 << 30), true));
    assert_eq!(log.len(), 1 + 4, "one flush, then two tables of pages, their parent, and its parent, empty now");
    assert!(log[1..].iter().all(|event| matches!(event, Event::GiveBack(_))));
}

#[test]
fn the_debt_of_rights_reaches_from_the_first_changed_leaf_to_the_last() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    for start in [0x1000, 0x8000, 0x20_3000] {
        map(&mut tables, range(start, 0x1000), 0x8000_0000 + start, X86_DATA, Sizes::PAGES);
    }
    let read_only = Change { set: 0, clear: 2 };
    let stale = tables.cursor(range(0, 4 << 20)).protect(read_only).unwrap();
    assert_eq!((stale.range(), stale.frees_tables()), (Some(range(0x1000, 0x20_3000)), false));
    stale.forgive("no CPU runs with these tables");
    let again = tables.cursor(range(0, 4 << 20)).protect(read_only).unwrap();
    assert_eq!(again, Stale::default(), "nothing changes the second time");
}

#[test]
fn a_table_without_leaves_is_flushed_as_well_before_it_is_given_back() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 0x1000), 0x8000_0000, X86_DATA, Sizes::PAGES);
    tables.cursor(range(0, 0x1000)).clear().unwrap().forgive("no CPU runs with these tables");
    let stale = tables.cursor(range(0, 0x1000)).unmap().unwrap();
    assert!(stale.frees_tables());
    assert_eq!(stale.range(), Some(range(0, 0x1000)), "CPUs may cache the entries that led to it");
    let free = mem.free_frames();
    stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    assert_eq!(mem.free_frames(), free + 3);
}

#[test]
fn dead_tables_stay_readable_until_the_debt_is_paid() {
    let mem = memory();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 0x2000), 0x8000_0000, ARM64_DATA, Sizes::PAGES);
    let pages = steps::<Arm64Granule4K, _>(&mem, tables.root(), BASE).last().unwrap().unwrap().table;
    let free = mem.free_frames();
    let stale = tables.cursor(range(0, 2 << 20)).unmap().unwrap();
    assert_eq!(mem.free_frames(), free);
    let raw = mem.entry::<AtomicU64>(pages, 0).unwrap();
    assert_eq!(raw, 0x8000_0000 | ARM64_DATA.0, "a walker that is under way still finds what it came for");
    stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    assert_eq!(mem.note(pages).unwrap().used(), 0);
}

#[test]
fn entries_set_by_hand_keep_the_note_true() {
    let mem = memory();
    let root = mem.take_root();
    let mut tables = Tables::<X86Level4, _>::new(&mem, root);
    let used = || mem.note(root).unwrap().used();
    assert_eq!((tables.set_entry(root, 0, 7, 0x1063), used()), (Ok(0), 1));
    assert_eq!((tables.set_entry(root, 0, 7, 0x2063), used()), (Ok(0x1063), 1));
    assert_eq!((tables.set_entry(root, 0, 7, 0), used()), (Ok(0x2063), 0));
    assert_eq!((tables.set_entry(root, 0, 7, 0), used()), (Ok(0), 0));
    assert!(tables.set_entry(PhysAddr(0), 0, 7, 1).is_err(), "outside memory");
}

#[test]
fn an_adopted_tree_is_counted_anew() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 0x5000), 0x8000_0000, X86_DATA, Sizes::PAGES);
    let path: Vec<PhysAddr> =
        steps::<X86Level4, _>(&mem, tables.root(), BASE).map(|step| step.unwrap().table).collect();
    let used = |table: &PhysAddr| mem.note(*table).unwrap().used();
    assert_eq!(path.iter().map(used).collect::<Vec<_>>(), [1, 1, 1, 5]);
    path.iter().for_each(|table| mem.note(*table).unwrap().set_used(99));
    tables.adopt(tables.root(), 0).unwrap();
    assert_eq!(path.iter().map(used).collect::<Vec<_>>(), [1, 1, 1, 5]);
    // an entry that leads outside memory
    tables.set_entry(path[2], 2, 1, 0xdead_0063).unwrap();
    assert!(tables.adopt(tables.root(), 0).is_err());
}

#[test]
fn an_entry_that_a_change_clears_whole_is_no_longer_counted() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    map(&mut tables, range(0, 0x2000), 0x8000_0000, X86_DATA, Sizes::PAGES);
    let table = steps::<X86Level4, _>(&mem, tables.root(), BASE).last().unwrap().unwrap().table;
    let nothing = Change { set: 0, clear: !0 };
    tables.cursor(range(0, 0x1000)).protect(nothing).unwrap().forgive("no CPU runs with these tables");
    assert_eq!(mem.note(table).unwrap().used(), 1);
    assert_eq!(X86Level4::decode(entry::<X86Level4>(&mem, tables.root(), BASE), Level::Pte), Entry::Absent { sw: 0 });
}

#[test]
fn a_covered_unmap_keeps_the_tables_that_reach_over_its_edges() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    // By hand: one pud table, one pmd table, two page tables, of which the second alone is covered.
    map(&mut tables, range(0x1f_f000, 0x1000), 0x5000, X86_DATA, Sizes::PAGES);
    map(&mut tables, range(0x20_0000, 0x1000), 0x6000, X86_DATA, Sizes::PAGES);
    let free = mem.free_frames();
    let stale = tables.cursor(range(0x10_0000, 0x40_0000 - 0x10_0000)).unmap_covered().unwrap();
    stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    assert_eq!(mem.free_frames(), free + 1);
    for va in [BASE + 0x1f_f000, BASE + 0x20_0000] {
        assert_eq!(entry::<X86Level4>(&mem, tables.root(), va), 0);
    }
    let levels = |va| steps::<X86Level4, _>(&mem, tables.root(), va).count();
    assert_eq!((levels(BASE + 0x1f_f000), levels(BASE + 0x20_0000)), (4, 3));
}
