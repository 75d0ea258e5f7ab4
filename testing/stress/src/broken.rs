//! What can be off: the first broken account of a run, and where it was found.

use core::fmt;

use kernmem_base::{Order, Pfn, PhysAddr, VirtAddr};
use kernmem_page_alloc::{AddError, AllocError, FreeError, ZoneKind};
use kernmem_pgtable::{MapError, WalkError};
use kernmem_sparse::MigrateType;

use crate::op::Sort;

/// The first thing that was off in a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The round, counted from 0.
    pub round: u64,
    /// The CPU, and its operation within the round; `None` at a pause.
    pub by: Option<(u32, u32, Sort)>,
    /// What it was.
    pub what: What,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Some((cpu, step, sort)) => {
                write!(f, "round {}, CPU {cpu}, operation {step} ({}): {}", self.round, sort.name(), self.what)
            }
            None => write!(f, "pause after round {}: {}", self.round, self.what),
        }
    }
}

impl core::error::Error for Broken {}

/// An account of a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Account {
    /// Frames that were handed over.
    Managed,
    /// Free frames outside isolated pageblocks.
    Free,
    /// Free frames in CMA pageblocks.
    FreeCma,
    /// Free frames in pageblocks for urgent requests.
    FreeHighAtomic,
    /// Frames of all free blocks.
    InBlocks,
    /// Free blocks of an order.
    Blocks(Order),
    /// Free blocks of an order and a type.
    BlocksOf(Order, MigrateType),
    /// Frames in free blocks of a pageblock's size and more.
    InLargeBlocks,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Managed => f.write_str("managed frames"),
            Self::Free => f.write_str("free frames"),
            Self::FreeCma => f.write_str("free CMA frames"),
            Self::FreeHighAtomic => f.write_str("free frames for urgent requests"),
            Self::InBlocks => f.write_str("frames in free blocks"),
            Self::Blocks(order) => write!(f, "free blocks of order {}", order.0),
            Self::BlocksOf(order, kind) => write!(f, "free blocks of order {}, {}", order.0, kind.name()),
            Self::InLargeBlocks => f.write_str("frames in free blocks of a pageblock and more"),
        }
    }
}

/// What is off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A frame was given that somebody has.
    GivenTwice {
        /// The frame.
        pfn: Pfn,
        /// Its owner by our books.
        owner: u32,
    },
    /// A frame that a CPU has changed hands without it.
    Stolen {
        /// The frame.
        pfn: Pfn,
        /// Its owner by our books.
        owner: u32,
    },
    /// What a CPU wrote into its frame is not there any more.
    Overwritten {
        /// The frame.
        pfn: Pfn,
    },
    /// A block begins where no block of its size may.
    Misplaced {
        /// The block.
        pfn: Pfn,
        /// Its size.
        order: Order,
    },
    /// A frame of a zone, or a node, that the request may not have.
    WrongZone {
        /// The frame.
        pfn: Pfn,
    },
    /// A request failed with an error that it cannot have.
    Alloc(AllocError),
    /// A block that a CPU has was not taken back.
    Free(FreeError),
    /// A block that nobody has, or of another size, was taken back; or it was refused with another reason.
    Accepted {
        /// The block.
        pfn: Pfn,
        /// Its size.
        order: Order,
        /// What was answered.
        answer: Result<(), FreeError>,
    },
    /// Migrate types could not be changed.
    Retype {
        /// The pageblock.
        pfn: Pfn,
    },
    /// Memory did not come back into the allocator.
    Online(AddError),
    /// Two figures that must agree.
    Figures {
        /// The node of the zone.
        nid: u32,
        /// Its kind.
        zone: ZoneKind,
        /// The account.
        account: Account,
        /// By our books.
        ours: u64,
        /// What the allocator says.
        theirs: u64,
    },
    /// A cursor stopped for a reason that it cannot have.
    Map(MapError),
    /// A walk met a table that is none.
    Walk(WalkError),
    /// A page is not mapped to what the book says.
    Page {
        /// Its address.
        va: VirtAddr,
        /// The word of the book.
        booked: u64,
        /// The word that what was found would be.
        found: u64,
    },
    /// A table is linked twice, has a wrong note, or lies in a frame that the tree does not have.
    Table {
        /// The table.
        pa: PhysAddr,
    },
    /// A frame that the tree has is none of its tables.
    LostTable {
        /// The frame.
        pa: PhysAddr,
    },
    /// Tables that were unlinked wait for walks, and nobody walks.
    Waits {
        /// Subtrees.
        subtrees: u64,
    },
    /// Frames that all came back are not all there.
    NotWhole {
        /// The first frame that is missing.
        pfn: Pfn,
    },
    /// The allocator's own checks stopped it.
    Panic(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenTwice { pfn, owner } => {
                write!(f, "frame {:#x} was given while {} has it", pfn.0, crate::owners::name(*owner))
            }
            Self::Stolen { pfn, owner } => {
                write!(
                    f,
                    "frame {:#x} is with {} and not with the CPU that took it",
                    pfn.0,
                    crate::owners::name(*owner)
                )
            }
            Self::Overwritten { pfn } => write!(f, "frame {:#x} does not hold what its owner wrote", pfn.0),
            Self::Misplaced { pfn, order } => write!(f, "no block of order {} begins at {:#x}", order.0, pfn.0),
            Self::WrongZone { pfn } => write!(f, "frame {:#x} is in no zone that may serve the request", pfn.0),
            Self::Alloc(error) => write!(f, "unexpected answer: {error}"),
            Self::Free(error) => write!(f, "a block that the CPU has was refused: {error}"),
            Self::Accepted { pfn, order, answer } => {
                write!(f, "giving back {:#x} as order {}, which nobody has, was answered {answer:?}", pfn.0, order.0)
            }
            Self::Retype { pfn } => write!(f, "the pageblock of {:#x} did not change its type", pfn.0),
            Self::Online(error) => write!(f, "memory that was taken out did not come back: {error}"),
            Self::Figures { nid, zone, account, ours, theirs } => {
                write!(f, "node {nid}, zone {zone}, {account}: {ours} by the books, {theirs} by the allocator")
            }
            Self::Map(error) => write!(f, "a cursor stopped: {error}"),
            Self::Walk(error) => write!(f, "a walk met what is no table: {error}"),
            Self::Page { va, booked, found } => {
                write!(f, "page {va}: {booked:#x} by the book, {found:#x} in the tables")
            }
            Self::Table { pa } => write!(f, "the table at {pa} is linked twice, has a wrong note, or is nobody's"),
            Self::LostTable { pa } => write!(f, "the frame at {pa} was taken for a table and is none"),
            Self::Waits { subtrees } => write!(f, "{subtrees} subtrees wait for walks, and nobody walks"),
            Self::NotWhole { pfn } => write!(f, "everything came back, but frame {:#x} is not free", pfn.0),
            Self::Panic(message) => write!(f, "panic: {message}"),
        }
    }
}
