//! Why a source could not be opened: the file, the place in it, and what to do.

use core::fmt;
use std::io;
use std::path::PathBuf;

use kernmem_base::{Granule, Size};
use kernmem_firmware::TreeError;
use kernmem_firmware::iomem::IomemError;

/// What is wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    Read(io::Error),
    /// The file is compressed and damaged, or unpacks to more than [`crate::read::LIMIT`] bytes.
    Unpack(io::Error),
    /// The devicetree is damaged.
    Devicetree(TreeError),
    /// Not JSON, or not the JSON of a recording.
    Json(serde_json::Error),
    /// Not TOML, or not a machine's TOML.
    Toml {
        /// The line, counted from 1.
        line: usize,
        /// What the reader says.
        error: toml::de::Error,
    },
    /// Not a readable `/proc/iomem`.
    Iomem(IomemError),
    /// A `/proc/cpuinfo` without flags.
    NoFlags,
    /// A key has a value of the wrong kind.
    Value {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The content is none of the known kinds.
    UnknownKind,
    /// It says nothing about memory.
    NoMemory,
    /// No table knows the CPU model.
    UnknownCpu(String),
    /// No preset has this name, and no file either.
    UnknownPreset,
    /// No kernel that is built in is the one that is wished for.
    NoKernel {
        /// What it should have.
        wanted: String,
        /// What those of the era have.
        built_in: String,
    },
    /// The CPU has not the page size of the kernel that is wished for.
    CpuPages {
        /// Its model.
        model: String,
        /// The page size.
        granule: Granule,
    },
    /// The recording is of an architecture that is not supported.
    Architecture(String),
    /// The text is not UTF-8.
    NotText,
    /// A kernel's BTF is damaged, or none.
    Btf,
}

/// A source that could not be opened.
#[derive(Debug)]
pub struct SourceError {
    /// The file, preset or `standard input`.
    pub file: PathBuf,
    /// What is wrong there.
    pub problem: Problem,
}

impl SourceError {
    pub(crate) fn new(file: impl Into<PathBuf>, problem: Problem) -> Self {
        Self { file: file.into(), problem }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.problem {
            Problem::Read(error) => write!(f, "cannot be read: {error}; check the path"),
            Problem::Unpack(error) => write!(f, "cannot be unpacked: {error}; copy it again"),
            Problem::Devicetree(error) => write!(f, "{error}; dump it again, e.g. from /sys/firmware/fdt"),
            Problem::Json(error) => write!(f, "line {}: {error}; see testing/recordings/README.md", error.line()),
            Problem::Toml { line, error } => {
                write!(f, "line {line}: {}; the keys are described in kernmem-source", error.message().replace('\n', ", "))
            }
            Problem::Iomem(error) => write!(f, "{error}"),
            Problem::NoFlags => f.write_str("names no CPU flags; give the whole /proc/cpuinfo"),
            Problem::Value { key, expected } => write!(f, "key `{key}`: {expected} expected; correct the value"),
            Problem::UnknownKind => f.write_str(
                "neither a devicetree, a machine's TOML, /proc/iomem nor a boot log that shows memory; give one of them",
            ),
            Problem::NoMemory => f.write_str("names no memory; read /proc/iomem as root, or give the whole boot log"),
            Problem::UnknownCpu(model) => {
                write!(f, "CPU model `{model}` is not known; one of ")?;
                for (nr, known) in kernmem_config::Arm64Cpu::models().enumerate() {
                    write!(f, "{}`{known}`", if nr == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Problem::UnknownPreset => f.write_str("no such file or preset; the presets are arm64-4g, x86-4g and i386-2g"),
            Problem::NoKernel { wanted, built_in } => write!(
                f,
                "no built-in kernel has {wanted}; built in for {built_in}; another kernel: --kconfig and --symbols"
            ),
            Problem::CpuPages { model, granule } => {
                let pages = Size(granule.bytes());
                write!(f, "CPU model `{model}` has no {pages} pages; leave --cpu out, or choose --cpu max")
            }
            Problem::Architecture(arch) => write!(f, "architecture `{arch}` is not supported; arm64 and x86_64 are"),
            Problem::Btf => f.write_str("is no BTF; copy /sys/kernel/btf/vmlinux again, or leave the file out"),
            Problem::NotText => f.write_str("is not UTF-8 text; give the file as the kernel wrote it"),
        }
    }
}

impl core::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) | Problem::Unpack(error) => Some(error),
            Problem::Devicetree(error) => Some(error),
            Problem::Json(error) => Some(error),
            Problem::Toml { error, .. } => Some(error),
            Problem::Iomem(error) => Some(error),
            _ => None,
        }
    }
}
