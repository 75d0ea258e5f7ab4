//! The tree of the stress, its book, and the account of both.
//!
//! # What is checked at a pause
//! 1. Each table is linked once, holds something unless it is the root, and its note counts what it holds.
//! 2. No table is locked or dead.
//! 3. The tables are the frames that the stress's books give to the tree, all of them.
//! 4. Each page is mapped to what the book says.

use kernmem_arch::Entry;
use kernmem_base::{Pfn, PhysAddr, PhysMem, PhysRead, Slot, VirtAddr, VirtRange};
use kernmem_pgtable::{CpuSlot, SharedTables, Tables, Walk, translate};

use super::cpu::TableCpu;
use super::memory::{TABLE_FRAMES, TableMem};
use super::{CpuTree, Marked, Tree};
use crate::broken::What;
use crate::owners::{Owners, TABLES};
use crate::word::Word;

/// Pages that are mapped and unmapped: 16 MiB around a border of 1 GiB, so that tables of three levels come and go.
pub(super) const PAGES: u64 = 4096;
const START: u64 = (1 << 30) - (8 << 20);
const PAGE: u64 = 4096;

/// Where a page begins.
pub(super) const fn va(page: u64) -> VirtAddr {
    VirtAddr(START + page * PAGE)
}

/// The pages from `first` to before `end`.
pub(super) const fn range(first: u64, end: u64) -> VirtRange {
    VirtRange { start: va(first), last: VirtAddr(va(end).0 - 1) }
}

/// The page of an address.
pub(super) const fn page(va: VirtAddr) -> u64 {
    va.0.saturating_sub(START) / PAGE
}

/// What a page is mapped to, as the book says it: 0 for nothing.
pub(super) const fn entry(pa: u64, marked: bool) -> u64 {
    (pa / PAGE) << 2 | (marked as u64) << 1 | 1
}

/// The mark in a word of the book.
pub(super) const MARKED: u64 = 2;

/// A tree, and one word for each of its pages.
pub(super) struct BookedTree<'m, F: Marked> {
    pub shared: SharedTables<'m, F, TableMem>,
    pub mem: &'m TableMem,
    pub book: &'m [Word],
}

/// Lets another thread run now and then: there may be more threads than CPUs.
fn wait(turn: u32) {
    if turn % 16 == 15 { std::thread::yield_now() } else { core::hint::spin_loop() }
}

pub(super) fn with<F: Marked, T>(cpus: u32, work: impl FnOnce(&dyn Tree) -> T) -> Result<T, What> {
    let mem = TableMem::new();
    let book: Vec<Word> = (0..PAGES).map(|_| Word::default()).collect();
    let mut slots: Vec<CpuSlot> = (0..cpus).map(|_| CpuSlot::default()).collect();
    let tables = Tables::<F, _>::new(&mem, TableMem::ROOT);
    let shared = SharedTables::new(tables, &mut slots).map_err(|entangled| What::Table { pa: entangled.table })?;
    Ok(work(&BookedTree { shared: shared.with_wait(wait), mem: &mem, book: &book }))
}

impl<F: Marked> Tree for BookedTree<'_, F> {
    fn cpu(&self, number: u32) -> Option<Box<dyn CpuTree + '_>> {
        let cpu = self.shared.cpu(number as usize)?;
        Some(Box::new(TableCpu::new(self, cpu)))
    }

    fn spoil(&self, frame: PhysAddr) {
        self.mem.spoil(frame);
    }

    fn check(&self, owners: &Owners) -> Result<(), What> {
        let mut tables = Vec::new();
        count::<F>(self.mem, TableMem::ROOT, 0, &mut tables)?;
        tables.sort_unstable();
        let frames = (0..TABLE_FRAMES).filter(|&pfn| owners.of(Pfn(pfn)) == TABLES);
        let owned: Vec<PhysAddr> = frames.map(|pfn| PhysAddr(pfn * PAGE)).collect();
        if let Some(&pa) = tables.iter().find(|table| owned.binary_search(table).is_err()) {
            return Err(What::Table { pa });
        }
        if let Some(&pa) = owned.iter().find(|table| tables.binary_search(table).is_err()) {
            return Err(What::LostTable { pa });
        }
        if tables.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(What::Table { pa: tables[0] });
        }
        (0..PAGES).try_for_each(|page| self.check_page(page))
    }
}

impl<F: Marked> BookedTree<'_, F> {
    fn check_page(&self, page: u64) -> Result<(), What> {
        let found = match translate::<F, _>(self.mem, TableMem::ROOT, va(page)) {
            Ok(Walk::Mapped { pa, attrs, .. }) => entry(pa.0, F::bits(attrs) & F::MARK != 0),
            Ok(Walk::Hole { .. }) => 0,
            Err(error) => return Err(What::Walk(error)),
        };
        let booked = self.book[page as usize].get();
        if booked == found { Ok(()) } else { Err(What::Page { va: va(page), booked, found }) }
    }
}

/// Counts what a table holds, and notes the tables below it.
fn count<F: Marked>(mem: &TableMem, table: PhysAddr, depth: usize, tables: &mut Vec<PhysAddr>) -> Result<(), What> {
    let bad = What::Table { pa: table };
    let (shape, note) = (F::shape().levels[depth], mem.note(table).map_err(|_| bad.clone())?);
    let slots = mem.table::<F::Slot>(table, shape.entries()).map_err(|_| bad.clone())?;
    let mut used = 0;
    for slot in slots {
        let raw = slot.load();
        used += u16::from(raw != 0);
        if let Entry::Table { next, .. } = F::decode(raw, shape.level) {
            tables.push(next);
            count::<F>(mem, next, depth + 1, tables)?;
        }
    }
    let is_sound = note.used() == used && !note.is_busy() && (used != 0 || depth == 0);
    if is_sound { Ok(()) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use kernmem_arch::EntryFormat;
    use kernmem_arch::x86::X86Level4;
    use kernmem_base::{Era, Frame, FrameOrigin, FrameSource, Level, NoFrame, NoTlb};
    use kernmem_page_alloc::Placement;
    use kernmem_pgtable::{Mapping, Sizes};

    use super::*;
    use crate::machine::Machine;

    /// Frames of the low zone in order, in the books as the tree's.
    struct Low<'o>(u64, &'o Owners);

    impl FrameSource for Low<'_> {
        fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
            self.0 += 1;
            let frame = Frame { pa: PhysAddr(self.0 * PAGE), origin: FrameOrigin::PageAllocator, zeroed: false };
            let taken = self.1.take(Pfn(self.0), 1, TABLES);
            taken.map(|()| frame).map_err(|_| NoFrame { level })
        }

        fn give_back(&mut self, _frame: PhysAddr) {}
    }

    /// A tree of which two pages are mapped is sound; a wrong word, a wrong note and a strange frame are each named.
    #[test]
    fn what_is_off_in_a_tree_is_named() {
        let owners = Owners::new(&Machine::new(Era::V6_1, Placement::Dense, 1));
        let (mem, mut slots) = (TableMem::new(), [CpuSlot::default()]);
        let book: Vec<Word> = (0..PAGES).map(|_| Word::default()).collect();
        let Ok(shared) = SharedTables::new(Tables::<X86Level4, _>::new(&mem, TableMem::ROOT), &mut slots) else {
            panic!("an empty tree can be shared")
        };
        let tree = BookedTree { shared, mem: &mem, book: &book };
        let mapping = Mapping::new(PhysAddr(1 << 30), X86Level4::attrs(X86Level4::PAGE), Sizes::PAGES);
        let mut frames = Low(0x1000, &owners);
        let mut cpu = tree.shared.cpu(0).unwrap_or_else(|| panic!("nobody has the slot"));
        let done = cpu.cursor(range(0, 2)).map(|mut cursor| cursor.map(&mut frames, &mapping));
        let Ok(Ok(stale)) = done else { panic!("{done:?}") };
        cpu.pay(stale, &mut NoTlb, &mut frames);
        assert_eq!(tree.check(&owners), Err(What::Page { va: va(0), booked: 0, found: entry(1 << 30, false) }));
        book[0].set(entry(1 << 30, false));
        book[1].set(entry((1 << 30) + PAGE, true));
        let found = entry((1 << 30) + PAGE, false);
        assert_eq!(tree.check(&owners), Err(What::Page { va: va(1), booked: found | MARKED, found }));
        book[1].set(found);
        assert_eq!(tree.check(&owners), Ok(()));
        assert_eq!(owners.take(Pfn(0x2000), 1, TABLES), Ok(()));
        assert_eq!(tree.check(&owners), Err(What::LostTable { pa: PhysAddr(0x200_0000) }));
        assert_eq!(owners.give(Pfn(0x2000), 1, TABLES, 0), Ok(()));
        let note = mem.note(PhysAddr(frames.0 * PAGE));
        note.map_or_else(|error| panic!("{error}"), |note| note.add_leaves(1));
        assert_eq!(tree.check(&owners), Err(What::Table { pa: PhysAddr(frames.0 * PAGE) }));
    }
}
