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

/// The text of a recording with one number changed: what differs is told with its zone and its line.
#[test]
fn a_wrong_figure_is_told_with_its_zone() {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("verify-wrong-figure");
    let (original, copy) = (recordings.join("x86/x-2node"), root.join("x86/x-2node"));
    std::fs::create_dir_all(&copy).expect("a folder for the copy");
    for file in ["boot.json", "console.txt", "cpuinfo"] {
        std::fs::copy(original.join(file), copy.join(file)).expect("a copied input");
    }
    if !root.join("kernels").exists() {
        std::os::unix::fs::symlink(recordings.join("kernels"), root.join("kernels")).expect("a link to the kernels");
    }
    let text = std::fs::read_to_string(original.join("zoneinfo")).expect("a recorded file");
    for (from, to) in [
        ("        min      8447\n", "        min      8448\n"),
        ("              high:  10558\n", "              high:  10559\n"),
        ("              batch: 63\n", "              batch: 62\n"),
        ("        protection: (0, 0, 0, 0)\n", "        protection: (0, 0, 1, 1)\n"),
        ("  vm stats threshold: 20\n", "  vm stats threshold: 22\n"),
    ] {
        let head = text.find(from).and_then(|at| text[..at].rfind("Node ")).expect("a line below a zone");
        let zone = text[head..].lines().next().expect("a zone's first line");
        std::fs::write(copy.join("zoneinfo"), text.replacen(from, to, 1)).expect("a written copy");
        let verdict = verify(&copy).expect("a recording that boots");
        let tally = verdict.files.iter().find(|tally| tally.file == "zoneinfo").expect("a file that is compared");
        let (_, ours, recorded) = tally.difference.clone().expect("a difference");
        assert_eq!((ours, recorded), (format!("{zone}: {}", from.trim_end()), format!("{zone}: {}", to.trim_end())));
    }
}

#[test]
fn every_arm64_recording_is_equal() {
    verify_set("arm64");
}

#[test]
fn every_arm64_recording_of_other_eras_is_equal() {
    verify_set("arm64-eras");
}

#[test]
fn every_x86_recording_is_equal() {
    verify_set("x86");
}

#[test]
fn every_x86_recording_of_other_eras_is_equal() {
    verify_set("x86-eras");
}

#[test]
fn the_listings_taken_before_the_dumps_are_equal() {
    verify_set("dumps");
}
