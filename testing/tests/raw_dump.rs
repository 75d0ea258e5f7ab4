//! Stronger than the listing: table pages, entries and frame numbers of every kernel of which there is a dump.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kernmem_testing::{Event, RawTally, raw_check};

/// The dumps of the tree: whole ones, and trimmed ones.
fn dumps() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/dumps");
    let entries = std::fs::read_dir(folder).expect("a folder of dumps");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// Which events a dump may show, by what was booted.
fn allowed(name: &str) -> &'static [Event] {
    match name {
        _ if name.starts_with('a') => &[],
        _ if name.starts_with('i') => &[Event::LateTable, Event::EmulatorMark],
        _ => &[Event::LateTable, Event::HugePool],
    }
}

fn check(path: &Path) -> RawTally {
    let tally = raw_check(path);
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    println!("{name}: {} table pages, {} entries equal, {:?}", tally.pages, tally.entries, tally.events());
    println!("    {:?}", tally.regions);
    for (event, count) in tally.events() {
        let first = tally.differences.iter().find(|difference| difference.event == event);
        let is_allowed = event.is_some_and(|event| allowed(&name).contains(&event));
        assert!(is_allowed, "{name}: {count} of {event:?}, the first {first:x?}");
    }
    tally
}

#[test]
fn tables_of_every_dump_are_ours() {
    let mut all: BTreeMap<Option<Event>, usize> = BTreeMap::new();
    let (mut pages, mut entries, mut count) = (0, 0, 0);
    for path in dumps() {
        let tally = check(&path);
        // Linear map: a table of blocks; memory map, image and fixed mappings: one each.
        assert!(tally.pages >= 5, "only {} table pages were compared", tally.pages);
        assert!(tally.regions.contains_key("linear map") && tally.regions.contains_key("fixed mappings"));
        pages += tally.pages;
        entries += tally.entries;
        count += 1;
        tally.events().into_iter().for_each(|(event, found)| *all.entry(event).or_default() += found);
    }
    println!("{count} dumps: {pages} table pages, {entries} entries equal, {all:?}");
    assert!(count >= 16, "only {count} dumps");
    assert!(all.values().sum::<usize>() < 200, "{all:?}");
}
