//! Lab `ttbr` with and without ignored top bytes, and on a machine that keeps user and kernel tables apart.

use crate::common::{lab, options, recording};
use kernmem_base::Era;
use kernmem_labs::Value;

/// Of 256 top bytes 128 have bit 63 set. A user address whose top byte is ignored accepts all of them, and bit 63 is
/// wrong about those 128; a kernel address that is compared accepts 0xff alone.
#[test]
fn bit_63_is_wrong_about_half_of_all_tags() {
    let found = lab("ttbr", &options(None, false));
    assert_eq!(found.numbers("001.6", ["user_accepted", "user_misjudged", "user_faults"]), [256, 128, 0]);
    assert_eq!(found.numbers("001.6", ["kernel_accepted", "kernel_misjudged", "kernel_faults"]), [1, 0, 255]);
    assert_eq!(found.numbers("001.6", ["tagging_accepted", "tagging_misjudged", "tagging_faults"]), [256, 128, 0]);
    assert_eq!(found.holds("001.6", Era::V6_1), "only if");
}

#[test]
fn where_every_bit_is_compared_bit_63_is_right() {
    let found = lab("ttbr", &options(None, true));
    assert_eq!(found.numbers("001.6", ["user_accepted", "user_misjudged", "user_faults"]), [1, 0, 255]);
    assert_eq!(found.numbers("001.6", ["kernel_accepted", "kernel_misjudged", "kernel_faults"]), [1, 0, 255]);
    assert_eq!(found.holds("001.6", Era::V6_1), "yes");
}

#[test]
fn a_tag_changes_no_step_of_the_walk() {
    let found = lab("ttbr", &options(None, false));
    // The image was loaded at 40200000, memory begins at 40000000.
    assert_eq!(found.number("001.6", "plain"), 0xffff_0000_0020_0000);
    assert_eq!(found.number("001.6", "tagged"), 0x3cff_0000_0020_0000);
    assert_eq!(found.numbers("001.6", ["plain_pa", "tagged_pa"]), [0x4020_0000, 0x4020_0000]);
}

/// The kernel's System.map: swapper_pg_dir is ffff8000082ea000, _text ffff800008000000 and was loaded at 40200000;
/// tramp_pg_dir ffff8000082e8000. Facts: two pages below, which kernel entry adds.
#[test]
fn the_kernels_root_is_swapper_pg_dir() {
    let found = lab("ttbr", &options(None, false));
    assert_eq!(found.numbers("001.4", ["ttbr1", "swapper_pg_dir"]), [0x404e_a000, 0x404e_a000]);
    assert_eq!(found.number("001.4", "tramp_below"), 2 * 4096);
    assert_eq!(found.verdict("001.4", Era::V6_1).value("isolates"), Some(&Value::Truth(false)));
    assert_eq!(found.holds("001.4", Era::V6_1), "only if");
}

/// With KASLR the CPU of this recording, which has no E0PD, needs isolation; the linear map moves, the root does not.
#[test]
fn with_kaslr_user_mode_has_another_ttbr1() {
    let found = lab("ttbr", &options(Some(recording("arm64/a-kaslr-rodata-off")), false));
    assert_eq!(found.verdict("001.4", Era::V6_1).value("isolates"), Some(&Value::Truth(true)));
    assert_eq!(found.number("001.4", "ttbr1"), 0x404e_a000);
    assert!(found.told.contains("tramp_pg_dir"));
    // Facts: 40000000 is mapped at ffff31a8c0000000.
    assert_eq!(found.number("001.6", "plain"), 0xffff_31a8_c020_0000);
    assert_eq!(found.number("001.6", "tagged_pa"), 0x4020_0000);
}

/// Each process: root, PUD, PMD and PTE table.
#[test]
fn two_processes_see_two_pages_at_one_address() {
    let found = lab("ttbr", &options(None, false));
    let [a, b] = found.numbers("001.5", ["page_a", "page_b"]);
    assert_ne!(a, b);
    assert_eq!(found.numbers("001.5", ["user", "user_tables", "root_slots"]), [0x40_0000, 2 * 4, 512]);
    assert_eq!(found.holds("001.5", Era::V6_1), "yes");
}
