//! Dead files: Rust under `src/` and `tests/` that no `mod` line reaches.

use std::collections::BTreeSet;

use super::Finding;
use crate::rust_text::{Kind, only};
use crate::tree::Tree;

/// Every file under a crate's `src/` and `tests/` is reached from its library, its programs, the paths that its manifest
/// names, or as a test that cargo finds by itself.
pub fn dead_files(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (folder, manifest) in tree.crates() {
        let sources = format!("{folder}/src/");
        let tests = format!("{folder}/tests/");
        let all = tree.rust().map(|file| file.path.as_str());
        let inside: Vec<&str> = all.filter(|path| path.starts_with(&sources) || path.starts_with(&tests)).collect();
        let named = manifest.text.lines().filter_map(|line| line.trim().strip_prefix("path"));
        let named = named.filter_map(|rest| Some(format!("{folder}/{}", rest.split('"').nth(1)?)));
        let own = ["lib.rs", "main.rs"].map(|name| format!("{sources}{name}"));
        let programs =
            inside.iter().filter(|path| path.starts_with(&format!("{sources}bin/"))).map(|p| (*p).to_owned());
        let finds_tests = !manifest.text.lines().any(|line| line.replace(' ', "") == "autotests=false");
        let is_found = |path: &str| finds_tests && path.strip_prefix(&tests).is_some_and(|name| !name.contains('/'));
        let found_tests: BTreeSet<String> =
            inside.iter().filter(|path| is_found(path)).map(|p| (*p).to_owned()).collect();
        let mut waiting: Vec<String> = own.into_iter().chain(named).chain(programs).collect();
        waiting.extend(found_tests.iter().cloned());
        let mut reached = BTreeSet::new();
        while let Some(path) = waiting.pop() {
            if let Some(file) = tree.file(&path).filter(|_| !reached.contains(&path)) {
                waiting.extend(children(&path, &file.text, found_tests.contains(&path)));
                reached.insert(path);
            }
        }
        for path in inside.into_iter().filter(|path| !reached.contains(*path)) {
            found.push(Finding::new(path, 1, "no mod line reaches this file"));
        }
    }
    found
}

/// Where the modules that the file at `path` declares may be; those of a root lie beside it.
fn children(path: &str, text: &str, is_root: bool) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let own = match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    let code = only(Kind::Code, text);
    let mut found = Vec::new();
    let mut given: Option<&str> = None;
    for (line, whole) in code.lines().zip(text.lines()) {
        if line.trim().starts_with("#[path") {
            given = whole.split('"').nth(1);
        }
        let Some(name) = module(line) else { continue };
        match given.take() {
            Some(path) => found.push(normal(&format!("{folder}/{path}"))),
            None => found.extend([format!("{own}/{name}.rs"), format!("{own}/{name}/mod.rs")]),
        }
    }
    found
}

/// The name in a line `mod name;`.
fn module(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.rsplit_once(']').map_or(line, |(_, rest)| rest.trim());
    let line =
        line.strip_prefix("pub").map_or(line, |rest| rest.trim_start_matches("(crate)").trim_start_matches("(super)"));
    line.trim().strip_prefix("mod ")?.trim().strip_suffix(';')
}

/// `path` without `..` and `.`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
