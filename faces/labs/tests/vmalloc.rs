//! Lab `vmalloc`: the chain of calls, and pages that lie apart.

use crate::common::{Found, lab, options};
use kernmem_base::Era;
use kernmem_labs::Value;

const CLAIM: &str = "004.5";

/// Document 004, with the order of the calls in it.
const DRAWN: [&str; 11] = [
    "vmalloc",
    "__vmalloc_node",
    "__vmalloc_node_range",
    "__get_vm_area_node",
    "kzalloc_node",
    "alloc_vmap_area",
    "setup_vmalloc_vm",
    "__vmalloc_area_node",
    "kmalloc_node",
    "vm_area_alloc_pages",
    "vmap_pages_range",
];

/// The calls that were told: lines of one word.
fn calls(found: &Found) -> Vec<&str> {
    found.told.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains(' ')).collect()
}

#[track_caller]
fn name<'f>(found: &'f Found, name: &str) -> &'f str {
    match found.verdict(CLAIM, Era::V6_1).value(name) {
        Some(Value::Name(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

/// Nine pages of addresses for eight of memory: one is the guard.
fn an_area_ends_with_a_guard_and_goes_by_one_flush(found: &Found, pages: u64) {
    assert_eq!(found.numbers(CLAIM, ["pages", "agree", "area_bytes"]), [pages, pages, (pages + 1) * 4096]);
    assert_eq!(found.numbers(CLAIM, ["free_flushes", "lazy_pages", "purge_flushes"]), [0, pages + 1, 1]);
    assert_eq!([name(found, "guard_read"), name(found, "purged_read")], ["Translation fault"; 2]);
    // 513 pointers of 8 bytes: the array needs two pages, so it is an area, whose own array has two pointers.
    assert_eq!(found.numbers(CLAIM, ["array_bytes", "nodes", "kmallocs"]), [4104, 2, 1]);
}

#[test]
fn single_pages_are_taken_apart_and_mapped_together() {
    for source in [None, Some("arm64-4g".to_owned())] {
        let found = lab("vmalloc", &options(source, false));
        assert_eq!(calls(&found), DRAWN);
        an_area_ends_with_a_guard_and_goes_by_one_flush(&found, 8);
        // Every second page was free: none has its neighbour.
        assert_eq!(found.numbers(CLAIM, ["leaf", "neighbours", "pairs", "loops"]), [4096, 0, 7, 0]);
        // The TLB of the CPU that wrote still knows the page, as Linux allows.
        assert_eq!(name(&found, "freed_read"), "done");
        assert_eq!(found.holds(CLAIM, Era::V6_1), "only if");
    }
}

/// 2M in one block: one turn of the loop, and 511 pairs of neighbours.
#[test]
fn a_block_is_mapped_by_the_loop_that_is_drawn() {
    let found = lab("vmalloc", &options(None, true));
    let mut drawn: Vec<&str> = vec!["vmalloc_huge"];
    drawn.extend(&DRAWN[2..]);
    drawn.push("vmap_range_noflush");
    assert_eq!(calls(&found), drawn);
    an_area_ends_with_a_guard_and_goes_by_one_flush(&found, 512);
    assert_eq!(found.numbers(CLAIM, ["leaf", "neighbours", "pairs", "loops"]), [2 << 20, 511, 511, 1]);
    assert_eq!(found.holds(CLAIM, Era::V6_1), "yes");
}

/// A kernel of arm64 that lists its tables maps no blocks there, and vmalloc falls back to pages.
#[test]
fn arm64_with_listings_falls_back_to_pages() {
    let found = lab("vmalloc", &options(Some("arm64-4g".to_owned()), true));
    an_area_ends_with_a_guard_and_goes_by_one_flush(&found, 512);
    assert_eq!(found.numbers(CLAIM, ["leaf", "loops"]), [4096, 0]);
    assert!(found.number(CLAIM, "neighbours") < 511);
    assert_eq!(found.holds(CLAIM, Era::V6_1), "only if");
}
