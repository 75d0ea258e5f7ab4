//! Lab `block-is-not-an-allocation`: one leaf of the linear map, and who takes memory from behind it.

use crate::common::{Found, lab, options, recording, with_cmdline};
use kernmem_base::Era;
use kernmem_labs::LabOptions;

const CLAIM: &str = "000.8";

/// 200 bytes come from objects of 256, sixteen a page: 1000 of them fill 62 pages and a part of one more.
fn kmalloc_changes_nothing(found: &Found) {
    assert_eq!(found.numbers(CLAIM, ["objects", "object_pages", "kmalloc_changed"]), [1000, 63, 0]);
    // The counter counts: three pages of vmalloc are three leaves.
    assert_eq!(found.number(CLAIM, "vmalloc_leaves"), 3);
    assert_eq!(found.numbers(CLAIM, ["given", "agree", "linear_changed"]), [4, 4, 0]);
    let [before, after] = found.numbers(CLAIM, ["raw_before", "raw_after"]);
    assert_eq!(before, after);
}

/// All of the upper zone is the gigabyte from 4 GiB: what is given comes from behind its one leaf.
#[test]
fn one_leaf_of_a_gibibyte_serves_four_kinds_on_arm64() {
    for source in [None, Some(recording("arm64/a-4G-rodata-off"))] {
        let found = lab("block-is-not-an-allocation", &options(source, false));
        kmalloc_changes_nothing(&found);
        assert_eq!(found.numbers(CLAIM, ["kinds", "leaf"]), [4, 1 << 30]);
        let raw = found.number(CLAIM, "raw_after");
        // Bits 1:0 say that it is a block, bits 47:30 which gigabyte it maps.
        assert_eq!((raw & 0b11, raw & 0xffff_c000_0000), (0b01, 0x1_0000_0000));
        assert_eq!(found.holds(CLAIM, Era::V6_1), "yes");
    }
}

#[test]
fn pages_have_leaves_of_their_own_under_full_protection() {
    let found = lab("block-is-not-an-allocation", &options(None, true));
    kmalloc_changes_nothing(&found);
    assert_eq!(found.numbers(CLAIM, ["kinds", "leaf"]), [1, 4096]);
    assert_eq!(found.holds(CLAIM, Era::V6_1), "only if");
}

#[test]
fn x86_64_says_the_same_with_leaves_of_1g_and_of_2m() {
    let machine = || Some(recording("x86/x-4G-1g"));
    let found = lab("block-is-not-an-allocation", &options(machine(), false));
    kmalloc_changes_nothing(&found);
    assert_eq!(found.numbers(CLAIM, ["kinds", "leaf"]), [4, 1 << 30]);
    // Bit 7 says that it is a leaf; the rest of the address is that of 4 GiB.
    let raw = found.number(CLAIM, "raw_after");
    assert_eq!((raw >> 7 & 1, raw & 0xf_ffff_c000_0000), (1, 0x1_0000_0000));
    assert_eq!(found.holds(CLAIM, Era::V6_1), "yes");

    let found = lab("block-is-not-an-allocation", &options(machine(), true));
    kmalloc_changes_nothing(&found);
    // A huge page fills its leaf, so it shares it with nobody.
    assert_eq!(found.number(CLAIM, "leaf"), 2 << 20);
    assert!(found.number(CLAIM, "kinds") < 4);
    assert_eq!(found.holds(CLAIM, Era::V6_1), "only if");
}

/// The caller's line is taken as it is, also the other way round.
#[test]
fn a_command_line_of_the_callers_is_not_touched() {
    let found = lab("block-is-not-an-allocation", &LabOptions { reverse: true, ..with_cmdline(None, "rodata=off") });
    assert_eq!(found.number(CLAIM, "leaf"), 1 << 30);
}

/// With five gigabytes above 4 GiB, programs' pages and the kernel's come from different ones.
#[test]
fn a_larger_machine_may_use_several_leaves() {
    let found = lab("block-is-not-an-allocation", &options(Some(recording("arm64/a-8G-rodata-off")), false));
    kmalloc_changes_nothing(&found);
    assert_eq!(found.number(CLAIM, "leaf"), 1 << 30);
    assert!(found.number(CLAIM, "kinds") >= 2);
}
