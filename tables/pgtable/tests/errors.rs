//! What is refused, and what a refused operation leaves behind.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
use kernmem_arch::x86::{X86Attrs, X86Level4};
use kernmem_arch::{EncodeError, Entry};
use kernmem_base::{
    BusError, BusFault, Frame, FrameOrigin, FrameSource, Level, NoFrame, NoTlb, PhysAddr, PhysMem, PhysRange, VirtAddr,
    VirtRange,
};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Change, MapError, Mapping, Sizes, Stale, Tables, Visitor, Walk, steps, translate, visit};

const ARM64_DATA: Arm64Attrs = Arm64Attrs(0x00e8_0000_0000_0703);
const X86_DATA: X86Attrs = X86Attrs(0x8000_0000_0000_0163);
const BASE: VirtAddr = VirtAddr(0xffff_8000_4000_0000);

fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x20_0000)))
}

fn range(start: u64, bytes: u64) -> VirtRange {
    VirtRange::of_size(BASE + start, bytes).unwrap()
}

fn x86(pa: u64, sizes: Sizes) -> Mapping<X86Level4> {
    Mapping::new(PhysAddr(pa), X86_DATA, sizes)
}

fn arm64(pa: u64, sizes: Sizes) -> Mapping<Arm64Granule4K> {
    Mapping::new(PhysAddr(pa), ARM64_DATA, sizes)
}

#[test]
fn a_range_over_both_halves_is_refused_by_every_operation() {
    let mem = memory();
    let mut frames = mem.frames();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    let range = VirtRange { start: VirtAddr(0), last: VirtAddr(u64::MAX) };
    let error = MapError::BeyondRoot { range };
    let nothing = Change { set: 0, clear: 0 };
    let mut cursor = tables.cursor(range);
    assert_eq!(cursor.map(&mut frames, &arm64(0, Sizes::ALL)).unwrap_err().error, error);
    assert_eq!(cursor.unmap().unwrap_err().error, error);
    assert_eq!(cursor.clear().unwrap_err().error, error);
    assert_eq!(cursor.protect(nothing).unwrap_err().error, error);
    assert_eq!(cursor.split(&mut frames, &mut NoTlb, ARM64_DATA).unwrap_err().error, error);
    assert_eq!(cursor.collapse(Level::Pmd, &mut NoTlb).unwrap_err().error, error);
    assert_eq!(cursor.position(), Some(VirtAddr(0)));
    assert_eq!(frames_in_use(&mem), 1);
}

fn frames_in_use(mem: &HeapMem) -> usize {
    256 - mem.free_frames()
}

#[test]
fn a_run_off_the_grid_is_refused_before_anything_is_written() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    for (run, pa) in [
        (range(0x800, 0x1800), 0x8000_0000),       // start
        (range(0, 0x1800), 0x8000_0000),           // end
        (range(0, 0x1000), 0x8000_0800),           // memory
        (range(0, 0x2000), 0xffff_ffff_ffff_f000), // memory past 2^64
    ] {
        let mut cursor = tables.cursor(run);
        let failed = cursor.map(&mut mem.frames(), &x86(pa, Sizes::ALL)).unwrap_err();
        assert_eq!(failed.error, MapError::Misaligned { va: run.start, pa: PhysAddr(pa) });
        assert_eq!(cursor.position(), Some(run.start));
    }
    assert_eq!(frames_in_use(&mem), 1);
}

#[test]
fn a_cursor_behind_its_range_does_nothing() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let mut cursor = tables.cursor(range(0, 0x1000));
    cursor.map(&mut mem.frames(), &x86(0x8000_0000, Sizes::ALL)).unwrap().forgive("nothing was mapped there");
    assert_eq!((cursor.position(), cursor.next_slot()), (None, Ok(None)));
    assert_eq!(cursor.unmap().unwrap_err().error, MapError::PastEnd);
    cursor.seek(BASE + 0x1000);
    assert_eq!(cursor.position(), None);
    cursor.seek(BASE + 0xfff);
    assert_eq!(cursor.position(), Some(BASE + 0xfff));
}

#[test]
fn memory_that_no_entry_can_name_is_refused() {
    let mem = memory();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    // bit 48 does not exist; the first page of the run still has a form
    let failed = tables.cursor(range(0, 0x2000)).map(&mut mem.frames(), &arm64((1 << 48) - 0x1000, Sizes::PAGES));
    assert!(matches!(failed.unwrap_err().error, MapError::Encode(EncodeError { level: Level::Pte, .. })));
    let not_valid = Mapping::<Arm64Granule4K>::new(PhysAddr(0), Arm64Attrs(0x702), Sizes::ALL);
    let failed = tables.cursor(range(0, 0x2000)).map(&mut mem.frames(), &not_valid);
    assert!(matches!(failed.unwrap_err().error, MapError::Encode(_)));
    assert_eq!(frames_in_use(&mem), 1);
}

#[test]
fn attributes_that_link_no_table_are_refused_and_the_frame_goes_back() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let run = range(0, 2 << 20);
    for attrs in [X86Attrs(0), X86Attrs(0xe3), X86Attrs(0x1063)] {
        let mapping = x86(0x8000_0000, Sizes::ALL).with_table_attrs(attrs);
        let failed = tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap_err();
        assert!(matches!(failed.error, MapError::Encode(EncodeError { level: Level::Pgd, .. })), "{attrs:?}");
        assert_eq!(frames_in_use(&mem), 1);
    }
    let mapping = x86(0x8000_0000, Sizes::ALL);
    tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    let before = translate::<X86Level4, _>(&mem, tables.root(), BASE);
    for attrs in [X86Attrs(0), X86Attrs(0xe3)] {
        let failed = tables.cursor(run).split(&mut mem.frames(), &mut NoTlb, attrs).unwrap_err();
        assert!(matches!(failed.error, MapError::Encode(EncodeError { level: Level::Pmd, .. })), "{attrs:?}");
        assert_eq!(failed.stale, Stale::default());
        assert_eq!((frames_in_use(&mem), translate::<X86Level4, _>(&mem, tables.root(), BASE)), (3, before));
    }
}

/// Lends one frame that no memory answers for.
struct Elsewhere {
    lent: usize,
}

const ELSEWHERE: PhysAddr = PhysAddr(0x4000_0000);

impl FrameSource for Elsewhere {
    fn take(&mut self, _level: Level) -> Result<Frame, NoFrame> {
        self.lent += 1;
        Ok(Frame { pa: ELSEWHERE, origin: FrameOrigin::PageAllocator, zeroed: true })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        assert_eq!(frame, ELSEWHERE);
        self.lent -= 1;
    }
}

#[test]
fn a_frame_outside_memory_goes_back_to_its_lender() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let (run, mapping) = (range(0, 2 << 20), x86(0x8000_0000, Sizes::ALL));
    let error = MapError::Bus(BusError { pa: ELSEWHERE, fault: BusFault::Hole });
    let mut elsewhere = Elsewhere { lent: 0 };
    assert_eq!(tables.cursor(run).map(&mut elsewhere, &mapping).unwrap_err().error, error);
    tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    let failed = tables.cursor(run).split(&mut elsewhere, &mut NoTlb, X86Attrs(0x63)).unwrap_err();
    assert_eq!((failed.error, elsewhere.lent), (error, 0));
}

#[test]
fn a_table_outside_memory_stops_an_unmap_where_it_is_linked() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let run = range(0, 6 << 20);
    tables.cursor(run).map(&mut mem.frames(), &x86(0x8000_0000, Sizes::ALL)).unwrap().forgive("a fresh tree");
    let blocks = steps::<X86Level4, _>(&mem, tables.root(), BASE).last().unwrap().unwrap().table;
    tables.set_entry(blocks, 2, 1, ELSEWHERE.0 | 0x63).unwrap();
    let mut cursor = tables.cursor(range(0, 3 << 20));
    let failed = cursor.unmap().unwrap_err();
    assert_eq!(failed.error, MapError::Bus(BusError { pa: ELSEWHERE, fault: BusFault::Hole }));
    assert_eq!(failed.stale.range(), Some(range(0, 2 << 20)), "what lies before is gone");
    assert_eq!(cursor.position(), Some(BASE + (2 << 20)));
    assert_eq!(mem.note(blocks).unwrap().used(), 2);
    failed.stale.forgive("a fresh tree");
}

#[test]
fn taking_the_mark_off_a_live_group_by_a_change_needs_break_before_make() {
    let mem = memory();
    let mut tables = Tables::<Arm64Granule4K, _>::new(&mem, mem.take_root());
    let run = range(0, 64 << 10);
    tables.cursor(run).map(&mut mem.frames(), &arm64(0x8000_0000, Sizes::ALL)).unwrap().forgive("a fresh tree");
    let live = MapError::Live { va: BASE, level: Level::Pte };
    let unmark = Change { set: 0, clear: 1 << 52 };
    assert_eq!(tables.cursor(run).protect(unmark).unwrap_err().error, live);
    let (_, stale) = tables.cursor(run).split(&mut mem.frames(), &mut NoTlb, Arm64Attrs(3)).unwrap();
    assert_eq!(stale, Stale::default());
    let mark = Change { set: 1 << 52, clear: 0 };
    assert_eq!(tables.cursor(run).protect(mark).unwrap_err().error, live);
}

#[test]
fn a_change_that_makes_a_table_of_a_leaf_is_refused() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let run = range(0, 2 << 20);
    tables.cursor(run).map(&mut mem.frames(), &x86(0x8000_0000, Sizes::ALL)).unwrap().forgive("a fresh tree");
    let failed = tables.cursor(run).protect(Change { set: 0, clear: 1 << 7 }).unwrap_err();
    let raw = 0x8000_0000 | X86_DATA.0;
    assert_eq!(failed.error, MapError::Encode(EncodeError { level: Level::Pmd, raw }));
}

#[test]
fn a_collapse_to_a_level_without_leaves_is_refused() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    for level in [Level::Pgd, Level::P4d] {
        let failed = tables.cursor(range(0, 2 << 20)).collapse(level, &mut NoTlb).unwrap_err();
        assert_eq!(failed.error, MapError::Encode(EncodeError { level, raw: 0 }));
    }
}

#[test]
fn a_table_in_place_takes_the_run_by_smaller_leaves() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let page = range(0x5000, 0x1000);
    tables.cursor(page).map(&mut mem.frames(), &x86(0x8000_5000, Sizes::ALL)).unwrap().forgive("a fresh tree");
    tables.cursor(page).clear().unwrap().forgive("a fresh tree");
    let run = range(0, 6 << 20);
    tables.cursor(run).map(&mut mem.frames(), &x86(0x8000_0000, Sizes::ALL)).unwrap().forgive("a fresh tree");
    let level_at = |start| match translate::<X86Level4, _>(&mem, tables.root(), BASE + start) {
        Ok(Walk::Mapped { pa, level, .. }) if pa.0 == 0x8000_0000 + start => level,
        walk => panic!("{walk:?}"),
    };
    assert_eq!([0, 2 << 20, 4 << 20].map(level_at), [Level::Pte, Level::Pmd, Level::Pmd]);
}

#[test]
fn a_table_is_made_once_and_a_refused_one_costs_no_frame() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let refused = tables.make_table(BASE, Level::Pte, X86Attrs(0), &mut mem.frames()).unwrap_err();
    assert!(matches!(refused, MapError::Encode(EncodeError { level: Level::Pgd, .. })));
    let mut elsewhere = Elsewhere { lent: 0 };
    let refused = tables.make_table(BASE, Level::Pte, X86Attrs(0x63), &mut elsewhere).unwrap_err();
    assert_eq!((refused, elsewhere.lent), (MapError::Bus(BusError { pa: ELSEWHERE, fault: BusFault::Hole }), 0));
    assert_eq!(frames_in_use(&mem), 1);
    let table = tables.make_table(BASE, Level::Pte, X86Attrs(0x63), &mut mem.frames()).unwrap();
    assert_eq!(tables.make_table(BASE + 0x5000, Level::Pte, X86Attrs(0x63), &mut mem.frames()), Ok(table));
    assert_eq!((frames_in_use(&mem), mem.note(table).unwrap().used()), (4, 0));
    assert_eq!(mem.note(tables.root()).unwrap().used(), 1);
}

/// Counts what it is handed.
#[derive(Default)]
struct Count {
    tables: usize,
    slots: usize,
}

impl Visitor<X86Level4> for Count {
    fn table(&mut self, _va: VirtAddr, _level: Level, _raw: u64, _next: PhysAddr) -> bool {
        self.tables += 1;
        true
    }

    fn slot(&mut self, _va: VirtAddr, _level: Level, _raw: u64, _entry: Entry<X86Attrs>) {
        self.slots += 1;
    }

    fn unreadable(&mut self, _va: VirtAddr, _level: Level, error: BusError) {
        panic!("{error}");
    }
}

#[test]
fn a_visit_of_more_than_a_root_translates_is_cut_there() {
    let mem = memory();
    let root = mem.take_root();
    for (start, slots) in [(0, 512), (0xffff_ff80_0000_0000, 1), (0x0000_ff80_0000_0000, 1)] {
        let mut count = Count::default();
        visit::<X86Level4, _>(&mem, root, VirtRange { start: VirtAddr(start), last: VirtAddr(u64::MAX) }, &mut count);
        assert_eq!((count.tables, count.slots), (0, slots));
    }
}
