//! Lab `flip` with and without KASAN, and for a kernel of 39 bits.

use crate::common::{lab, options};
use kernmem_base::Era;
use kernmem_labs::{LabOptions, Value};
use kernmem_source::Options;

#[test]
fn the_linear_map_moved_from_the_upper_to_the_lower_half() {
    let found = lab("flip", &options(None, false));
    assert_eq!(found.number_on("001.1", Era::V4_14, "linear_start"), 0xffff_8000_0000_0000);
    assert_eq!(found.number_on("001.1", Era::V4_14, "linear_last"), u64::MAX);
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        assert_eq!(found.number_on("001.1", era, "linear_start"), 0xffff_0000_0000_0000, "{era}");
        assert_eq!(found.number_on("001.1", era, "linear_last"), 0xffff_7fff_ffff_ffff, "{era}");
        assert_eq!(found.holds("001.1", era), "yes", "{era}");
    }
    // Document 001 and facts: KIMAGE_VADDR of 5.10, 6.1, 6.12.
    assert_eq!(found.number_on("001.1", Era::V5_10, "image"), 0xffff_8000_1000_0000);
    assert_eq!(found.number_on("001.1", Era::V6_1, "image"), 0xffff_8000_0800_0000);
    assert_eq!(found.number_on("001.1", Era::V6_12, "image"), 0xffff_8000_8000_0000);
    // The booted machine has its 4 GiB there, and nothing else.
    assert_eq!(found.number("001.1", "mapped_lower"), 4 << 30);
}

#[test]
fn with_kasan_all_rows_of_the_document_are_those_of_5_10() {
    let found = lab("flip", &options(None, false));
    assert_eq!(found.number_on("001.2", Era::V5_10, "rows_equal"), 13);
    assert_eq!(found.holds("001.2", Era::V5_10), "only if");
    for era in [Era::V4_14, Era::V6_1, Era::V6_12, Era::V7_2] {
        assert_eq!(found.holds("001.2", era), "no", "{era}");
    }
    // 6.1 takes the shadow out of the linear half, so that row is gone too: user addresses alone stay.
    assert_eq!(found.number("001.2", "rows_equal"), 1);
}

#[test]
fn without_kasan_the_regions_behind_the_shadow_lie_32t_lower() {
    let found = lab("flip", &options(None, true));
    // Rows that differ: the shadow (gone), BPF, modules, vmalloc.
    assert_eq!(found.number_on("001.2", Era::V5_10, "rows_equal"), 9);
    let verdict = found.verdict("001.2", Era::V5_10);
    let shadow = 32 << 40;
    for (row, of_document) in
        [("bpf", 0xffff_a000_0000_0000_u64), ("modules", 0xffff_a000_0800_0000), ("vmalloc", 0xffff_a000_1000_0000)]
    {
        assert_eq!(verdict.number(row), Some(of_document - shadow), "{row}");
    }
    assert_eq!((verdict.value("kasan"), verdict.number("vmemmap")), (None, None));
    // 6.1 without a shadow has the document's linear map and user half.
    assert_eq!(found.number("001.2", "rows_equal"), 2);
}

#[test]
fn both_starts_of_vmalloc_are_right_on_5_10() {
    let found = lab("flip", &options(None, false));
    let numbers = ["vmalloc_off", "vmalloc_on", "behind_shadow"];
    let on = |era| numbers.map(|name| found.number_on("001.3", era, name));
    assert_eq!(on(Era::V5_10), [0xffff_8000_1000_0000, 0xffff_a000_1000_0000, 0xffff_a000_0000_0000]);
    assert_eq!(found.holds("001.3", Era::V5_10), "only if");
    // From 6.1 on KASAN moves nothing.
    let [off, with, _] = on(Era::V6_1);
    assert_eq!((off, with, found.holds("001.3", Era::V6_1)), (0xffff_8000_0800_0000, 0xffff_8000_0800_0000, "no"));
}

/// Facts: V bits put the halves at -2^V and -2^(V-1).
#[test]
fn a_kernel_of_39_bits_is_flipped_as_well() {
    let parts = Options { va_bits: Some(39), ..Options::default() };
    let found = lab("flip", &LabOptions { parts, ..LabOptions::default() });
    for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
        assert_eq!(found.number_on("001.1", era, "linear_start"), 0xffff_ff80_0000_0000, "{era}");
        assert_eq!(found.number_on("001.1", era, "linear_last"), 0xffff_ffbf_ffff_ffff, "{era}");
    }
    assert_eq!(found.number_on("001.1", Era::V4_14, "linear_start"), 0xffff_ffc0_0000_0000);
    assert_eq!(found.holds("001.2", Era::V5_10), "no", "the document's table has 48 bits");
    assert!(found.verdict("001.1", Era::V6_1).value("era") == Some(&Value::Name("6.1".to_owned())));
}
