//! A head on every module, and known eras in every `Source:` line.

use super::Finding;
use crate::rust_text::{Kind, only};
use crate::tree::{File, Tree};

/// The branches of Linux that rules distinguish, and earlier ones that a comment may name.
const ERAS: [&str; 5] = ["4.14", "5.10", "6.1", "6.12", "7.2"];

/// Every Rust file begins with a head; every `Source: Linux` names eras, and known ones.
pub fn heads_and_sources(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let first = file.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.contains("Placeholder") {
            found.push(Finding::new(&file.path, 1, "a module begins with its head: //! what it is"));
        }
        sources(file, &mut found);
    }
    found
}

fn sources(file: &File, found: &mut Vec<Finding>) {
    let comments = only(Kind::Comment, &file.text);
    let lines: Vec<&str> = comments.lines().map(comment).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(first) = line.strip_prefix("Source: Linux") else { continue };
        let more = lines[at + 1..].iter().take_while(|line| !line.is_empty());
        let words = core::iter::once(first).chain(more.copied());
        let eras: Vec<&str> = words.flat_map(versions).collect();
        if eras.is_empty() {
            found.push(Finding::new(&file.path, at + 1, "a source names the era that was read"));
        }
        for era in eras.iter().filter(|era| !is_known(era)) {
            found.push(Finding::new(&file.path, at + 1, format!("{era} is no known era")));
        }
    }
}

fn comment(line: &str) -> &str {
    line.trim().trim_start_matches(['/', '!']).trim()
}

/// The words of `text` that look like a release: digits, a dot, digits.
fn versions(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split([' ', '–', ',', ';', ':', '(', ')']);
    words.map(|word| word.trim_end_matches('.')).filter(|word| {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        word.contains('.') && word.split('.').all(is_number)
    })
}

fn is_known(version: &str) -> bool {
    let branch: Vec<&str> = version.split('.').take(2).collect();
    ERAS.contains(&branch.join(".").as_str())
}
