//! Why an operation on areas failed, and which invariant an audit found broken.

use core::fmt;

use kernmem_base::{BusError, Granule, Pfn, VirtAddr};
use kernmem_page_alloc::FreeError;
use kernmem_pgtable::MapError;

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VmallocError {
    /// Nothing was asked for.
    Zero,
    /// More than all memory, or more than there are addresses.
    TooLarge {
        /// Bytes.
        size: u64,
    },
    /// The alignment is no power of two.
    BadAlign {
        /// Bytes.
        align: u64,
    },
    /// The range is empty, or does not start at a page above 0.
    BadRange {
        /// First address.
        start: VirtAddr,
        /// One past the last one.
        end: VirtAddr,
    },
    /// No hole of the range fits, not even after a purge.
    NoSpace {
        /// Bytes, with the guard page.
        size: u64,
        /// First address.
        start: VirtAddr,
        /// One past the last one.
        end: VirtAddr,
    },
    /// The store has no node.
    NoNode,
    /// The lent list is too short for the frames of the area.
    NoList {
        /// Frames.
        wanted: u64,
        /// Places.
        lent: u64,
    },
    /// The source ran out of pages.
    NoPages {
        /// Pages that it gave; they are given back.
        got: u64,
        /// Pages of the area.
        wanted: u64,
    },
    /// The range is taken.
    Overlap {
        /// Start of what is there.
        start: VirtAddr,
    },
    /// The address is no multiple of the page size.
    Misaligned {
        /// The address.
        addr: VirtAddr,
    },
    /// No area holds the address.
    Nonexistent {
        /// The address.
        addr: VirtAddr,
    },
    /// The address is inside an area, not at its start.
    Inside {
        /// The address.
        addr: VirtAddr,
        /// Where the area starts.
        start: VirtAddr,
    },
    /// The area's pages belong to it: they would be lost.
    Owned {
        /// Where the area starts.
        start: VirtAddr,
    },
    /// What is to be mapped as a device is memory, which has a mapping of another type already.
    Memory {
        /// The first frame in the way.
        pfn: Pfn,
    },
    /// The tables have another page size than the areas.
    BadGranule {
        /// That of the tables.
        tables: Granule,
    },
    /// The tables refused; `NoFrame` is among the reasons.
    Map(MapError),
    /// A table cannot be read.
    Bus(BusError),
    /// The source refused a page of the area; every other one went back.
    Free(FreeError),
}

impl From<MapError> for VmallocError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<BusError> for VmallocError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl fmt::Display for VmallocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("no bytes were asked for"),
            Self::TooLarge { size } => write!(f, "{size} bytes are more than there can be"),
            Self::BadAlign { align } => write!(f, "alignment {align} is no power of two"),
            Self::BadRange { start, end } => write!(f, "[{start}, {end}) is no range of pages"),
            Self::NoSpace { size, start, end } => write!(f, "no hole for {size} bytes in [{start}, {end})"),
            Self::NoNode => f.write_str("no memory for a node"),
            Self::NoList { wanted, lent } => write!(f, "{wanted} frames do not fit a list of {lent}"),
            Self::NoPages { got, wanted } => write!(f, "{got} of {wanted} pages were given"),
            Self::Overlap { start } => write!(f, "the range overlaps what starts at {start}"),
            Self::Misaligned { addr } => write!(f, "{addr} is not the start of a page"),
            Self::Nonexistent { addr } => write!(f, "no area holds {addr}"),
            Self::Inside { addr, start } => write!(f, "{addr} lies inside the area at {start}"),
            Self::Owned { start } => write!(f, "the area at {start} owns its pages"),
            Self::Memory { pfn } => write!(f, "frame {:#x} is memory and no device", pfn.0),
            Self::BadGranule { tables } => write!(f, "the tables have pages of {} bytes", tables.bytes()),
            Self::Map(_) => f.write_str("the tables cannot be changed"),
            Self::Bus(_) => f.write_str("a table cannot be read"),
            Self::Free(_) => f.write_str("a page was not taken back"),
        }
    }
}

impl core::error::Error for VmallocError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Map(error) => Some(error),
            Self::Bus(error) => Some(error),
            Self::Free(error) => Some(error),
            _ => None,
        }
    }
}

/// An invariant that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Broken {
    /// A root is red or hangs below something.
    Root,
    /// A node does not know the largest range below it.
    Max {
        /// Its start.
        at: VirtAddr,
    },
    /// A child names another parent.
    Parent {
        /// Start of the parent.
        at: VirtAddr,
    },
    /// A red node has a red child.
    RedRed {
        /// Its start.
        at: VirtAddr,
    },
    /// Two ways down have different numbers of black nodes.
    Black {
        /// Start of the node where they part.
        at: VirtAddr,
    },
    /// An address is in no range.
    Cover {
        /// The address.
        at: VirtAddr,
    },
    /// A range touches its like.
    Unmerged {
        /// Its start.
        at: VirtAddr,
    },
    /// Nodes were lost or are in two trees.
    Nodes {
        /// Nodes in trees.
        linked: usize,
        /// Nodes handed out.
        used: usize,
    },
    /// The count of lazily freed bytes is wrong.
    Lazy {
        /// Bytes in the tree.
        bytes: u64,
        /// Bytes counted.
        counted: u64,
    },
    /// An area and its range differ.
    Area {
        /// Start of the range.
        at: VirtAddr,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("a root is red or hangs below something"),
            Self::Max { at } => write!(f, "the node at {at} does not know its largest range"),
            Self::Parent { at } => write!(f, "a child of the node at {at} names another parent"),
            Self::RedRed { at } => write!(f, "the red node at {at} has a red child"),
            Self::Black { at } => write!(f, "the ways below {at} differ in black nodes"),
            Self::Cover { at } => write!(f, "{at} is in no range"),
            Self::Unmerged { at } => write!(f, "the range at {at} touches its like"),
            Self::Nodes { linked, used } => write!(f, "{linked} nodes are linked, {used} are in use"),
            Self::Lazy { bytes, counted } => write!(f, "{bytes} bytes are lazily freed, {counted} are counted"),
            Self::Area { at } => write!(f, "the area at {at} differs from its range"),
        }
    }
}

impl core::error::Error for Broken {}
