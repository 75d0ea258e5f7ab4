//! Lab `boot-tables` where the image runs where it is linked and where a seed moves it.
//!
//! Expected: the kernel's System.map has `_text` ffff800008000000, `_end` ffff8000084e0000 (4992K) and
//! `__idmap_text_start` to `__idmap_text_end` ffff80000824c000 to ffff80000824c784; the image is loaded at 40200000,
//! so it ends at 406e0000.

use crate::common::{lab, options, recording};
use kernmem_base::Era;
use kernmem_labs::{LabOptions, Value};
use kernmem_source::Options;

const MIB: u64 = 1 << 20;

/// Facts: `[_text, _end + 2M + block)` in 2M blocks, the devicetree's window (2M and a block) from the first block
/// boundary behind `_end` on: 40200000 to 40800000 stay identical, 4M are the window.
#[test]
fn the_first_identity_map_holds_the_whole_image() {
    let found = lab("boot-tables", &options(None, false));
    assert_eq!(found.numbers("002.2", ["identical", "blocks", "moved"]), [6 * MIB, 3, 4 * MIB]);
    assert_eq!(found.numbers("002.2", ["image_phys", "image_bytes"]), [0x4020_0000, 4992 << 10]);
    // A root, one table for its gigabytes, one for blocks.
    assert_eq!(found.number("002.2", "tables"), 3);
    assert_eq!(found.verdict("002.2", Era::V6_1).value("whole_image"), Some(&Value::Truth(true)));
    assert_eq!(found.holds("002.2", Era::V6_1), "only if");
}

/// Facts: idmap_text by pages, and with isolation built the page of a flag.
#[test]
fn the_identity_map_that_stays_holds_idmap_text() {
    let found = lab("boot-tables", &options(None, false));
    assert_eq!(found.numbers("002.2", ["idmap_text", "stays_pages", "stays_identical"]), [0x784, 2, 8192]);
}

#[test]
fn older_kernels_did_what_the_document_saw() {
    let found = lab("boot-tables", &options(None, false));
    let holds = [(Era::V4_14, "yes"), (Era::V5_10, "yes"), (Era::V6_12, "only if"), (Era::V7_2, "only if")];
    for (era, holds) in holds {
        assert_eq!(found.holds("002.2", era), holds, "{era}");
    }
}

/// 40200000 to 406e0000 in blocks: three.
#[test]
fn the_image_runs_where_it_is_linked() {
    let found = lab("boot-tables", &options(None, false));
    assert_eq!(found.numbers("002.3", ["image_virt", "displacement"]), [0xffff_8000_0800_0000, 0]);
    assert_eq!(found.numbers("002.3", ["mapped", "blocks", "tables"]), [6 * MIB, 3, 3]);
    assert_eq!(found.holds("002.3", Era::V6_1), "yes");
}

/// Facts, worked KASLR: seed 1b2c3d4e5f607182 moves 6.1's image by 5d4e5f600000, to ffffdd4e67600000.
#[test]
fn a_seed_moves_the_image_and_not_the_identity() {
    let found = lab("boot-tables", &options(None, true));
    assert_eq!(found.numbers("002.3", ["image_virt", "displacement"]), [0xffff_dd4e_6760_0000, 0x5d4e_5f60_0000]);
    assert_eq!(found.numbers("002.3", ["mapped", "blocks"]), [6 * MIB, 3]);
    assert_eq!(found.numbers("002.2", ["identical", "blocks"]), [6 * MIB, 3]);
    assert_eq!(found.holds("002.3", Era::V6_1), "yes");
}

/// The second machine: recorded with that seed in its devicetree, image at ffffdd4e67600000 in its listing.
#[test]
fn the_recorded_machine_has_the_seed_in_its_devicetree() {
    let found = lab("boot-tables", &options(Some(recording("arm64/a-kaslr-rodata-off")), false));
    assert_eq!(found.number("002.3", "image_virt"), 0xffff_dd4e_6760_0000);
    let listing = crate::common::recorded("arm64/a-kaslr-rodata-off", "kernel_page_tables");
    // _stext lies 64K behind _text.
    assert!(listing.contains("0xffffdd4e67610000-"));
}

#[test]
fn a_machine_of_1_gib_has_the_same_first_tables() {
    let parts = Options { memory: Some(1 << 30), ..Options::default() };
    let found = lab("boot-tables", &LabOptions { parts, ..LabOptions::default() });
    assert_eq!(found.numbers("002.3", ["mapped", "blocks", "tables"]), [6 * MIB, 3, 3]);
}
