//! Instruction counts of our rows: exact on a busy machine, where times are not.
//!
//! Each row runs once in a process of its own under `valgrind --tool=callgrind`, which collects from the entry of the
//! timed region to its exit. The counts are held against `bench/counts.csv`, so they are those of the vectors that every
//! machine has ([`BASELINE`]).

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io};

use crate::ours::memory::BASELINE;
use crate::recorded::{BadLine, Recorded};
use crate::report::figure;
use crate::rows::{self, Contender};

/// How far a count may lie from the recorded one, to either side: fewer instructions are to be recorded too, or the next
/// change may lose them again.
pub const WITHIN: f64 = 0.05;

/// Why nothing was counted.
#[derive(Debug)]
pub enum CountError {
    /// There is no valgrind.
    NoValgrind,
    /// A program could not be started.
    Start(io::Error),
    /// A row ran and said no count.
    Row(String),
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// The file of counts is no record.
    Record(BadLine),
}

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValgrind => f.write_str("no valgrind on this machine: nothing was counted"),
            Self::Start(error) => write!(f, "a row could not be started: {error}"),
            Self::Row(key) => write!(f, "{key} ended without a count"),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Record(line) => line.fmt(f),
        }
    }
}

impl core::error::Error for CountError {}

/// Whether there is a valgrind.
#[must_use]
pub fn has_valgrind() -> bool {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Our contenders of the rows that can be counted.
#[must_use]
pub fn counted() -> Vec<Contender> {
    rows::ours().into_iter().filter(|one| one.row().counted).collect()
}

fn key(one: &Contender) -> String {
    format!("{};{}", one.row, one.title())
}

/// Instructions an operation of every counted row, by row and contender; as many rows at once as there are CPUs.
///
/// # Errors
/// [`CountError`]: the first that stopped it.
pub fn count() -> Result<Recorded, CountError> {
    if !has_valgrind() {
        return Err(CountError::NoValgrind);
    }
    let words: Vec<(String, [String; 2])> =
        counted().iter().map(|one| (key(one), [one.row.to_owned(), one.title()])).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Ok(Recorded::default())));
    std::thread::scope(|scope| {
        for _ in 0..rows::cpus() {
            scope.spawn(|| {
                // Relaxed: only the number matters; the lock orders what is found.
                while let Some((key, words)) = words.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let counted = count_one(key, words);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    match (found.as_mut(), counted) {
                        (Ok(found), Ok(count)) => found.set(key.clone(), count),
                        (Ok(_), Err(error)) => *found = Err(error),
                        (Err(_), _) => return,
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn count_one(key: &str, words: &[String; 2]) -> Result<f64, CountError> {
    let own = env::current_exe().map_err(CountError::Start)?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no", "--toggle-collect=*roi*"])
        .arg(own)
        .arg("once")
        .args(words)
        .env(BASELINE, "1")
        .output()
        .map_err(CountError::Start)?;
    let (said, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    per_operation(&said, &told).ok_or_else(|| CountError::Row(key.to_owned()))
}

/// The count an operation, from what the row said and what valgrind told.
fn per_operation(said: &str, told: &str) -> Option<f64> {
    let operations: f64 = said.lines().find_map(|line| line.strip_prefix("operations "))?.trim().parse().ok()?;
    let collected = told.lines().find_map(|line| line.split_once("Collected :"))?.1;
    let count: f64 = collected.split_whitespace().next()?.parse().ok()?;
    Some(count / operations)
}

/// Where counts are recorded.
fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.csv")
}

/// The recorded counts.
///
/// # Errors
/// The file cannot be read, or is none.
pub fn recorded() -> Result<Recorded, CountError> {
    let text = fs::read_to_string(path()).map_err(|error| CountError::File(path(), error))?;
    Recorded::parse(&text).map_err(CountError::Record)
}

/// Records counts in the place of all that were.
///
/// # Errors
/// The file cannot be written.
pub fn record(counts: &Recorded) -> Result<(), CountError> {
    let text = counts.text("instructions an operation, row;ours: cargo xtask bench --counts --record");
    fs::write(path(), text).map_err(|error| CountError::File(path(), error))
}

/// What differs between counts and recorded ones, a line each.
#[must_use]
pub fn differences(counts: &Recorded, recorded: &Recorded) -> Vec<String> {
    let mut found = Vec::new();
    for name in counts.names() {
        let now = counts.get(name).unwrap_or(f64::NAN);
        match recorded.get(name) {
            None => found.push(format!("{name}: {} instructions, and none recorded", figure(now))),
            Some(old) if (now / old - 1.0).abs() > WITHIN => {
                found.push(format!("{name}: {} instructions, {} recorded", figure(now), figure(old)));
            }
            Some(_) => {}
        }
    }
    let gone = recorded.names().filter(|name| counts.get(name).is_none());
    found.extend(gone.map(|name| format!("{name}: recorded, and no such row")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, f64)]) -> Recorded {
        let mut recorded = Recorded::default();
        lines.iter().for_each(|&(name, count)| recorded.set(name.to_owned(), count));
        recorded
    }

    #[test]
    fn counts_differ_past_five_percent_to_either_side() {
        let recorded = of(&[("same", 100.0), ("more", 100.0), ("fewer", 100.0), ("gone", 1.0)]);
        let counts = of(&[("same", 104.9), ("more", 105.1), ("fewer", 94.9), ("new", 3.0)]);
        let found = differences(&counts, &recorded);
        let names: Vec<&str> = found.iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names, ["fewer", "more", "new", "gone"]);
    }

    #[test]
    fn a_count_is_divided_by_the_operations_of_its_region() {
        let told = "==1== Events    : Ir\n==1== Collected : 8523\n";
        assert_eq!(per_operation("figure 1.5\noperations 1000\n", told), Some(8.523));
        assert_eq!(per_operation("figure 1.5\n", told), None);
    }

    #[test]
    fn every_counted_row_is_recorded() {
        let recorded = recorded().unwrap();
        let missing: Vec<String> = counted().iter().map(key).filter(|key| recorded.get(key).is_none()).collect();
        assert_eq!(missing, Vec::<String>::new(), "cargo xtask bench --counts --record");
    }
}
