//! Lab `tlb`: walks and reads, counted by the CPU and below it, on both architectures.

use crate::common::{Found, lab, options};
use kernmem_base::Era;

const MIB: u64 = 1 << 20;
/// Words of a round through 128M, one every 16K: each lies in a page of its own.
const WORDS: u64 = 8192;

fn of(found: &Found, size: &str) -> [u64; 4] {
    ["first", "entries", "again", "reach"].map(|name| found.number("000.6", &format!("{name}_{size}")))
}

fn linear(found: &Found) -> [u64; 4] {
    found.numbers("000.6", ["linear_first", "linear_again", "linear_held", "linear_reach"])
}

/// Four tables and the datum, then the datum alone; the CPU that remembers the last table reads its entry and the datum.
/// Four entries lead to the one that is gone.
#[track_caller]
fn hits(found: &Found, linear_first: u64) {
    assert_eq!(found.numbers("002.4", ["first", "again", "flushed", "beside"]), [5, 1, 5, 2]);
    assert_eq!(found.numbers("002.4", ["linear_first", "linear_again"]), [linear_first, 1]);
    assert_eq!(found.numbers("002.4", ["flushes", "stale", "purges", "faulting"]), [0, 1, 1, 4]);
    assert!(found.told.contains("it sees what was written since: true"), "{}", found.told);
    assert!(found.told.contains("all of tables; a fault: true"), "{}", found.told);
    for claim in ["000.6", "002.4"] {
        assert_eq!(found.number(claim, "by_cpus"), found.number(claim, "by_memory"), "{claim}");
    }
    assert_eq!(found.holds("002.4", Era::V6_1), "yes");
}

/// By hand: 8192 pages, 2048 groups of 64K, 64 blocks of 2M, 4 groups of 32M; a walk reads 4 entries, 3 or 2. Whatever has
/// more than 48 leaves has lost its first when the second round begins. `rodata=off` maps the end of memory by 1G.
#[test]
fn larger_leaves_reach_further_with_the_same_entries() {
    let found = lab("tlb", &options(None, false));
    assert_eq!(of(&found, "4k"), [WORDS, 4 * WORDS, WORDS, 48 << 12]);
    assert_eq!(of(&found, "64k"), [2048, 4 * 2048, 2048, 3 * MIB]);
    assert_eq!(of(&found, "2m"), [64, 3 * 64, 64, 96 * MIB]);
    assert_eq!(of(&found, "32m"), [4, 3 * 4, 0, 128 * MIB]);
    assert_eq!(of(&found, "1g"), [1, 2, 0, 1024 * MIB]);
    assert_eq!(found.numbers("000.6", ["small_first", "small_again"]), [48, 0]);
    assert_eq!(linear(&found), [1, 0, 1, 1024 * MIB]);
    assert_eq!(found.holds("000.6", Era::V6_1), "only if");
    // Seven tours: pages, 48 pages, 64K, 2M, 32M, 1G and the linear map.
    let entries = 2 * 4 * WORDS + 4 * 48 + 2 * 4 * 2048 + 2 * 3 * 64 + 3 * 4 + 2 + 2;
    let reads = entries + 6 * 2 * WORDS + 2 * 48;
    assert_eq!(found.numbers("000.6", ["by_cpus", "by_memory"]), [reads, reads]);
    hits(&found, 3);
}

#[test]
fn a_linear_map_of_pages_misses_as_any_map_of_pages() {
    let found = lab("tlb", &options(None, true));
    assert_eq!(linear(&found), [WORDS, WORDS, 48, 48 << 12]);
    assert_eq!(found.holds("000.6", Era::V6_1), "no");
    hits(&found, 5);
}

/// x86-64 has no groups; this CPU has no 1G leaves for its direct map, so both ways are the same.
#[test]
fn x86_64_reaches_as_far_by_blocks() {
    for reverse in [false, true] {
        let found = lab("tlb", &options(Some("x86-4g".to_owned()), reverse));
        assert_eq!(linear(&found), [64, 64, 48, 96 * MIB]);
        assert_eq!(of(&found, "4k"), [WORDS, 4 * WORDS, WORDS, 48 << 12]);
        assert_eq!(of(&found, "2m"), [64, 3 * 64, 64, 96 * MIB]);
        assert_eq!(of(&found, "1g"), [1, 2, 0, 1024 * MIB]);
        assert_eq!(found.verdict("000.6", Era::V6_1).number("again_64k"), None);
        assert_eq!(found.holds("000.6", Era::V6_1), "only if");
        hits(&found, 4);
    }
}
