//! Lab `pagedoc`: descriptors where layout and boot put them, and after huge pages gave theirs back.

use crate::common::{lab, options, recording};
use kernmem_base::Era;

const MIB: u64 = 1 << 20;

/// vmemmap begins at fffffc0000000000 (the recorded listing of this kernel) with the descriptor of frame 40000:
/// 40000 * 64 = 1000000 less is frame 0's. The hole has 8 sections of 128M.
#[test]
fn arm64_s_vmemmap_begins_with_the_first_frame_of_the_linear_map() {
    let found = lab("pagedoc", &options(None, false));
    assert_eq!(found.numbers("002.7", ["base", "start"]), [0xffff_fbff_ff00_0000, 0xffff_fc00_0000_0000]);
    assert_eq!(found.numbers("002.7", ["frames", "agree"]), [4, 4]);
    assert_eq!(found.numbers("002.7", ["holes", "unmapped"]), [8, 8]);
    assert_eq!(found.holds("002.7", Era::V6_1), "only if");
    // Frames 40000, fffff, 140000 and 17ffff; the last piece is above 4 GiB.
    for (pfn, zone) in [(0x4_0000u64, "DMA"), (0xf_ffff, "DMA"), (0x14_0000, "Normal"), (0x17_ffff, "Normal")] {
        let page = 0xffff_fbff_ff00_0000 + pfn * 64;
        let row = found.told.lines().find(|line| line.contains(&format!("frame {pfn:x}, descriptor at {page:016x}")));
        assert!(row.is_some_and(|row| row.ends_with(&format!("node 0, {zone}"))), "{pfn:x}: {}", found.told);
    }
}

/// 4 GiB are 32 sections of 64 subsections; each section has 2M of descriptors.
#[test]
fn descriptors_live_in_memory_that_boot_took() {
    let found = lab("pagedoc", &options(None, false));
    assert_eq!(found.numbers("003.7", ["sections", "of_boot", "map_bytes"]), [32, 32, 64 * MIB]);
    assert_eq!(found.numbers("003.7", ["subsection", "each", "in_use"]), [2 * MIB, 64, 2048]);
    assert!(found.told.contains("says reserved: true") && found.told.contains("in this order: true"), "{}", found.told);
    assert_eq!(found.holds("003.7", Era::V6_1), "yes");
}

/// Facts 9.4: 32 blocks from 13be00000 on, the first section's first.
#[test]
fn a_recorded_machine_has_its_memory_map_where_its_log_has_it() {
    let found = lab("pagedoc", &options(Some(recording("arm64/a-4G-rodata-off")), false));
    assert_eq!(found.numbers("003.7", ["first_page", "home"]), [0xffff_fc00_0000_0000, 0x1_3be0_0000]);
    assert_eq!(found.numbers("003.7", ["sections", "of_boot", "in_use"]), [32, 32, 2048]);
}

/// A huge page has 512 descriptors in 8 pages. Given back, one page stays: 512 pages for the huge page less 7.
#[test]
fn huge_pages_give_the_memory_of_their_descriptors_back() {
    for source in [None, Some("x86-4g".to_owned())] {
        let found = lab("pagedoc", &options(source, true));
        assert_eq!(found.numbers("003.7", ["descriptor_pages", "homes"]), [8, 1]);
        // Splitting a 2M leaf of the memory map takes a table; all four pages may lie in one.
        let spent = found.number("003.7", "spent");
        let whole = 4 * (512 - 7);
        assert!((whole + 1..=whole + 4).contains(&spent), "{spent}");
        assert_eq!(found.holds("003.7", Era::V6_1), "only if");
    }
}

/// x86-64 without KASLR: frame 0's descriptor is the first of the region. Sections 0 to 23 and 32 to 39 have memory;
/// facts 9.5: the memory map from 13be00000 on.
#[test]
fn x86_64_s_vmemmap_begins_with_frame_zero() {
    let found = lab("pagedoc", &options(Some("x86-4g".to_owned()), false));
    assert_eq!(found.numbers("002.7", ["base", "start"]), [0xffff_ea00_0000_0000; 2]);
    assert_eq!(found.numbers("002.7", ["holes", "unmapped"]), [8, 8]);
    assert_eq!(found.number("002.7", "frames"), found.number("002.7", "agree"));
    assert_eq!(found.holds("002.7", Era::V6_1), "yes");
    assert_eq!(found.numbers("003.7", ["sections", "of_boot", "home"]), [32, 32, 0x1_3be0_0000]);
    assert_eq!(found.holds("003.7", Era::V6_1), "yes");
}
