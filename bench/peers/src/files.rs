//! Files that a run reads and writes: recorded ratios, documents, the plot.

use core::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use kernmem_bench::aims;
use kernmem_bench::recorded::{BadLine, Recorded};
use kernmem_bench::report::{between, brief, is_against_peers, markdown};
use kernmem_bench::rows;
use kernmem_bench::run::Choice;
use kernmem_bench::verdict::Verdict;

use crate::plot;

/// Lines between which a document has a table of a run.
const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// Why a file could not be used.
#[derive(Debug)]
pub enum Failure {
    /// It could not be read or written.
    File(PathBuf, io::Error),
    /// It is no record.
    Record(PathBuf, BadLine),
    /// A document has no place for a table.
    NoPlace(PathBuf),
    /// The plot could not be drawn.
    Plot(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Record(path, line) => write!(f, "{}: {line}", path.display()),
            Self::NoPlace(path) => write!(f, "{} has no lines {BEGIN} and {END}", path.display()),
            Self::Plot(error) => write!(f, "the plot: {error}"),
        }
    }
}

/// A path from the project's root.
fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::File(path.to_path_buf(), error))
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::File(path.to_path_buf(), error))
}

const RATIOS: &str = "bench/ratios.csv";

/// The ratios that runs are held against; none if nobody recorded any.
pub fn ratios() -> Result<Recorded, Failure> {
    let path = at_root(RATIOS);
    if !path.exists() {
        return Ok(Recorded::default());
    }
    Recorded::parse(&read(&path)?).map_err(|line| Failure::Record(path, line))
}

/// Records the ratios to peers of this run in the place of those that are recorded for the same aims.
pub fn record(recorded: &mut Recorded, found: &[Verdict]) -> Result<(), Failure> {
    for verdict in found.iter().filter(|verdict| is_against_peers(verdict) && verdict.ratio.is_finite()) {
        recorded.set(verdict.key(), verdict.ratio);
    }
    write(&at_root(RATIOS), &recorded.text("ratio to what stands beside, row;ours;beside: cargo xtask bench --record"))
}

/// Where and how a run was made, as a sentence.
fn provenance(choice: &Choice) -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        told.lines().find_map(|line| line.strip_prefix("model name")).map(|rest| rest.trim_matches([' ', '\t', ':']));
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(at_root("")).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let (model, cpus, rounds) = (model.unwrap_or("an unknown CPU"), rows::cpus(), choice.rounds);
    let quick = if choice.quick { ", `--quick`" } else { "" };
    format!("{model}, {cpus} CPUs, up to {rounds} rounds{quick}, commit {commit}.\n\n")
}

/// Writes the tables of documents and the plot.
pub fn documents(found: &[Verdict], choice: &Choice) -> Result<(), Failure> {
    let what = |id: &str| aims::row(id).map_or("", |row| row.what);
    let path = at_root("docs/performance.md");
    let table = provenance(choice) + &markdown(found, what);
    let text = between(&read(&path)?, BEGIN, END, &table).ok_or(Failure::NoPlace(path.clone()))?;
    write(&path, &text)?;
    let path = at_root("README.md");
    if let Some(text) = between(&read(&path)?, BEGIN, END, &brief(found, what)) {
        write(&path, &text)?;
    }
    let drawing = plot::svg(found).map_err(|error| Failure::Plot(error.to_string()))?;
    write(&at_root("docs/performance.svg"), &drawing)
}
