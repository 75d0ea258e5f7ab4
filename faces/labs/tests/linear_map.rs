//! Lab `linear-map` both ways, on four recorded machines: expected grain from the recorded listings.

use crate::common::{lab, options, recorded, recorded_levels, recording, with_cmdline};
use kernmem_base::Era;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const LINEAR: u64 = 0xffff_0000_0000_0000;
const LINEAR_END: u64 = 0xffff_8000_0000_0000;

/// Document 000 with `rodata=off`: the first gigabyte 1020M and 4M (recorded: 2M + 26M + 992M by PMD; 64K + 2944K +
/// 1088K by PTE), then 3G by PUD.
#[test]
fn with_rodata_off_the_image_alone_splits_its_gigabyte() {
    let found = lab("linear-map", &options(None, false));
    assert_eq!(found.numbers("000.1", ["image_1g", "image_2m", "image_4k"]), [0, 1020 * MIB, 4 * MIB]);
    assert_eq!(found.numbers("000.1", ["others_1g", "others_2m", "others_4k"]), [3 * GIB, 0, 0]);
    assert_eq!(found.holds("000.1", Era::V6_1), "yes");
}

#[test]
fn with_rodata_full_everything_is_a_page() {
    let found = lab("linear-map", &options(None, true));
    assert_eq!(found.numbers("000.1", ["image_1g", "image_2m", "image_4k"]), [0, 0, GIB]);
    assert_eq!(found.numbers("000.1", ["others_1g", "others_2m", "others_4k"]), [0, 0, 3 * GIB]);
    assert_eq!(found.holds("000.1", Era::V6_1), "no");
    // A page of a page is no test of the fourth claim.
    assert_eq!((found.number("000.4", "leaf"), found.holds("000.4", Era::V6_1)), (4096, "only if"));
}

/// The boot log of the recorded boot names every page that became a table before the memory map was made.
#[test]
fn table_pages_are_those_of_the_recorded_log() {
    let log = recorded("arm64/a-4G-memblock", "console.txt");
    let asked = log.lines().filter(|line| line.contains("memblock_phys_alloc_range: 4096 bytes align=0x1000"));
    let asked = asked.filter(|line| line.contains("early_pgtable_alloc")).count() as u64;
    assert_eq!(asked, 12);
    let found = lab("linear-map", &options(None, false));
    assert_eq!(found.number("000.1", "table_pages"), asked);
    // Facts: 2058 tables by pages, and 3 of the identity map; 13fffffff down to 13f7f3000.
    assert_eq!(found.number("000.2", "table_pages"), 2058 + 3);
    assert_eq!(found.number("000.2", "table_pages"), (0x1_4000_0000 - 0x1_3f7f_3000) / 4096);
    assert_eq!(found.numbers("000.2", ["pages", "blocks"]), [4 * GIB, 0]);
}

/// The grain of recorded machines, level by level, against the lines of their own listings.
#[track_caller]
fn check(name: &str, start: u64, holds: &str) {
    let listing = recorded(name, "kernel_page_tables");
    // The machine's own command line stays.
    let cmdline = recorded(name, "cmdline");
    let found = lab("linear-map", &with_cmdline(Some(recording(name)), cmdline.trim()));
    let image = recorded_levels(&listing, start, start + GIB);
    let others = recorded_levels(&listing, start + GIB, LINEAR_END);
    assert_eq!(found.numbers("000.1", ["image_1g", "image_2m", "image_4k"]), image, "{name}");
    assert_eq!(found.numbers("000.1", ["others_1g", "others_2m", "others_4k"]), others, "{name}");
    assert_eq!(found.holds("000.1", Era::V6_1), holds, "{name}");
}

#[test]
fn larger_machines_have_one_gigabyte_leaves_behind_the_image() {
    check("arm64/a-8G-rodata-off", LINEAR, "yes");
    check("arm64/a-64G-rodata-off", LINEAR, "yes");
}

#[test]
fn two_nodes_have_the_grain_of_one() {
    check("arm64/a-2node-rodata-off", LINEAR, "yes");
}

#[test]
fn a_moved_linear_map_has_the_same_grain() {
    // Facts: 40000000 is mapped at ffff31a8c0000000 with this seed.
    check("arm64/a-kaslr-rodata-off", 0xffff_31a8_c000_0000, "yes");
}

#[test]
fn machines_that_were_recorded_with_pages_have_pages() {
    check("arm64/a-4G", LINEAR, "no");
    check("arm64/a-4G-rodata-0", LINEAR, "no");
    check("arm64/a-dpa", LINEAR, "no");
}

/// Facts: 5.10 reads a boolean; from 6.1 on `0` is no value, and the recorded kernel of 6.1 says so.
#[test]
fn rodata_0_was_understood_by_5_10_alone() {
    let found = lab("linear-map", &options(None, false));
    for (era, holds, warnings) in
        [(Era::V5_10, "yes", 0), (Era::V6_1, "no", 1), (Era::V6_12, "no", 1), (Era::V7_2, "no", 1)]
    {
        assert_eq!(found.holds("000.3", era), holds, "{era}");
        assert_eq!(found.number_on("000.3", era, "warnings"), warnings, "{era}");
    }
    assert_eq!(found.number("000.3", "table_pages"), 2061, "as without the word");
    let log = recorded("arm64/a-4G-rodata-0", "console.txt");
    assert!(log.contains("Invalid option string for rodata: '0'"));
}

/// The recorded kernel took a part of the last gigabyte, which one leaf maps, and freed the rest page by page.
#[test]
fn a_block_mapping_takes_no_frame_away() {
    let (start, end) = (0x1_0000_0000_u64, 0x1_4000_0000_u64);
    let found = lab("linear-map", &options(None, false));
    assert_eq!(found.number("000.4", "leaf"), GIB);
    assert_eq!(found.number("000.4", "block_pages"), 262_144);
    let page = found.number("000.4", "page");
    assert!((start..end).contains(&page));
    assert_eq!(found.number("000.4", "page_va"), page - 0x4000_0000 + LINEAR);
    assert_eq!(found.number("000.4", "smallest_order"), 0);
    let reserved = recorded("arm64/a-4G-rodata-off", "memblock_reserved");
    let taken: u64 = reserved
        .lines()
        .filter_map(|line| {
            let (first, last) = line.split_once(": ")?.1.split_once("..")?;
            let hex = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap();
            let (first, last) = (hex(first).max(start) / 4096, (hex(last) + 1).min(end).div_ceil(4096));
            Some(last.saturating_sub(first))
        })
        .sum();
    let free = found.number("000.4", "free_pages");
    // The recorded kernel took more later (hash tables, per-CPU data), but never the block. At the least the memory
    // map (32 sections of 2 MiB) and the twelve tables are gone.
    assert!(262_144 - taken > 200_000, "{taken} taken");
    assert!((262_144 - taken..=262_144 - 16_384 - 12).contains(&free), "{free} free, {taken} taken");
    assert_eq!(found.holds("000.4", Era::V6_1), "yes");
}

#[test]
fn the_default_is_full_where_it_exists() {
    let found = lab("linear-map", &options(None, false));
    let holds =
        [(Era::V4_14, "no"), (Era::V5_10, "yes"), (Era::V6_1, "yes"), (Era::V6_12, "yes"), (Era::V7_2, "only if")];
    for (era, holds) in holds {
        assert_eq!(found.holds("000.2", era), holds, "{era}");
    }
}
