//! The cases of the memblock suite that ships with Linux, file `alloc_nid_api`, by name: a range and a preferred node.
//! Expectations are worked out by hand for the machine of `common`.
//!
//! Source: names and situations of Linux 6.1–7.2 tools/testing/memblock/tests/alloc_nid_api.c (6.1: `alloc_try_nid_*`).
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{Alloc, BOTH, Case, Dir, Mb, SIZE, flat, nodes, request};
use core::ops::Range;

const PREFERRED: [Alloc; 2] = [Mb::alloc_try_nid, Mb::alloc_try_nid_raw];
const ALL: [Alloc; 3] = [Mb::alloc_try_nid, Mb::alloc_try_nid_raw, Mb::alloc_exact_nid_raw];

/// Offsets and sizes of regions.
type Regions<'a> = &'a [(u64, u64)];

/// Memory without nodes.
#[track_caller]
fn check(dir: Dir, taken: Regions, size: u64, range: Range<u64>, found: Option<u64>, after: Regions) {
    Case { machine: flat, dir, taken, request: request(size, range, None), found, after }.run(&ALL);
}

/// A request of `size` bytes on a node, in a range of memory with nodes.
struct On {
    nid: Option<u32>,
    size: u64,
    range: Range<u64>,
}

const EVERYWHERE: Range<u64> = 0..SIZE;

#[track_caller]
fn check_node(dir: Dir, taken: Regions, on: On, found: Option<u64>, after: Regions) {
    let request = request(on.size, on.range, on.nid);
    Case { machine: nodes, dir, taken, request, found, after }.run(&PREFERRED);
}

#[test]
fn alloc_nid_top_down_simple_check() {
    check(Dir::TopDown, &[], 0x100, 0x1000..0x2000, Some(0x1f00), &[(0x1f00, 0x100)]);
}

#[test]
fn alloc_nid_bottom_up_simple_check() {
    check(Dir::BottomUp, &[], 0x100, 0x1000..0x2000, Some(0x1000), &[(0x1000, 0x100)]);
}

#[test]
fn alloc_nid_simple_check() {
    alloc_nid_top_down_simple_check();
    alloc_nid_bottom_up_simple_check();
}

#[test]
fn alloc_nid_top_down_end_misaligned_check() {
    check(Dir::TopDown, &[], 0x80, 0x1000..0x1ff1, Some(0x1f40), &[(0x1f40, 0x80)]);
}

#[test]
fn alloc_nid_bottom_up_start_misaligned_check() {
    check(Dir::BottomUp, &[], 0x80, 0x1001..0x2000, Some(0x1040), &[(0x1040, 0x80)]);
}

#[test]
fn alloc_nid_misaligned_check() {
    alloc_nid_top_down_end_misaligned_check();
    alloc_nid_bottom_up_start_misaligned_check();
}

#[test]
fn alloc_nid_exact_address_generic_check() {
    for dir in BOTH {
        check(dir, &[], 0x100, 0x1000..0x1100, Some(0x1000), &[(0x1000, 0x100)]);
    }
}

#[test]
fn alloc_nid_exact_address_check() {
    alloc_nid_exact_address_generic_check();
}

#[test]
fn alloc_nid_top_down_narrow_range_check() {
    check(Dir::TopDown, &[], 0x100, 0x1000..0x1080, Some(0xf80), &[(0xf80, 0x100)]);
}

#[test]
fn alloc_nid_bottom_up_narrow_range_check() {
    check(Dir::BottomUp, &[], 0x100, 0x1000..0x1080, Some(0x0), &[(0x0, 0x100)]);
}

#[test]
fn alloc_nid_narrow_range_check() {
    alloc_nid_top_down_narrow_range_check();
    alloc_nid_bottom_up_narrow_range_check();
}

#[test]
fn alloc_nid_low_max_generic_check() {
    for dir in BOTH {
        check(dir, &[], 0x100, 0x0..0x80, None, &[]);
    }
}

#[test]
fn alloc_nid_low_max_check() {
    alloc_nid_low_max_generic_check();
}

#[test]
fn alloc_nid_min_reserved_generic_check() {
    for dir in BOTH {
        check(dir, &[(0xf00, 0x100)], 0x200, 0x1000..0x1200, Some(0x1000), &[(0xf00, 0x300)]);
    }
}

#[test]
fn alloc_nid_min_reserved_check() {
    alloc_nid_min_reserved_generic_check();
}

#[test]
fn alloc_nid_max_reserved_generic_check() {
    for dir in BOTH {
        check(dir, &[(0x1200, 0x100)], 0x200, 0x1000..0x1200, Some(0x1000), &[(0x1000, 0x300)]);
    }
}

#[test]
fn alloc_nid_max_reserved_check() {
    alloc_nid_max_reserved_generic_check();
}

#[test]
fn alloc_nid_top_down_reserved_with_space_check() {
    check(
        Dir::TopDown,
        &[(0xf00, 0x100), (0x1200, 0x100)],
        0x100,
        0x1000..0x1200,
        Some(0x1100),
        &[(0xf00, 0x100), (0x1100, 0x200)],
    );
}

#[test]
fn alloc_nid_bottom_up_reserved_with_space_check() {
    check(
        Dir::BottomUp,
        &[(0xf00, 0x100), (0x1200, 0x100)],
        0x100,
        0x1000..0x1200,
        Some(0x1000),
        &[(0xf00, 0x200), (0x1200, 0x100)],
    );
}

#[test]
fn alloc_nid_reserved_with_space_check() {
    alloc_nid_top_down_reserved_with_space_check();
    alloc_nid_bottom_up_reserved_with_space_check();
}

#[test]
fn alloc_nid_reserved_full_merge_generic_check() {
    for dir in BOTH {
        check(dir, &[(0xf00, 0x100), (0x1200, 0x100)], 0x200, 0x1000..0x1200, Some(0x1000), &[(0xf00, 0x400)]);
    }
}

#[test]
fn alloc_nid_reserved_full_merge_check() {
    alloc_nid_reserved_full_merge_generic_check();
}

#[test]
fn alloc_nid_top_down_reserved_no_space_check() {
    check(
        Dir::TopDown,
        &[(0xf00, 0x100), (0x1200, 0x100)],
        0x280,
        0x1000..0x1200,
        Some(0xc80),
        &[(0xc80, 0x380), (0x1200, 0x100)],
    );
}

#[test]
fn alloc_nid_bottom_up_reserved_no_space_check() {
    check(
        Dir::BottomUp,
        &[(0xf00, 0x100), (0x1200, 0x100)],
        0x280,
        0x1000..0x1200,
        Some(0x0),
        &[(0x0, 0x280), (0xf00, 0x100), (0x1200, 0x100)],
    );
}

#[test]
fn alloc_nid_reserved_no_space_check() {
    alloc_nid_top_down_reserved_no_space_check();
    alloc_nid_bottom_up_reserved_no_space_check();
}

#[test]
fn alloc_nid_reserved_all_generic_check() {
    for dir in BOTH {
        check(dir, &[(0x0, 0x1000), (0x1200, 0x6e00)], 0x280, 0x1000..0x1200, None, &[(0x0, 0x1000), (0x1200, 0x6e00)]);
    }
}

#[test]
fn alloc_nid_reserved_all_check() {
    alloc_nid_reserved_all_generic_check();
}

#[test]
fn alloc_nid_top_down_cap_max_check() {
    check(Dir::TopDown, &[], 0x100, 0x1000..0x9000, Some(0x7f00), &[(0x7f00, 0x100)]);
}

#[test]
fn alloc_nid_bottom_up_cap_max_check() {
    check(Dir::BottomUp, &[], 0x100, 0x1000..0x9000, Some(0x1000), &[(0x1000, 0x100)]);
}

#[test]
fn alloc_nid_cap_max_check() {
    alloc_nid_top_down_cap_max_check();
    alloc_nid_bottom_up_cap_max_check();
}

#[test]
fn alloc_nid_top_down_cap_min_check() {
    check(Dir::TopDown, &[], 0x100, 0x1000u64.wrapping_neg()..0x1000, Some(0xf00), &[(0xf00, 0x100)]);
}

#[test]
fn alloc_nid_bottom_up_cap_min_check() {
    check(Dir::BottomUp, &[], 0x100, 0x1000u64.wrapping_neg()..0x1000, Some(0x0), &[(0x0, 0x100)]);
}

#[test]
fn alloc_nid_cap_min_check() {
    alloc_nid_top_down_cap_min_check();
    alloc_nid_bottom_up_cap_min_check();
}

#[test]
fn alloc_nid_top_down_numa_simple_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(3), size: 0x600, range: EVERYWHERE },
        Some(0x4a00),
        &[(0x4a00, 0x600)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_simple_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(3), size: 0x600, range: EVERYWHERE },
        Some(0x3800),
        &[(0x3800, 0x600)],
    );
}

#[test]
fn alloc_nid_numa_simple_check() {
    alloc_nid_top_down_numa_simple_check();
    alloc_nid_bottom_up_numa_simple_check();
}

#[test]
fn alloc_nid_top_down_numa_small_node_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(1), size: 0x1000, range: EVERYWHERE },
        Some(0x7000),
        &[(0x7000, 0x1000)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_small_node_check() {
    check_node(Dir::BottomUp, &[], On { nid: Some(1), size: 0x1000, range: EVERYWHERE }, Some(0x0), &[(0x0, 0x1000)]);
}

#[test]
fn alloc_nid_numa_small_node_check() {
    alloc_nid_top_down_numa_small_node_check();
    alloc_nid_bottom_up_numa_small_node_check();
}

#[test]
fn alloc_nid_top_down_numa_node_reserved_check() {
    check_node(
        Dir::TopDown,
        &[(0x2800, 0x1000)],
        On { nid: Some(2), size: 0x1000, range: EVERYWHERE },
        Some(0x7000),
        &[(0x2800, 0x1000), (0x7000, 0x1000)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_node_reserved_check() {
    check_node(
        Dir::BottomUp,
        &[(0x2800, 0x1000)],
        On { nid: Some(2), size: 0x1000, range: EVERYWHERE },
        Some(0x0),
        &[(0x0, 0x1000), (0x2800, 0x1000)],
    );
}

#[test]
fn alloc_nid_numa_node_reserved_check() {
    alloc_nid_top_down_numa_node_reserved_check();
    alloc_nid_bottom_up_numa_node_reserved_check();
}

#[test]
fn alloc_nid_top_down_numa_part_reserved_check() {
    check_node(
        Dir::TopDown,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x400, range: EVERYWHERE },
        Some(0x4c00),
        &[(0x3e00, 0xc00), (0x4c00, 0x400)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_part_reserved_check() {
    check_node(
        Dir::BottomUp,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x400, range: EVERYWHERE },
        Some(0x3800),
        &[(0x3800, 0x400), (0x3e00, 0xc00)],
    );
}

#[test]
fn alloc_nid_numa_part_reserved_check() {
    alloc_nid_top_down_numa_part_reserved_check();
    alloc_nid_bottom_up_numa_part_reserved_check();
}

#[test]
fn alloc_nid_top_down_numa_part_reserved_fallback_check() {
    check_node(
        Dir::TopDown,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x800, range: EVERYWHERE },
        Some(0x7800),
        &[(0x3e00, 0xc00), (0x7800, 0x800)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_part_reserved_fallback_check() {
    check_node(
        Dir::BottomUp,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x800, range: EVERYWHERE },
        Some(0x0),
        &[(0x0, 0x800), (0x3e00, 0xc00)],
    );
}

#[test]
fn alloc_nid_numa_part_reserved_fallback_check() {
    alloc_nid_top_down_numa_part_reserved_fallback_check();
    alloc_nid_bottom_up_numa_part_reserved_fallback_check();
}

#[test]
fn alloc_nid_top_down_numa_split_range_low_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x3700..0x3900 },
        Some(0x3600),
        &[(0x3600, 0x200)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_split_range_low_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x3700..0x3900 },
        Some(0x2800),
        &[(0x2800, 0x200)],
    );
}

#[test]
fn alloc_nid_numa_split_range_low_check() {
    alloc_nid_top_down_numa_split_range_low_check();
    alloc_nid_bottom_up_numa_split_range_low_check();
}

#[test]
fn alloc_nid_top_down_numa_split_range_high_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(3), size: 0x200, range: 0x3400..0x3900 },
        Some(0x3600),
        &[(0x3600, 0x200)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_split_range_high_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(3), size: 0x200, range: 0x3400..0x3900 },
        Some(0x3400),
        &[(0x3400, 0x200)],
    );
}

#[test]
fn alloc_nid_numa_split_range_high_check() {
    alloc_nid_top_down_numa_split_range_high_check();
    alloc_nid_bottom_up_numa_split_range_high_check();
}

#[test]
fn alloc_nid_top_down_numa_no_overlap_split_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x4f00..0x5100 },
        Some(0x3600),
        &[(0x3600, 0x200)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_no_overlap_split_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x4f00..0x5100 },
        Some(0x2800),
        &[(0x2800, 0x200)],
    );
}

#[test]
fn alloc_nid_numa_no_overlap_split_check() {
    alloc_nid_top_down_numa_no_overlap_split_check();
    alloc_nid_bottom_up_numa_no_overlap_split_check();
}

#[test]
fn alloc_nid_top_down_numa_no_overlap_low_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(0), size: 0x400, range: 0x2800..0x5000 },
        Some(0x4c00),
        &[(0x4c00, 0x400)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_no_overlap_low_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(0), size: 0x400, range: 0x2800..0x5000 },
        Some(0x2800),
        &[(0x2800, 0x400)],
    );
}

#[test]
fn alloc_nid_numa_no_overlap_low_check() {
    alloc_nid_top_down_numa_no_overlap_low_check();
    alloc_nid_bottom_up_numa_no_overlap_low_check();
}

#[test]
fn alloc_nid_top_down_numa_no_overlap_high_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(5), size: 0x400, range: 0x2800..0x5000 },
        Some(0x4c00),
        &[(0x4c00, 0x400)],
    );
}

#[test]
fn alloc_nid_bottom_up_numa_no_overlap_high_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(5), size: 0x400, range: 0x2800..0x5000 },
        Some(0x2800),
        &[(0x2800, 0x400)],
    );
}

#[test]
fn alloc_nid_numa_no_overlap_high_check() {
    alloc_nid_top_down_numa_no_overlap_high_check();
    alloc_nid_bottom_up_numa_no_overlap_high_check();
}

#[test]
fn alloc_nid_numa_large_region_generic_check() {
    for dir in BOTH {
        check_node(dir, &[], On { nid: Some(0), size: 0x8000, range: EVERYWHERE }, None, &[]);
    }
}

#[test]
fn alloc_nid_numa_large_region_check() {
    alloc_nid_numa_large_region_generic_check();
}

#[test]
fn alloc_nid_numa_reserved_full_merge_generic_check() {
    for dir in BOTH {
        check_node(
            dir,
            &[(0x2800, 0x1000), (0x5000, 0x800)],
            On { nid: Some(3), size: 0x1800, range: 0x3800..0x5000 },
            Some(0x3800),
            &[(0x2800, 0x3000)],
        );
    }
}

#[test]
fn alloc_nid_numa_reserved_full_merge_check() {
    alloc_nid_numa_reserved_full_merge_generic_check();
}

#[test]
fn alloc_nid_numa_split_all_reserved_generic_check() {
    for dir in BOTH {
        check_node(
            dir,
            &[(0x0, 0x3700), (0x3900, 0x4700)],
            On { nid: None, size: 0x200, range: 0x3700..0x3900 },
            None,
            &[(0x0, 0x3700), (0x3900, 0x4700)],
        );
    }
}

#[test]
fn alloc_nid_numa_split_all_reserved_check() {
    alloc_nid_numa_split_all_reserved_generic_check();
}
