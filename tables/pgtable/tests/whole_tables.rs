//! Runs that cover whole tables: filled, changed and dropped one after another, with something odd in between.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::sync::atomic::AtomicU64;

use kernmem_arch::arm64::{Arm64, Arm64Attrs};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{
    Frame, FrameSource, Level, NoFrame, NoTlb, PhysAddr, PhysMem, PhysRange, Slot, VirtAddr, VirtRange,
};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Change, MapError, Mapping, Sizes, Stale, Tables, steps};

type Format = Arm64<12, 48>;

const DATA: u64 = 0x00e8_0000_0000_0703;
const ACCESSED: u64 = 1 << 10;
const READ_ONLY: Change = Change { set: 1 << 7, clear: 1 << 51 };
const BASE: VirtAddr = VirtAddr(0xffff_8000_4000_0000);
const PA: u64 = 0x8000_0000;
const TABLE: u64 = 2 << 20;

fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x20_0000)))
}

fn range(start: u64, bytes: u64) -> VirtRange {
    VirtRange::of_size(BASE + start, bytes).unwrap()
}

fn pages(pa: u64, sizes: Sizes) -> Mapping<Format> {
    Mapping::new(PhysAddr(pa), Arm64Attrs(DATA), sizes)
}

/// The slot that ends the path to `offset`, its entry, and the note of its table.
fn leaf(mem: &HeapMem, root: PhysAddr, offset: u64) -> (&AtomicU64, u64, u16) {
    let step = steps::<Format, _>(mem, root, BASE + offset).last().unwrap().unwrap();
    let slot = mem.slot::<AtomicU64>(step.table, step.index).unwrap();
    (slot, step.raw, mem.note(step.table).unwrap().used())
}

/// At most so many frames.
struct Few<'m> {
    mem: &'m HeapMem,
    left: usize,
}

impl FrameSource for Few<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        self.left = self.left.checked_sub(1).ok_or(NoFrame { level })?;
        self.mem.frames().take(level)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.left += 1;
        self.mem.frames().give_back(frame);
    }
}

#[test]
fn a_run_of_tables_that_lacks_a_frame_is_mapped_up_to_it() {
    let mem = memory();
    let mut tables = Tables::<Format, _>::new(&mem, mem.take_root());
    // two above, three of pages
    let mut frames = Few { mem: &mem, left: 5 };
    let mut cursor = tables.cursor(range(0x1f_f000, 4 * TABLE));
    let failed = cursor.map(&mut frames, &pages(PA, Sizes::PAGES)).unwrap_err();
    assert_eq!(failed.error, MapError::NoFrame(NoFrame { level: Level::Pte }));
    assert_eq!(cursor.position(), Some(BASE + 3 * TABLE), "the last page of one table, and two whole ones");
    let root = tables.root();
    for (offset, used) in [(0x1f_f000, 1), (TABLE, 512), (2 * TABLE + 0x5000, 512), (3 * TABLE - 0x1000, 512)] {
        assert_eq!(leaf(&mem, root, offset).1, (PA + offset - 0x1f_f000) | DATA);
        assert_eq!(leaf(&mem, root, offset).2, used);
    }
    let (_, raw, used) = leaf(&mem, root, 3 * TABLE);
    assert_eq!((Format::decode(raw, Level::Pmd), used), (Entry::Absent { sw: 0 }, 3));
}

#[test]
fn a_run_of_tables_stops_at_what_is_mapped() {
    let mem = memory();
    let mut tables = Tables::<Format, _>::new(&mem, mem.take_root());
    let block = pages(0xc000_0000, Sizes::ALL);
    tables.cursor(range(2 * TABLE, TABLE)).map(&mut mem.frames(), &block).unwrap().forgive("no CPU walks these tables");
    let mut cursor = tables.cursor(range(0, 4 * TABLE));
    let failed = cursor.map(&mut mem.frames(), &pages(PA, Sizes::PAGES)).unwrap_err();
    assert_eq!(failed.error, MapError::Occupied { va: BASE + 2 * TABLE, level: Level::Pmd });
    assert_eq!(cursor.position(), Some(BASE + 2 * TABLE));
    assert_eq!(leaf(&mem, tables.root(), 2 * TABLE - 0x1000).1, (PA + 2 * TABLE - 0x1000) | DATA);
}

#[test]
fn rights_change_in_whole_tables_with_holes_and_odd_leaves_in_between() {
    let mem = memory();
    let mut tables = Tables::<Format, _>::new(&mem, mem.take_root());
    let all = range(0, 4 * TABLE);
    tables.cursor(all).map(&mut mem.frames(), &pages(PA, Sizes::PAGES)).unwrap().forgive("no CPU walks these tables");
    let root = tables.root();
    let unlike = [TABLE, TABLE + 0x7_1000, 2 * TABLE - 0x1000, 2 * TABLE + 0x1000];
    for offset in unlike {
        let (slot, raw, _) = leaf(&mem, root, offset);
        Slot::store(slot, raw & !ACCESSED);
    }
    for hole in [TABLE + 0x10_0000, 3 * TABLE] {
        let stale = tables.cursor(range(hole, 0x1000)).unmap().unwrap();
        stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    }
    let stale = tables.cursor(all).protect(READ_ONLY).unwrap();
    assert_eq!(stale.range(), Some(all));
    stale.forgive("no CPU walks these tables");
    for offset in (0..4 * TABLE).step_by(0x1000) {
        let expected = match offset {
            _ if offset == TABLE + 0x10_0000 || offset == 3 * TABLE => 0,
            _ if unlike.contains(&offset) => (PA + offset) | (DATA & !READ_ONLY.clear | READ_ONLY.set) & !ACCESSED,
            _ => (PA + offset) | DATA & !READ_ONLY.clear | READ_ONLY.set,
        };
        assert_eq!(leaf(&mem, root, offset).1, expected, "{offset:#x}");
    }
    assert_eq!(tables.cursor(all).protect(READ_ONLY).unwrap(), Stale::default(), "nothing changes the second time");
}

#[test]
fn groups_in_whole_tables_change_as_groups() {
    let mem = memory();
    let mut tables = Tables::<Format, _>::new(&mem, mem.take_root());
    let all = range(0, 2 * TABLE);
    let groups = Sizes::only(Format::shape(), |size| size.level == Level::Pte);
    tables.cursor(all).map(&mut mem.frames(), &pages(PA, groups)).unwrap().forgive("no CPU walks these tables");
    let root = tables.root();
    // as an MMU marks one member of a group
    let odd = TABLE + 0x5000;
    let (slot, raw, _) = leaf(&mem, root, odd);
    Slot::store(slot, raw & !ACCESSED);
    tables.cursor(all).protect(READ_ONLY).unwrap().forgive("no CPU walks these tables");
    for offset in (0..2 * TABLE).step_by(0x1000) {
        let (_, raw, _) = leaf(&mem, root, offset);
        assert_eq!(raw & (READ_ONLY.set | READ_ONLY.clear), READ_ONLY.set, "{offset:#x}");
        assert_eq!(raw & ACCESSED != 0, offset != odd);
    }
}

#[test]
fn tables_between_neighbours_die_and_come_back_alone() {
    let mem = memory();
    let mut tables = Tables::<Format, _>::new(&mem, mem.take_root());
    tables.cursor(range(0, 5 * TABLE)).map(&mut mem.frames(), &pages(PA, Sizes::PAGES)).unwrap().forgive("not walked");
    let free = mem.free_frames();
    let middle = range(TABLE, 3 * TABLE);
    let stale = tables.cursor(middle).unmap().unwrap();
    assert_eq!((stale.range(), stale.frees_tables(), mem.free_frames()), (Some(middle), true, free));
    stale.pay(&mut NoTlb, &mut tables, &mut mem.frames());
    assert_eq!(mem.free_frames(), free + 3);
    let root = tables.root();
    for (offset, raw) in [(TABLE - 0x1000, (PA + TABLE - 0x1000) | DATA), (4 * TABLE, (PA + 4 * TABLE) | DATA)] {
        assert_eq!(leaf(&mem, root, offset).1, raw);
    }
    for offset in [TABLE, 4 * TABLE - 1] {
        let (_, raw, used) = leaf(&mem, root, offset);
        assert_eq!((raw, used), (0, 2), "two of the parent's entries are left");
    }
}
