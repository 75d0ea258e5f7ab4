//! The cases of the memblock suite that ships with Linux, file `alloc_exact_nid_api`, by name: no other node will do.
//! Expectations are worked out by hand for the machine of `common`.
//!
//! Source: names and situations of Linux 6.12–7.2 tools/testing/memblock/tests/alloc_exact_nid_api.c.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{Alloc, BOTH, Case, Dir, Mb, SIZE, nodes, request};
use core::ops::Range;

const EXACT: [Alloc; 1] = [Mb::alloc_exact_nid_raw];

/// Offsets and sizes of regions.
type Regions<'a> = &'a [(u64, u64)];

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
    Case { machine: nodes, dir, taken, request, found, after }.run(&EXACT);
}

#[test]
fn alloc_exact_nid_top_down_numa_simple_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(3), size: 0x600, range: EVERYWHERE },
        Some(0x4a00),
        &[(0x4a00, 0x600)],
    );
}

#[test]
fn alloc_exact_nid_bottom_up_numa_simple_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(3), size: 0x600, range: EVERYWHERE },
        Some(0x3800),
        &[(0x3800, 0x600)],
    );
}

#[test]
fn alloc_exact_nid_numa_simple_check() {
    alloc_exact_nid_top_down_numa_simple_check();
    alloc_exact_nid_bottom_up_numa_simple_check();
}

#[test]
fn alloc_exact_nid_numa_small_node_generic_check() {
    for dir in BOTH {
        check_node(dir, &[], On { nid: Some(1), size: 0x1000, range: EVERYWHERE }, None, &[]);
    }
}

#[test]
fn alloc_exact_nid_numa_small_node_check() {
    alloc_exact_nid_numa_small_node_generic_check();
}

#[test]
fn alloc_exact_nid_numa_node_reserved_generic_check() {
    for dir in BOTH {
        check_node(
            dir,
            &[(0x2800, 0x1000)],
            On { nid: Some(2), size: 0x1000, range: EVERYWHERE },
            None,
            &[(0x2800, 0x1000)],
        );
    }
}

#[test]
fn alloc_exact_nid_numa_node_reserved_check() {
    alloc_exact_nid_numa_node_reserved_generic_check();
}

#[test]
fn alloc_exact_nid_top_down_numa_part_reserved_check() {
    check_node(
        Dir::TopDown,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x400, range: EVERYWHERE },
        Some(0x4c00),
        &[(0x3e00, 0xc00), (0x4c00, 0x400)],
    );
}

#[test]
fn alloc_exact_nid_bottom_up_numa_part_reserved_check() {
    check_node(
        Dir::BottomUp,
        &[(0x3e00, 0xc00)],
        On { nid: Some(3), size: 0x400, range: EVERYWHERE },
        Some(0x3800),
        &[(0x3800, 0x400), (0x3e00, 0xc00)],
    );
}

#[test]
fn alloc_exact_nid_numa_part_reserved_check() {
    alloc_exact_nid_top_down_numa_part_reserved_check();
    alloc_exact_nid_bottom_up_numa_part_reserved_check();
}

#[test]
fn alloc_exact_nid_numa_part_reserved_fail_generic_check() {
    for dir in BOTH {
        check_node(
            dir,
            &[(0x3e00, 0xc00)],
            On { nid: Some(3), size: 0x800, range: EVERYWHERE },
            None,
            &[(0x3e00, 0xc00)],
        );
    }
}

#[test]
fn alloc_exact_nid_numa_part_reserved_fail_check() {
    alloc_exact_nid_numa_part_reserved_fail_generic_check();
}

#[test]
fn alloc_exact_nid_top_down_numa_split_range_low_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x3700..0x3900 },
        Some(0x3600),
        &[(0x3600, 0x200)],
    );
}

#[test]
fn alloc_exact_nid_bottom_up_numa_split_range_low_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x3700..0x3900 },
        Some(0x2800),
        &[(0x2800, 0x200)],
    );
}

#[test]
fn alloc_exact_nid_numa_split_range_low_check() {
    alloc_exact_nid_top_down_numa_split_range_low_check();
    alloc_exact_nid_bottom_up_numa_split_range_low_check();
}

#[test]
fn alloc_exact_nid_numa_split_range_high_generic_check() {
    for dir in BOTH {
        check_node(dir, &[], On { nid: Some(3), size: 0x200, range: 0x3400..0x3900 }, None, &[]);
    }
}

#[test]
fn alloc_exact_nid_numa_split_range_high_check() {
    alloc_exact_nid_numa_split_range_high_generic_check();
}

#[test]
fn alloc_exact_nid_top_down_numa_no_overlap_split_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x4f00..0x5100 },
        Some(0x3600),
        &[(0x3600, 0x200)],
    );
}

#[test]
fn alloc_exact_nid_bottom_up_numa_no_overlap_split_check() {
    check_node(
        Dir::BottomUp,
        &[],
        On { nid: Some(2), size: 0x200, range: 0x4f00..0x5100 },
        Some(0x2800),
        &[(0x2800, 0x200)],
    );
}

#[test]
fn alloc_exact_nid_numa_no_overlap_split_check() {
    alloc_exact_nid_top_down_numa_no_overlap_split_check();
    alloc_exact_nid_bottom_up_numa_no_overlap_split_check();
}

#[test]
fn alloc_exact_nid_top_down_numa_no_overlap_low_check() {
    check_node(
        Dir::TopDown,
        &[],
        On { nid: Some(0), size: 0x400, range: 0x2800..0x5000 },
        Some(0x1c00),
        &[(0x1c00, 0x400)],
    );
}

#[test]
fn alloc_exact_nid_bottom_up_numa_no_overlap_low_check() {
    check_node(Dir::BottomUp, &[], On { nid: Some(0), size: 0x400, range: 0x2800..0x5000 }, Some(0x0), &[(0x0, 0x400)]);
}

#[test]
fn alloc_exact_nid_numa_no_overlap_low_check() {
    alloc_exact_nid_top_down_numa_no_overlap_low_check();
    alloc_exact_nid_bottom_up_numa_no_overlap_low_check();
}

#[test]
fn alloc_exact_nid_numa_no_overlap_high_generic_check() {
    for dir in BOTH {
        check_node(dir, &[], On { nid: Some(5), size: 0x400, range: 0x2800..0x5000 }, None, &[]);
    }
}

#[test]
fn alloc_exact_nid_numa_no_overlap_high_check() {
    alloc_exact_nid_numa_no_overlap_high_generic_check();
}

#[test]
fn alloc_exact_nid_numa_large_region_generic_check() {
    for dir in BOTH {
        check_node(dir, &[], On { nid: Some(0), size: 0x8000, range: EVERYWHERE }, None, &[]);
    }
}

#[test]
fn alloc_exact_nid_numa_large_region_check() {
    alloc_exact_nid_numa_large_region_generic_check();
}

#[test]
fn alloc_exact_nid_numa_reserved_full_merge_generic_check() {
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
fn alloc_exact_nid_numa_reserved_full_merge_check() {
    alloc_exact_nid_numa_reserved_full_merge_generic_check();
}

#[test]
fn alloc_exact_nid_numa_split_all_reserved_generic_check() {
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
fn alloc_exact_nid_numa_split_all_reserved_check() {
    alloc_exact_nid_numa_split_all_reserved_generic_check();
}
