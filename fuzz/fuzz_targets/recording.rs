//! Any bytes in place of a part of one file of a recording, or of all of it: opening, booting and comparing it ends with
//! a verdict or with an error of one line, never with a panic.
//!
//! The first byte chooses the recording, the second the file, the next three where the bytes go.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// Small recordings of each architecture.
const RECORDINGS: [&str; 3] = ["arm64/a-4G-memblock", "x86/x-1G", "dumps/i61-pae"];

/// Files that are read; those that a recording lacks are made.
const FILES: [&str; 16] = [
    "boot.json",
    "boot.json",
    "final.dtb.gz",
    "final.dtb",
    "console.txt",
    "cpuinfo",
    "e820",
    "MISSING",
    "kernel_page_tables",
    "page_tables_kernel",
    "page_tables_current_user",
    "zoneinfo",
    "buddyinfo",
    "pagetypeinfo",
    "meminfo",
    "memblock_reserved",
];

struct Case {
    folder: PathBuf,
    original: PathBuf,
}

/// Copies of the recordings in a folder of this process, with the kernels beside them.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/recordings");
        let root = std::env::temp_dir().join(format!("kernmem-fuzz-recording-{}", std::process::id()));
        fs::create_dir_all(root.join("set")).expect("a folder for a recording");
        std::os::unix::fs::symlink(tree.join("kernels"), root.join("kernels")).expect("a link to the kernels");
        let case = |name: &str| {
            let (original, folder) = (tree.join(name), root.join("set").join(name.replace('/', "-")));
            fs::create_dir_all(&folder).expect("a folder for a recording");
            for entry in fs::read_dir(&original).expect("a recording") {
                let path = entry.expect("a readable folder").path();
                let file = path.file_name().expect("a name");
                if !file.to_string_lossy().starts_with("vmcore") {
                    fs::copy(&path, folder.join(file)).expect("a copy");
                }
            }
            Case { folder, original }
        };
        RECORDINGS.iter().map(|name| case(name)).collect()
    })
}

/// `original` with `bytes` at the place that `how` tells, or nothing but them.
fn changed(original: Option<Vec<u8>>, how: [u8; 3], bytes: &[u8]) -> Vec<u8> {
    let Some(mut text) = original.filter(|_| how[0] != 0) else { return bytes.to_vec() };
    let at = (usize::from(how[0]) << 8 | usize::from(how[1])) % (text.len() + 1);
    let end = (at + usize::from(how[2])).min(text.len());
    text.splice(at..end, bytes.iter().copied());
    text
}

fuzz_target!(|data: &[u8]| {
    let Some((&[which, file, a, b, c], bytes)) = data.split_first_chunk() else { return };
    let case = &cases()[usize::from(which) % RECORDINGS.len()];
    let file = FILES[usize::from(file) % FILES.len()];
    let (place, original) = (case.folder.join(file), fs::read(case.original.join(file)).ok());
    fs::write(&place, changed(original.clone(), [a, b, c], bytes)).expect("a file that can be written");
    if let Err(error) = kernmem_verify::verify(&case.folder) {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    match original {
        Some(original) => fs::write(&place, original),
        None => fs::remove_file(&place),
    }
    .expect("the file as it was");
});
