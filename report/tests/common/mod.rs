//! The recorded boots of the tree, and of one more folder if `KERNMEM_RECORDINGS` names it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use kernmem_base::Era;
use kernmem_config::KernelConfig;
use kernmem_view::proc::TextConfig;

/// The recordings of the tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/recordings")
}

/// Another folder of recordings, told by the environment.
pub fn told() -> Option<PathBuf> {
    std::env::var_os("KERNMEM_RECORDINGS").map(PathBuf::from)
}

/// One recorded boot.
pub struct Recorded {
    pub root: PathBuf,
    pub folder: PathBuf,
    pub era: Era,
    pub kernel: String,
    pub is_x86: bool,
    pub cmdline: String,
}

impl Recorded {
    /// A file of it, if it was recorded.
    pub fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// The configuration of its kernel.
    pub fn kconfig(&self) -> KernelConfig {
        let path = self.root.join("kernels").join(&self.kernel).join("config");
        KernelConfig::parse(&fs::read_to_string(path).expect("a recorded kernel has its configuration"))
    }

    /// What its texts show of the configuration and of the CPU.
    pub fn text_config(&self) -> TextConfig {
        let kconfig = self.kconfig();
        let cpu = self.file("cpuinfo").unwrap_or_default();
        let flag = |name: &str| cpu.split_whitespace().any(|word| word == name);
        let told = |option: &str| self.cmdline.split_whitespace().any(|word| word == option);
        let has_huge = !self.is_x86 || kconfig.is_set("X86_64") || flag("pse");
        TextConfig::of(&kconfig, has_huge, flag("pdpe1gb") && !told("nogbpages"))
    }
}

/// All recorded boots below `root`, in order.
pub fn boots(root: &Path) -> Vec<Recorded> {
    let mut found = Vec::new();
    for set in folders(root) {
        found.extend(folders(&set).into_iter().filter_map(|folder| open(root, folder)));
    }
    found
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).expect("a folder of recordings");
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn open(root: &Path, folder: PathBuf) -> Option<Recorded> {
    let json = fs::read_to_string(folder.join("boot.json")).ok()?;
    let value = |key: &str| {
        let rest = json.split_once(&format!("\"{key}\":"))?.1;
        Some(rest.split('"').nth(1)?.to_owned())
    };
    Some(Recorded {
        root: root.to_owned(),
        era: value("era")?.parse().ok()?,
        kernel: value("kernel")?,
        is_x86: value("arch")? != "arm64",
        cmdline: value("cmdline")?,
        folder,
    })
}
