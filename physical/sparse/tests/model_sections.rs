//! Random operations on sections and on a naive map of subsections; after each, the numbered invariants.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use std::collections::BTreeMap;

use kernmem_base::{Era, Granule, Pfn, VirtAddr};
use kernmem_sparse::{
    ActivateError, FlatMap, Geometry, GeometryFacts, MapFate, Memmap, Model, Nid, SectionNr, Sections, SparseArch,
    VecStore, VirtualMap,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
const SECTION: u64 = 1 << 15;
const SUBSECTION: u64 = 512;
const PER_SECTION: u64 = SECTION / SUBSECTION;
const SECTIONS: u64 = 600; // over two roots and a half

fn page(pfn: Pfn) -> VirtAddr {
    VirtAddr(VMEMMAP + pfn.0 * 64)
}

fn geometry(era: Era, model: Model) -> Geometry {
    let facts = GeometryFacts::new(SparseArch::X86_64, era, Granule::K4);
    Geometry::new(GeometryFacts { model, ..facts }).unwrap()
}

/// A section as the naive map has it.
#[derive(Clone, Debug)]
struct Naive {
    nid: u32,
    early: bool,
    mapped: bool,
    parts: [bool; PER_SECTION as usize],
}

#[derive(Clone, Debug)]
enum Step {
    Present { nid: u32, first: u64, frames: u64 },
    BringUp,
    Activate { at: u64, parts: u64 },
    Deactivate { at: u64, parts: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let piece = || (0..SECTIONS * PER_SECTION, prop_oneof![1..4_u64, Just(PER_SECTION)]);
    // Few sections are touched often, so that pieces meet.
    let near = || (0..6 * PER_SECTION, prop_oneof![1..20_u64, Just(PER_SECTION)]);
    let early = (0..3_u32, 0..SECTIONS * SECTION, 1..4 * SECTION);
    let step = prop_oneof![
        2 => early.prop_map(|(nid, first, frames)| Step::Present { nid, first, frames }),
        1 => Just(Step::BringUp),
        4 => near().prop_map(|(at, parts)| Step::Activate { at, parts }),
        4 => near().prop_map(|(at, parts)| Step::Deactivate { at, parts }),
        1 => piece().prop_map(|(at, parts)| Step::Activate { at, parts }),
    ];
    prop::collection::vec(step, 1..40)
}

struct Pair {
    ours: Sections<VecStore>,
    naive: BTreeMap<u64, Naive>,
}

impl Pair {
    fn new(era: Era) -> Self {
        let ours = Sections::new(geometry(era, Model::Vmemmap), VecStore::new());
        Self { ours, naive: BTreeMap::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Present { nid, first, frames } => self.present(nid, first, frames),
            Step::BringUp => self.bring_up(),
            Step::Activate { at, parts } => self.activate(at, parts),
            Step::Deactivate { at, parts } => self.deactivate(at, parts),
        }
    }

    fn present(&mut self, nid: u32, first: u64, frames: u64) {
        self.ours.memory_present(Nid(nid), Pfn(first), Pfn(first + frames), |_| {}).unwrap();
        for nr in first / SECTION..=(first + frames - 1) / SECTION {
            let absent = Naive { nid, early: true, mapped: false, parts: [false; PER_SECTION as usize] };
            self.naive.entry(nr).or_insert(absent);
        }
    }

    /// Boot brings everything up, then marks subsections; here each new section counts as wholly in use.
    fn bring_up(&mut self) {
        let mut expected: Vec<(u32, u64)> = Vec::new();
        let early = self.naive.iter_mut().filter(|(_, section)| !section.mapped);
        for (&nr, section) in early {
            expected.push((section.nid, nr));
            section.mapped = true;
            section.parts = [true; PER_SECTION as usize];
        }
        let mut got = Vec::new();
        while let Some(group) = { self.ours.groups().next() } {
            let before = got.len() as u64;
            let done = self.ours.bring_up(group, |nr| {
                got.push((group.nid.0, nr.0));
                Some(page(Pfn(nr.0 * SECTION)))
            });
            assert_eq!(done.unwrap().sections, group.map_count);
            assert_eq!(got.len() as u64 - before, group.map_count);
        }
        assert_eq!(got, expected);
        for (_, nr) in expected {
            self.ours.note_early_range(Pfn(nr * SECTION), Pfn((nr + 1) * SECTION));
        }
    }

    fn activate(&mut self, at: u64, parts: u64) {
        let start = Pfn(at * SUBSECTION);
        let got = self.ours.activate(Nid(9), start, parts * SUBSECTION, |_| {}, |pfn, _| Some(page(pfn)));
        let (nr, first) = (at / PER_SECTION, at % PER_SECTION);
        let Some(range) = (first + parts <= PER_SECTION).then_some(first as usize..(first + parts) as usize) else {
            return assert!(matches!(got, Err(ActivateError::NotOneSection { .. })));
        };
        let absent = Naive { nid: 9, early: false, mapped: false, parts: [false; PER_SECTION as usize] };
        if self.naive.get(&nr).is_some_and(|section| !section.mapped) {
            return assert_eq!(got, Err(ActivateError::NotBroughtUp { section: SectionNr(nr) }));
        }
        let section = self.naive.entry(nr).or_insert(absent);
        if section.parts[range.clone()].contains(&true) {
            return assert_eq!(got, Err(ActivateError::InUse { section: SectionNr(nr) }));
        }
        assert_eq!(got.unwrap().boot_map, section.early && section.mapped && parts < PER_SECTION);
        section.mapped = true;
        section.parts[range].fill(true);
    }

    fn deactivate(&mut self, at: u64, parts: u64) {
        let start = Pfn(at * SUBSECTION);
        let got = self.ours.deactivate(start, parts * SUBSECTION);
        let (nr, first) = (at / PER_SECTION, at % PER_SECTION);
        let Some(range) = (first + parts <= PER_SECTION).then_some(first as usize..(first + parts) as usize) else {
            return assert!(matches!(got, Err(ActivateError::NotOneSection { .. })));
        };
        let section = self.naive.get_mut(&nr).filter(|section| !section.parts[range.clone()].contains(&false));
        let Some(section) = section else {
            return assert_eq!(got, Err(ActivateError::NotInUse { section: SectionNr(nr) }));
        };
        section.parts[range].fill(false);
        let got = got.unwrap();
        assert_eq!(got.emptied, !section.parts.contains(&true));
        let fate = match (section.early, got.emptied) {
            (false, _) => MapFate::Depopulate { start, frames: parts * SUBSECTION },
            (true, true) => MapFate::FreeBoot { map: page(Pfn(nr * SECTION)) },
            (true, false) => MapFate::Stays,
        };
        assert_eq!(got.map, fate);
        if got.emptied {
            self.naive.remove(&nr);
        }
    }

    fn check(&self) {
        let ours = &self.ours;
        assert_eq!(ours.present().map(|nr| nr.0).collect::<Vec<_>>(), self.naive.keys().copied().collect::<Vec<_>>());
        assert_eq!(ours.present_count(), self.naive.len() as u64);
        assert!(ours.highest_present() >= self.naive.keys().next_back().map(|&nr| SectionNr(nr)));
        for (&nr, naive) in &self.naive {
            let section = SectionNr(nr);
            assert_eq!(ours.has_map(section), naive.mapped);
            assert_eq!(ours.is_early(section), naive.early && naive.mapped);
            if !naive.mapped {
                assert_eq!(ours.early_nid(section), Some(Nid(naive.nid)));
                continue;
            }
            for (part, &in_use) in naive.parts.iter().enumerate() {
                let pfn = Pfn(nr * SECTION + part as u64 * SUBSECTION + 7);
                assert_eq!(ours.subsection_in_use(pfn), in_use, "{pfn:?}");
                assert_eq!(ours.pfn_valid(pfn, |_| unreachable!()), in_use || naive.early, "{pfn:?}");
                assert_eq!(ours.pfn_to_page(pfn), Some(page(pfn)));
                assert_eq!(ours.page_to_pfn(page(pfn), section), Some(pfn));
            }
        }
        let valid = |(&nr, naive): (&u64, &Naive)| {
            let whole = naive.early && naive.mapped;
            let part = naive.parts.iter().position(|&in_use| in_use || whole)?;
            naive.mapped.then_some(Pfn(nr * SECTION + part as u64 * SUBSECTION))
        };
        assert_eq!(ours.next_valid(Pfn(0), Pfn(u64::MAX)), self.naive.iter().find_map(valid));
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn sections_agree_with_a_map_of_subsections(
        era in prop::sample::select(vec![Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2]),
        steps in steps(),
    ) {
        let mut pair = Pair::new(era);
        for step in &steps {
            pair.step(step);
            pair.check();
        }
    }

    #[test]
    fn all_models_convert_alike_and_back(
        ranges in prop::collection::vec((0..SECTIONS, 1..4_u64), 1..6),
        within in 0..SECTION,
    ) {
        let flat = FlatMap { map: VirtAddr(VMEMMAP), first: Pfn(0), frames: SECTIONS * 2 * SECTION, page_bytes: 64, variable: true };
        let virt = VirtualMap { base: VirtAddr(VMEMMAP), page_bytes: 64, variable: true };
        let tables = [Model::Static, Model::Extreme, Model::Vmemmap].map(|model| {
            let mut ours = Sections::new(geometry(Era::V6_1, model), VecStore::new());
            for &(first, count) in &ranges {
                ours.memory_present(Nid(0), Pfn(first * SECTION), Pfn((first + count) * SECTION), |_| {}).unwrap();
            }
            let group = ours.groups().next().unwrap();
            ours.bring_up(group, |nr| Some(page(Pfn(nr.0 * SECTION)))).unwrap();
            ours
        });
        let maps = [Memmap::Flat(flat), Memmap::Virtual(virt)];
        let maps = maps.into_iter().chain(tables.iter().map(Memmap::Sections));
        for map in maps {
            for nr in tables[0].present() {
                let pfn = Pfn(nr.0 * SECTION + within);
                let at = map.pfn_to_page(pfn).unwrap();
                prop_assert_eq!(at, page(pfn));
                prop_assert_eq!(map.page_to_pfn(at, || nr), Some(pfn));
                prop_assert_eq!(map.page_to_pfn(at + 1, || nr), None);
            }
        }
    }

    #[test]
    fn no_input_panics(first: u64, last: u64, frames: u64, at: u64) {
        let mut ours = Sections::new(geometry(Era::V7_2, Model::Vmemmap), VecStore::new());
        let near = last.min(first.saturating_add(1 << 24)); // a few hundred sections at most
        ours.memory_present(Nid(0), Pfn(first), Pfn(near), |_| {}).unwrap();
        let _ = ours.activate(Nid(0), Pfn(at), frames, |_| {}, |pfn, _| Some(VirtAddr(pfn.0.wrapping_mul(64))));
        let _ = ours.deactivate(Pfn(at), frames);
        ours.note_early_range(Pfn(first), Pfn(near));
        let _ = (ours.pfn_to_page(Pfn(at)), ours.page_to_pfn(VirtAddr(at), SectionNr(first)));
        let _ = (ours.pfn_valid(Pfn(at), |_| true), ours.next_valid(Pfn(first), Pfn(last)), ours.pageblock(Pfn(at)));
    }
}
