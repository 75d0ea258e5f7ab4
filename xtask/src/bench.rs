//! The performance rows: ours and the registry's side by side, built and run from `bench/peers`.

use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// Builds and runs the rows; `words` go to the runner.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--release", "--locked", "--"])
        .args(words)
        .current_dir(root.join("bench/peers"))
        .status()
        .map_err(|error| Failure::Start("cargo", error))?;
    if status.success() { Ok(()) } else { Err(Failure::Program("the rows")) }
}
