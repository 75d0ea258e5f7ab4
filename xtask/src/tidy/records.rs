//! Recordings have their provenance, and the locks their table.

use std::collections::BTreeSet;

use super::Finding;
use crate::tree::Tree;

const RECORDINGS: &str = "testing/recordings/";

/// A recorded boot has its machine beside it, a kernel its configuration; the folder is explained; locks are listed.
pub fn provenance(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for document in ["LOCKS.md", "testing/recordings/README.md"] {
        if tree.file(document).is_none() {
            found.push(Finding::new(document, 1, "is missing"));
        }
    }
    let inside = tree.files.iter().filter_map(|file| file.path.strip_prefix(RECORDINGS));
    let folders: BTreeSet<(&str, &str)> = inside
        .filter_map(|path| {
            let (set, rest) = path.split_once('/')?;
            Some((set, rest.split_once('/')?.0))
        })
        .collect();
    for (set, name) in folders {
        let proof = if set == "kernels" { "config" } else { "boot.json" };
        let path = format!("{RECORDINGS}{set}/{name}/{proof}");
        if tree.file(&path).is_none() {
            found.push(Finding::new(&path, 1, "a recording without provenance"));
        }
    }
    found
}
