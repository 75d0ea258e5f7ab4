//! The sizes of each kernel, against constants that its own headers gave.
//!
//! `data/section_constants.csv` was read back from objects compiled with each kernel's headers and flags; the tables in
//! this file were written by hand.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use kernmem_base::{Era, Granule};
use kernmem_sparse::{Geometry, GeometryError, GeometryFacts, MigrateType, Model, SparseArch, can_be_built};

fn facts(arch: SparseArch, era: Era, granule: Granule) -> GeometryFacts {
    GeometryFacts::new(arch, era, granule)
}

fn geometry(facts: GeometryFacts) -> Geometry {
    Geometry::new(facts).unwrap()
}

#[test]
fn every_constant_of_every_configuration_agrees() {
    let mut lines = include_str!("data/section_constants.csv").lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let mut compared = 0;
    for line in lines {
        let row: Vec<&str> = line.split(',').collect();
        let number = |name: &str| {
            let at = names.iter().position(|&n| n == name).unwrap();
            row[at].parse::<i64>().ok()
        };
        let ours = geometry(configuration(&row, number("sizeof_page").unwrap(), number("pageblock_order").unwrap()));
        let format = ours.word_format();
        let types = MigrateType::ALL.iter().filter(|kind| kind.number(&ours).is_some()).count();
        let expected = [
            ("SECTION_SIZE_BITS", u64::from(ours.section_size_bits())),
            ("MAX_PHYSMEM_BITS", u64::from(ours.max_physmem_bits())),
            ("SECTIONS_PER_ROOT", ours.sections_per_root()),
            ("NR_SECTION_ROOTS", ours.nr_section_roots()),
            ("SUBSECTIONS_PER_SECTION", ours.subsections_per_section()),
            ("SECTION_BLOCKFLAGS_BITS", ours.pageblocks_per_section() * u64::from(ours.pageblock_bits())),
            ("NR_PAGEBLOCK_BITS", u64::from(ours.pageblock_bits())),
            ("sizeof_mem_section", ours.mem_section_bytes()),
            ("usage_bytes", ours.usage_bytes()),
            ("SECTION_MAP_MASK", format.mask()),
            ("SECTION_NID_SHIFT", u64::from(format.nid_shift())),
            ("MIGRATE_TYPES", types as u64),
        ];
        for (name, value) in expected {
            if let Some(theirs) = number(name) {
                assert_eq!(value as i64, theirs, "{name} of {line}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 49 * 12 - 8); // x86-64 7.2 decides two of them at run time, in four configurations
}

fn configuration(row: &[&str], page_bytes: i64, pageblock_order: i64) -> GeometryFacts {
    let has = |word: &str| row[3].split([' ', '+']).any(|w| w == word);
    let granule = match row[3].split(' ').next() {
        Some("page16K") => Granule::K16,
        Some("page64K") => Granule::K64,
        _ => Granule::K4,
    };
    let arch = match row[1] {
        "arm64" => SparseArch::Arm64,
        "x86-64" => SparseArch::X86_64,
        _ if has("pae") => SparseArch::I386Pae,
        _ => SparseArch::I386,
    };
    let era: Era = row[0].parse().unwrap();
    let model = match row[3].split(' ').nth(1) {
        Some("EXTREME") => Model::Extreme,
        Some("STATIC") => Model::Static,
        _ => Model::Vmemmap,
    };
    GeometryFacts {
        model,
        zone_device: has("zdev"),
        preinit: has("hvo") && era == Era::V7_2,
        page_ext: has("pageext"),
        isolation: has("isol"),
        cma: has("cma"),
        pageblock_order: pageblock_order as u32,
        page_bytes: page_bytes as u64,
        ..facts(arch, era, granule)
    }
}

/// Whoever could be built with sections was: the configurations are all that their Kconfig allows. A flat model has no
/// constants of sections.
#[test]
fn exactly_the_models_that_were_built_can_be_built() {
    let lines = include_str!("data/section_constants.csv").lines().skip(1);
    let built: Vec<GeometryFacts> =
        lines.map(|line| configuration(&line.split(',').collect::<Vec<_>>(), 64, 9)).collect();
    let mut compared = 0;
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        for arch in [SparseArch::Arm64, SparseArch::X86_64, SparseArch::I386Pae, SparseArch::I386] {
            let of_kernel = |own: &&GeometryFacts| own.era == era && own.arch == arch;
            let own: Vec<_> = built.iter().filter(of_kernel).collect();
            for model in Model::ALL.into_iter().filter(|model| !own.is_empty() && model.has_sections()) {
                let was_built = own.iter().any(|own| own.model == model);
                assert_eq!(can_be_built(arch, era, model), was_built, "{arch:?} {era} {model:?}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 15 * 3); // nobody built 7.2 with PAE
    let flat = |arch, era| can_be_built(arch, era, Model::Flat);
    assert!(flat(SparseArch::Arm64, Era::V5_10) && flat(SparseArch::I386, Era::V7_2));
    assert!(!flat(SparseArch::Arm64, Era::V6_1) && !flat(SparseArch::X86_64, Era::V5_10));
}

/// Sections, subsections of one, bytes of descriptors of one, bits of a frame within one.
#[track_caller]
fn check_sections(facts: GeometryFacts, sections: u32, subsections: u64, memmap: u64, pfn_bits: u32) {
    let ours = geometry(facts);
    assert_eq!(ours.nr_mem_sections(), 1 << sections);
    assert_eq!(ours.subsections_per_section(), subsections);
    assert_eq!(ours.section_memmap_bytes(), memmap);
    assert_eq!(ours.pfn_section_shift(), pfn_bits);
}

#[test]
fn sections_have_the_documented_sizes() {
    use Era::{V5_10, V6_1};
    use Granule::{K4, K16, K64};
    let x86 = facts(SparseArch::X86_64, V6_1, K4);
    check_sections(x86, 19, 64, 2 << 20, 15);
    check_sections(GeometryFacts { five_levels: true, ..x86 }, 25, 64, 2 << 20, 15);
    check_sections(facts(SparseArch::Arm64, V5_10, K4), 18, 512, 16 << 20, 18);
    check_sections(facts(SparseArch::Arm64, V6_1, K4), 21, 64, 2 << 20, 15);
    check_sections(facts(SparseArch::Arm64, V6_1, K16), 21, 64, 512 << 10, 13);
    check_sections(facts(SparseArch::Arm64, V6_1, K64), 23, 256, 512 << 10, 13);
    check_sections(facts(SparseArch::Arm64, V5_10, K64), 22, 512, 1 << 20, 14);
    check_sections(facts(SparseArch::I386Pae, V6_1, K4), 7, 256, 32 << 17, 17);
    check_sections(facts(SparseArch::I386, V6_1, K4), 6, 32, 32 << 14, 14);
}

/// Descriptors of a root, roots, bytes of the array of root pointers.
#[track_caller]
fn check_roots(facts: GeometryFacts, per_root: u64, roots: u64, array: u64) {
    let ours = geometry(facts);
    assert_eq!((ours.sections_per_root(), ours.nr_section_roots(), ours.roots_array_bytes()), (per_root, roots, array));
}

#[test]
fn roots_have_the_documented_sizes() {
    let x86 = facts(SparseArch::X86_64, Era::V6_1, Granule::K4);
    check_roots(x86, 256, 2048, 16 << 10);
    check_roots(GeometryFacts { five_levels: true, ..x86 }, 256, 131_072, 1 << 20);
    check_roots(GeometryFacts { page_ext: true, ..x86 }, 128, 4096, 32 << 10);
    let arm64 = facts(SparseArch::Arm64, Era::V6_12, Granule::K4);
    check_roots(arm64, 256, 8192, 64 << 10);
    check_roots(GeometryFacts { pa_bits: 52, ..arm64 }, 256, 131_072, 1 << 20);
    check_roots(facts(SparseArch::Arm64, Era::V6_1, Granule::K64), 4096, 2048, 16 << 10);
    check_roots(facts(SparseArch::I386Pae, Era::V6_1, Granule::K4), 1, 128, 0);
    check_roots(GeometryFacts { model: Model::Static, ..x86 }, 256, 2048, 0);
}

#[test]
fn what_boot_asks_for_per_section_is_rounded_to_a_pmd_block() {
    let arm64 = |era, granule| geometry(facts(SparseArch::Arm64, era, granule)).section_map_size();
    assert_eq!(arm64(Era::V6_1, Granule::K4), 2 << 20);
    assert_eq!(arm64(Era::V6_1, Granule::K16), 32 << 20);
    assert_eq!(arm64(Era::V6_1, Granule::K64), 512 << 20);
    assert_eq!(arm64(Era::V5_10, Granule::K64), 512 << 20);
    let classic = geometry(facts(SparseArch::Arm64, Era::V5_10, Granule::K4)).with_model(Model::Extreme);
    assert_eq!(classic.section_map_size(), 16 << 20);
}

#[test]
fn impossible_kernels_are_refused() {
    let arm64 = facts(SparseArch::Arm64, Era::V6_1, Granule::K4);
    let refused = |facts| Geometry::new(facts).unwrap_err();
    let x86_64k = facts(SparseArch::X86_64, Era::V6_1, Granule::K64);
    assert!(matches!(refused(x86_64k), GeometryError::NoSuchGranule { .. }));
    assert_eq!(refused(GeometryFacts { pa_bits: 20, ..arm64 }), GeometryError::PhysicalBits { bits: 20 });
    assert_eq!(refused(GeometryFacts { pa_bits: u32::MAX, ..arm64 }), GeometryError::PhysicalBits { bits: u32::MAX });
    let order = |order| GeometryFacts { largest_order: order, ..arm64 };
    assert_eq!(refused(order(16)), GeometryError::BlockLargerThanSection { order: 16 });
    let pageblock = GeometryFacts { pageblock_order: 11, ..arm64 };
    assert_eq!(refused(pageblock), GeometryError::PageblockLargerThanBlock { order: 11 });
    assert_eq!(refused(GeometryFacts { page_bytes: 60, ..arm64 }), GeometryError::PageDescriptor { bytes: 60 });
}
