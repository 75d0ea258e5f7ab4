//! What a caller replaces, and where parts came from.

use std::path::PathBuf;

use kernmem_base::{Era, Granule};

/// What the caller sets in place of the source's own.
///
/// Where the source has no kernel, era, page size and bits choose one that is built in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The command line.
    pub cmdline: Option<String>,
    /// The branch of Linux.
    pub era: Option<Era>,
    /// arm64: the CPU's model; x86: a list of features.
    pub cpu: Option<String>,
    /// A kernel's configuration file.
    pub kconfig: Option<PathBuf>,
    /// The page size that the kernel is built for; on arm64 in place of its configuration's.
    pub page_size: Option<Granule>,
    /// The bits of virtual addresses that the kernel is built for.
    pub va_bits: Option<u32>,
    /// A kernel's System.map.
    pub symbols: Option<PathBuf>,
    /// Bytes of memory, in place of all banks.
    pub memory: Option<u64>,
    /// The seed of KASLR.
    pub seed: Option<u64>,
}

/// Where one part of a source came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The part.
    pub what: &'static str,
    /// A file, a preset, an option.
    pub from: String,
}

impl Origin {
    pub(crate) fn new(what: &'static str, from: impl Into<String>) -> Self {
        Self { what, from: from.into() }
    }
}
