//! `vmalloc-sync`: a thousand processes and eight areas, each below a top-level entry of its own, or not.

use crate::common::{Found, lab, options, recording};
use kernmem_base::Era;

/// The preset, and a machine whose vmalloc KASLR moved.
fn both(reverse: bool) -> [Found; 2] {
    [None, Some(recording("x86/x-4G-kaslr"))].map(|source| lab("vmalloc-sync", &options(source, reverse)))
}

/// By hand: every tenth of 1,000 processes reads 8 areas: 800 reads, each the first below its entry in that process; who
/// is born later has the entries from the start. By vmalloc itself 8 new entries are carried to the 1,000 roots that
/// exist. At boot 64 entries get tables (facts: 402 to 465), 65 where KASLR moved the start off a boundary; the first
/// has its table by the first stack.
#[test]
fn each_way_is_paid_for_at_another_time() {
    for (found, tables) in both(false).into_iter().zip([63, 64]) {
        assert_eq!(found.numbers("004.1", ["old", "areas", "readers", "reads"]), [1000, 8, 100, 800]);
        assert_eq!(found.numbers("004.1", ["faults", "copied", "walks", "young_faults"]), [800, 800, 0, 0]);
        let names = ["sync_walks", "visited", "sync_copied", "sync_faults"];
        assert_eq!(found.numbers("004.1", names), [8, 8000, 8000, 0]);
        assert_eq!(found.numbers("004.2", ["tables", "bytes", "reads"]), [tables, tables * 4096, 800]);
        assert_eq!(found.numbers("004.2", ["faults", "copied", "walks"]), [0, 0, 0]);
    }
}

/// By hand: 10 processes read 8 areas. A BIOS's vectors in frame 0 look like a table that is there, for every entry.
#[test]
fn the_mistakes_lose_every_read_of_an_older_process() {
    for (found, tables) in both(false).into_iter().zip([63, 64]) {
        assert_eq!(found.numbers("004.2", ["none_reads", "none_lost", "none_young"]), [80, 80, 0]);
        assert_eq!(found.numbers("004.2", ["zeros_tables", "zeros_lost"]), [tables, 0]);
        assert_eq!(found.numbers("004.2", ["vectors_tables", "vectors_reads", "vectors_lost"]), [0, 80, 80]);
    }
}

#[test]
fn below_an_entry_that_all_have_no_way_costs_anything() {
    for found in both(true) {
        assert_eq!(found.numbers("004.1", ["reads", "faults", "copied", "walks"]), [800, 0, 0, 0]);
        assert_eq!(found.numbers("004.1", ["sync_walks", "visited", "sync_copied", "sync_faults"]), [0, 0, 0, 0]);
        assert_eq!(found.numbers("004.2", ["none_lost", "vectors_lost"]), [0, 0]);
        assert_eq!(found.holds("004.1", Era::V4_14), "only if");
    }
}

/// Facts: on fault up to 5.7, made at boot since 5.9; from these stables of 6.1 on growth elsewhere is copied again.
#[test]
fn each_era_is_told_its_way() {
    let found = lab("vmalloc-sync", &options(None, false));
    let words = |claim| Era::ALL.map(|era| found.holds(claim, era));
    assert_eq!(words("004.1"), ["yes", "only if", "only if", "only if", "only if"]);
    assert_eq!(words("004.2"), ["no", "yes", "only if", "only if", "only if"]);
}
