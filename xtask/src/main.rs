//! Checks and chores of the project: `cargo xtask …`.
//!
//! * `tidy`: what the style asks for and no compiler checks; also a test of this crate.
//! * `no-std`: the crates above `machines/` build and link without the standard library.
//! * `bench`: the performance rows, ours beside those of the registry's crates.
//! * `fuzz TARGET|all [--seconds N]`: runs fuzz targets, and installs the runner if it is missing.
//!
//! Needs nothing beyond Rust, but for `fuzz`, which says what it installs.

mod bench;
mod failure;
mod fuzz;
mod no_std;
mod rust_text;
mod tidy;
mod tree;

use core::error::Error;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use failure::Failure;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["bench", words @ ..] => bench::run(&root(), words),
        ["no-std"] => no_std::run(&root()),
        ["fuzz", target] => fuzz::run(&root(), target, fuzz::SECONDS),
        ["fuzz", target, "--seconds", n] => match n.parse() {
            Ok(seconds) => fuzz::run(&root(), target, seconds),
            Err(_) => Err(Failure::Usage),
        },
        _ => Err(Failure::Usage),
    };
    let Err(failure) = done else { return ExitCode::SUCCESS };
    eprint!("xtask: {failure}");
    if let Some(source) = failure.source() {
        eprint!(": {source}");
    }
    eprintln!();
    ExitCode::from(if matches!(failure, Failure::Usage) { 2 } else { 1 })
}

/// The project's root: the folder above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
