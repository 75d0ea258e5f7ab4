//! What may stand in some places only: `unsafe`, the target architecture, the formats of Linux's listings.

use super::Finding;
use crate::rust_text::{Kind, lines_with_word, only};
use crate::tree::{File, Tree};

/// Beginnings of paths where `unsafe` may stand, besides those that `ARCHITECTURE.md` names.
const UNSAFE: [&str; 5] =
    ["machines/", "faces/image/", "foundation/base/src/lent", "virtual/slab/src/chain", "xtask/no-std/"];

const TARGET_ARCH: [&str; 3] = ["machines/host/", "machines/hw/", "faces/image/"];

/// Texts that only a listing of Linux has, and a format string that prints it.
const LISTINGS: [&str; 2] = ["---[ ", "[mem "];

fn is_in(file: &File, places: &[&str]) -> bool {
    places.iter().any(|place| file.path.starts_with(place))
}

/// The paths in backquotes under the heading "Unsafe" of `ARCHITECTURE.md`.
fn named_places(tree: &Tree) -> Vec<&str> {
    let Some(document) = tree.file("ARCHITECTURE.md") else { return Vec::new() };
    let mut is_inside = false;
    let mut places = Vec::new();
    for line in document.text.lines() {
        if line.starts_with('#') {
            is_inside = line.trim_start_matches('#').trim().eq_ignore_ascii_case("unsafe");
        } else if is_inside {
            places.extend(line.split('`').skip(1).step_by(2).filter(|word| word.contains('/')));
        }
    }
    places
}

/// `unsafe` stands only where it is listed.
pub fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut places = named_places(tree);
    places.extend(UNSAFE);
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !is_in(file, &places)) {
        for line in lines_with_word(&only(Kind::Code, &file.text), "unsafe") {
            found.push(Finding::new(&file.path, line, "unsafe is not allowed here"));
        }
    }
    found
}

/// The target architecture decides nothing but in the crates for the host's CPU and for real hardware.
pub fn cfg_of_target(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !is_in(file, &TARGET_ARCH)) {
        for line in lines_with_word(&only(Kind::Code, &file.text), "target_arch") {
            found.push(Finding::new(&file.path, line, "the target architecture is a value here, not a cfg"));
        }
    }
    found
}

/// Only the report knows the formats of Linux's listings; tests may quote them, readers may look for them.
pub fn listings(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !file.path.starts_with("report/") && !file.is_test()) {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, line) in only(Kind::Literal, code).lines().enumerate() {
            let Some(mark) = LISTINGS.iter().find(|mark| line.contains(*mark)) else { continue };
            if line.contains('{') && !file.path.starts_with("xtask/") {
                let what = format!("a listing's format (\"{mark}\") belongs in report/");
                found.push(Finding::new(&file.path, at + 1, what));
            }
        }
    }
    found
}
