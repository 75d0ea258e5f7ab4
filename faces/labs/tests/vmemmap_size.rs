//! Lab `vmemmap-size`: computed for x86-64, and 64 TiB booted.

use std::time::Instant;

use crate::common::{lab, options, recorded, recording};
use kernmem_base::Era;

/// Document 003: 2^46 / 2^12 * 64 = 2^40.
#[test]
fn sixty_four_tebibytes_need_one_of_descriptors() {
    let found = lab("vmemmap-size", &options(Some("arm64-4g".to_owned()), false));
    for era in Era::ALL {
        assert_eq!(found.number_on("003.6", era, "physical"), 64 << 40, "{era}");
        assert_eq!(found.number_on("003.6", era, "vmemmap_bytes"), 1 << 40, "{era}");
        assert_eq!(found.holds("003.6", era), "only if", "{era}");
    }
    let range = ["vmemmap_start", "vmemmap_last"];
    assert_eq!(found.numbers("003.6", range), [0xffff_ea00_0000_0000, 0xffff_eaff_ffff_ffff]);
    // The next region, KASAN's shadow, starts at ffffec0000000000. Five levels: 2^52 / 2^12 * 64 = 2^46.
    assert_eq!(found.numbers("003.6", ["room", "five_levels"]), [2 << 40, 1 << 46]);
}

#[test]
fn larger_descriptors_need_more_than_is_documented() {
    let found = lab("vmemmap-size", &options(Some("arm64-4g".to_owned()), true));
    assert_eq!(found.numbers("003.6", ["page_bytes", "vmemmap_bytes"]), [128, 2 << 40]);
    assert_eq!(found.number("003.6", "vmemmap_last"), 0xffff_ebff_ffff_ffff);
    assert_eq!(found.holds("003.6", Era::V6_1), "no");
}

/// 64 TiB / 128 MiB sections of 2 MiB: 1 TiB, in 1024 tables of blocks, and two tables above them, of 512 GiB each.
#[test]
fn sixty_four_tebibytes_boot_in_a_few_mebibytes() {
    let start = Instant::now();
    let found = lab("vmemmap-size", &options(None, false));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert_eq!(found.numbers("000.5", ["memory", "sections", "memmap"]), [64 << 40, 1 << 19, 1 << 40]);
    assert_eq!(found.numbers("000.5", ["map_start", "map_last"]), [0xffff_fc00_0000_0000, 0xffff_fcff_ffff_ffff]);
    assert_eq!(found.numbers("000.5", ["map_blocks", "map_pages", "map_tables"]), [1 << 40, 0, 1024 + 2]);
    // Tables of the memory map (1026), of the linear map's 1G leaves (129), and a few: under 8 MiB, over 4.
    let host = found.number("000.5", "host");
    assert!(((1026 + 129) * 4096..8 << 20).contains(&host), "{host}");
    assert_eq!(found.holds("000.5", Era::V6_1), "yes");
}

/// Recorded: 64M of vmemmap by PMD on 4 GiB, 128M on 8 GiB.
#[test]
fn recorded_machines_have_their_map_in_blocks() {
    for (name, bytes, line) in [
        ("arm64/a-4G", 64 << 20, "0xfffffc0000000000-0xfffffc0004000000          64M PMD"),
        ("arm64/a-8G-rodata-off", 128 << 20, "0xfffffc0000000000-0xfffffc0008000000         128M PMD"),
    ] {
        assert!(recorded(name, "kernel_page_tables").contains(line));
        let found = lab("vmemmap-size", &options(Some(recording(name)), false));
        assert_eq!(found.numbers("000.5", ["memmap", "map_blocks", "map_pages"]), [bytes, bytes, 0], "{name}");
        assert_eq!(found.number("000.5", "map_tables"), 2, "{name}");
    }
}

#[test]
fn x86_64_maps_it_by_blocks_too() {
    let found = lab("vmemmap-size", &options(Some("x86-4g".to_owned()), false));
    // 32 sections; two sections' halves of the map lie apart, in one table.
    assert_eq!(found.numbers("000.5", ["memmap", "map_blocks", "map_pages"]), [64 << 20, 64 << 20, 0]);
    assert_eq!(found.number("000.5", "map_start"), 0xffff_ea00_0000_0000);
}
