//! Conversions of each model: which words they read, counted, and that both directions undo each other.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use kernmem_base::{Era, Granule, Pfn, VirtAddr};
use kernmem_sparse::{
    Conversion, ConversionJob, FlatMap, Geometry, GeometryFacts, LentStore, Memmap, Model, Needs, Nid, References,
    Root, Section, SectionNr, Sections, SparseArch, StoreFull, Tables, VecStore, VirtualMap, Words,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

fn geometry(arch: SparseArch, era: Era, granule: Granule, model: Model) -> Geometry {
    Geometry::new(GeometryFacts { model, ..GeometryFacts::new(arch, era, granule) }).unwrap()
}

/// Sections with memory, brought up one by one: each has its own array.
fn sections(geometry: Geometry, present: &[u64], map: impl Fn(SectionNr) -> VirtAddr) -> Sections<VecStore> {
    let mut ours = Sections::new(geometry, VecStore::new());
    for &nr in present {
        let (first, past) = (geometry.first_pfn(SectionNr(nr)), geometry.first_pfn(SectionNr(nr + 1)));
        ours.memory_present(Nid(0), first, past, |_| {}).unwrap();
    }
    let groups: Vec<_> = ours.groups().collect();
    for group in groups {
        ours.bring_up(group, |nr| Some(map(nr))).unwrap();
    }
    ours
}

/// A word that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    Root(usize),
    Word(usize),
}

/// Tables that note each load.
#[derive(Clone, Copy)]
struct Traced<'t> {
    tables: Tables<'t>,
    reads: &'t RefCell<Vec<Read>>,
}

impl Words for Traced<'_> {
    fn root(&self, root: usize) -> Root {
        self.reads.borrow_mut().push(Read::Root(root));
        self.tables.root(root)
    }

    fn word(&self, place: usize) -> u64 {
        self.reads.borrow_mut().push(Read::Word(place));
        self.tables.word(place)
    }
}

/// What each of the four conversions of a frame reads of the tables, and how often the flags are asked.
struct Watch<'t> {
    pfn: Pfn,
    nr: SectionNr,
    reads: &'t RefCell<Vec<Read>>,
}

impl ConversionJob for Watch<'_> {
    type Output = [(Vec<Read>, u32); 4];

    fn run(self, conversion: impl Conversion) -> Self::Output {
        let asked = Cell::new(0);
        let flags = || {
            asked.set(asked.get() + 1);
            self.nr
        };
        let seen = || (self.reads.take(), asked.take());
        let page = conversion.page(self.pfn);
        let bare = seen();
        assert_eq!(conversion.pfn_to_page(self.pfn), Some(page));
        let checked = seen();
        assert_eq!(conversion.pfn(page, flags), self.pfn);
        let back = seen();
        assert_eq!(conversion.page_to_pfn(page, flags), Some(self.pfn));
        [bare, checked, back, seen()]
    }
}

/// Frame 7 of section `nr` is found by exactly these reads; back the flags are loaded first.
#[track_caller]
fn check(geometry: Geometry, present: &[u64], nr: u64, expected: &[Read]) {
    let map = |nr: SectionNr| VirtAddr(0xc000_0000 + nr.0 * geometry.section_memmap_bytes());
    let ours = sections(geometry, present, map);
    let reads = RefCell::new(Vec::new());
    let pfn = Pfn(geometry.first_pfn(SectionNr(nr)).0 + 7);
    let words = Traced { tables: ours.tables(), reads: &reads };
    let seen = ours.convert_through(words, Watch { pfn, nr: SectionNr(nr), reads: &reads });
    let [bare, checked, back, checked_back] = seen;
    assert_eq!((bare.0.as_slice(), bare.1), (expected, 0));
    assert_eq!((checked.0.as_slice(), checked.1), (expected, 0));
    assert_eq!((back.0.as_slice(), back.1), (expected, 1));
    assert_eq!((checked_back.0.as_slice(), checked_back.1), (expected, 1));
    let told = (Memmap::Sections(&ours).pfn_to_page_references(), Memmap::Sections(&ours).page_to_pfn_references());
    let counted = References { sections: expected.len() as u32, ..told.0 };
    assert_eq!(told, (counted, References { page: 1, ..counted }));
}

/// The word of a section stands at its number: one load.
#[test]
fn an_array_by_number_is_read_once() {
    use Granule::{K4, K16, K64};
    let word = |nr: u64| [Read::Word(nr as usize)];
    check(geometry(SparseArch::X86_64, Era::V6_1, K4, Model::Static), &[0, 3, 70_000], 70_000, &word(70_000));
    check(geometry(SparseArch::Arm64, Era::V5_10, K4, Model::Static), &[1, 200], 200, &word(200));
    check(geometry(SparseArch::Arm64, Era::V6_1, K16, Model::Static), &[1, 5000], 1, &word(1));
    check(geometry(SparseArch::Arm64, Era::V7_2, K64, Model::Static), &[2, 9000], 9000, &word(9000));
    check(geometry(SparseArch::I386Pae, Era::V6_1, K4, Model::Static), &[0, 7], 7, &word(7));
    check(geometry(SparseArch::I386, Era::V7_2, K4, Model::Static), &[0, 15], 15, &word(15));
}

/// A page of descriptors is a root: 256 of 16 bytes with 4K pages, 1,024 with 16K, 4,096 with 64K, 512 of 8 on i386.
/// Roots lie in the order of their making: section 0 makes the first, the next one another.
#[test]
fn behind_roots_two_words_are_read() {
    use Granule::{K4, K16, K64};
    let reads = |root: usize, place: usize| [Read::Root(root), Read::Word(place)];
    let x86 = geometry(SparseArch::X86_64, Era::V6_1, K4, Model::Extreme);
    check(x86, &[0, 70_000], 0, &reads(0, 0));
    check(x86, &[0, 255], 255, &reads(0, 255));
    check(x86, &[0, 70_000], 70_000, &reads(273, 256 + 112)); // 273 * 256 + 112
    let arm64 = |era, granule| geometry(SparseArch::Arm64, era, granule, Model::Extreme);
    check(arm64(Era::V5_10, K4), &[1, 300], 300, &reads(1, 256 + 44));
    check(arm64(Era::V6_12, K16), &[1, 5000], 5000, &reads(4, 1024 + 904));
    check(arm64(Era::V6_1, K64), &[2, 9000], 9000, &reads(2, 4096 + 808));
    check(geometry(SparseArch::I386Pae, Era::V6_1, K4, Model::Extreme), &[0, 7], 7, &reads(0, 7));
    let wide = GeometryFacts { page_ext: true, ..*x86.facts() };
    check(Geometry::new(wide).unwrap(), &[0, 200], 200, &reads(1, 128 + 72));
}

/// The number of a section that never was leads beyond all tables, by as many reads.
#[test]
fn an_absent_section_is_refused_by_the_same_reads() {
    for model in [Model::Static, Model::Extreme] {
        let geometry = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4, model);
        let ours = sections(geometry, &[2, 600], |nr| VirtAddr(nr.0 << 21));
        for (nr, reads_of_roots) in
            [(1, 2), (3, 2), (300, 2), (599, 2), (601, 2), (1000, 2), (1 << 19, 2), (!0 >> 15, 2)]
        {
            let reads = RefCell::new(Vec::new());
            let words = Traced { tables: ours.tables(), reads: &reads };
            let found = ours.convert_through(words, Refused { pfn: Pfn(nr << 15), nr: SectionNr(nr) });
            assert_eq!(found, (None, None), "{model:?} {nr}");
            let expected = 2 * if model == Model::Static { 1 } else { reads_of_roots };
            assert_eq!(reads.borrow().len(), expected, "{model:?} {nr}");
        }
    }
}

struct Refused {
    pfn: Pfn,
    nr: SectionNr,
}

impl ConversionJob for Refused {
    type Output = (Option<VirtAddr>, Option<Pfn>);

    fn run(self, conversion: impl Conversion) -> Self::Output {
        (conversion.pfn_to_page(self.pfn), conversion.page_to_pfn(VirtAddr(0x4000_0000), || self.nr))
    }
}

/// A flat array of 10 frames from frame 5: nothing before, nothing behind.
#[test]
fn a_flat_array_refuses_what_lies_outside() {
    for page_bytes in [32, 40, 56, 64] {
        let map = VirtAddr(0x1000);
        let flat = Memmap::<VecStore>::Flat(FlatMap { map, first: Pfn(5), frames: 10, page_bytes, variable: true });
        let none = || SectionNr(0);
        assert_eq!([4, 15, 0, u64::MAX].map(|pfn| flat.pfn_to_page(Pfn(pfn))), [None; 4]);
        assert_eq!(flat.pfn_to_page(Pfn(14)), Some(VirtAddr(0x1000 + 9 * page_bytes)));
        assert_eq!(flat.page_to_pfn(VirtAddr(0x1000 + 9 * page_bytes), none), Some(Pfn(14)));
        let outside = [0x1000 - page_bytes, 0x1000 + 10 * page_bytes, 0x1001, 0];
        assert_eq!(outside.map(|page| flat.page_to_pfn(VirtAddr(page), none)), [None; 4]);
    }
}

/// A descriptor of section 3 whose flags are said to name section 2: the frame would lie outside of section 2.
#[test]
fn a_descriptor_of_another_section_is_refused() {
    for model in [Model::Static, Model::Extreme] {
        let geometry = geometry(SparseArch::X86_64, Era::V6_1, Granule::K4, model);
        let ours = sections(geometry, &[2, 3], |nr| VirtAddr(0xffff_ea00_0000_0000 + (nr.0 << 21)));
        let page = ours.pfn_to_page(Pfn((3 << 15) + 9)).unwrap();
        assert_eq!(ours.page_to_pfn(page, SectionNr(3)), Some(Pfn((3 << 15) + 9)));
        assert_eq!(ours.page_to_pfn(page, SectionNr(2)), None);
    }
}

/// An array at 10000000 of frames from e00000 on: coded 10000000 - e00000 * 32 is f4000000 in 32 bits, and the sum is to
/// wrap back.
#[test]
fn addresses_of_32_bits_wrap_there() {
    for page_bytes in [32, 40] {
        let facts = GeometryFacts { page_bytes, ..GeometryFacts::new(SparseArch::I386Pae, Era::V6_1, Granule::K4) };
        let ours = sections(Geometry::new(facts).unwrap(), &[112], |_| VirtAddr(0x1000_0000));
        let page = VirtAddr(0x1000_0000 + 3 * page_bytes);
        let got = Memmap::Sections(&ours).convert(Both { pfn: Pfn(0xe0_0003), nr: SectionNr(112) });
        assert_eq!(got, (page, Some(page), Pfn(0xe0_0003), Some(Pfn(0xe0_0003)), None));
    }
}

/// All four conversions of a frame, and what becomes of an address one byte further.
struct Both {
    pfn: Pfn,
    nr: SectionNr,
}

impl ConversionJob for Both {
    type Output = (VirtAddr, Option<VirtAddr>, Pfn, Option<Pfn>, Option<Pfn>);

    fn run(self, conversion: impl Conversion) -> Self::Output {
        let page = conversion.page(self.pfn);
        let nr = || self.nr;
        let back = (conversion.pfn(page, nr), conversion.page_to_pfn(page, nr));
        (page, conversion.pfn_to_page(self.pfn), back.0, back.1, conversion.page_to_pfn(page + 1, nr))
    }
}

fn machines() -> impl Strategy<Value = GeometryFacts> {
    use Granule::{K4, K16, K64};
    let kinds = vec![
        (SparseArch::X86_64, K4, vec![56, 64]),
        (SparseArch::Arm64, K4, vec![56, 64]),
        (SparseArch::Arm64, K16, vec![64]),
        (SparseArch::Arm64, K64, vec![64]),
        (SparseArch::I386Pae, K4, vec![32, 40]),
        (SparseArch::I386, K4, vec![32, 40]),
    ];
    let eras = prop::sample::select(vec![Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2]);
    (prop::sample::select(kinds), eras, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(kind, era, size, page_ext)| {
            let (arch, granule, sizes) = kind;
            GeometryFacts { page_ext, page_bytes: *size.get(&sizes), ..GeometryFacts::new(arch, era, granule) }
        },
    )
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    /// Against a naive map from sections to arrays, which lie anywhere and in no order.
    #[test]
    fn both_directions_undo_each_other_and_holes_are_refused(
        facts in machines(),
        picks in prop::collection::vec((0..3000_u64, 0..64_u64), 1..12),
        others in prop::collection::vec(any::<u64>(), 8),
        within: u64,
    ) {
        for model in [Model::Static, Model::Extreme, Model::Vmemmap] {
            let geometry = Geometry::new(GeometryFacts { model, ..facts }).unwrap();
            let past = geometry.nr_mem_sections().min(3000); // up to a dozen roots
            let naive: BTreeMap<u64, u64> = picks
                .iter()
                .map(|(pick, at)| {
                    // A section's array may lie anywhere in low memory, aligned as Linux aligns it.
                    let arrays = geometry.section_memmap_bytes().next_multiple_of(4096);
                    (pick % past, 0xc000_0000 + at * arrays.min(1 << 23))
                })
                .collect();
            let present: Vec<u64> = naive.keys().copied().collect();
            let ours = sections(geometry, &present, |nr| VirtAddr(naive[&nr.0]));
            let within = within & (geometry.pages_per_section() - 1);
            for (&nr, &map) in &naive {
                let pfn = Pfn(geometry.first_pfn(SectionNr(nr)).0 + within);
                let page = VirtAddr(map + within * geometry.page_bytes());
                let got = Memmap::Sections(&ours).convert(Both { pfn, nr: SectionNr(nr) });
                prop_assert_eq!(got, (page, Some(page), pfn, Some(pfn), None));
            }
            let near = present.iter().flat_map(|&nr| [nr.wrapping_sub(1), nr + 1]);
            for nr in near.chain(others.iter().map(|other| other >> 15)).filter(|nr| !naive.contains_key(nr)) {
                let pfn = Pfn((nr << geometry.pfn_section_shift()).wrapping_add(within));
                if naive.contains_key(&geometry.section_of(pfn).0) {
                    continue; // the number was too large to be shifted
                }
                prop_assert_eq!(ours.pfn_to_page(pfn), None);
                prop_assert_eq!(ours.page_to_pfn(VirtAddr(0xc000_0000), SectionNr(nr)), None);
                prop_assert!(!ours.pfn_valid(pfn, |_| true));
            }
        }
    }

    #[test]
    fn computed_models_undo_themselves_for_every_size(
        page_bytes in prop::sample::select(vec![32_u64, 40, 56, 64, 4096]),
        at in 0..1_u64 << 40,
        first in 0..1_u64 << 36,
        index in 0..1_u64 << 36,
    ) {
        let nr = SectionNr(0);
        let flat = FlatMap { map: VirtAddr(at), first: Pfn(first), frames: 1 << 36, page_bytes, variable: true };
        let pfn = Pfn(first + index);
        let page = VirtAddr(at + index * page_bytes);
        let expected = (page, Some(page), pfn, Some(pfn), None);
        prop_assert_eq!(Memmap::<VecStore>::Flat(flat).convert(Both { pfn, nr }), expected);
        let map = VirtualMap::starting_at(VirtAddr(at), Pfn(first), page_bytes, true);
        prop_assert_eq!(Memmap::<VecStore>::Virtual(map).convert(Both { pfn, nr }), expected);
    }
}

/// Section 5 of i386 with PAE: six descriptors in an array by number, no place for roots; one less is too few.
#[test]
fn a_lent_array_reaches_to_the_highest_section() {
    let geometry = geometry(SparseArch::I386Pae, Era::V6_1, Granule::K4, Model::Static);
    let range = (Pfn(5 << 17), Pfn((5 << 17) + 1));
    let needs = Needs::of(&geometry, [range]);
    assert_eq!((needs.roots, needs.sections), (0, 6));
    for missing in [0, 1] {
        let mut descriptors = vec![Section::default(); needs.sections as usize - missing];
        let mut usage = vec![0; needs.usage_words as usize];
        let store = LentStore::new(&mut [], &mut descriptors, &mut usage);
        let mut ours = Sections::new(geometry, store);
        let mut roots = 0;
        let done = ours.memory_present(Nid(0), range.0, range.1, |_| roots += 1);
        assert_eq!(done.err(), (missing == 1).then_some(StoreFull::Root { root: 0 }));
        assert_eq!((ours.present_count(), roots), (1 - missing as u64, 0));
    }
}
