//! Every recording in the tree, booted from its inputs alone and held against what its kernel wrote.

use std::path::{Path, PathBuf};

use kernmem_verify::{Tally, verify};

/// The recordings of a set, sorted.
fn recordings(set: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(set);
    let entries = std::fs::read_dir(&folder).expect("a folder of recordings");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.join("boot.json").is_file())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no recordings in {}", folder.display());
    paths
}

/// Files that are compared wherever a recording has them, with their names in the tally.
const COMPARED: [(&str, &str); 6] = [
    ("zoneinfo", "zoneinfo"),
    ("buddyinfo", "buddyinfo"),
    ("pagetypeinfo", "pagetypeinfo"),
    ("memblock_memory", "memblock_memory"),
    ("memblock_reserved", "memblock_reserved"),
    ("console.txt", "console memory lines"),
];

fn verify_set(set: &str) {
    let mut tally = Tally::default();
    let mut differences = Vec::new();
    for path in recordings(set) {
        let verdict = verify(&path).expect("a recording that boots");
        for file in &verdict.files {
            if let Some((line, ours, recorded)) = &file.difference {
                differences.push(format!(
                    "{} {} line {line}:\n  ours     {ours}\n  recorded {recorded}",
                    verdict.recording, file.file
                ));
            }
        }
        for (file, compared) in COMPARED {
            let is_there = path.join(file).is_file();
            let is_compared = verdict.files.iter().any(|tally| tally.file == compared);
            assert_eq!(is_compared, is_there, "{} {file}", verdict.recording);
        }
        tally.add(&verdict.files);
    }
    println!("{tally}");
    assert!(differences.is_empty(), "{}\n{tally}", differences.join("\n"));
}

#[test]
fn every_arm64_recording_is_equal() {
    verify_set("arm64");
}

#[test]
fn every_x86_recording_is_equal() {
    verify_set("x86");
}

#[test]
fn the_listings_taken_before_the_dumps_are_equal() {
    verify_set("dumps");
}
