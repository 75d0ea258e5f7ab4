//! Lab `sparsemem` with and without a hole, and on recorded machines.

use crate::common::{lab, options, recorded, recording};
use kernmem_base::Era;

const MIB: u64 = 1 << 20;

/// Document 003: 2^46 / 2^27. Facts: five levels 2^25; arm64 with 48 bits 2^18 of 1 GiB on 5.10, 2^21 from 6.1 on.
#[test]
fn sections_are_counted_by_shifts() {
    let found = lab("sparsemem", &options(None, false));
    for era in Era::ALL {
        assert_eq!(found.number_on("003.1", era, "sections"), 1 << 19, "{era}");
        assert_eq!(found.number_on("003.1", era, "section_bytes"), 128 * MIB, "{era}");
        assert_eq!(found.number_on("003.1", era, "sections_five"), 1 << 25, "{era}");
        assert_eq!(found.holds("003.1", era), "only if", "{era}");
    }
    assert_eq!(found.number_on("003.1", Era::V5_10, "sections_arm64"), 1 << 18);
    assert_eq!(found.number_on("003.1", Era::V6_1, "sections_arm64"), 1 << 21);
}

/// A descriptor has 16 bytes: 256 in a page, 2^19 / 256 rows. Pointers: 8 bytes each. 4 GiB: 32 sections, one row.
#[test]
fn rows_are_pages_behind_pointers() {
    let found = lab("sparsemem", &options(None, false));
    let names = ["per_root", "root_bytes", "roots", "pointers_bytes", "roots_in_use", "static_bytes"];
    assert_eq!(found.numbers("003.2", names), [256, 4096, 2048, 16 << 10, 1, (1 << 19) * 16]);
}

/// Facts 2.8: 3 GiB and 1 GiB with 1 GiB between: flat 80 MiB, sections 64 MiB.
#[test]
fn a_hole_of_a_gigabyte_saves_sixteen_mebibytes() {
    let found = lab("sparsemem", &options(None, false));
    assert_eq!(found.numbers("003.3", ["memory", "span"]), [4 << 30, 5 << 30]);
    assert_eq!(found.numbers("003.3", ["flat", "sparse"]), [80 * MIB, 64 * MIB]);
    assert_eq!(found.numbers("003.3", ["sections", "sections_booted"]), [32, 32]);
}

#[test]
fn without_the_hole_nothing_is_saved() {
    let found = lab("sparsemem", &options(None, true));
    assert_eq!(found.numbers("003.3", ["memory", "flat", "sparse"]), [5 << 30, 80 * MIB, 80 * MIB]);
    assert_eq!(found.numbers("003.3", ["sections", "sections_booted"]), [40, 40]);
}

/// A section of 128M has descriptors of 2M. 128M that begin in the middle of one leave both halves in use.
#[test]
fn a_hole_saves_whole_aligned_sections_only() {
    let found = lab("sparsemem", &options(None, false));
    let names = ["hole_100m", "hole_128m", "hole_128m_shifted", "hole_1g"];
    assert_eq!(found.numbers("003.3", names), [0, 2 * MIB, 0, 16 * MIB]);
    // Sections of 1 GiB: 16 MiB of descriptors each.
    let old = names.map(|name| found.number_on("003.3", Era::V5_10, name));
    assert_eq!((old, found.holds("003.3", Era::V5_10)), ([0, 0, 0, 16 * MIB], "no"));
    assert_eq!(found.holds("003.3", Era::V6_1), "only if");
}

/// Section 8 begins at 1 GiB: frame 40000, descriptors at the start of vmemmap, fffffc0000000000 in the recorded
/// listing of this kernel. Less 40000 * 64 = 1000000: fffffbffff000000. Flags: present, map, online, early.
#[test]
fn the_coded_pointer_has_start_pfn_in_it() {
    let found = lab("sparsemem", &options(None, false));
    let names = ["section", "mem_map", "start_pfn", "coded", "flags", "word"];
    let coded = 0xffff_fbff_ff00_0000;
    assert_eq!(found.numbers("003.4", names), [8, 0xffff_fc00_0000_0000, 0x4_0000, coded, 0b1111, coded | 0b1111]);
    assert_eq!(found.numbers("003.4", ["equal", "total", "mapped"]), [32, 32, 32]);
}

/// The second machine: 64 GiB, whose recorded listing has 1G of vmemmap in 2M blocks: 512 sections.
#[test]
fn a_recorded_machine_of_64_gib() {
    let found = lab("sparsemem", &options(Some(recording("arm64/a-64G-rodata-off")), false));
    assert_eq!(found.numbers("003.3", ["sections", "sections_booted"]), [512, 512]);
    assert_eq!(found.numbers("003.3", ["flat", "sparse"]), [1 << 30, 1 << 30]);
    assert_eq!(found.numbers("003.4", ["equal", "mapped"]), [512, 512]);
    let listing = recorded("arm64/a-64G-rodata-off", "kernel_page_tables");
    assert!(listing.contains("0xfffffc0000000000-0xfffffc0040000000           1G PMD"));
}

/// x86-64 with its hole below 4 GiB: 0 to 3 GiB and 4 to 5 GiB are 24 + 8 sections; the flat array spans 5 GiB.
#[test]
fn a_pc_has_its_hole_below_four_gibibytes() {
    let found = lab("sparsemem", &options(Some("x86-4g".to_owned()), false));
    assert_eq!(found.numbers("003.3", ["sections", "sections_booted"]), [32, 32]);
    assert_eq!(found.numbers("003.3", ["flat", "sparse"]), [80 * MIB, 64 * MIB]);
    assert_eq!(found.numbers("003.4", ["section", "mem_map", "start_pfn"]), [0, 0xffff_ea00_0000_0000, 0]);
}
