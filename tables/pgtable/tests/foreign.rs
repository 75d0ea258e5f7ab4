//! Tables that no source lent, which have no notes: they are walked, unlinked and flushed as others are, and never given
//! back.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::cell::Cell;

use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K};
use kernmem_base::{
    BusError, BusFault, PhysAddr, PhysMem, PhysRange, PhysRead, Slot, TableNote, Tlb, VirtAddr, VirtRange,
};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{CachedTables, PageForm, Tables, Walk, steps, translate};

type Format = Arm64Granule4K;

const VA: VirtAddr = VirtAddr(0xffff_0000_4000_0000);

/// Memory in which one table has no note.
struct Foreign<'m> {
    mem: &'m HeapMem,
    table: Cell<PhysAddr>,
}

impl PhysRead for Foreign<'_> {
    type Lent<'m, S: Slot>
        = &'m [S]
    where
        Self: 'm;

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.mem.table(pa, entries)
    }
}

impl PhysMem for Foreign<'_> {
    fn table_mut<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.mem.table_mut(pa, entries)
    }

    fn note(&self, pa: PhysAddr) -> Result<&TableNote, BusError> {
        if pa == self.table.get() { Err(BusError { pa, fault: BusFault::Hole }) } else { self.mem.note(pa) }
    }

    fn zero(&self, range: PhysRange) -> Result<(), BusError> {
        self.mem.zero(range)
    }
}

/// What was flushed: the range, and whether walks were.
#[derive(Default)]
struct Flushed(Vec<(VirtRange, bool)>);

impl Tlb for Flushed {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        self.0.push((range, tables));
    }
}

/// A tree that maps the page at [`VA`] and one 2 GiB above, whose table `depth` levels below the root for the
/// first has no note; hands it to `then`.
fn check(depth: usize, then: impl Fn(&mut CachedTables<'_, Format, Foreign<'_>>, &HeapMem)) {
    let heap = HeapMem::new(PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x14_0000)));
    let mem = Foreign { mem: &heap, table: Cell::new(PhysAddr(0)) };
    let root = heap.take_root();
    let mut tables = CachedTables::<Format, _>::new(Tables::new(&mem, root));
    let form = PageForm::<Format>::new(Arm64Attrs(0x00e8_0000_0000_0703)).unwrap();
    for va in [VA, VA + (2 << 30)] {
        tables.map_page(va, PhysAddr(0x8020_0000), &form, &mut heap.frames()).unwrap();
    }
    mem.table.set(steps::<Format, _>(&mem, root, VA).nth(depth).unwrap().unwrap().table);
    then(&mut tables, &heap);
}

#[test]
fn a_dropped_table_without_a_note_is_remembered_no_more() {
    check(2, |tables, heap| {
        assert!(matches!(tables.translate(VA), Ok(Walk::Mapped { .. })));
        let gibibyte = VirtRange::of_size(VA, 1 << 30).unwrap();
        let stale = tables.cursor(gibibyte).unmap().unwrap();
        assert!(!stale.frees_tables(), "it came from no source");
        let mut flushed = Flushed::default();
        tables.pay(stale, &mut flushed, &mut heap.frames());
        assert_eq!(flushed.0, [(gibibyte, true)], "CPUs remember the way through it");
        assert!(matches!(tables.translate(VA), Ok(Walk::Hole { .. })));
    });
}

#[test]
fn a_table_of_pages_without_a_note_is_walked_to() {
    check(3, |tables, _| {
        let tree = tables.tables_mut();
        let walk = translate::<Format, _>(tree.mem(), tree.root(), VA);
        assert!(matches!(walk, Ok(Walk::Mapped { .. })));
        assert_eq!(tables.translate(VA), walk);
    });
}
