//! The stress: all CPUs on one page allocator, from `testing/stress`.

use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// Builds the stress with every check of ours and runs it; `words` go to it.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--profile", "stress", "--package", "kernmem-stress", "--bin", "kernmem-stress", "--"])
        .args(words)
        .current_dir(root)
        .status()
        .map_err(|error| Failure::Start("cargo", error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Failure::Usage),
        _ => Err(Failure::Program("the stress")),
    }
}
