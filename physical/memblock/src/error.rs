//! Why an operation on memblock failed.

use core::fmt;

use kernmem_base::{Era, PhysAddr};

use crate::{Flags, ListKind, Nid, UpTo};

/// Why an operation failed. The lists are as they were before it, except that a list may have grown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MemblockError {
    /// The list is full and may not grow yet. Linux from 6.12 on panics here.
    CannotResize {
        /// The full list.
        list: ListKind,
        /// Regions that fit.
        capacity: usize,
    },
    /// The list is full and no free memory is left for a larger one.
    NoRoomForArray {
        /// The full list.
        list: ListKind,
        /// Regions that the larger list would have held.
        entries: usize,
    },
    /// The list is full and its storage has a fixed size.
    FixedArray {
        /// The full list.
        list: ListKind,
        /// Regions that fit.
        capacity: usize,
    },
    /// No free memory satisfies the request.
    NoMemory {
        /// Bytes asked for.
        size: u64,
        /// Alignment asked for, in bytes.
        align: u64,
        /// Lowest address asked for.
        from: PhysAddr,
        /// Upper bound asked for.
        max: UpTo,
        /// Node asked for.
        nid: Option<Nid>,
    },
    /// An alignment that is no power of two.
    BadAlignment {
        /// Alignment asked for, in bytes.
        align: u64,
    },
    /// A flag that the era does not have.
    UnknownFlag {
        /// The flags asked for.
        flags: Flags,
        /// The era.
        era: Era,
    },
}

impl fmt::Display for MemblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotResize { list, capacity } => {
                write!(f, "the {} list holds {capacity} regions and may not grow yet", list.name())
            }
            Self::NoRoomForArray { list, entries } => {
                write!(f, "no free memory for a {} list of {entries} regions", list.name())
            }
            Self::FixedArray { list, capacity } => {
                write!(f, "the {} list is fixed at {capacity} regions", list.name())
            }
            Self::NoMemory { size, align, from, max, nid } => {
                write!(f, "no {size} free bytes aligned to {align:#x} from {from} up to {:#x}", max.0)?;
                nid.map_or(Ok(()), |nid| write!(f, " on node {}", nid.0))
            }
            Self::BadAlignment { align } => write!(f, "alignment {align:#x} is no power of two"),
            Self::UnknownFlag { flags, era } => {
                write!(f, "region flags {:#x} do not exist in {era}", flags.bits())
            }
        }
    }
}

impl core::error::Error for MemblockError {}
