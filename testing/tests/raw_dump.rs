//! Stronger than the listing: table pages and their frame numbers against memory dumps.

use std::path::Path;

use kernmem_testing::{RawTally, raw_check};

fn check(name: &str, at_least_pages: usize) -> RawTally {
    let tally = raw_check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/dumps").join(name));
    println!("{name}: {} table pages, {} entries equal, {:?}", tally.pages, tally.entries, tally.events());
    let unexplained: Vec<_> = tally.differences.iter().filter(|difference| difference.event.is_none()).collect();
    assert!(unexplained.is_empty(), "{name}: {} unexplained, first {:x?}", unexplained.len(), unexplained[0]);
    assert!(tally.pages >= at_least_pages, "only {} table pages were compared", tally.pages);
    tally
}

#[test]
fn arm64_tables_are_those_of_the_dump() {
    // Linear map: a PUD, a PMD and a PTE table at the least; vmemmap: a PUD and a PMD table.
    assert_eq!(check("a61-4k48", 5).differences, []);
}

#[test]
fn arm64_tables_with_kaslr_are_those_of_the_dump() {
    assert_eq!(check("a61-4k48-kaslr", 5).differences, []);
}

#[test]
fn x86_tables_are_those_of_the_dump() {
    // Direct map: a PUD and a PMD table and the first PTE table; vmemmap: a PUD and a PMD table.
    check("x61-64", 5);
}
