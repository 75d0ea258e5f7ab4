//! The recordings of the tree, and the kernels that boot from their inputs.

use std::path::{Path, PathBuf};

use kernmem::{Boot, Kernel};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};
use kernmem_view::BootRecord;

/// The recordings of all sets, sorted.
pub fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let sets = ["arm64", "x86", "dumps"].map(|set| folder.join(set));
    let folders = sets.iter().flat_map(|set| std::fs::read_dir(set).expect("a set of recordings"));
    let mut paths: Vec<PathBuf> = folders.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(paths.len() > 60, "{} recordings", paths.len());
    paths
}

/// Boots the machine of a recording and shows it with what it was booted from.
pub fn with_kernel(path: &Path, show: impl FnOnce(&Kernel<'_, Memory, &mut BootRecord>, &Boot<'_>)) {
    let source = Source::open_with(path.to_str().expect("a path of text"), &Options::default()).expect("inputs");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory");
    let mut record = BootRecord::default();
    let kernel = kernmem_live::boot(&memory, &boot, &mut record).expect("a kernel that boots");
    show(&kernel, &boot);
}
