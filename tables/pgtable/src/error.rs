//! Why an operation on tables stopped, and what it leaves.

use core::fmt;

use kernmem_arch::EncodeError;
use kernmem_base::{BusError, Level, NoFrame, PhysAddr, VirtAddr, VirtRange};

use crate::Stale;

/// Why a cursor stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// `va`, `pa` or the end of the run is no multiple of the granule, or the memory behind it ends past 2^64.
    Misaligned {
        /// Start of the run.
        va: VirtAddr,
        /// Memory behind it.
        pa: PhysAddr,
    },
    /// The ends of the range differ above the translated bits: no one root table holds it.
    BeyondRoot {
        /// What was left of the cursor's range.
        range: VirtRange,
    },
    /// Something is already there.
    Occupied {
        /// Its address.
        va: VirtAddr,
        /// Its level.
        level: Level,
    },
    /// A leaf, or the contiguous group that it belongs to, reaches over an edge of the range.
    Inside {
        /// The address in question.
        va: VirtAddr,
        /// The leaf's level.
        level: Level,
    },
    /// No leaf is there.
    Hole {
        /// The address.
        va: VirtAddr,
        /// Level of the empty entry.
        level: Level,
    },
    /// The entry is live and the change needs break-before-make.
    Live {
        /// Its address.
        va: VirtAddr,
        /// Its level.
        level: Level,
    },
    /// The entries of a table do not together say what one larger leaf says.
    Unequal {
        /// The first that does not fit.
        va: VirtAddr,
    },
    /// The cursor stands behind its range.
    PastEnd,
    /// The lender had no frame.
    NoFrame(NoFrame),
    /// A table lies where no memory answers.
    Bus(BusError),
    /// The attributes do not exist at this level.
    Encode(EncodeError),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned { va, pa } => write!(f, "run {va} -> {pa} is misaligned"),
            Self::BeyondRoot { range } => write!(f, "{range:?} is more than one root table translates"),
            Self::Occupied { va, level } => write!(f, "{va} is already mapped at {level}"),
            Self::Inside { va, level } => write!(f, "a {level} leaf reaches over the edge at {va}"),
            Self::Hole { va, level } => write!(f, "nothing is mapped at {va} ({level})"),
            Self::Live { va, level } => write!(f, "live {level} entry at {va} needs break-before-make"),
            Self::Unequal { va } => write!(f, "the entry at {va} does not fit into one leaf"),
            Self::PastEnd => f.write_str("the cursor stands behind its range"),
            Self::NoFrame(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MapError {}

impl From<BusError> for MapError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl From<NoFrame> for MapError {
    fn from(error: NoFrame) -> Self {
        Self::NoFrame(error)
    }
}

impl From<EncodeError> for MapError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// An operation that stopped half-way: why, and the debt of what it had done.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: MapError,
    /// What TLBs may still hold of the part that was done.
    pub stale: Stale,
}

impl<E: Into<MapError>> From<E> for Failed {
    /// A failure that leaves no debt.
    fn from(error: E) -> Self {
        Self { error: error.into(), stale: Stale::NONE }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl core::error::Error for Failed {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Where a descent stopped, and why.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The first address that was not dealt with.
    pub va: VirtAddr,
    pub error: MapError,
}

impl Stopped {
    /// Turns an error into a stop at `va`: for `map_err`.
    pub(crate) fn at<E: Into<MapError>>(va: VirtAddr) -> impl Fn(E) -> Self {
        move |error| Self { va, error: error.into() }
    }
}
