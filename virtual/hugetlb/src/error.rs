//! Why an operation on huge pages failed.

use core::fmt;

use kernmem_base::{BusError, Pfn, VirtAddr};
use kernmem_page_alloc::{AllocError, FreeError};
use kernmem_pgtable::{Failed, MapError};

/// Why descriptors could not be shared or given frames of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HvoError {
    /// The descriptors of such a page fill no more than one page: nothing can be saved.
    TooSmall,
    /// A descriptor's size is no power of two, or the descriptors do not start at a page.
    Misaligned {
        /// Where they start.
        start: VirtAddr,
    },
    /// No frame for a table or for descriptors.
    NoMemory {
        /// Frames that were wanted.
        wanted: u64,
        /// Frames that were there.
        got: u64,
    },
    /// The tables say something else than expected.
    Map(MapError),
    /// Descriptors lie where no memory answers.
    Bus(BusError),
}

impl fmt::Display for HvoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall => f.write_str("the descriptors of such a page fill one page at most"),
            Self::Misaligned { start } => write!(f, "the descriptors at {start} do not fill whole pages"),
            Self::NoMemory { wanted, got } => write!(f, "{got} of {wanted} frames for descriptors"),
            Self::Map(error) => write!(f, "descriptors: {error}"),
            Self::Bus(error) => write!(f, "descriptors: {error}"),
        }
    }
}

impl core::error::Error for HvoError {}

impl From<MapError> for HvoError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoFrame(_) => Self::NoMemory { wanted: 1, got: 0 },
            error => Self::Map(error),
        }
    }
}

impl From<Failed> for HvoError {
    /// Only operations that leave no debt behind on failure are used here.
    fn from(failed: Failed) -> Self {
        failed.stale.forgive("the operation changed nothing");
        failed.error.into()
    }
}

impl From<BusError> for HvoError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

/// Why a pool could not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// No page of the pool is free, or the free ones are reserved.
    Empty,
    /// The page is not one of the pool's that somebody took.
    NotTaken {
        /// The page.
        pfn: Pfn,
    },
    /// The page starts at no multiple of its size.
    Misaligned {
        /// Where it starts.
        pfn: Pfn,
    },
    /// The page is in the pool already.
    Present {
        /// The page.
        pfn: Pfn,
    },
    /// The list of the pool is full.
    ListFull,
    /// The page allocator had none.
    Alloc(AllocError),
    /// The page allocator did not take a page back.
    Free(FreeError),
    /// The page's descriptors could not be made whole, so the page stays.
    Restore(HvoError),
    /// A descriptor could not be written.
    Bus(BusError),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no huge page is free"),
            Self::NotTaken { pfn } => write!(f, "frame {:#x} starts no huge page that was taken", pfn.0),
            Self::Misaligned { pfn } => write!(f, "frame {:#x} starts no huge page of this size", pfn.0),
            Self::Present { pfn } => write!(f, "the huge page at frame {:#x} is in the pool", pfn.0),
            Self::ListFull => f.write_str("the pool's list is full"),
            Self::Alloc(error) => error.fmt(f),
            Self::Free(error) => error.fmt(f),
            Self::Restore(error) => error.fmt(f),
            Self::Bus(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PoolError {}

impl From<AllocError> for PoolError {
    fn from(error: AllocError) -> Self {
        Self::Alloc(error)
    }
}

impl From<FreeError> for PoolError {
    fn from(error: FreeError) -> Self {
        Self::Free(error)
    }
}

impl From<BusError> for PoolError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}
