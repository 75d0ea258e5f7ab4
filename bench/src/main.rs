//! The contenders that need no crate of others, one at a time, and the counts of ours.
//!
//! ```text
//! list                     every contender with its row
//! once ROW CONTENDER       one round
//! counts [--record]        instructions of our rows, held against bench/counts.csv, or recorded there
//! ```
//! Exit status 1: counts differ. 2: the words are not understood. 3: there is no valgrind.

use std::env;
use std::process::ExitCode;

use kernmem_bench::counts::{self, CountError};
use kernmem_bench::{rows, time};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(),
        ["once", row, title] => once(row, title),
        ["counts"] => ended(compare()),
        ["counts", "--record"] => ended(counts::count().and_then(|found| counts::record(&found)).map(|()| true)),
        _ => {
            eprintln!("usage: kernmem-bench list | once ROW CONTENDER | counts [--record]");
            ExitCode::from(2)
        }
    }
}

fn ended(done: Result<bool, CountError>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::from(if matches!(error, CountError::NoValgrind) { 3 } else { 1 })
        }
    }
}

fn all() -> Vec<rows::Contender> {
    let mut all = rows::ours();
    all.extend(rows::models());
    all
}

fn list() -> ExitCode {
    all().iter().for_each(|one| println!("{}\t{}", one.row, one.title()));
    ExitCode::SUCCESS
}

fn once(row: &str, title: &str) -> ExitCode {
    let Some(one) = all().into_iter().find(|one| one.row == row && one.title() == title) else {
        eprintln!("kernmem-bench: no {title} in row {row}");
        return ExitCode::from(2);
    };
    println!("figure {}", one.round());
    println!("operations {}", time::operations());
    ExitCode::SUCCESS
}

/// Counts, and tells what differs from the recorded counts.
fn compare() -> Result<bool, CountError> {
    let recorded = counts::recorded()?;
    let found = counts::count()?;
    let differences = counts::differences(&found, &recorded);
    differences.iter().for_each(|line| println!("{line}"));
    let rows = found.names().count();
    println!("counts: {rows} rows, {} differ by more than {} %", differences.len(), counts::WITHIN * 100.0);
    Ok(differences.is_empty())
}
