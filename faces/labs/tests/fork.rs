//! `fork`: the kernel's half, the list of roots, and pages that are copied when one of two writes.

use crate::common::{lab, options, recording};
use kernmem_base::Era;

/// Facts: 68 of 256 entries on a machine without KASLR, KASAN and espfix: the direct map, 64 of vmalloc, vmemmap, the
/// CPU entry area, the image. Each of the 16 processes has them, and no tables of its own below.
#[test]
fn on_x86_64_every_root_has_the_68_entries_of_the_kernel() {
    for source in [None, Some(recording("x86/x-4G-nopti"))] {
        let found = lab("fork", &options(source, false));
        assert_eq!(found.numbers("004.4", ["processes", "slots", "present", "equal"]), [16, 256, 68, 16]);
        assert_eq!(found.numbers("004.4", ["own_entries", "seen", "faults", "changed"]), [16 * 68, 16, 0, 0]);
        assert_eq!(found.holds("004.4", Era::V6_1), "yes");
    }
}

#[test]
fn on_arm64_no_root_has_any_and_all_see_the_kernel() {
    let found = lab("fork", &options(Some("arm64-4g".to_owned()), false));
    assert_eq!(found.numbers("004.4", ["slots", "own_entries", "seen", "faults"]), [512, 0, 16, 0]);
    assert_eq!(found.holds("004.4", Era::V6_1), "only if");
    assert_eq!(found.number("004.7", "copied"), 0);
    assert_eq!(found.holds("004.7", Era::V6_1), "no");
}

/// The parent alone, then both, the child first; the parent alone again.
#[test]
fn fork_copies_the_entries_and_lists_the_root() {
    let found = lab("fork", &options(None, false));
    assert_eq!(found.numbers("004.7", ["before", "after", "behind", "copied"]), [1, 2, 1, 68]);
    // System.map: init_top_pgt is ffffffff81a0a000; the image lies at its linked place, 16 MiB, mapped from
    // ffffffff80000000 for physical 0.
    assert_eq!(found.number("004.7", "swapper"), 0x01a0_a000);
    assert_eq!(found.holds("004.7", Era::V6_1), "yes");
}

/// By hand, for 8 pages: 3 are copied for the first writer. The other is alone with its 3 old frames, and copies the 5
/// that are still shared; the first is alone with those 5. So each page is copied once. 8 pages need one table of each
/// of three levels.
#[test]
fn each_page_is_copied_once_by_who_writes_first() {
    for source in [None, Some("arm64-4g".to_owned())] {
        for reverse in [false, true] {
            let found = lab("fork", &options(source.clone(), reverse));
            assert_eq!(found.numbers("004.8", ["pages", "same", "tables", "inherited"]), [8, 8, 3, 8]);
            assert_eq!(found.numbers("004.8", ["refused_parent", "refused_child"]), [8, 8]);
            assert_eq!(found.numbers("004.8", ["first_writes", "first_copies", "first_reused", "kept"]), [3, 3, 0, 8]);
            assert_eq!(found.numbers("004.8", ["second_copies", "second_reused"]), [5, 3]);
            assert_eq!(found.numbers("004.8", ["rest_copies", "rest_reused", "same_at_last"]), [0, 5, 0]);
            assert_eq!(found.number("004.8", "fresh"), 1);
            assert_eq!(found.holds("004.8", Era::V6_1), "only if");
            assert_eq!(found.told.contains("the parent writes 3"), reverse);
        }
    }
}

/// A copied entry is old. x86's walk marks it; the Cortex-A72 does not, and faults once for each page.
#[test]
fn the_child_of_a_cpu_that_marks_nothing_faults_to_mark() {
    for (source, marked) in [(None, 0), (Some("arm64-4g".to_owned()), 8)] {
        assert_eq!(lab("fork", &options(source, false)).number("004.8", "marked"), marked);
    }
}
