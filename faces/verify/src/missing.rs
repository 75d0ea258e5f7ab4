//! What a recording lacks: what its file `MISSING` names, and files that would be compared and are not there.
//!
//! Here: which files a complete recording has. Not here: what follows from a lack: the rest is compared.

use std::path::Path;

use kernmem_firmware::Arch;

/// Something that was not recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// A file, or a part of one.
    pub what: String,
    /// Why, as the recorder said.
    pub why: String,
}

/// The files that are compared, each with those that stand for it: one of them is enough.
const COMPARED: [&[&str]; 5] = [
    &["kernel_page_tables", "page_tables_kernel", "kernel_page_tables.dump", "page_tables_kernel.dump"],
    &["console.txt"],
    &["zoneinfo"],
    &["buddyinfo"],
    &["pagetypeinfo"],
];

/// The same for one architecture alone.
const fn compared_by(arch: Arch) -> &'static [&'static [&'static str]] {
    match arch {
        Arch::Arm64 => &[&["memblock_memory"], &["memblock_reserved"]],
        Arch::X86_64 | Arch::I386 => {
            &[&["page_tables_current_kernel", "page_tables_current_kernel.dump"], &["meminfo"]]
        }
    }
}

/// What the recording at `path` lacks: the recorder's lines in their order, then other files.
pub(crate) fn of(path: &Path, arch: Arch) -> Vec<Missing> {
    let told = std::fs::read_to_string(path.join("MISSING")).unwrap_or_default();
    let lines = told.lines().filter(|line| !line.trim().is_empty());
    let mut all: Vec<Missing> = lines
        .map(|line| {
            let (what, why) = line.split_once(": ").unwrap_or((line, "no reason is given"));
            Missing { what: what.to_owned(), why: why.to_owned() }
        })
        .collect();
    for names in COMPARED.iter().chain(compared_by(arch)) {
        let is_there = names.iter().any(|name| path.join(name).is_file());
        let is_told = all.iter().any(|missing| names.contains(&missing.what.as_str()));
        if !is_there && !is_told {
            all.push(Missing { what: names[0].to_owned(), why: "the folder has no such file".to_owned() });
        }
    }
    all
}
