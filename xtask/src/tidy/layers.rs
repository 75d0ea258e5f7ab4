//! Folders are layers: a crate uses only crates of the lines above its own.

use super::Finding;
use crate::tree::{File, Tree};

/// Folders in the order of layers; those of one line do not use each other.
const LAYERS: [&[&str]; 25] = [
    &["foundation/base"],
    &["rules/arch"],
    &["rules/firmware"],
    &["rules/config"],
    &["tables/pgtable"],
    &["physical/memblock"],
    &["physical/sparse"],
    &["physical/page-alloc"],
    &["virtual/vmalloc", "virtual/slab", "virtual/hugetlb", "virtual/kasan"],
    &["virtual/mm"],
    &["kernel/kernel"],
    &["kernel/view"],
    &["report"],
    &["machines/host"],
    &["machines/sim"],
    &["machines/dump"],
    &["machines/hw"],
    &["faces/source"],
    &["faces/live"],
    &["faces/verify"],
    &["faces/labs"],
    &["faces/cli"],
    &["faces/image"],
    &["faces/web"],
    &["testing", "testing/stress", "xtask", "xtask/no-std", "fuzz", "bench", "bench/peers"],
];

/// Lines of [`LAYERS`] whose crates do without the standard library.
pub const NO_STD_LINES: usize = 13;

/// The folder that proves it.
pub const NO_STD: &str = "xtask/no-std";

fn line_of(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|line| line.contains(&folder))
}

/// The lines of a manifest that name a dependency, with its section and the dependency's name.
fn dependencies(manifest: &File) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut section = "";
    manifest.text.lines().enumerate().filter_map(move |(at, line)| {
        if let Some(name) = line.trim().strip_prefix('[') {
            section = name.trim_end_matches(']');
            let name = section.rsplit_once("dependencies.").map(|(_, name)| name)?;
            return Some((at + 1, section, name));
        }
        let is_list =
            section == "dependencies" || section.ends_with("-dependencies") || section.ends_with(".dependencies");
        let name = line.split(['=', '.', ' ']).next().filter(|name| is_list && !name.is_empty())?;
        (!name.starts_with('#')).then_some((at + 1, section, name))
    })
}

/// The name of the package that a manifest describes.
pub fn package_name(manifest: &File) -> Option<&str> {
    let after = manifest.text.split("[package]").nth(1)?;
    let line = after.lines().find(|line| line.starts_with("name"))?;
    line.split('"').nth(1)
}

/// A crate depends only on crates of the lines above; dev-dependencies are free.
pub fn direction(tree: &Tree) -> Vec<Finding> {
    let names: Vec<(&str, &str)> =
        tree.crates().filter_map(|(folder, manifest)| Some((package_name(manifest)?, folder))).collect();
    let mut found = Vec::new();
    for (folder, manifest) in tree.crates() {
        let Some(own) = line_of(folder) else {
            found.push(Finding::new(
                &manifest.path,
                1,
                "a crate without a layer: add its folder to the table of layers",
            ));
            continue;
        };
        if own + 1 == LAYERS.len() {
            continue;
        }
        for (line, section, name) in dependencies(manifest) {
            let Some(&(_, other)) = names.iter().find(|&&(package, _)| package == name) else { continue };
            let is_above = line_of(other).is_some_and(|other| other < own);
            if !section.contains("dev-dependencies") && !is_above {
                let what = format!("{folder} may not use {name}: {other} is not a layer above");
                found.push(Finding::new(&manifest.path, line, what));
            }
        }
    }
    found
}

/// The crate that is linked without the standard library uses every crate that must do without.
pub fn no_std_proof_is_complete(tree: &Tree) -> Vec<Finding> {
    let manifest = format!("{NO_STD}/Cargo.toml");
    let Some(proof) = tree.file(&manifest) else { return Vec::new() };
    let used: Vec<&str> = dependencies(proof).map(|(_, _, name)| name).collect();
    let must = LAYERS.iter().take(NO_STD_LINES).flat_map(|line| line.iter());
    let mut found = Vec::new();
    for folder in must {
        let name = tree.file(&format!("{folder}/Cargo.toml")).and_then(package_name);
        if let Some(name) = name.filter(|name| !used.contains(name)) {
            let what = format!("{name} must do without the standard library and is not used here");
            found.push(Finding::new(&manifest, 1, what));
        }
    }
    found
}
