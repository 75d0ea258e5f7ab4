//! The cases of the memblock suite that ships with Linux, file `alloc_api`, by name: allocation on any node, zeroed and
//! raw. Expectations are worked out by hand for the machine of `common`.
//!
//! Source: names and situations of Linux 6.1–7.2 tools/testing/memblock/tests/alloc_api.c.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{Alloc, BOTH, Case, Dir, Mb, SIZE, empty, flat};
use kernmem_base::Era;
use kernmem_memblock::Request;

const INTERFACES: [Alloc; 2] = [|mb, r| mb.alloc(r.size, r.align), |mb, r| mb.alloc_raw(r.size, r.align)];

#[track_caller]
fn check(dir: Dir, taken: &[(u64, u64)], size: u64, found: Option<u64>, after: &[(u64, u64)]) {
    check_on(flat, dir, taken, size, found, after);
}

#[track_caller]
fn check_on(
    machine: fn(Era) -> Mb,
    dir: Dir,
    taken: &[(u64, u64)],
    size: u64,
    found: Option<u64>,
    after: &[(u64, u64)],
) {
    Case { machine, dir, taken, request: Request::new(size, 64), found, after }.run(&INTERFACES);
}

#[test]
fn alloc_top_down_simple_check() {
    check(Dir::TopDown, &[], 2, Some(0x7fc0), &[(0x7fc0, 2)]);
}

#[test]
fn alloc_bottom_up_simple_check() {
    check(Dir::BottomUp, &[], 2, Some(0), &[(0, 2)]);
}

#[test]
fn alloc_simple_check() {
    alloc_top_down_simple_check();
    alloc_bottom_up_simple_check();
}

#[test]
fn alloc_top_down_disjoint_check() {
    check(Dir::TopDown, &[(0x7ffe, 1)], 16, Some(0x7fc0), &[(0x7fc0, 16), (0x7ffe, 1)]);
}

#[test]
fn alloc_bottom_up_disjoint_check() {
    check(Dir::BottomUp, &[(0x1, 2)], 16, Some(0x40), &[(0x1, 2), (0x40, 16)]);
}

#[test]
fn alloc_disjoint_check() {
    alloc_top_down_disjoint_check();
    alloc_bottom_up_disjoint_check();
}

#[test]
fn alloc_top_down_before_check() {
    check(Dir::TopDown, &[(0x7d00, 0x200)], 0x100, Some(0x7f00), &[(0x7d00, 0x300)]);
}

#[test]
fn alloc_bottom_up_before_check() {
    check(Dir::BottomUp, &[(0x100, 0x200)], 0x100, Some(0), &[(0, 0x300)]);
}

#[test]
fn alloc_before_check() {
    alloc_top_down_before_check();
    alloc_bottom_up_before_check();
}

#[test]
fn alloc_top_down_after_check() {
    check(Dir::TopDown, &[(0x7f00, 0xc0)], 0x80, Some(0x7e80), &[(0x7e80, 0x140)]);
}

#[test]
fn alloc_bottom_up_after_check() {
    check(Dir::BottomUp, &[(0x40, 0xc0)], 0x80, Some(0x100), &[(0x40, 0x140)]);
}

#[test]
fn alloc_after_check() {
    alloc_top_down_after_check();
    alloc_bottom_up_after_check();
}

#[test]
fn alloc_top_down_second_fit_check() {
    let taken = [(0x7d00, 0xc0), (0x7e00, 0x200)];
    check(Dir::TopDown, &taken, 0x80, Some(0x7c80), &[(0x7c80, 0x140), (0x7e00, 0x200)]);
}

#[test]
fn alloc_bottom_up_second_fit_check() {
    let taken = [(0, 0x200), (0x240, 0xc0)];
    check(Dir::BottomUp, &taken, 0x80, Some(0x300), &[(0, 0x200), (0x240, 0x140)]);
}

#[test]
fn alloc_second_fit_check() {
    alloc_top_down_second_fit_check();
    alloc_bottom_up_second_fit_check();
}

#[test]
fn alloc_in_between_generic_check() {
    for dir in BOTH {
        check(dir, &[(0, 0x4000), (0x4040, 0x3fc0)], 0x40, Some(0x4000), &[(0, SIZE)]);
    }
}

#[test]
fn alloc_in_between_check() {
    alloc_in_between_generic_check();
}

#[test]
fn alloc_small_gaps_generic_check() {
    // 0x20 free bytes at the end of each 0x200.
    let taken: Vec<_> = (0..SIZE / 0x200).map(|slot| (slot * 0x200, 0x1e0)).collect();
    for dir in BOTH {
        check(dir, &taken, 0x40, None, &taken);
    }
}

#[test]
fn alloc_small_gaps_check() {
    alloc_small_gaps_generic_check();
}

#[test]
fn alloc_all_reserved_generic_check() {
    for dir in BOTH {
        check(dir, &[(0, SIZE)], 0x40, None, &[(0, SIZE)]);
    }
}

#[test]
fn alloc_all_reserved_check() {
    alloc_all_reserved_generic_check();
}

#[test]
fn alloc_no_space_generic_check() {
    for dir in BOTH {
        check(dir, &[(0x100, 0x7f00)], 0x200, None, &[(0x100, 0x7f00)]);
    }
}

#[test]
fn alloc_no_space_check() {
    alloc_no_space_generic_check();
}

#[test]
fn alloc_limited_space_generic_check() {
    for dir in BOTH {
        check(dir, &[(0x100, 0x7f00)], 0x100, Some(0), &[(0, SIZE)]);
    }
}

#[test]
fn alloc_limited_space_check() {
    alloc_limited_space_generic_check();
}

#[test]
fn alloc_no_memory_generic_check() {
    for dir in BOTH {
        check_on(empty, dir, &[], 0x100, None, &[]);
    }
}

#[test]
fn alloc_no_memory_check() {
    alloc_no_memory_generic_check();
}

#[test]
fn alloc_too_large_generic_check() {
    for dir in BOTH {
        check(dir, &[], SIZE + 2, None, &[]);
    }
}

#[test]
fn alloc_too_large_check() {
    alloc_too_large_generic_check();
}
