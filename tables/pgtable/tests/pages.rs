//! Pages by themselves: what a form proves, where runs of pages stop, and what a cache of tables must forget.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_arch::arm64::{Arm64, Arm64Attrs};
use kernmem_arch::i386::I386Level2;
use kernmem_arch::x86::{X86Attrs, X86Level4};
use kernmem_arch::{EncodeError, EntryFormat};
use kernmem_base::{
    Frame, FrameSource, Level, NoFrame, NoTlb, PIECE, PhysAddr, PhysMem, PhysRange, Tlb, VirtAddr, VirtRange,
};
use kernmem_pgtable::heap::{HeapFrames, HeapMem};
use kernmem_pgtable::{CachedTables, MapError, Mapping, PageForm, Sizes, Stale, Tables, Walk, steps, translate};

const DATA: X86Attrs = X86Attrs(0x8000_0000_0000_0163);
const LINK: X86Attrs = X86Attrs(0x63);
const BASE: VirtAddr = VirtAddr(0xffff_8000_4000_0000);
const FRAMES: usize = 64;

fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr((FRAMES as u64) << 12)))
}

fn range(start: u64, bytes: u64) -> VirtRange {
    VirtRange::of_size(BASE + start, bytes).unwrap()
}

fn form() -> PageForm<X86Level4> {
    PageForm::new(DATA).unwrap().with_table_attrs(LINK)
}

/// The raw entry that ends the path to `va`.
fn entry(mem: &HeapMem, root: PhysAddr, va: VirtAddr) -> (Level, u64) {
    let step = steps::<X86Level4, _>(mem, root, va).last().unwrap().unwrap();
    (step.level, step.raw)
}

#[test]
fn attributes_that_make_no_page_make_no_form() {
    assert_eq!(PageForm::<X86Level4>::new(X86Attrs(0x162)).unwrap_err(), EncodeError { level: Level::Pte, raw: 0x162 });
    assert!(PageForm::<X86Level4>::new(X86Attrs(0x1163)).is_err(), "an address is no attribute");
    assert!(PageForm::<I386Level2>::new(DATA).is_err(), "32 bits have no NX");
    // one of a group is made a page by itself
    let group = PageForm::<Arm64<12, 48>>::new(Arm64Attrs(0x00f8_0000_0000_0703)).unwrap();
    assert_eq!(
        format!("{group:?}"),
        format!("{:?}", PageForm::<Arm64<12, 48>>::new(Arm64Attrs(0x00e8_0000_0000_0703)).unwrap())
    );
}

#[test]
fn pages_lead_to_the_frames_that_they_were_given_over_the_end_of_a_table() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let frames = [0x7_3000_u64, 0xf_ffff_f000, 0, 0x5000, 0x4000];
    let mut cursor = tables.cursor(range(0x1f_d000, 0x10_0000));
    cursor.map_pages(&mut mem.frames(), &form(), &frames, |pa| PhysAddr(*pa)).unwrap();
    assert_eq!(cursor.position(), Some(BASE + 0x20_2000));
    for (page, frame) in frames.iter().enumerate() {
        let va = BASE + 0x1f_d000 + page as u64 * 0x1000;
        assert_eq!(entry(&mem, tables.root(), va), (Level::Pte, frame | DATA.0));
    }
    let used =
        |va| mem.note(steps::<X86Level4, _>(&mem, tables.root(), va).last().unwrap().unwrap().table).unwrap().used();
    assert_eq!((used(BASE), used(BASE + 0x20_0000)), (3, 2));
    assert_eq!(FRAMES - mem.free_frames(), 5);
}

#[test]
fn a_run_of_pages_is_refused_whole_before_anything_is_written() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let mut map = |run: VirtRange, pages: &[u64]| {
        let mut cursor = tables.cursor(run);
        let done = cursor.map_pages(&mut mem.frames(), &form(), pages, |pa| PhysAddr(*pa));
        assert_eq!((cursor.position(), mem.free_frames()), (Some(run.start), FRAMES - 1));
        done
    };
    assert_eq!(map(range(0, 0x2000), &[0, 0x1000, 0x2000]), Err(MapError::PastEnd));
    let misaligned = MapError::Misaligned { va: BASE + 0x1000, pa: PhysAddr(0x1800) };
    assert_eq!(map(range(0, 0x2000), &[0x1000, 0x1800]), Err(misaligned));
    let encode = EncodeError { level: Level::Pte, raw: 1 << 52 | DATA.0 };
    assert_eq!(map(range(0, 0x2000), &[0x1000, 1 << 52]), Err(MapError::Encode(encode)));
    assert!(matches!(map(range(0x800, 0x2000), &[0x1000]), Err(MapError::Misaligned { .. })));
    assert_eq!(map(range(0, 0x2000), &[]), Ok(()));
}

#[test]
fn a_run_of_pages_may_end_with_the_address_space() {
    let mem = memory();
    let mut tables = Tables::<X86Level4, _>::new(&mem, mem.take_root());
    let top = VirtRange { start: VirtAddr(!0x1fff), last: VirtAddr(!0) };
    let mut cursor = tables.cursor(top);
    cursor.map_pages(&mut mem.frames(), &form(), &[0x1000, 0x9000_u64], |pa| PhysAddr(*pa)).unwrap();
    assert_eq!(cursor.position(), None);
    assert_eq!(cursor.map_pages(&mut mem.frames(), &form(), &[0_u64], |pa| PhysAddr(*pa)), Err(MapError::PastEnd));
    assert_eq!(entry(&mem, tables.root(), VirtAddr(!0)), (Level::Pte, 0x9000 | DATA.0));
}

/// A frame source with `left` frames.
struct Few<'m>(HeapFrames<'m>, usize);

impl FrameSource for Few<'_> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        self.1 = self.1.checked_sub(1).ok_or(NoFrame { level })?;
        self.0.take(level)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        self.1 += 1;
        self.0.give_back(frame);
    }
}

/// Maps pages over the end of a root entry with every number of frames; a prefix is there, nothing leaks.
fn sweep<F: EntryFormat>(attrs: u64) {
    let granule = F::shape().granule;
    let page = granule.bytes();
    let start = F::shape().root_range(1, true).start - 2 * page;
    let pages: Vec<PhysAddr> = (0..5).map(|number| PhysAddr(0x4000_0000 + (7 * number % 5) * page)).collect();
    let form = PageForm::<F>::new(F::attrs(attrs)).unwrap();
    let below = F::shape().levels.len() - 1;
    for left in 0..=2 * below {
        let mem = HeapMem::with_frames(PhysRange::new(PhysAddr(0), PhysAddr(FRAMES as u64 * page)), granule);
        let mut tables = Tables::<F, _>::new(&mem, mem.take_root());
        let run = VirtRange::of_size(start, 5 * page).unwrap();
        let mut cursor = tables.cursor(run);
        let done = cursor.map_pages(&mut Few(mem.frames(), left), &form, &pages, |pa| *pa);
        let mapped: usize = match left / below {
            0 => 0,
            1 => 2,
            _ => 5,
        };
        assert_eq!(done.is_ok(), mapped == 5, "{left}: {done:?}");
        assert_eq!(cursor.position(), (mapped < 5).then(|| start + mapped as u64 * page), "{left}");
        assert_eq!(
            FRAMES - mem.free_frames(),
            1 + mapped.div_ceil(3) * below,
            "{left}: tables that hold nothing went back"
        );
        for (number, pa) in pages.iter().enumerate() {
            let walk = translate::<F, _>(&mem, tables.root(), start + number as u64 * page + 1).unwrap();
            match walk {
                Walk::Mapped { pa: found, .. } => assert_eq!((found, number < mapped), (*pa + 1, true)),
                Walk::Hole { .. } => assert!(number >= mapped, "{left}"),
            }
        }
        tables.cursor(run).unmap().unwrap().pay(&mut NoTlb, &mut tables, &mut mem.frames());
        assert_eq!(mem.free_frames(), FRAMES - 1);
    }
}

#[test]
fn a_run_of_pages_that_lacks_a_frame_leaves_a_prefix() {
    sweep::<X86Level4>(DATA.0);
    sweep::<I386Level2>(0x163);
    sweep::<Arm64<12, 48>>(0x00e8_0000_0000_0703);
    sweep::<Arm64<14, 36>>(0x00e8_0000_0000_0703);
    sweep::<Arm64<16, 52>>(0x00e8_0000_0000_0703);
}

fn cached(mem: &HeapMem) -> CachedTables<'_, X86Level4, HeapMem> {
    CachedTables::new(Tables::new(mem, mem.take_root()))
}

fn mapped(tables: &mut CachedTables<'_, X86Level4, HeapMem>, va: VirtAddr) -> Option<PhysAddr> {
    match tables.translate(va).unwrap() {
        Walk::Mapped { pa, .. } => Some(pa),
        Walk::Hole { .. } => None,
    }
}

#[test]
fn a_table_that_was_given_back_is_forgotten() {
    let mem = memory();
    let mut tables = cached(&mem);
    tables.map_page(BASE, PhysAddr(0x7000), &form(), &mut mem.frames()).unwrap();
    assert_eq!(mapped(&mut tables, BASE + 9), Some(PhysAddr(0x7009)));
    // the last page of its table takes three tables with it, which hold other tables afterwards
    let stale = tables.unmap_page(BASE).unwrap();
    assert_eq!((stale.range(), stale.frees_tables()), (Some(range(0, 0x1000)), true));
    tables.pay(stale, &mut NoTlb, &mut mem.frames());
    assert_eq!(mem.free_frames(), FRAMES - 1);
    let elsewhere = BASE + (1 << 40);
    tables.map_page(elsewhere, PhysAddr(0x9000), &form(), &mut mem.frames()).unwrap();
    assert_eq!((mapped(&mut tables, BASE), mapped(&mut tables, elsewhere)), (None, Some(PhysAddr(0x9000))));
    tables.map_page(BASE, PhysAddr(0xb000), &form(), &mut mem.frames()).unwrap();
    assert_eq!(
        (mapped(&mut tables, BASE), mapped(&mut tables, elsewhere)),
        (Some(PhysAddr(0xb000)), Some(PhysAddr(0x9000)))
    );
}

#[test]
fn a_page_beside_others_goes_with_a_debt_and_without_its_table() {
    let mem = memory();
    let mut tables = cached(&mem);
    for page in 0..2 {
        tables.map_page(BASE + page * 0x1000, PhysAddr(0x7000), &form(), &mut mem.frames()).unwrap();
    }
    let stale = tables.unmap_page(BASE + 0x1fff).unwrap();
    assert_eq!((stale.range(), stale.frees_tables()), (Some(range(0x1000, 0x1000)), false));
    stale.forgive("no CPU runs with these tables");
    assert_eq!(tables.unmap_page(BASE + 0x1fff), Ok(Stale::default()), "a hole");
    let again = tables.map_page(BASE + 5, PhysAddr(0x7000), &form(), &mut mem.frames());
    assert_eq!(again, Err(MapError::Occupied { va: BASE, level: Level::Pte }));
}

/// A cache that must not be flushed.
struct NoFlush;

impl Tlb for NoFlush {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        panic!("flush of {range:?}");
    }
}

#[test]
fn a_collapsed_table_is_forgotten_and_a_split_one_is_found() {
    let mem = memory();
    let mut tables = cached(&mem);
    let mapping = Mapping::<X86Level4>::new(PhysAddr(0x4000_0000), DATA, Sizes::PAGES).with_table_attrs(LINK);
    let block = range(0, 2 << 20);
    tables.cursor(block).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    assert_eq!(mapped(&mut tables, BASE + 0x5000), Some(PhysAddr(0x4000_5000)));
    let stale = tables.cursor(block).collapse(Level::Pmd, &mut NoFlush).unwrap();
    tables.pay(stale, &mut NoTlb, &mut mem.frames());
    // the frame of the dead table is the next one handed out: it says something else from then on
    tables.map_page(BASE + (1 << 30), PhysAddr(0x9000), &form(), &mut mem.frames()).unwrap();
    assert_eq!(mapped(&mut tables, BASE + 0x5000), Some(PhysAddr(0x4000_5000)));
    let inside = MapError::Inside { va: BASE + 0x5000, level: Level::Pmd };
    assert_eq!(tables.unmap_page(BASE + 0x5000), Err(inside), "a block is no page");
    let (bytes, stale) = tables.cursor(block).split(&mut mem.frames(), &mut NoFlush, LINK).unwrap();
    stale.forgive("no CPU runs with these tables");
    assert_eq!(
        (bytes, tables.unmap_page(BASE + 0x5000).map(|stale| stale.range())),
        (4096, Ok(Some(range(0x5000, 0x1000))))
    );
    assert_eq!(mapped(&mut tables, BASE + 0x5000), None);
}

#[test]
fn an_entry_set_by_hand_and_another_tree_make_a_cache_forget() {
    let mem = memory();
    let mut tables = cached(&mem);
    tables.map_page(BASE, PhysAddr(0x7000), &form(), &mut mem.frames()).unwrap();
    assert_eq!(mapped(&mut tables, BASE), Some(PhysAddr(0x7000)));
    let pmd = steps::<X86Level4, _>(&mem, tables.tables().root(), BASE).nth(2).unwrap().unwrap();
    let old = tables.tables_mut().set_entry(pmd.table, 2, pmd.index, 0x4000_00e3).unwrap();
    assert_eq!(mapped(&mut tables, BASE + 0x1234), Some(PhysAddr(0x4000_1234)));
    assert_eq!(old, pmd.raw);
    let mut other = Tables::new(&mem, mem.take_root());
    core::mem::swap(tables.tables_mut(), &mut other);
    assert_eq!(mapped(&mut tables, BASE + 0x1234), None);
    core::mem::swap(tables.tables_mut(), &mut other);
    assert_eq!(mapped(&mut tables, BASE + 0x1234), Some(PhysAddr(0x4000_1234)));
}

/// Pages on both sides of every seam between pieces of one table are told apart.
fn pieces<F: EntryFormat>(base: VirtAddr, data: u64) {
    let last = *F::shape().levels.last().unwrap();
    let mem = HeapMem::with_frames(PhysRange::new(PhysAddr(0), PhysAddr(8 << last.shift)), F::shape().granule);
    let root = mem.take_root();
    let mut tables = CachedTables::<F, _>::new(Tables::new(&mem, root));
    let form = PageForm::new(F::attrs(data)).unwrap();
    let seams = (0..last.entries()).step_by(PIECE).flat_map(|first| [first, first + PIECE - 1]);
    let pages: Vec<(VirtAddr, PhysAddr)> =
        seams.map(|page| (base + ((page as u64) << last.shift), PhysAddr((page as u64 + 3) << last.shift))).collect();
    for &(va, pa) in &pages {
        tables.map_page(va, pa, &form, &mut mem.frames()).unwrap();
    }
    for &(va, pa) in pages.iter().chain(&pages) {
        let walk = Walk::Mapped { pa: pa + 7, level: last.level, attrs: F::attrs(data) };
        assert_eq!(tables.translate(va + 7), Ok(walk), "{va:?}");
        assert_eq!(translate::<F, _>(&mem, root, va + 7), Ok(walk));
        assert!(tables.map_page(va, pa, &form, &mut mem.frames()).is_err(), "{va:?} is taken");
    }
    for (left, &(va, _)) in (0..pages.len()).rev().zip(&pages) {
        let stale = tables.unmap_page(va).unwrap();
        assert_eq!(stale.frees_tables(), left == 0, "{va:?}");
        tables.pay(stale, &mut NoTlb, &mut mem.frames());
        assert_eq!(tables.translate(va).map(|walk| matches!(walk, Walk::Hole { .. })), Ok(true));
    }
}

#[test]
fn tables_of_any_length_are_remembered_by_pieces() {
    pieces::<X86Level4>(BASE, DATA.0);
    pieces::<I386Level2>(VirtAddr(0xc000_0000), 0x163);
    pieces::<Arm64<14, 47>>(BASE, 0x00e8_0000_0000_0703);
    pieces::<Arm64<16, 42>>(VirtAddr(0xffff_fe00_0000_0000), 0x00e8_0000_0000_0703);
}
