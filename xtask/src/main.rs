//! Checks and chores of the project: `cargo xtask …`.
//!
//! * `tidy`: what the style asks for and no compiler checks; also a test of this crate.
//! * `no-std`: the crates above `machines/` build and link without the standard library.
//! * `boot-cost`: what a boot costs for each doubling of memory, as a table.
//! * `bench`: the performance rows, ours beside those of the registry's crates; `bench --counts`: their instructions.
//! * `stress`: all CPUs on one page allocator, every frame accounted for.
//! * `tsan`: the stress and the tests with threads under ThreadSanitizer.
//! * `loom`: what CPUs share without a lock, in every order that the memory model allows.
//! * `fuzz TARGET|all [--seconds N]`: runs fuzz targets, and installs the runner if it is missing.
//!
//! Needs nothing beyond Rust, but for `fuzz` and `tsan`, which say what they install.

mod bench;
mod boot_cost;
mod failure;
mod fuzz;
mod loom;
mod no_std;
mod rust_text;
mod stress;
mod tidy;
mod tree;
mod tsan;

use core::error::Error;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::Failure;

/// A chore: its name, the words that it takes, and what does it.
struct Chore {
    name: &'static str,
    words: &'static str,
    run: fn(&Path, &[&str]) -> Result<(), Failure>,
}

/// All chores, in the order in which the usage tells them.
const CHORES: [Chore; 8] = [
    Chore { name: "tidy", words: "", run: |root, words| alone(words, || tidy::run(root)) },
    Chore { name: "no-std", words: "", run: |root, words| alone(words, || no_std::run(root)) },
    Chore {
        name: "bench",
        words: "[--quick] [--only P1,F] [--csv FILE] [--record] [--write] | --counts [--record]",
        run: bench::run,
    },
    Chore { name: "boot-cost", words: "", run: |root, words| alone(words, || boot_cost::run(root)) },
    Chore {
        name: "stress",
        words: "[--seconds N] [--seed N] [--cpus all|N] [--placement dense|linux] …",
        run: stress::run,
    },
    Chore { name: "tsan", words: "[--seconds N]", run: tsan::run },
    Chore { name: "loom", words: "[PACKAGE…]", run: loom::run },
    Chore { name: "fuzz", words: "TARGET|all [--seconds N]", run: fuzz::run },
];

/// Runs a chore that takes no words.
fn alone(words: &[&str], run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    if words.is_empty() { run() } else { Err(Failure::Usage) }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let chore = words.first().and_then(|name| CHORES.iter().find(|chore| chore.name == *name));
    let done = chore.map_or(Err(Failure::Usage), |chore| (chore.run)(&root(), &words[1..]));
    let failure = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Told(status)) => return ExitCode::from(status),
        Err(failure) => failure,
    };
    eprint!("xtask: {failure}");
    if let Some(source) = failure.source() {
        eprint!(": {source}");
    }
    eprintln!();
    if matches!(failure, Failure::Usage) {
        for chore in &CHORES {
            eprintln!("  cargo xtask {} {}", chore.name, chore.words);
        }
    }
    ExitCode::from(failure.status())
}

/// The project's root: the folder above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
