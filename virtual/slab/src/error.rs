//! Why a request was refused.

use core::fmt;

use kernmem_base::{CpuId, Pfn, PhysAddr, VirtAddr};
use kernmem_page_alloc::{AllocError, FreeError};

use crate::{CacheId, Report};

/// Why the slab allocator refused. Unless a variant says otherwise, nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SlabError {
    /// The page allocator has no slab; objects that CPUs keep free do not count.
    NoPages(AllocError),
    /// No block is as large as the request.
    TooLarge {
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// A cache of this size and alignment cannot be.
    BadShape {
        /// Bytes of an object.
        object: u32,
        /// The alignment that was asked for.
        align: u32,
    },
    /// The name is empty, longer than [`crate::NAME_BYTES`], or taken.
    BadName,
    /// All places for caches are taken.
    NoPlace,
    /// There is no such cache, or no longer.
    NoCache(CacheId),
    /// A frame of the page allocator has no record; it was given back.
    NoRecord {
        /// The frame.
        pfn: Pfn,
    },
    /// A frame of the page allocator is not reached by pointer; it was given back.
    NoMemory {
        /// Its address.
        pa: PhysAddr,
    },
    /// The CPU's handle is out already, or its number or node is none of this allocator's.
    BadCpu(CpuId),
    /// The pointer is none of the slab allocator's.
    NotOurs {
        /// The pointer.
        va: VirtAddr,
    },
    /// No object begins there.
    NotAnObject {
        /// The pointer.
        va: VirtAddr,
    },
    /// The object belongs to another cache.
    WrongCache {
        /// The pointer.
        va: VirtAddr,
        /// The cache that was named.
        named: CacheId,
        /// The cache that the object is of.
        owner: CacheId,
    },
    /// The object is free already.
    DoubleFree {
        /// The pointer.
        va: VirtAddr,
    },
    /// A free pointer of the slab leads nowhere. Its free objects are not handed out any more.
    BrokenChain {
        /// The first frame of the slab.
        slab: Pfn,
    },
    /// A check found damage, and repaired it where it could. An object that was to be freed is still in use; a slab
    /// whose free object was damaged is not allocated from any more.
    Corrupt(Report),
    /// The cache has objects that nobody gave back, or that other CPUs keep. The pages of empty slabs are given back.
    ObjectsRemain {
        /// The cache.
        cache: CacheId,
        /// How many.
        objects: u64,
    },
    /// The page allocator refused to take a block back; the slab allocator has no claim on it any more.
    Refused(FreeError),
}

impl fmt::Display for SlabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPages(why) => write!(f, "no pages for a slab: {why}"),
            Self::TooLarge { bytes } => write!(f, "no block has {bytes} bytes"),
            Self::BadShape { object, align } => write!(f, "no cache has objects of {object} bytes aligned to {align}"),
            Self::BadName => f.write_str("the name of the cache is empty, too long or taken"),
            Self::NoPlace => f.write_str("all places for caches are taken"),
            Self::NoCache(cache) => write!(f, "there is no cache {}", cache.index()),
            Self::NoRecord { pfn } => write!(f, "frame {:#x} has no record", pfn.0),
            Self::NoMemory { pa } => write!(f, "no memory is reached at {pa:#x}"),
            Self::BadCpu(cpu) => write!(f, "CPU {} has its handle already, or is none of this machine", cpu.0),
            Self::NotOurs { va } => write!(f, "{va:#x} is no memory of a slab"),
            Self::NotAnObject { va } => write!(f, "no object begins at {va:#x}"),
            Self::WrongCache { va, named, owner } => {
                write!(f, "{va:#x} is an object of cache {}, not {}", owner.index(), named.index())
            }
            Self::DoubleFree { va } => write!(f, "{va:#x} is free already"),
            Self::BrokenChain { slab } => write!(f, "a free pointer in the slab at frame {:#x} leads nowhere", slab.0),
            Self::Corrupt(report) => report.fmt(f),
            Self::ObjectsRemain { cache, objects } => {
                write!(f, "{objects} objects remain in cache {}", cache.index())
            }
            Self::Refused(why) => write!(f, "pages of a slab were not taken back: {why}"),
        }
    }
}

impl core::error::Error for SlabError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NoPages(why) => Some(why),
            Self::Refused(why) => Some(why),
            _ => None,
        }
    }
}
