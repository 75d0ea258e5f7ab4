//! Lab `hvo`: descriptors of huge pages, given back and made whole.

use crate::common::{Found, lab, options, recorded, recording};
use kernmem_base::Era;

const CLAIM: &str = "000.7";

/// 512 descriptors of 64 bytes are 8 pages: one stays. The split takes one table, so six frames are won, and the host
/// holds six pages less. All seven were boot's, and are managed now.
fn gives_seven_of_eight_back(found: &Found) {
    assert_eq!(found.numbers(CLAIM, ["map_pages", "given_back", "tables", "free_more"]), [8, 7, 1, 6]);
    assert_eq!(found.numbers(CLAIM, ["leaf_before", "leaf_after", "managed_more"]), [2 << 20, 4096, 7]);
    let [before, after] = found.numbers(CLAIM, ["host_before", "host_after"]);
    assert_eq!(before - after, (28 - 4) << 10);
    // Each alias refuses a write; the page that stays does not.
    assert_eq!(found.number(CLAIM, "refused"), 7);
    assert!(found.told.contains("refuse a write: 7 (Permission fault)"), "{}", found.told);
    // The block stays split, with its table.
    assert_eq!(found.numbers(CLAIM, ["frames_again", "leaf_again", "tables_left"]), [8, 4096, 1]);
}

/// 2^18 descriptors of 64 bytes are 4096 pages in eight blocks.
fn gives_4095_of_4096_back(found: &Found) {
    assert_eq!(found.numbers(CLAIM, ["map_pages_1g", "given_back_1g", "tables_1g"]), [4096, 4095, 8]);
    assert_eq!(found.numbers(CLAIM, ["refused_1g", "frames_again_1g"]), [4095, 4096]);
}

#[test]
fn x86_64_gives_all_pages_but_one_back() {
    for source in [None, Some(recording("x86/x-4G-1g"))] {
        let found = lab("hvo", &options(source, false));
        gives_seven_of_eight_back(&found);
        gives_4095_of_4096_back(&found);
        let holds =
            [(Era::V4_14, "no"), (Era::V5_10, "no"), (Era::V6_1, "yes"), (Era::V6_12, "yes"), (Era::V7_2, "yes")];
        for (era, holds) in holds {
            assert_eq!(found.holds(CLAIM, era), holds, "{era}");
        }
        assert_eq!([Era::V5_10, Era::V6_12].map(|era| found.number_on(CLAIM, era, "given_back")), [0, 7]);
        assert_eq!([Era::V5_10, Era::V7_2].map(|era| found.number_on(CLAIM, era, "given_back_1g")), [0, 4095]);
    }
}

/// Recorded on x86-64 with eight such pages: `MemTotal` rose by 224 kB, 28 kB a page.
#[test]
fn a_recorded_kernel_won_as_much() {
    let total = |file| -> u64 {
        let text = recorded("x86/x-hvo", file);
        let line = text.lines().find(|line| line.starts_with("MemTotal:")).expect("a line");
        line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    let found = lab("hvo", &options(Some(recording("x86/x-hvo")), false));
    assert_eq!(total("meminfo.2") - total("meminfo"), 8 * 4 * found.number(CLAIM, "managed_more"));
}

#[test]
fn arm64_does_it_as_an_option_of_ours_alone() {
    for source in ["arm64-4g".to_owned(), recording("arm64/a-8G-rodata-off")] {
        let found = lab("hvo", &options(Some(source), false));
        gives_seven_of_eight_back(&found);
        gives_4095_of_4096_back(&found);
        for era in Era::ALL {
            assert_eq!(found.holds(CLAIM, era), "no", "{era}");
        }
    }
}

#[test]
fn switched_off_nothing_is_given_back() {
    for source in [None, Some("arm64-4g".to_owned())] {
        let found = lab("hvo", &options(source, true));
        assert_eq!(found.numbers(CLAIM, ["map_pages", "given_back", "tables", "free_more"]), [8, 0, 0, 0]);
        assert_eq!(found.numbers(CLAIM, ["leaf_before", "leaf_after", "refused"]), [2 << 20, 2 << 20, 0]);
        assert_eq!(found.numbers(CLAIM, ["map_pages_1g", "given_back_1g", "tables_1g"]), [4096, 0, 0]);
        assert_eq!(found.number(CLAIM, "host_before"), found.number(CLAIM, "host_after"));
        assert_eq!(found.holds(CLAIM, Era::V6_1), "no");
    }
}

/// With 1 GiB in all no gigabyte is free; the rest is as elsewhere.
#[test]
fn a_small_machine_has_no_gigabyte_to_give() {
    let found = lab("hvo", &options(Some(recording("arm64/a-1G-rodata-off")), false));
    gives_seven_of_eight_back(&found);
    assert!(found.told.contains("no gigabyte"), "{}", found.told);
    assert_eq!(found.verdict(CLAIM, Era::V6_1).number("given_back_1g"), None);
}
