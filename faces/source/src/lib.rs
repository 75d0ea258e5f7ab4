//! Opens what people have of a machine and its kernel, and says where each part came from.
//!
//! Here: files, compression, presets, the kernels that are built in, recordings, and descriptions in TOML
//! ([`describe`]). Not here: any rule of Linux.
//!
//! # Invariants
//! 1. A recording's listings are never read: only its machine and its kernel.
//! 2. Bad input is one line of error: file, place, what to do.
#![forbid(unsafe_code)]

mod assemble;
mod builtin;
pub mod describe;
mod error;
mod kernel;
mod options;
mod presets;
pub mod read;
mod recording;

pub use error::{Problem, SourceError};
pub use options::{Options, Origin};
pub use presets::PRESETS;

use kernmem_base::Era;
use kernmem_config::Config;
use kernmem_firmware::Machine;

/// An opened source.
#[derive(Clone, Debug)]
pub struct Source {
    /// The machine.
    pub machine: Machine,
    /// Its kernel.
    pub config: Config,
    /// The era whose kernel the symbols are of: where it is not the era of `config`, the image is linked elsewhere there.
    pub image_era: Era,
    /// The name of the kernel, if it is one that is built in and nothing of it is replaced.
    pub builtin: Option<&'static str>,
    /// Where the parts came from.
    pub provenance: Vec<Origin>,
}

impl Source {
    /// Opens a preset, a recording's folder, a file, or standard input (`-`).
    ///
    /// # Errors
    /// [`SourceError`]: file, place in it, what to do.
    pub fn open(source: &str) -> Result<Self, SourceError> {
        Self::open_with(source, &Options::default())
    }

    /// As [`Source::open`], with parts replaced.
    ///
    /// # Errors
    /// [`SourceError`]: file, place in it, what to do.
    pub fn open_with(source: &str, options: &Options) -> Result<Self, SourceError> {
        assemble::open(source)?.with(source, options)
    }

    /// Opens bytes that a caller holds, such as an upload or a test's text.
    ///
    /// # Errors
    /// As [`Source::open`]; `name` stands for the file.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, options: &Options) -> Result<Self, SourceError> {
        assemble::from_bytes(name, bytes)?.with(name, options)
    }
}
