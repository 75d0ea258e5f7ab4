//! `verify` needs a recording's inputs and nothing that its kernel wrote: a copy without those files gives the same
//! listings.

use std::fs;
use std::path::{Path, PathBuf};

use kernmem_verify::listing_of;
use kernmem_view::RootKind;

/// Copies only what a boot may read: `boot.json`, the devicetree or the e820 lines of the log, `cpuinfo`.
fn copy_inputs(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the copy");
    for file in ["boot.json", "final.dtb.gz", "cpuinfo"] {
        if from.join(file).is_file() {
            fs::copy(from.join(file), to.join(file)).expect("a copied input");
        }
    }
    if !from.join("final.dtb.gz").is_file() {
        let log = fs::read_to_string(from.join("console.txt")).expect("a boot log");
        let firmware = log.lines().filter(|line| line.contains("BIOS-e820:"));
        fs::write(to.join("console.txt"), firmware.map(|line| format!("{line}\n")).collect::<String>())
            .expect("a written log");
    }
}

fn check(set: &str, name: &str) {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("inputs-only-{set}"));
    let copy = root.join(set).join(name);
    let original = recordings.join(set).join(name);
    copy_inputs(&original, &copy);
    let kernels = root.join("kernels");
    if !kernels.exists() {
        // The kernels' folders are inputs whole.
        std::os::unix::fs::symlink(recordings.join("kernels"), &kernels).expect("a link to the kernels");
    }
    let listing = listing_of(&copy, RootKind::Kernel).expect("a copy that boots");
    assert!(listing.lines().count() > 20, "{name}: a whole listing");
    assert_eq!(listing, listing_of(&original, RootKind::Kernel).expect("a recording that boots"), "{name}");
    assert!(!copy.join("kernel_page_tables").exists() && !copy.join("page_tables_kernel").exists());
}

#[test]
fn arm64_boots_from_its_inputs_alone() {
    for name in ["a-4G-rodata-off", "a-kaslr2-full", "a-2node-rodata-off", "a-max", "kfence-2G"] {
        check("arm64", name);
    }
}

#[test]
fn x86_boots_from_its_inputs_alone() {
    for name in ["x-4G", "x-4G-kaslr", "x-2node", "x-memmap-exact"] {
        check("x86", name);
    }
}
