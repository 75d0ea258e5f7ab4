//! Fuzz targets: run by cargo-fuzz, which is installed if it is missing.
//!
//! cargo-fuzz needs compiler options that are not stable: they are asked for with `RUSTC_BOOTSTRAP`, so that the
//! stock toolchain serves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// Seconds that a target runs if nobody says otherwise.
const SECONDS: u32 = 60;

/// Runs a target, or each target after the other with `all`: `TARGET [--seconds N]`.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let (target, seconds) = match words {
        [target] => (*target, SECONDS),
        [target, "--seconds", n] => (*target, n.parse().map_err(|_| Failure::Usage)?),
        _ => return Err(Failure::Usage),
    };
    let targets = targets(root)?;
    let chosen: Vec<&String> = targets.iter().filter(|name| target == "all" || target == name.as_str()).collect();
    if chosen.is_empty() {
        return Err(Failure::NoTarget(target.to_owned()));
    }
    install()?;
    for name in chosen {
        run_one(root, name, seconds)?;
    }
    Ok(())
}

/// The names of the programs in `fuzz/Cargo.toml`.
fn targets(root: &Path) -> Result<Vec<String>, Failure> {
    let path = root.join("fuzz/Cargo.toml");
    let manifest = fs::read_to_string(&path).map_err(|error| Failure::File(path, error))?;
    let programs = manifest.split("[[bin]]").skip(1);
    let name = |program: &str| {
        let line = program.lines().find(|line| line.trim_start().starts_with("name"))?;
        Some(line.split('"').nth(1)?.to_owned())
    };
    Ok(programs.filter_map(name).collect())
}

fn install() -> Result<(), Failure> {
    let version =
        Command::new("cargo").args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    eprintln!("xtask: installing cargo-fuzz");
    let done = Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]).status();
    match done.map_err(|error| Failure::Start("cargo", error))?.success() {
        true => Ok(()),
        false => Err(Failure::Program("cargo install cargo-fuzz")),
    }
}

fn run_one(root: &Path, name: &str, seconds: u32) -> Result<(), Failure> {
    let mut running = Command::new("cargo")
        .args(["fuzz", "run", name, "--", &format!("-max_total_time={seconds}"), "-print_final_stats=1"])
        .current_dir(root)
        .env("RUSTC_BOOTSTRAP", "1")
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::Start("cargo fuzz", error))?;
    let mut executions = None;
    if let Some(log) = running.stderr.take() {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
                executions = Some(count.trim().to_owned());
            }
            eprintln!("{line}");
        }
    }
    let status = running.wait().map_err(|error| Failure::Start("cargo fuzz", error))?;
    println!("fuzz {name}: {} executions in {seconds} s", executions.as_deref().unwrap_or("no"));
    if status.success() { Ok(()) } else { Err(Failure::Program("cargo fuzz")) }
}
