//! What the tests of labs share: running a lab, and reading the listings of recordings.

use std::path::{Path, PathBuf};

use kernmem_base::Era;
use kernmem_labs::{LabOptions, Verdict, find, run};
use kernmem_source::Options;

/// The folder of a recording of the tree.
pub fn recording(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/recordings").join(name);
    folder.to_str().expect("a path in UTF-8").to_owned()
}

/// A file of a recording.
pub fn recorded(name: &str, file: &str) -> String {
    std::fs::read_to_string(PathBuf::from(recording(name)).join(file)).expect("a file of a recording")
}

/// A lab on its own machine, or on `source`.
pub fn options(source: Option<String>, reverse: bool) -> LabOptions {
    LabOptions { source, reverse, ..LabOptions::default() }
}

/// Options with a command line.
pub fn with_cmdline(source: Option<String>, cmdline: &str) -> LabOptions {
    let parts = Options { cmdline: Some(cmdline.to_owned()), ..Options::default() };
    LabOptions { source, parts, ..LabOptions::default() }
}

/// What a lab found.
pub struct Found {
    pub verdicts: Vec<Verdict>,
    pub told: String,
}

/// Runs a lab; no placeholder may stay empty.
#[track_caller]
pub fn lab(name: &str, options: &LabOptions) -> Found {
    let mut told = String::new();
    let verdicts =
        run(find(name).expect("a lab"), options, &mut told).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("{told}");
    assert!(!told.contains('{'), "{name} leaves a placeholder: {told}");
    Found { verdicts, told }
}

impl Found {
    /// The verdict of a claim on an era.
    #[track_caller]
    pub fn verdict(&self, claim: &str, era: Era) -> &Verdict {
        let own = |verdict: &&Verdict| verdict.claim.to_string() == claim && verdict.era == era;
        self.verdicts.iter().find(own).unwrap_or_else(|| panic!("no verdict on {claim} for {era}"))
    }

    /// Whether it holds: `yes`, `only if`, `no`.
    #[track_caller]
    pub fn holds(&self, claim: &str, era: Era) -> &'static str {
        self.verdict(claim, era).holds.word()
    }

    /// One number of a verdict on 6.1.
    #[track_caller]
    pub fn number(&self, claim: &str, name: &str) -> u64 {
        self.number_on(claim, Era::V6_1, name)
    }

    /// One number of a verdict.
    #[track_caller]
    pub fn number_on(&self, claim: &str, era: Era, name: &str) -> u64 {
        let verdict = self.verdict(claim, era);
        verdict.number(name).unwrap_or_else(|| panic!("{claim} has no number {name}: {:?}", verdict.numbers))
    }

    /// Numbers of a verdict on 6.1.
    #[track_caller]
    pub fn numbers<const N: usize>(&self, claim: &str, names: [&str; N]) -> [u64; N] {
        names.map(|name| self.number(claim, name))
    }
}

/// Bytes of the mapped lines of a recorded listing in `[start, end)`, by level: PUD, PMD, PTE.
pub fn recorded_levels(listing: &str, start: u64, end: u64) -> [u64; 3] {
    let mut sums = [0; 3];
    for line in listing.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((from, to)) = words.next().and_then(|range| range.split_once('-')) else { continue };
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
        let (Ok(from), Ok(to)) = (hex(from), hex(to)) else { continue };
        let level = words.nth(1).unwrap_or_default().to_owned();
        // A hole has no attributes.
        if words.next().is_none() || to <= start || from >= end {
            continue;
        }
        let bytes = to.min(end) - from.max(start);
        match level.as_str() {
            "PUD" => sums[0] += bytes,
            "PMD" => sums[1] += bytes,
            "PTE" => sums[2] += bytes,
            other => panic!("{other} in {line}"),
        }
    }
    sums
}
