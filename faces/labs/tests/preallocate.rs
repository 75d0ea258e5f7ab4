//! `preallocate`: entries of vmalloc at the top of the kernel's tables, counted in formulas, boots and a recording.

use crate::common::{lab, options, recorded, recording};
use kernmem_base::Era;

/// 512G.
const ENTRY: u64 = 1 << 39;

/// By hand: 32 TiB / 512 GiB and 12,800 TiB / 256 TiB.
#[test]
fn four_levels_need_64_and_five_need_50() {
    let found = lab("preallocate", &options(None, false));
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        let four = ["tables_four", "vmalloc_four", "reach_four"].map(|name| found.number_on("004.3", era, name));
        assert_eq!(four, [64, 32 << 40, ENTRY]);
        let five = ["tables_five", "vmalloc_five", "reach_five"].map(|name| found.number_on("004.3", era, name));
        assert_eq!(five, [50, 12_800 << 40, 256 << 40]);
        assert_eq!(found.holds("004.3", era), "yes");
    }
    assert_eq!(found.holds("004.3", Era::V4_14), "no");
}

/// Facts: entries 402 to 465 are there after boot, one page of tables each; the first stack uses one.
#[test]
fn boot_links_a_table_in_every_entry() {
    let found = lab("preallocate", &options(None, false));
    assert_eq!(found.numbers("004.3", ["slots", "linked", "linked_bytes", "used"]), [64, 64, 256 << 10, 1]);
    assert_eq!(found.numbers("004.3", ["areas", "new_entries", "frames_between"]), [64, 0, 63]);
}

#[test]
fn a_boot_that_leaves_them_out_makes_them_one_by_one() {
    let found = lab("preallocate", &options(None, true));
    assert_eq!(found.numbers("004.3", ["slots", "linked", "linked_bytes", "used"]), [64, 1, 4096, 1]);
    assert_eq!(found.numbers("004.3", ["areas", "new_entries", "frames_between"]), [64, 63, 63]);
    assert_eq!(found.holds("004.3", Era::V6_1), "no");
    assert_eq!(found.holds("004.3", Era::V5_10), "yes");
}

/// Entries of 512G in the vmalloc section of a recorded listing: from the first that is not a hole of the top level, to
/// the hole of the top level behind it.
fn recorded_entries(name: &str) -> u64 {
    let listing = recorded(name, "page_tables_kernel");
    let section = listing.split("---[ vmalloc() Area ]---").nth(1).expect("the section of vmalloc");
    let start_of = |line: &str| {
        let start = line.trim_start_matches("0x").split('-').next().expect("an address");
        u64::from_str_radix(start, 16).expect("an address")
    };
    let mut lines = section.lines().filter(|line| line.starts_with("0x"));
    let first = start_of(lines.next().expect("a line"));
    let hole = lines.find(|line| line.trim_end().ends_with("pgd")).expect("the hole behind it");
    (start_of(hole) - first / ENTRY * ENTRY) / ENTRY
}

/// KASLR moves vmalloc by gigabytes: in the recording it begins inside an entry and touches 65.
#[test]
fn moved_by_kaslr_one_entry_more_is_touched() {
    for (name, entries, holds) in [("x86/x-4G", 64, "yes"), ("x86/x-4G-kaslr", 65, "only if")] {
        assert_eq!(recorded_entries(name), entries, "{name}");
        let found = lab("preallocate", &options(Some(recording(name)), false));
        let counts = ["slots", "linked", "areas", "new_entries", "frames_between"];
        assert_eq!(found.numbers("004.3", counts), [entries, entries, entries, 0, entries - 1], "{name}");
        assert_eq!(found.holds("004.3", Era::V6_1), holds, "{name}");
    }
}

#[test]
fn in_reverse_the_moved_machine_makes_64_anew() {
    let found = lab("preallocate", &options(Some(recording("x86/x-4G-kaslr")), true));
    assert_eq!(found.numbers("004.3", ["linked", "new_entries"]), [1, 64]);
}
