//! The crates above `machines/` link without the standard library.
//!
//! `xtask/no-std` is a program without `main`, libc and std that uses all of them. It is linked for this host with
//! nothing but core and alloc: a crate that forgot `#![no_std]` brings a second panic handler, and what needs libc
//! stays undefined.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::tidy::NO_STD;

/// Linked statically, without start files and libraries; nothing unwinds.
const FLAGS: [&str; 5] = [
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
];

/// Beginnings of the symbols that std would bring, mangled in the old and the new way.
const STD_SYMBOLS: [&str; 3] = ["_ZN3std", "3std2rt", "3std2io"];

/// Builds and links the proof, and looks for std in it.
pub fn run(root: &Path) -> Result<(), Failure> {
    let folder = root.join("target/no-std");
    let host = host()?;
    let status = Command::new("cargo")
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(&folder)
        .current_dir(root.join(NO_STD))
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env_remove("RUSTFLAGS")
        .status()
        .map_err(|error| Failure::Start("cargo", error))?;
    if !status.success() {
        return Err(Failure::Program("linking without the standard library"));
    }
    let program: PathBuf = folder.join(host).join("release/no-std");
    let bytes = fs::read(&program).map_err(|error| Failure::File(program.clone(), error))?;
    let has = |symbol: &&str| bytes.windows(symbol.len()).any(|window| window == symbol.as_bytes());
    if STD_SYMBOLS.iter().any(has) {
        return Err(Failure::Std(program));
    }
    println!("no-std: linked without the standard library, {} bytes", bytes.len());
    Ok(())
}

/// The name of this machine's target: with a target given, flags reach the proof and not its build scripts.
pub fn host() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| Failure::Start("rustc", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or(Failure::Program("rustc -vV"))
}
