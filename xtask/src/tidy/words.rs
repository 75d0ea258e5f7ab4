//! Words and lengths: what a finished tree does not contain.
//!
//! The words are put together from halves, so that this file does not contain them either.

use super::Finding;
use crate::rust_text::{Kind, has_word, only};
use crate::tree::{File, Tree};

const MAX_LINES: usize = 800;

/// Macros that must not be in code.
const MACROS: [&str; 3] = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("d", "bg!")];

/// Words that tell of work left undone.
const UNDONE: [&str; 3] = [concat!("for ", "now"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Paths of the machines on which the project was written.
const PATHS: [&str; 3] = [concat!("/wo", "rk"), concat!("/ro", "ot"), concat!("/tmp/", "target")];

/// Names of tools that have no place in the tree.
const TOOLS: [&str; 10] = [
    concat!("clau", "de"),
    concat!("anthro", "pic"),
    concat!("chat", "gpt"),
    concat!("open", "ai"),
    concat!("copi", "lot"),
    concat!("ll", "m"),
    concat!("language ", "model"),
    concat!("sub", "agent"),
    concat!("ai-", "generated"),
    concat!("ai ", "assistant"),
];

/// Whether somebody wrote the file: recordings and constants are as machines gave them.
fn is_written(file: &File) -> bool {
    let is_data = file.path.starts_with("testing/") && !matches!(file.extension(), "rs" | "toml" | "md");
    !is_data && file.name() != "Cargo.lock" && file.extension() != "csv"
}

/// No word that tells of unfinished work, of the writer's machine or of its tools.
pub fn forbidden_words(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| is_written(file)) {
        for (at, line) in file.text.lines().enumerate() {
            check_line(file, at + 1, line, &mut found);
        }
        if file.is_rust() {
            check_macros(file, &mut found);
        }
    }
    found
}

/// Lines that version control leaves where two changes meet.
const CONFLICTS: [&str; 2] = [concat!("<<<<", "<<< "), concat!(">>>>", ">>> ")];

fn check_line(file: &File, at: usize, line: &str, found: &mut Vec<Finding>) {
    if CONFLICTS.iter().any(|mark| line.starts_with(mark)) {
        found.push(Finding::new(&file.path, at, "two changes meet here, undecided".to_owned()));
    }
    let lower = line.to_lowercase();
    let undone = UNDONE.iter().find(|word| has_word(line, word));
    let path = PATHS.iter().find(|path| has_path(line, path));
    let tool = TOOLS.iter().find(|tool| has_word(&lower, tool));
    for word in [undone, path, tool].into_iter().flatten() {
        found.push(Finding::new(&file.path, at, format!("\"{word}\" does not belong in the tree")));
    }
    let mark = concat!("TO", "DO");
    if has_word(line, mark) && !line.contains(&format!("{mark}(#")) {
        found.push(Finding::new(&file.path, at, format!("{mark} has an issue number, or is not there")));
    }
}

/// Whether `line` names the absolute path `path` or one below it.
fn has_path(line: &str, path: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ')' | '>' | '*');
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + path.len()..].starts_with(goes_on))
}

fn check_macros(file: &File, found: &mut Vec<Finding>) {
    for (at, line) in only(Kind::Code, &file.text).lines().enumerate() {
        for name in MACROS.iter().filter(|name| has_word(line, name.trim_end_matches('!')) && line.contains(*name)) {
            found.push(Finding::new(&file.path, at + 1, format!("{name} does not belong in the tree")));
        }
    }
}

/// A Rust file that is too long holds two nouns.
pub fn lengths(tree: &Tree) -> Vec<Finding> {
    let too_long = tree.rust().map(|file| (file, file.text.lines().count())).filter(|&(_, n)| n > MAX_LINES);
    too_long.map(|(file, n)| Finding::new(&file.path, n, format!("{n} lines: does it hold two nouns?"))).collect()
}
