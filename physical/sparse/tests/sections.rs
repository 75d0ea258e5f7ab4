//! Sections from presence to bring-up, one behaviour a test.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::{Era, Granule, Pfn, VirtAddr};
use kernmem_sparse::{
    ActivateError, Activated, Deactivated, FlatMap, Geometry, GeometryFacts, LentStore, MapFate, Memmap, MigrateType,
    Model, Needs, Nid, Root, Section, SectionNr, Sections, SparseArch, Store, StoreFull, VecStore, VirtualMap,
};

const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
const SECTION: u64 = 1 << 15;
const SUBSECTION: u64 = 512;

fn facts(era: Era) -> GeometryFacts {
    GeometryFacts::new(SparseArch::X86_64, era, Granule::K4)
}

fn sections(facts: GeometryFacts) -> Sections<VecStore> {
    Sections::new(Geometry::new(facts).unwrap(), VecStore::new())
}

fn present<S: Store>(sections: &mut Sections<S>, nid: u32, first: u64, past: u64) {
    sections.memory_present(Nid(nid), Pfn(first), Pfn(past), |_| {}).unwrap();
}

fn bring_up_all<S: Store>(sections: &mut Sections<S>) {
    while let Some(group) = { sections.groups().next() } {
        sections.bring_up(group, |nr| Some(VirtAddr(VMEMMAP + nr.0 * SECTION * 64))).unwrap();
    }
}

#[test]
fn a_range_starts_at_the_section_that_holds_its_first_frame() {
    let mut ours = sections(facts(Era::V6_1));
    let mut roots = Vec::new();
    let done = ours.memory_present(Nid(0), Pfn(SECTION + 5), Pfn(3 * SECTION + 1), |new| roots.push(new)).unwrap();
    assert_eq!((done.start, done.end), (Pfn(SECTION), Pfn(3 * SECTION + 1)));
    assert_eq!((done.new_sections, done.new_roots), (3, 1));
    assert_eq!((roots.len(), roots[0].root, roots[0].bytes), (1, 0, 4096));
    assert_eq!(ours.present().map(|nr| nr.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(ours.highest_present(), Some(SectionNr(3)));
}

#[test]
fn the_first_range_wins_the_node_of_a_shared_section() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, SECTION + 1);
    present(&mut ours, 1, SECTION + 1, 3 * SECTION);
    assert_eq!(ours.early_nid(SectionNr(1)), Some(Nid(0)));
    assert_eq!(ours.early_nid(SectionNr(2)), Some(Nid(1)));
}

#[test]
fn memory_beyond_the_last_section_is_clipped_and_reported() {
    let mut ours = sections(facts(Era::V6_1));
    let max = ours.geometry().max_pfn();
    let done = ours.memory_present(Nid(0), Pfn(max.0 - 1), Pfn(max.0 + 1), |_| {}).unwrap();
    assert_eq!((done.start_clipped, done.end_clipped, done.new_sections), (false, true, 1));
    let done = ours.memory_present(Nid(0), Pfn(max.0 + SECTION), Pfn(u64::MAX), |_| {}).unwrap();
    assert_eq!((done.start_clipped, done.end_clipped, done.new_sections), (true, true, 0));
}

#[test]
fn a_node_with_another_in_between_comes_in_two_groups() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, 2 * SECTION);
    present(&mut ours, 1, 4 * SECTION, 5 * SECTION);
    present(&mut ours, 0, 8 * SECTION, 9 * SECTION);
    present(&mut ours, 0, 1024 * SECTION, 1025 * SECTION);
    let groups: Vec<_> = ours.groups().map(|g| (g.nid.0, g.first.0, g.end.0, g.map_count)).collect();
    assert_eq!(groups, [(0, 0, 4, 2), (1, 4, 8, 1), (0, 8, 1025, 2)]);
}

#[test]
fn a_group_without_memory_for_descriptors_is_lost_from_there() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, 4 * SECTION);
    let group = ours.groups().next().unwrap();
    let done = ours.bring_up(group, |nr| (nr.0 < 2).then_some(VirtAddr(VMEMMAP + nr.0 * SECTION * 64))).unwrap();
    assert_eq!((done.sections, done.lost_from), (2, Some(SectionNr(2))));
    assert_eq!(done.usage_bytes, 4 * 56);
    assert_eq!(ours.present().map(|nr| nr.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(ours.present_count(), 2);
}

#[test]
fn every_frame_of_an_early_section_is_valid_but_on_arm64_5_10() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, 100);
    bring_up_all(&mut ours);
    assert!(ours.pfn_valid(Pfn(SECTION - 1), |_| unreachable!()));
    assert!(!ours.pfn_valid(Pfn(SECTION), |_| unreachable!()));
    assert!(!ours.pfn_valid(Pfn(u64::MAX), |_| unreachable!()));

    let mut old = sections(GeometryFacts::new(SparseArch::Arm64, Era::V5_10, Granule::K4));
    present(&mut old, 0, 0, 100);
    bring_up_all(&mut old);
    assert!(old.pfn_valid(Pfn(99), |pfn| pfn < Pfn(100)));
    assert!(!old.pfn_valid(Pfn(100), |pfn| pfn < Pfn(100)));
}

#[test]
fn early_ranges_mark_the_subsections_they_touch() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, 2 * SECTION);
    bring_up_all(&mut ours);
    ours.note_early_range(Pfn(SUBSECTION + 1), Pfn(3 * SUBSECTION + 1));
    ours.note_early_range(Pfn(SECTION - 1), Pfn(SECTION + 1));
    assert_eq!(ours.subsection_bits(SectionNr(0)), Some(&[1 << 63 | 0b1110][..]));
    assert_eq!(ours.subsection_bits(SectionNr(1)), Some(&[1][..]));
}

#[test]
fn a_piece_added_to_an_early_section_uses_the_map_of_boot() {
    let mut ours = sections(facts(Era::V6_1));
    present(&mut ours, 0, 0, 2 * SUBSECTION);
    bring_up_all(&mut ours);
    ours.note_early_range(Pfn(0), Pfn(2 * SUBSECTION));
    let add = |ours: &mut Sections<_>, at| ours.activate(Nid(0), Pfn(at), SUBSECTION, |_| {}, |_, _| unreachable!());
    let done = Activated { section: SectionNr(0), new_usage: false, boot_map: true };
    assert_eq!(add(&mut ours, 2 * SUBSECTION), Ok(done));
    assert_eq!(add(&mut ours, SUBSECTION), Err(ActivateError::InUse { section: SectionNr(0) }));
    let kept = Deactivated { emptied: false, usage_freed: false, map: MapFate::Stays };
    assert_eq!(ours.deactivate(Pfn(0), 2 * SUBSECTION), Ok(kept));
    let map = MapFate::FreeBoot { map: VirtAddr(VMEMMAP) };
    let gone = Deactivated { emptied: true, usage_freed: false, map };
    assert_eq!(ours.deactivate(Pfn(2 * SUBSECTION), SUBSECTION), Ok(gone));
    assert!(!ours.is_present(SectionNr(0)));
    assert!(ours.section(SectionNr(0)).unwrap().usage.is_boot());
}

#[test]
fn hot_memory_comes_and_goes_in_subsections() {
    let mut ours = sections(facts(Era::V6_1));
    let at = 7 * SECTION + SUBSECTION;
    let page = |pfn: Pfn| VirtAddr(VMEMMAP + pfn.0 * 64);
    let done = ours.activate(Nid(1), Pfn(at), 2 * SUBSECTION, |_| {}, |pfn, _| Some(page(pfn))).unwrap();
    assert_eq!(done, Activated { section: SectionNr(7), new_usage: true, boot_map: false });
    assert_eq!(ours.map_of(SectionNr(7)), Some(page(Pfn(7 * SECTION))));
    let valid = |ours: &Sections<_>, pfn| ours.pfn_valid(Pfn(pfn), |_| unreachable!());
    assert_eq!([at - 1, at, at + 1023, at + 1024].map(|pfn| valid(&ours, pfn)), [false, true, true, false]);
    assert_eq!(ours.next_valid(Pfn(0), Pfn(u64::MAX)), Some(Pfn(at)));
    assert_eq!(ours.next_valid(Pfn(at + 1024), Pfn(u64::MAX)), None);
    let part = Deactivated {
        emptied: false,
        usage_freed: false,
        map: MapFate::Depopulate { start: Pfn(at), frames: SUBSECTION },
    };
    assert_eq!(ours.deactivate(Pfn(at), SUBSECTION), Ok(part));
    let twice = ours.deactivate(Pfn(at), SUBSECTION);
    assert_eq!(twice, Err(ActivateError::NotInUse { section: SectionNr(7) }));
    let rest = ours.deactivate(Pfn(at + SUBSECTION), SUBSECTION).unwrap();
    assert!(rest.emptied && rest.usage_freed);
    assert_eq!((ours.present_count(), ours.next_present(SectionNr(0))), (0, None));
}

#[test]
fn a_failed_activation_leaves_nothing_behind() {
    let mut ours = sections(facts(Era::V6_1));
    let mut add = |at, frames| ours.activate(Nid(0), Pfn(at), frames, |_| {}, |_, _| None);
    assert_eq!(add(0, SUBSECTION), Err(ActivateError::NoMap { section: SectionNr(0) }));
    assert_eq!(add(0, 0), Err(ActivateError::Misaligned { start: Pfn(0), frames: 0 }));
    assert_eq!(add(1, SUBSECTION), Err(ActivateError::Misaligned { start: Pfn(1), frames: SUBSECTION }));
    let across = SECTION - SUBSECTION;
    let frames = 2 * SUBSECTION;
    assert_eq!(add(across, frames), Err(ActivateError::NotOneSection { start: Pfn(across), frames }));
    let far = u64::MAX - (SUBSECTION - 1);
    let far_error = ActivateError::NotOneSection { start: Pfn(far), frames: SUBSECTION };
    assert_eq!(add(far, SUBSECTION), Err(far_error));
    assert_eq!(ours.section(SectionNr(0)), Some(&Section::default()));
}

#[test]
fn a_model_without_subsections_takes_whole_sections() {
    let mut ours = sections(GeometryFacts { model: Model::Extreme, ..facts(Era::V6_1) });
    let map = |_, _| Some(VirtAddr(0xffff_8880_0100_0000));
    let error = ours.activate(Nid(0), Pfn(0), SUBSECTION, |_| {}, map);
    assert!(matches!(error, Err(ActivateError::Misaligned { .. })));
    ours.activate(Nid(0), Pfn(0), SECTION, |_| {}, map).unwrap();
    assert!(ours.pfn_valid(Pfn(9), |_| unreachable!()));
    let again = ours.activate(Nid(0), Pfn(0), SECTION, |_| {}, map);
    assert_eq!(again, Err(ActivateError::InUse { section: SectionNr(0) }));
    assert!(ours.deactivate(Pfn(0), SECTION).unwrap().emptied);
}

#[test]
fn isolation_replaces_the_type_until_7_2_gave_it_a_bit() {
    for (era, below, raw) in [(Era::V6_12, None, 5), (Era::V7_2, Some(MigrateType::Reclaimable), 0b1_0010)] {
        let mut ours = sections(facts(era));
        present(&mut ours, 0, 0, SECTION);
        bring_up_all(&mut ours);
        assert!(ours.set_migrate_type(Pfn(600), MigrateType::Reclaimable));
        assert!(ours.set_migrate_type(Pfn(600), MigrateType::Isolate));
        assert_eq!((ours.migrate_type(Pfn(512)), ours.pageblock(Pfn(512))), (Some(MigrateType::Isolate), Some(raw)));
        assert_eq!(ours.end_isolation(Pfn(512)), below);
        assert_eq!(ours.migrate_type(Pfn(0)), Some(MigrateType::Unmovable));
        assert!(ours.set_compaction_skip(Pfn(0), true));
        assert_eq!((ours.compaction_skips(Pfn(1)), ours.pageblock(Pfn(0))), (true, Some(0b1000)));
    }
}

#[test]
fn filling_types_agrees_with_setting_each() {
    let (mut filled, mut set) = (sections(facts(Era::V7_2)), sections(facts(Era::V7_2)));
    for ours in [&mut filled, &mut set] {
        present(ours, 0, 0, 4 * SECTION);
        bring_up_all(ours);
    }
    let (start, end) = (1000, 3 * SECTION + 700);
    filled.fill_migrate_type(Pfn(start), Pfn(end), MigrateType::Movable);
    for block in (0..4 * SECTION).step_by(512).filter(|&pfn| pfn >= start && pfn < end) {
        set.set_migrate_type(Pfn(block), MigrateType::Movable);
    }
    for block in (0..4 * SECTION).step_by(512) {
        assert_eq!(filled.pageblock(Pfn(block)), set.pageblock(Pfn(block)), "{block:#x}");
    }
}

#[test]
fn a_kernel_without_cma_has_no_such_type() {
    let mut ours = sections(GeometryFacts { cma: false, ..facts(Era::V6_1) });
    present(&mut ours, 0, 0, SECTION);
    bring_up_all(&mut ours);
    assert!(!ours.set_migrate_type(Pfn(0), MigrateType::Cma));
    assert!(ours.set_migrate_type(Pfn(0), MigrateType::Isolate));
    assert_eq!(ours.pageblock(Pfn(0)), Some(4));
}

#[test]
fn each_model_costs_what_the_documents_say() {
    let flat = FlatMap { map: VirtAddr(0), first: Pfn(0), frames: 1, page_bytes: 64, variable: true };
    let cost = |map: Memmap<'_, VecStore>| (map.pfn_to_page_references().total(), map.page_to_pfn_references().total());
    let classic = |model| sections(GeometryFacts { model, ..facts(Era::V5_10) });
    assert_eq!(cost(Memmap::Flat(flat)), (1, 1));
    assert_eq!(cost(Memmap::Flat(FlatMap { variable: false, ..flat })), (0, 0));
    assert_eq!(cost(Memmap::Sections(&classic(Model::Static))), (1, 2));
    assert_eq!(cost(Memmap::Sections(&classic(Model::Extreme))), (3, 4));
    let map = VirtualMap { base: VirtAddr(VMEMMAP), page_bytes: 64, variable: false };
    assert_eq!(cost(Memmap::Virtual(map)), (0, 0));
}

#[test]
fn on_i386_a_map_below_its_coded_address_wraps_within_32_bits() {
    let mut facts = GeometryFacts::new(SparseArch::I386Pae, Era::V6_1, Granule::K4);
    facts.page_bytes = 40;
    let mut ours = sections(facts);
    ours.memory_present(Nid(0), Pfn(0xe0_0000), Pfn(0xe0_0001), |_| {}).unwrap();
    let group = ours.groups().next().unwrap();
    ours.bring_up(group, |_| Some(VirtAddr(0xc100_0000))).unwrap();
    assert_eq!(ours.section(SectionNr(112)).unwrap().word >> 32, 0);
    assert_eq!(ours.pfn_to_page(Pfn(0xe0_0003)), Some(VirtAddr(0xc100_0078)));
    assert_eq!(ours.page_to_pfn(VirtAddr(0xc100_0078), SectionNr(112)), Some(Pfn(0xe0_0003)));
    assert_eq!(ours.page_to_pfn(VirtAddr(0xc100_0079), SectionNr(112)), None);
}

#[test]
fn lent_memory_of_the_size_asked_for_suffices_and_less_does_not() {
    let geometry = Geometry::new(facts(Era::V6_1)).unwrap();
    let ranges = [(Pfn(0), Pfn(5)), (Pfn(300 * SECTION), Pfn(301 * SECTION)), (Pfn(301 * SECTION), Pfn(302 * SECTION))];
    let needs = Needs::of(&geometry, ranges);
    assert_eq!(needs, Needs { roots: 2, sections: 512, usage_words: 3 * 5 });
    for missing in [0, 1] {
        let mut descriptors = vec![Section::default(); needs.sections as usize - missing];
        let mut usage = vec![!0; needs.usage_words as usize];
        let mut roots = [Root::NONE; 2];
        let mut ours = Sections::new(geometry, LentStore::new(&mut roots, &mut descriptors, &mut usage));
        let last = ranges.map(|(start, end)| ours.memory_present(Nid(0), start, end, |_| {}))[2];
        assert_eq!(last.err(), (missing == 1).then_some(StoreFull::Root { root: 1 }));
        bring_up_all(&mut ours);
        assert_eq!(ours.present_count(), 3 - 2 * missing as u64);
        assert_eq!(ours.pageblock(Pfn(0)), Some(0));
    }
}

#[test]
fn a_freed_usage_map_is_lent_again() {
    let geometry = Geometry::new(facts(Era::V6_1)).unwrap();
    let (mut descriptors, mut usage) = ([Section::default(); 256], [0; 5]);
    let mut roots = [Root::NONE; 1];
    let mut ours = Sections::new(geometry, LentStore::new(&mut roots, &mut descriptors, &mut usage));
    for round in 0..3 {
        let at = Pfn(round * SECTION);
        ours.activate(Nid(0), at, SECTION, |_| {}, |pfn, _| Some(VirtAddr(VMEMMAP + pfn.0 * 64))).unwrap();
        assert_eq!(ours.subsection_bits(SectionNr(round)), Some(&[!0][..]));
        assert_eq!(ours.pageblock(at), Some(0));
        assert!(ours.set_migrate_type(at, MigrateType::Movable));
        ours.deactivate(at, SECTION).unwrap();
    }
}

#[test]
fn a_full_64_tib_machine_is_brought_up() {
    let mut ours = sections(facts(Era::V6_1));
    let max = ours.geometry().max_pfn();
    let done = ours.memory_present(Nid(0), Pfn(0), max, |_| {}).unwrap();
    assert_eq!((done.new_sections, done.new_roots), (1 << 19, 2048));
    bring_up_all(&mut ours);
    assert_eq!(ours.pfn_to_page(Pfn(max.0 - 1)), Some(VirtAddr(VMEMMAP + (max.0 - 1) * 64)));
}
