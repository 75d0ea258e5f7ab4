//! Why an operation on a space stopped, and what it leaves.

use core::fmt;

use kernmem_base::{BusError, NoFrame, VirtAddr};
use kernmem_page_alloc::{AllocError, FreeError};
use kernmem_pgtable::{Failed, MapError};

use crate::CountError;

/// The number that a system call answers with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errno {
    /// EPERM.
    Perm,
    /// ENOMEM.
    NoMem,
    /// EFAULT.
    Fault,
    /// EEXIST.
    Exist,
    /// EINVAL.
    Inval,
}

/// Why a system call was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SpaceError {
    /// A range of no bytes.
    ZeroLength,
    /// An address that is no multiple of the page size.
    Misaligned {
        /// The address.
        va: VirtAddr,
    },
    /// A region wanted there would end past what a program may use.
    Beyond {
        /// Its start.
        va: VirtAddr,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A range to unmap ends past what a program may use.
    Outside {
        /// Its start.
        va: VirtAddr,
        /// Its length in bytes.
        bytes: u64,
    },
    /// The length is no number of pages below 2^64 bytes, or more than the window.
    TooLong {
        /// The length in bytes.
        bytes: u64,
    },
    /// The address is below the lowest that may be mapped.
    BelowMinimum {
        /// The address.
        va: VirtAddr,
    },
    /// Something is mapped there.
    Exists {
        /// The start of the region in the way.
        va: VirtAddr,
    },
    /// No gap is that large.
    NoRoom {
        /// The length in bytes.
        bytes: u64,
    },
    /// The space has as many regions as it may have, or as its store holds.
    TooManyRegions,
    /// No region is there.
    NotMapped {
        /// The first address without one.
        va: VirtAddr,
    },
    /// Memory is short.
    NoMemory(AllocError),
    /// No frame for a table.
    NoFrame(NoFrame),
    /// Memory or its books are damaged.
    Broken(Broken),
}

impl SpaceError {
    /// What a program is told.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::ZeroLength | Self::Misaligned { .. } | Self::Outside { .. } => Errno::Inval,
            Self::BelowMinimum { .. } => Errno::Perm,
            Self::Exists { .. } => Errno::Exist,
            Self::Broken(_) => Errno::Fault,
            Self::Beyond { .. }
            | Self::TooLong { .. }
            | Self::NoRoom { .. }
            | Self::TooManyRegions
            | Self::NotMapped { .. }
            | Self::NoMemory(_)
            | Self::NoFrame(_) => Errno::NoMem,
        }
    }
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroLength => f.write_str("a range of no bytes"),
            Self::Misaligned { va } => write!(f, "{va} is no multiple of the page size"),
            Self::Beyond { va, bytes } | Self::Outside { va, bytes } => {
                write!(f, "{bytes:#x} bytes from {va} end past what a program may use")
            }
            Self::TooLong { bytes } => write!(f, "{bytes:#x} bytes are no length of a region"),
            Self::BelowMinimum { va } => write!(f, "{va} is below the lowest address that may be mapped"),
            Self::Exists { va } => write!(f, "the region at {va} is in the way"),
            Self::NoRoom { bytes } => write!(f, "no gap holds {bytes:#x} bytes"),
            Self::TooManyRegions => f.write_str("the space has too many regions"),
            Self::NotMapped { va } => write!(f, "no region holds {va}"),
            Self::NoMemory(error) => error.fmt(f),
            Self::NoFrame(error) => error.fmt(f),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SpaceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NoMemory(error) => Some(error),
            Self::NoFrame(error) => Some(error),
            Self::Broken(error) => Some(error),
            _ => None,
        }
    }
}

/// Memory does not answer, or tables and counts do not agree: no caller's mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Broken {
    /// Memory does not answer.
    Bus(BusError),
    /// A page was not the allocator's.
    Free(FreeError),
    /// A page's count is wrong.
    Count(CountError),
    /// The tables cannot be changed.
    Tables(MapError),
    /// An entry that is neither empty nor a page of the space.
    Foreign {
        /// Its address.
        va: VirtAddr,
        /// Its bits.
        raw: u64,
    },
    /// A frame number that is no address.
    Frame,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => error.fmt(f),
            Self::Free(error) => error.fmt(f),
            Self::Count(error) => error.fmt(f),
            Self::Tables(error) => error.fmt(f),
            Self::Foreign { va, raw } => write!(f, "the entry {raw:#018x} at {va} is none of the space's"),
            Self::Frame => f.write_str("a frame number past the last address"),
        }
    }
}

impl core::error::Error for Broken {}

macro_rules! broken {
    ($($from:ty => $variant:ident),*) => {$(
        impl From<$from> for Broken {
            fn from(error: $from) -> Self {
                Self::$variant(error)
            }
        }

        impl From<$from> for SpaceError {
            fn from(error: $from) -> Self {
                Self::Broken(Broken::$variant(error))
            }
        }
    )*};
}

broken!(BusError => Bus, FreeError => Free, CountError => Count);

impl From<Broken> for SpaceError {
    fn from(error: Broken) -> Self {
        Self::Broken(error)
    }
}

impl From<MapError> for SpaceError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoFrame(error) => Self::NoFrame(error),
            MapError::Bus(error) => Self::Broken(Broken::Bus(error)),
            error => Self::Broken(Broken::Tables(error)),
        }
    }
}

impl From<AllocError> for SpaceError {
    fn from(error: AllocError) -> Self {
        Self::NoMemory(error)
    }
}

impl From<NoFrame> for SpaceError {
    fn from(error: NoFrame) -> Self {
        Self::NoFrame(error)
    }
}

/// The debt of a change that stopped half-way, apart from its cause.
pub(crate) fn split_failure(failed: Failed) -> (SpaceError, kernmem_pgtable::Stale) {
    (failed.error.into(), failed.stale)
}
