//! Tables made on demand, and splits whose leaves get attributes of their own.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::Entry;
use kernmem_arch::x86::{X86Attrs, X86Level4, bit};
use kernmem_base::{Level, NoTlb, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{MapError, Mapping, Sizes, Tables, steps};

const LINK: X86Attrs = X86Attrs(0x67);
const DATA: X86Attrs = X86Attrs(0x8000_0000_0000_0163);
const VA: VirtAddr = VirtAddr(0xffff_c900_0000_0000);

fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x18_0000)))
}

fn levels(mem: &HeapMem, root: PhysAddr, va: VirtAddr) -> Vec<(Level, u64)> {
    steps::<X86Level4, _>(mem, root, va).map(|step| step.map(|step| (step.level, step.raw)).unwrap()).collect()
}

#[test]
fn a_table_is_made_once_and_stays_empty() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let pud = tables.make_table(VA, Level::Pud, LINK, &mut mem.frames()).unwrap();
    let root = tables.root();
    assert_eq!(levels(&mem, root, VA), [(Level::Pgd, pud.0 | 0x67), (Level::Pud, 0)]);
    let free = mem.free_frames();
    assert_eq!(tables.make_table(VA, Level::Pud, LINK, &mut mem.frames()), Ok(pud));
    assert_eq!(mem.free_frames(), free);
    let pages = tables.make_table(VA, Level::Pte, LINK, &mut mem.frames()).unwrap();
    assert_eq!(mem.free_frames(), free - 2);
    assert_eq!(levels(&mem, root, VA)[2], (Level::Pmd, pages.0 | 0x67));
}

#[test]
fn a_leaf_is_in_the_way_of_a_table() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let range = VirtRange::of_size(VA, 2 << 20).unwrap();
    let mapping = Mapping::<X86Level4>::new(PhysAddr(0x20_0000), DATA, Sizes::ALL).with_table_attrs(LINK);
    let stale = tables.cursor(range).map(&mut mem.frames(), &mapping).unwrap();
    stale.forgive("nothing was mapped there");
    let error = tables.make_table(VA, Level::Pte, LINK, &mut mem.frames()).unwrap_err();
    assert_eq!(error, MapError::Occupied { va: VA, level: Level::Pmd });
}

#[test]
fn leaves_of_a_split_may_lose_a_bit() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let range = VirtRange::of_size(VA, 2 << 20).unwrap();
    let mapping = Mapping::<X86Level4>::new(PhysAddr(0x20_0000), DATA, Sizes::ALL).with_table_attrs(LINK);
    let stale = tables.cursor(range).map(&mut mem.frames(), &mapping).unwrap();
    stale.forgive("nothing was mapped there");
    let without_global = X86Attrs(DATA.0 & !bit::GLOBAL);
    let page = VirtRange { start: VA, last: VA + 0xfff };
    let (bytes, stale) =
        tables.cursor(page).split_as(&mut mem.frames(), &mut NoTlb, X86Attrs(0x63), without_global).unwrap();
    assert_eq!((bytes, stale.range()), (4096, Some(range)));
    stale.forgive("no CPU runs here");
    let last = steps::<X86Level4, _>(&mem, tables.root(), range.last).last().unwrap().unwrap();
    assert_eq!(last.entry, Entry::Leaf { base: PhysAddr(0x3f_f000), attrs: without_global });
    assert_eq!(levels(&mem, tables.root(), VA)[2].1 & 0xfff, 0x63);
}
