//! Shadow that shows one page of zeroes: which tables a range takes, and what its addresses reach.
//!
//! The ranges are those of a recorded kernel with KASAN; tables are counted by hand.

use kernmem::Image;
use kernmem::kasan::{ZeroMap, ZeroShadow};
use kernmem_arch::EntryFormat;
use kernmem_arch::x86::{X86, X86Attrs};
use kernmem_base::{Era, Granule, Level, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Symbols;
use kernmem_memblock::{Limits, Memblock, Request, VecArray};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Tables, Walk, translate};

const PAGE: u64 = 4096;
/// The image: five tables and pages of it, the root behind them.
const IMAGE: PhysAddr = PhysAddr(0x10_0000);
const ROOT: PhysAddr = PhysAddr(0x10_5000);
const FREE: PhysRange = PhysRange::new(PhysAddr(0x20_0000), PhysAddr(0x24_0000));
const SYMBOLS: &str = "ffffffff81000000 T _text\nffffffff81000000 B kasan_early_shadow_pte\n\
    ffffffff81001000 B kasan_early_shadow_pmd\nffffffff81002000 B kasan_early_shadow_pud\n\
    ffffffff81003000 B kasan_early_shadow_p4d\nffffffff81004000 B kasan_early_shadow_page\n";
const READ_ONLY: X86Attrs = X86Attrs(0x8000_0000_0000_0161);
const LINK: X86Attrs = X86Attrs(0x67);

/// What mapping a range took, and what it maps.
struct Shown {
    tables: u64,
    mem: HeapMem,
}

impl Shown {
    /// Maps the range in empty tables with `LEVELS` levels.
    fn of<const LEVELS: usize>(start: u64, end: u64) -> Self {
        let mem = HeapMem::new(PhysRange::new(IMAGE, FREE.end));
        let symbols = Symbols::parse(SYMBOLS);
        let image = Image::new(&symbols, None, IMAGE).expect("a symbol _text");
        let shadow = ZeroShadow::of_image(&image, X86::<LEVELS>::shape().levels).expect("all symbols");
        shadow.fill::<X86<LEVELS>, HeapMem>(&mem, X86Attrs(0x63), READ_ONLY).expect("tables in memory");
        let lists = || VecArray::with_capacity(128);
        let mut memblock = Memblock::new(Era::V6_1, Limits::new_64bit(Granule::K4), lists(), lists(), ());
        memblock.add(FREE.start, FREE.size()).expect("room in the list");
        let mut tables = Tables::<X86<LEVELS>, HeapMem>::new(&mem, ROOT);
        let wish = Request::new(PAGE, PAGE);
        let range = VirtRange::until(VirtAddr(start), VirtAddr(end)).expect("a range");
        let (tables, lists) = (&mut tables, &mut memblock);
        let mut map = ZeroMap { tables, memblock: lists, shadow, page: READ_ONLY, link: LINK, wish };
        map.map(range).expect("memory for tables");
        let tables = memblock.reserved().total_size() / PAGE;
        Self { tables, mem }
    }

    /// The byte of the page that an address reaches; `None` in a hole.
    fn reaches<const LEVELS: usize>(&self, va: u64) -> Option<u64> {
        match translate::<X86<LEVELS>, HeapMem>(&self.mem, ROOT, VirtAddr(va)).expect("a walk ends") {
            Walk::Mapped { pa, level, attrs, .. } => {
                assert_eq!((level, attrs), (Level::Pte, READ_ONLY), "{va:#x}");
                Some(pa.0.wrapping_sub(IMAGE.0 + 4 * PAGE))
            }
            _ => None,
        }
    }
}

/// From the root slot in which the shadow starts to the shadow of the direct map: three whole slots of 256 TiB share the
/// table below the root; of the fourth 28 TiB are whole slots of 512 GiB in one table of its own.
#[test]
fn five_levels_need_one_table_up_to_the_direct_map() {
    let (start, end) = (0xffdf_0000_0000_0000, 0xffe2_1c00_0000_0000);
    let shown = Shown::of::<5>(start, end);
    assert_eq!(shown.tables, 1);
    for va in [start, 0xffdf_fc00_0000_0000, 0xffe1_ffff_ffff_f000, 0xffe2_0000_0000_0000, end - PAGE] {
        assert_eq!(shown.reaches::<5>(va + 0x123), Some(0x123), "{va:#x}");
    }
    assert_eq!([start - 1, end].map(|va| shown.reaches::<5>(va)), [None, None]);
}

/// With four levels 34 whole slots of 512 GiB need no table.
#[test]
fn four_levels_need_no_table_up_to_the_direct_map() {
    let (start, end) = (0xffff_ec00_0000_0000, 0xffff_ed00_0000_0000);
    let shown = Shown::of::<4>(start, end);
    assert_eq!(shown.tables, 0);
    assert_eq!([start, end - 1].map(|va| shown.reaches::<4>(va)), [Some(0), Some(PAGE - 1)]);
    assert_eq!([start - 1, end].map(|va| shown.reaches::<4>(va)), [None, None]);
}

/// Behind the shadow of the CPU entry areas, which ends 288 KiB behind a GiB, to the shadow of the image, 256 MiB before
/// the end of one: a table of 1 GiB entries; for the first GiB a table and, in it, one of pages; for the last GiB a table.
/// With five levels one more between root and the first.
#[test]
fn edges_within_a_table_bring_tables() {
    let (start, end) = (0xffff_fbc0_0004_8000, 0xffff_fbff_f000_0000);
    let (four, five) = (Shown::of::<4>(start, end), Shown::of::<5>(start, end));
    assert_eq!((four.tables, five.tables), (4, 5));
    for va in [start, 0xffff_fbc0_001f_f000, 0xffff_fbc0_0020_0000, 0xffff_fbc0_4000_0000, end - PAGE] {
        assert_eq!((four.reaches::<4>(va), five.reaches::<5>(va)), (Some(0), Some(0)), "{va:#x}");
    }
    for va in [start - 1, end, end + (1 << 30)] {
        assert_eq!((four.reaches::<4>(va), five.reaches::<5>(va)), (None, None), "{va:#x}");
    }
}

/// The part of a page at the end of a range is left out, as Linux leaves it.
#[test]
fn a_part_of_a_page_is_not_mapped() {
    let start = 0xffff_fbc0_0000_0000;
    let shown = Shown::of::<4>(start, start + PAGE + 0x800);
    assert_eq!([start, start + PAGE].map(|va| shown.reaches::<4>(va)), [Some(0), None]);
    assert_eq!(shown.tables, 3);
}
