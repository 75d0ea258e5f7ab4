//! Runs the performance rows over our crates and those of the registry, side by side: `cargo xtask bench`.
//!
//! ```text
//! [--quick] [--only P1,F] [--rounds N] [--csv FILE] [--record] [--write]   rounds of all, and what they say of the aims
//! list                                                                    every contender with its row
//! once ROW CONTENDER                                                      one round, for an instruction counter
//! ```
//! Exit status 1: a row is worse than what `bench/ratios.csv` records allows. 2: the words are not understood.
#![deny(unsafe_code)]

mod args;
mod files;
mod frames;
mod peers;
mod plot;
mod tables;

use std::env;
use std::process::ExitCode;

use kernmem_bench::report;
use kernmem_bench::rows::{self, Contender};
use kernmem_bench::run::run;
use kernmem_bench::time;
use kernmem_bench::verdict::verdicts;

use args::{Args, Task};
use files::Failure;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let Some(args) = Args::of(&words) else {
        eprintln!("{}", args::USAGE);
        return ExitCode::from(2);
    };
    let mut all = peers::peers();
    all.extend(rows::models());
    all.extend(rows::ours());
    let done = match &args.task {
        Task::List => {
            all.iter().for_each(|one| println!("{}\t{}", one.row, one.title()));
            Ok(true)
        }
        Task::Once { row, title } => Ok(once(&all, row, title)),
        Task::Run => whole(&all, &args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn once(all: &[Contender], row: &str, title: &str) -> bool {
    let Some(one) = all.iter().find(|one| one.row == row && one.title() == title) else {
        eprintln!("bench: no {title} in row {row}");
        return false;
    };
    println!("figure {}", one.round());
    println!("operations {}", time::operations());
    true
}

/// Runs, prints, writes what was asked for; whether no row is behind what is recorded.
fn whole(all: &[Contender], args: &Args) -> Result<bool, Failure> {
    let mut recorded = files::ratios()?;
    let ran = run(all, &args.choice, |row| print!("{}", report::of_row(row)));
    let found = verdicts(&ran);
    print!("{}", report::of_verdicts(&found, |verdict| recorded.get(&verdict.key())));
    if let Some(path) = &args.csv {
        files::write(path, &report::csv(&ran))?;
    }
    let behind = found.iter().filter(|verdict| verdict.is_behind(recorded.get(&verdict.key()))).count();
    let missed = found.iter().filter(|verdict| !verdict.is_met()).count();
    println!("\n{} aims, {missed} missed; {behind} behind the recorded ratio", found.len());
    if args.record {
        files::record(&mut recorded, &found)?;
    }
    if args.write {
        files::documents(&found, &args.choice)?;
    }
    Ok(behind == 0)
}
