//! The cases of the memblock suite that ships with Linux, file `alloc_helpers_api`, by name: a minimum address that is
//! given up if it cannot be kept. Expectations are worked out by hand for the machine of `common`.
//!
//! Source: names and situations of Linux 6.1–7.2 tools/testing/memblock/tests/alloc_helpers_api.c.
#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use common::{Alloc, BASE, BOTH, Case, Dir, flat};
use kernmem_base::PhysAddr;
use kernmem_memblock::Request;

const ALLOC_FROM: [Alloc; 1] = [|mb, r| mb.alloc_from(r.size, r.align, r.from)];

/// `min` is an absolute address.
#[track_caller]
fn check(dir: Dir, taken: &[(u64, u64)], size: u64, min: u64, found: u64, after: &[(u64, u64)]) {
    let request = Request::new(size, 64).from(PhysAddr(min));
    Case { machine: flat, dir, taken, request, found: Some(found), after }.run(&ALLOC_FROM);
}

#[test]
fn alloc_from_simple_generic_check() {
    for dir in BOTH {
        check(dir, &[], 16, BASE + 0x7fc0, 0x7fc0, &[(0x7fc0, 16)]);
    }
}

#[test]
fn alloc_from_simple_check() {
    alloc_from_simple_generic_check();
}

#[test]
fn alloc_from_misaligned_generic_check() {
    for dir in BOTH {
        check(dir, &[], 32, BASE + 0x7f81, 0x7fc0, &[(0x7fc0, 32)]);
    }
}

#[test]
fn alloc_from_misaligned_check() {
    alloc_from_misaligned_generic_check();
}

#[test]
fn alloc_from_top_down_high_addr_check() {
    check(Dir::TopDown, &[], 64, BASE + 0x7fe0, 0x7fc0, &[(0x7fc0, 64)]);
}

#[test]
fn alloc_from_bottom_up_high_addr_check() {
    check(Dir::BottomUp, &[], 64, BASE + 0x7fe0, 0, &[(0, 64)]);
}

#[test]
fn alloc_from_high_addr_check() {
    alloc_from_top_down_high_addr_check();
    alloc_from_bottom_up_high_addr_check();
}

#[test]
fn alloc_from_top_down_no_space_above_check() {
    check(Dir::TopDown, &[(0x7f80, 0x80)], 0x40, BASE + 0x7f80, 0x7f40, &[(0x7f40, 0xc0)]);
}

#[test]
fn alloc_from_bottom_up_no_space_above_check() {
    check(Dir::BottomUp, &[(0x7f80, 0x80)], 0x40, BASE + 0x7f80, 0, &[(0, 0x40), (0x7f80, 0x80)]);
}

#[test]
fn alloc_from_no_space_above_check() {
    alloc_from_top_down_no_space_above_check();
    alloc_from_bottom_up_no_space_above_check();
}

#[test]
fn alloc_from_top_down_min_addr_cap_check() {
    check(Dir::TopDown, &[], 0x40, BASE - 0x1000, 0x7fc0, &[(0x7fc0, 0x40)]);
}

#[test]
fn alloc_from_bottom_up_min_addr_cap_check() {
    check(Dir::BottomUp, &[], 0x40, BASE - 0x1000, 0, &[(0, 0x40)]);
}

#[test]
fn alloc_from_min_addr_cap_check() {
    alloc_from_top_down_min_addr_cap_check();
    alloc_from_bottom_up_min_addr_cap_check();
}
