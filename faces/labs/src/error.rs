//! Why a lab could not be run to its end.

use core::fmt;

use kernmem::BootError;
use kernmem_base::BusError;
use kernmem_firmware::Arch;
use kernmem_live::LiveError;
use kernmem_pgtable::MapError;
use kernmem_sim::MemoryError;
use kernmem_source::SourceError;

/// Why a lab stopped. Verdicts that were reached before it are lost.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// The machine cannot be opened.
    Source(SourceError),
    /// The host lends no such memory.
    Memory(MemoryError),
    /// The kernel does not boot.
    Boot(BootError),
    /// The lab's claims speak of another architecture.
    Architecture {
        /// The lab.
        lab: &'static str,
        /// The machine's architecture.
        arch: Arch,
        /// The one that they speak of.
        wanted: Arch,
    },
    /// The machine lacks what the lab looks at.
    Missing(&'static str),
    /// The lab was to measure, and counts only.
    NothingToMeasure {
        /// The lab.
        lab: &'static str,
    },
    /// A table or a datum cannot be read.
    Bus(BusError),
    /// A mapping of the lab's own cannot be made.
    Map(MapError),
    /// The running kernel.
    Live(LiveError),
    /// The writer failed.
    Output(fmt::Error),
}

impl LabError {
    /// Whether the input is fine, but beyond what is modelled.
    #[must_use]
    pub const fn is_beyond(&self) -> bool {
        match self {
            Self::Boot(BootError::Beyond(_)) => true,
            Self::Live(error) => error.is_beyond(),
            _ => false,
        }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Boot(error) => write!(f, "the machine does not boot: {error}"),
            Self::Architecture { arch, wanted, .. } => {
                let (own, other) = (arch.name(), wanted.name());
                write!(f, "the claims of this lab do not speak of {own}; name a machine of {other}")
            }
            Self::Missing(what) => write!(f, "this machine has no {what}"),
            Self::NothingToMeasure { lab } => write!(f, "{lab} counts and measures nothing; leave --measure out"),
            Self::Bus(error) => write!(f, "the simulated memory: {error}"),
            Self::Map(error) => write!(f, "a mapping of the lab: {error}"),
            Self::Live(error) => write!(f, "the running kernel: {error}"),
            Self::Output(_) => f.write_str("the output failed"),
        }
    }
}

impl core::error::Error for LabError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Memory(error) => Some(error),
            Self::Boot(error) => Some(error),
            Self::Bus(error) => Some(error),
            Self::Map(error) => Some(error),
            Self::Live(error) => Some(error),
            Self::Output(error) => Some(error),
            Self::Architecture { .. } | Self::Missing(_) | Self::NothingToMeasure { .. } => None,
        }
    }
}

impl From<SourceError> for LabError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<MemoryError> for LabError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<BootError> for LabError {
    fn from(error: BootError) -> Self {
        Self::Boot(error)
    }
}

impl From<BusError> for LabError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<MapError> for LabError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<LiveError> for LabError {
    fn from(error: LiveError) -> Self {
        Self::Live(error)
    }
}

impl From<fmt::Error> for LabError {
    fn from(error: fmt::Error) -> Self {
        Self::Output(error)
    }
}
