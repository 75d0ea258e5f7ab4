//! What the style asks for and no compiler checks.
//!
//! Each rule is a function from the project's files to findings; a finding is one line, `file:line: what is wrong`.

mod dead;
mod heads;
mod layers;
mod places;
mod records;
mod words;

use core::fmt;
use std::path::Path;

use crate::failure::Failure;
use crate::tree::Tree;

pub use layers::{NO_STD, package_name};

/// Something that the style does not allow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [Rule; 10] = [
    layers::direction,
    layers::no_std_proof_is_complete,
    places::unsafe_code,
    places::cfg_of_target,
    places::listings,
    heads::heads_and_sources,
    words::forbidden_words,
    words::lengths,
    records::provenance,
    dead::dead_files,
];

/// Everything that is wrong with `tree`, sorted by place.
pub fn findings(tree: &Tree) -> Vec<Finding> {
    let mut all: Vec<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    all.sort();
    all
}

/// Checks the project at `root` and prints what is wrong.
pub fn run(root: &Path) -> Result<(), Failure> {
    let tree = Tree::read(root)?;
    let all = findings(&tree);
    for finding in &all {
        println!("{finding}");
    }
    if all.is_empty() {
        println!("tidy: {} files, {} rules, no finding", tree.files.len(), RULES.len());
        return Ok(());
    }
    Err(Failure::Findings(all.len()))
}

#[cfg(test)]
mod tests;
