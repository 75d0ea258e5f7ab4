//! Where the shared page goes by era, and how ranges get memory, in every table form.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::AtomicU64;

use kernmem_arch::LevelShape;
use kernmem_arch::arm64::{FixmapFacts, Geometry, LayoutFacts, WithArm64};
use kernmem_arch::kasan::ShadowMap;
use kernmem_base::{Granule, PhysRead};
use kernmem_config::Symbols;
use kernmem_memblock::{Event, Limits, Observer, VecArray};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Walk, translate};

use super::*;

fn layout(era: Era, granule: Granule, va_bits: u32, kasan: Kasan) -> Layout {
    let fixmap =
        FixmapFacts { era, granule, relocatable: true, unmap_at_el0: true, ghes: false, sdei: false, vncr_slots: 0 };
    Layout::new(&LayoutFacts { era, granule, va_bits, va_bits_actual: va_bits, kasan, fixmap })
}

/// The parts for an image of 8 MiB that was not moved.
fn parts_of(era: Era, granule: Granule, va_bits: u32, kasan: Kasan) -> Vec<(u64, u64)> {
    let layout = layout(era, granule, va_bits, kasan);
    let image = VirtRange::of_size(layout.kimage, 8 << 20).unwrap();
    let image = layout.shadow_map.unwrap().pages(image, granule);
    zero_parts(era, true, &layout, image).iter().map(|part| (part.start.0, part.end().0)).collect()
}

/// The first two from recorded listings of 6.1; the others by hand from the headers' constants.
#[test]
fn the_shared_page_stands_for_what_nothing_is_mapped_in() {
    let k4 = |era, kasan| parts_of(era, Granule::K4, 48, kasan);
    assert_eq!(
        k4(Era::V6_1, Kasan::Generic),
        [(0xffff_6c00_0000_0000, 0xffff_7000_0000_0000), (0xffff_7f7f_fe00_0000, 0xffff_8000_0000_0000)]
    );
    assert_eq!(
        k4(Era::V6_1, Kasan::SwTags),
        [(0xffff_7700_0000_0000, 0xffff_7800_0000_0000), (0xffff_7fbf_ff00_0000, 0xffff_8000_0000_0000)]
    );
    // PAGE_END ffff800000000000, modules ffffa00008000000, image ffffa00010000000; modules end where the image begins.
    assert_eq!(
        k4(Era::V5_10, Kasan::Generic),
        [(0xffff_9000_0000_0000, 0xffff_9400_0100_0000), (0xffff_9400_0210_0000, 0xffff_a000_0000_0000)]
    );
    // PAGE_END ffff700000000000, modules ffff800000000000, vmalloc to fffffdffbf800000.
    assert_eq!(
        k4(Era::V6_12, Kasan::SwTags),
        [(0xffff_7700_0000_0000, 0xffff_7800_0000_0000), (0xffff_7fdf_fbf8_0000, 0xffff_8000_0000_0000)]
    );
    // PAGE_END ffff600000000000, vmalloc to ffffff7fbf800000.
    assert_eq!(
        parts_of(Era::V7_2, Granule::K16, 48, Kasan::Generic),
        [(0xffff_6c00_0000_0000, 0xffff_7000_0000_0000), (0xffff_7fef_f7f0_0000, 0xffff_8000_0000_0000)]
    );
}

#[test]
fn without_shadow_from_areas_the_page_stands_for_all_but_the_image() {
    let layout = layout(Era::V6_1, Granule::K4, 48, Kasan::Generic);
    let image = VirtRange::until(VirtAddr(0xffff_7000_0200_0000), VirtAddr(0xffff_7000_0210_0000)).unwrap();
    let parts = zero_parts(Era::V6_1, false, &layout, image);
    let ends: Vec<(u64, u64)> = parts.iter().map(|part| (part.start.0, part.end().0)).collect();
    // Modules end at ffff800008000000: their shadow at ffff700001000000.
    assert_eq!(
        ends,
        [
            (0xffff_6c00_0000_0000, 0xffff_7000_0000_0000),
            (0xffff_7000_0210_0000, 0xffff_8000_0000_0000),
            (0xffff_7000_0100_0000, 0xffff_7000_0200_0000)
        ]
    );
}

/// A shared page and tables that these tests do not look at.
fn zero_shadow(levels: &[LevelShape]) -> ZeroShadow {
    let names = ["_text", "kasan_early_shadow_page", "kasan_early_shadow_pte", "kasan_early_shadow_pmd"];
    let names = names.into_iter().chain(["kasan_early_shadow_pud", "kasan_early_shadow_p4d"]);
    let lines = names.zip(0u64..).map(|(name, at)| format!("{:x} b {name}\n", 0xffff_8000_0800_0000 + (at << 16)));
    let symbols = Symbols::parse(&lines.collect::<String>());
    ZeroShadow::of_image(&Image::new(&symbols, None, PhysAddr(0)).unwrap(), levels).unwrap()
}

/// A machine whose memory holds the tables and the shadow; its first 64K are the root.
struct Bench {
    geometry: Geometry,
    map: ShadowMap,
    linear: VirtAddr,
}

const MEMORY: PhysRange = PhysRange::new(PhysAddr(0x10_0000), PhysAddr(0x10_0000 + (8 << 20)));

impl WithArm64 for Bench {
    type Output = ();

    fn run<F: Arm64Format>(self) {
        let granule = self.geometry.granule();
        let mem = HeapMem::new(MEMORY);
        let lists = || VecArray::with_capacity(128);
        let mut memblock = Memblock::new(Era::V6_1, Limits::new_64bit(granule), lists(), lists(), ());
        memblock.add(MEMORY.start, MEMORY.size()).unwrap();
        memblock.reserve(MEMORY.start, 64 << 10).unwrap();
        let mut tables = Tables::<F, HeapMem>::new(&mem, MEMORY.start);
        let zero = zero_shadow(F::shape().levels);
        let mut shadow = Shadow {
            tables: &mut tables,
            memblock: &mut memblock,
            map: self.map,
            zero,
            granule,
            page: prot::for_output(prot::PAGE_KERNEL, self.geometry.output()),
            read_only: prot::for_output(prot::PAGE_KERNEL_RO, self.geometry.output()),
            link: prot::TABLE_STATIC,
            from: PhysAddr(0),
            not_global: None,
        };
        let page = granule.bytes();
        let per_page = 1 << self.map.scale;
        // Frames of memory: a page of shadow speaks for `per_page` of them.
        let mut give = |first: u64, last: u64| {
            let range = VirtRange { start: self.linear + first * page, last: self.linear + (last * page - 1) };
            let before = shadow.memblock.reserved_size();
            shadow.populate(range, PhysRange::new(PhysAddr(first * page), PhysAddr(last * page))).unwrap();
            (shadow.memblock.reserved_size() - before) / page
        };
        let depth = F::shape().levels.len() as u64 - 1;
        assert_eq!(give(0, 2 * per_page + 4), 3 + depth, "three pages, the last for a part, and their tables");
        assert_eq!(give(2 * per_page + 5, 5 * per_page), 3, "the page that both need is taken again");
        assert_eq!(give(0, 5 * per_page), 1, "what is mapped behind the first page ends the work");
        assert_eq!(give(7 * per_page, 7 * per_page + 1), 1, "one frame needs a page");
        let target = |index: u64| {
            let va = self.map.of(self.linear) + index * page;
            match translate::<F, _>(&mem, MEMORY.start, va).unwrap() {
                Walk::Mapped { pa, level, .. } => Some((pa, level)),
                _ => None,
            }
        };
        let mapped: Vec<Option<(PhysAddr, Level)>> = (0..8).map(target).collect();
        for index in [0, 1, 2, 3, 4, 7] {
            let (pa, level) = mapped[index].expect("a page of shadow");
            assert_eq!(level, Level::Pte);
            assert!(memblock.is_reserved(pa), "page {index} is taken");
            assert_eq!(
                mapped.iter().filter(|other| **other == Some((pa, level))).count(),
                1,
                "page {index} is its own"
            );
        }
        assert_eq!((mapped[5], mapped[6]), (None, None), "nobody asked for these");
    }
}

#[test]
fn each_page_of_shadow_is_taken_alone_in_every_table_form() {
    for geometry in Geometry::ALL {
        let (granule, bits) = (geometry.granule(), geometry.va_bits());
        for kasan in [Kasan::Generic, Kasan::SwTags] {
            let layout = layout(Era::V6_12, granule, bits, kasan);
            let map = layout.shadow_map.unwrap();
            geometry.with(Bench { geometry, map, linear: layout.page_offset });
        }
    }
}

#[test]
fn pages_go_down_in_memory_and_follow_their_tables() {
    struct First(ShadowMap);
    impl WithArm64 for First {
        type Output = ();
        fn run<F: Arm64Format>(self) {
            let mem = HeapMem::new(MEMORY);
            let lists = || VecArray::with_capacity(128);
            let mut memblock = Memblock::new(Era::V6_1, Limits::new_64bit(Granule::K4), lists(), lists(), ());
            memblock.add(MEMORY.start, MEMORY.size()).unwrap();
            memblock.reserve(MEMORY.start, 64 << 10).unwrap();
            let mut tables = Tables::<F, HeapMem>::new(&mem, MEMORY.start);
            let mut shadow = Shadow {
                tables: &mut tables,
                memblock: &mut memblock,
                map: self.0,
                zero: zero_shadow(F::shape().levels),
                granule: Granule::K4,
                page: prot::PAGE_KERNEL,
                read_only: prot::PAGE_KERNEL_RO,
                link: prot::TABLE_STATIC,
                from: PhysAddr(0),
                not_global: None,
            };
            let range = VirtRange::of_size(VirtAddr(0xffff_0000_0000_0000), 16 * 4096).unwrap();
            shadow.populate(range, PhysRange::new(PhysAddr(0), PhysAddr(16 * 4096))).unwrap();
            // From the top: a table for each of three levels, then two pages of shadow.
            let top = MEMORY.end.0;
            let mut table = MEMORY.start;
            let va = self.0.of(range.start);
            for (level, expected) in F::shape().levels.iter().zip([top - 0x1000, top - 0x2000, top - 0x3000]) {
                let raw = mem.entry::<AtomicU64>(table, level.index(va)).unwrap();
                assert_eq!(raw, expected | 3, "{:?}", level.level);
                table = PhysAddr(expected);
            }
            let leaf = |index| mem.entry::<AtomicU64>(table, index).unwrap();
            assert_eq!(
                [leaf(0), leaf(1), leaf(2)],
                [prot::PAGE_KERNEL.0 | (top - 0x4000), prot::PAGE_KERNEL.0 | (top - 0x5000), 0]
            );
        }
    }
    let map = layout(Era::V6_1, Granule::K4, 48, Kasan::Generic).shadow_map.unwrap();
    Geometry::of(12, 48).unwrap().with(First(map));
}

/// Refuses every request after so many.
struct Refuse(u64);

impl Observer for Refuse {
    fn event(&mut self, _event: Event<'_>) {}

    fn permits(&mut self, _size: u64) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

impl Witness for Refuse {}

/// Frames that the entries of `table` lead to: tables and pages.
fn reached<F: Arm64Format>(mem: &HeapMem, table: PhysAddr, depth: usize) -> u64 {
    let shape = &F::shape().levels[depth];
    let entry = |index| F::decode(mem.entry::<F::Slot>(table, index).unwrap(), shape.level);
    let below = |entry| match entry {
        Entry::Table { next, .. } => 1 + reached::<F>(mem, next, depth + 1),
        Entry::Leaf { .. } => 1,
        Entry::Absent { .. } | Entry::Reserved { .. } => 0,
    };
    (0..shape.entries()).map(|index| below(entry(index))).sum()
}

/// Two pages of shadow and three tables are five requests; a range of zeroes that ends inside a page table takes one more.
#[test]
fn a_request_that_fails_loses_nothing() {
    struct Sweep(ShadowMap);
    impl WithArm64 for Sweep {
        type Output = ();
        fn run<F: Arm64Format>(self) {
            for permitted in 0.. {
                let mem = HeapMem::new(MEMORY);
                let lists = || VecArray::with_capacity(128);
                let limits = Limits::new_64bit(Granule::K4);
                let mut memblock = Memblock::new(Era::V6_1, limits, lists(), lists(), Refuse(permitted));
                memblock.add(MEMORY.start, MEMORY.size()).unwrap();
                memblock.reserve(MEMORY.start, 64 << 10).unwrap();
                let mut tables = Tables::<F, HeapMem>::new(&mem, MEMORY.start);
                let zero = zero_shadow(F::shape().levels);
                let mut shadow = Shadow {
                    tables: &mut tables,
                    memblock: &mut memblock,
                    map: self.0,
                    zero,
                    granule: Granule::K4,
                    page: prot::PAGE_KERNEL,
                    read_only: prot::PAGE_KERNEL_RO,
                    link: prot::TABLE_STATIC,
                    from: PhysAddr(0),
                    not_global: None,
                };
                let memory = VirtRange::of_size(VirtAddr(0xffff_0000_0000_0000), 16 * 4096).unwrap();
                let zeroes = VirtRange::of_size(VirtAddr(0xffff_6000_0020_0000), 4 * 4096).unwrap();
                let done = shadow
                    .populate(memory, PhysRange::new(PhysAddr(0), PhysAddr(16 * 4096)))
                    .and_then(|()| shadow.show_zeroes(zeroes));
                let taken = memblock.reserved_size() / 4096 - 16;
                if done.is_ok() {
                    assert_eq!((permitted, taken), (6, 6));
                    return;
                }
                assert!(matches!(done, Err(BootError::Memblock(_) | BootError::Map(_))), "{done:?}");
                assert_eq!(taken, permitted, "what was given is taken");
                assert_eq!(reached::<F>(&mem, MEMORY.start, 0), taken, "and in the tables");
            }
        }
    }
    let map = layout(Era::V6_1, Granule::K4, 48, Kasan::Generic).shadow_map.unwrap();
    Geometry::of(12, 48).unwrap().with(Sweep(map));
}
