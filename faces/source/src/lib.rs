//! Opens what people have of a machine and its kernel, and says where each part came from.
//!
//! Here: files, compression, presets, recordings, and descriptions in TOML. Not here: any rule of Linux.
//!
//! # Invariants
//! 1. A recording's listings are never read: only its machine and its kernel.
//! 2. Bad input is one line of error: file, place, what to do.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use kernmem_base::{Era, PhysAddr};
use kernmem_config::{Arm64Cpu, CommandLine, Config, Cpu, Given, KernelConfig, Symbols};
use kernmem_firmware::{Arch, Devicetree, Machine};

mod error;
mod kernel;
mod presets;
pub mod read;
mod recording;

pub use error::{Problem, SourceError};
pub use presets::PRESETS;

use kernel::KernelFiles;

/// Where arm64's memory starts if its size is overridden.
const ARM64_MEMORY_START: PhysAddr = PhysAddr(0x4000_0000);

/// What the caller sets in place of the source's own.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The command line.
    pub cmdline: Option<String>,
    /// The branch of Linux.
    pub era: Option<Era>,
    /// The CPU's model.
    pub cpu: Option<String>,
    /// A kernel's configuration file.
    pub kconfig: Option<PathBuf>,
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

/// An opened source.
#[derive(Clone, Debug)]
pub struct Source {
    /// The machine.
    pub machine: Machine,
    /// Its kernel.
    pub config: Config,
    /// Where the parts came from.
    pub provenance: Vec<Origin>,
}

/// A machine and a kernel before the options.
struct Parts {
    machine: Machine,
    kernel: KernelFiles,
    cmdline: String,
    cpu: Cpu,
    given: Given,
    era: Era,
    provenance: Vec<Origin>,
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
        Parts::open(source)?.with(source, options)
    }
}

fn origin(what: &'static str, from: impl Into<String>) -> Origin {
    Origin { what, from: from.into() }
}

impl Parts {
    fn open(source: &str) -> Result<Self, SourceError> {
        if let Some(preset) = presets::named(source) {
            let preset = preset?;
            let from = format!("preset {source}");
            let provenance = vec![origin("machine", from.clone()), origin("kernel", from)];
            return Ok(Self::from_preset(preset, provenance));
        }
        let path = Path::new(source);
        if path.is_dir() {
            let found = recording::open(path)?;
            let provenance = vec![
                origin("machine", format!("recording {source}")),
                origin("kernel", format!("{} of the recording", found.kernel_name)),
            ];
            let recording::Recording { machine, kernel, cmdline, cpu, given, era, .. } = found;
            return Ok(Self { machine, kernel, cmdline, cpu, given, era, provenance });
        }
        if source != "-" && !path.exists() {
            return Err(SourceError::new(source, Problem::UnknownPreset));
        }
        Self::from_file(source, path)
    }

    fn from_preset(preset: presets::Preset, provenance: Vec<Origin>) -> Self {
        let presets::Preset { machine, kernel, cmdline, cpu, given, era } = preset;
        Self { machine, kernel, cmdline: cmdline.to_owned(), cpu, given, era, provenance }
    }

    fn from_file(source: &str, path: &Path) -> Result<Self, SourceError> {
        let bytes = read::file(path)?;
        let fail = |error| SourceError::new(source, Problem::Devicetree(error));
        if !bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]) {
            return Err(SourceError::new(source, Problem::UnknownKind));
        }
        let machine = Devicetree::parse(&bytes).map_err(fail)?.machine();
        Self::from_machine(machine, source)
    }

    /// A machine without a kernel takes the preset's.
    fn from_machine(machine: Machine, source: &str) -> Result<Self, SourceError> {
        if machine.memory.is_empty() {
            return Err(SourceError::new(source, Problem::NoMemory));
        }
        let preset = presets::for_arch(machine.arch)?;
        let provenance = vec![origin("machine", source), origin("kernel", "the preset's")];
        let cmdline = machine.bootargs.clone().unwrap_or_default();
        Ok(Self { cmdline, machine, provenance, ..Self::from_preset(preset, Vec::new()) })
    }

    fn with(mut self, source: &str, options: &Options) -> Result<Source, SourceError> {
        let mut overridden = |what| self.provenance.push(origin(what, "option"));
        if let Some(line) = &options.cmdline {
            self.cmdline.clone_from(line);
            overridden("command line");
        }
        if let Some(era) = options.era {
            self.era = era;
            overridden("era");
        }
        if let Some(model) = &options.cpu {
            let cpu = Arm64Cpu::by_model(model).map(Cpu::Arm64);
            self.cpu = cpu.ok_or_else(|| SourceError::new(source, Problem::UnknownCpu(model.clone())))?;
            overridden("cpu");
        }
        if let Some(path) = &options.kconfig {
            self.kernel.kconfig = KernelConfig::parse(&read::text(path)?);
            overridden("configuration");
        }
        if let Some(path) = &options.symbols {
            self.kernel.symbols = Symbols::parse(&read::text(path)?);
            overridden("symbols");
        }
        if let Some(bytes) = options.memory {
            match self.machine.arch {
                Arch::Arm64 | Arch::X86_64 => self.machine.replace_memory(ARM64_MEMORY_START, bytes),
            }
            overridden("memory");
        }
        if let Some(seed) = options.seed {
            self.machine.kaslr_seed = Some(seed);
            overridden("KASLR seed");
        }
        let cmdline = CommandLine::parse(&self.cmdline);
        self.machine.bootargs = Some(self.cmdline);
        let built = self.kernel.kconfig.number("NR_CPUS").unwrap_or(1) as u32;
        let possible_cpus = self.machine.cpus.clamp(1, built.max(1));
        let config = Config {
            era: self.era,
            arch: self.machine.arch,
            cmdline,
            kconfig: self.kernel.kconfig,
            cpu: self.cpu,
            symbols: self.kernel.symbols,
            sizes: self.kernel.sizes,
            given: self.given,
            possible_cpus,
        };
        Ok(Source { machine: self.machine, config, provenance: self.provenance })
    }
}
