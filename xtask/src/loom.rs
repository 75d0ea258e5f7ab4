//! The models of what CPUs share without a lock, in every order that the memory model allows.
//!
//! A crate has models if its manifest names the model checker: in tests whose names begin with `loom`, and in modules
//! `model` of its library that are compiled for tests under `cfg(loom)` alone.
//! Each model prints how many executions there were. One that does not is a finding, and so is one with a single
//! execution: its threads do not meet, and it proves nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::failure::Failure;
use crate::tidy::package_name;
use crate::tree::Tree;

/// Runs all models, or those of the packages that `words` name.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let tree = Tree::read(root)?;
    let begun = Instant::now();
    let mut told = 0;
    for (folder, manifest) in tree.crates().filter(|(_, manifest)| manifest.text.contains("cfg(loom)")) {
        let Some(package) = package_name(manifest).filter(|name| words.is_empty() || words.contains(name)) else {
            continue;
        };
        for target in targets(&tree, folder) {
            told += models(root, package, &target)?;
        }
    }
    println!("loom: {told} models in {} s", begun.elapsed().as_secs());
    if told == 0 { Err(Failure::Usage) } else { Ok(()) }
}

/// The programs of a crate that have models: the words that choose one, and the beginning of its models' names.
fn targets(tree: &Tree, folder: &str) -> Vec<(Vec<String>, &'static str)> {
    let tests = format!("{folder}/tests/");
    let names = tree.rust().filter_map(|file| file.path.strip_prefix(&tests)?.strip_suffix(".rs"));
    let models = names.filter(|name| name.starts_with("loom") && !name.contains('/'));
    let mut targets: Vec<_> = models.map(|name| (vec!["--test".to_owned(), name.to_owned()], "")).collect();
    let sources = format!("{folder}/src/");
    let mut own = tree.rust().filter(|file| file.path.starts_with(&sources));
    if own.any(|file| file.text.contains("#[cfg(all(test, loom))]")) {
        targets.push((vec!["--lib".to_owned()], "model"));
    }
    targets
}

/// Runs the models of one program; how many there were.
fn models(root: &Path, package: &str, (target, names): &(Vec<String>, &str)) -> Result<usize, Failure> {
    let mut running = Command::new("cargo")
        .args(["test", "--quiet", "--release", "--package", package, "--target-dir"])
        .arg(root.join("target/loom"))
        .args(target)
        .args(["--", "--nocapture", "--test-threads", "1", names])
        .current_dir(root)
        .env("RUSTFLAGS", "--cfg loom")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::Start("cargo", error))?;
    let (mut told, mut alone, mut passed, mut others) = (0, 0, 0, Vec::new());
    if let Some(output) = running.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            passed += tests_passed(&line).unwrap_or(0);
            if line.contains(" executions, ") {
                println!("{package}: {line}");
                told += 1;
                alone += usize::from(line.contains(": 1 executions, "));
            } else {
                others.push(line);
            }
        }
    }
    let status = running.wait().map_err(|error| Failure::Start("cargo", error))?;
    if !status.success() {
        others.iter().for_each(|line| println!("{line}"));
        return Err(Failure::Program("a model"));
    }
    if told == passed && alone == 0 {
        return Ok(told);
    }
    println!("{package}: {passed} models; {told} tell their executions, {alone} have one alone");
    Err(Failure::Findings(passed.abs_diff(told) + alone))
}

/// The number in the line that ends a program of tests.
fn tests_passed(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once("test result: ok. ")?;
    rest.split_once(" passed")?.0.parse().ok()
}
