//! The performance rows: ours and the registry's side by side from `bench/peers`, and the counts of ours from `bench`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// Builds and runs what `words` ask for, and ends as it ends.
///
/// `--counts [--record]` counts the instructions of our rows, with crates of the workspace alone; all other words go to
/// the runner of the rows.
pub fn run(root: &Path, words: &[&str]) -> Result<(), Failure> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--locked"]);
    match words {
        ["--counts", rest @ ..] => {
            cargo.args(["--profile", "measure", "--package", "kernmem-bench", "--", "counts"]).args(rest);
            cargo.current_dir(root);
        }
        _ => {
            cargo.args(["--release", "--"]).args(absolute(words)).current_dir(root.join("bench/peers"));
        }
    }
    let status = cargo.status().map_err(|error| Failure::Start("cargo", error))?;
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => Err(Failure::Told(code)),
        _ => Err(Failure::Program("the rows")),
    }
}

/// The words with the file behind `--csv` as a path from the root of the file system: the runner starts elsewhere.
fn absolute(words: &[&str]) -> Vec<PathBuf> {
    let behind = |at: usize| at > 0 && words[at - 1] == "--csv";
    let path = |(at, word): (usize, &&str)| {
        let whole = if behind(at) { std::path::absolute(word).ok() } else { None };
        whole.unwrap_or_else(|| PathBuf::from(word))
    };
    words.iter().enumerate().map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_figures_becomes_absolute() {
        let words = absolute(&["--only", "P1", "--csv", "out.csv", "--quick"]);
        assert!(words[3].is_absolute() && words[3].ends_with("out.csv"));
        assert_eq!((words[1].as_path(), words[4].as_path()), (Path::new("P1"), Path::new("--quick")));
    }
}
