//! How the layers above ask for frames: a source is passed to each call, never stored.

use core::fmt;

use kernmem_base::{Order, Pfn};

use crate::Gfp;

/// A lender of blocks of frames: the page allocator with the cache of one CPU, or a pool.
pub trait PageSource {
    /// Takes a block of `2^order` frames, on node `nid` if there is a wish.
    ///
    /// # Errors
    /// [`AllocError`]; nothing was taken.
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError>;

    /// Takes a block of `2^order` frames.
    ///
    /// # Errors
    /// As [`PageSource::alloc_on`].
    fn alloc(&mut self, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.alloc_on(None, gfp, order)
    }

    /// Takes single frames into `out` until it is full or memory is short; returns how many.
    fn alloc_bulk(&mut self, gfp: Gfp, out: &mut [Pfn]) -> usize {
        for (done, slot) in out.iter_mut().enumerate() {
            match self.alloc(gfp, Order(0)) {
                Ok(pfn) => *slot = pfn,
                Err(_) => return done,
            }
        }
        out.len()
    }

    /// Takes `frames` frames in one piece that starts at a multiple of `frames`, a power of two: what no single block
    /// may hold.
    ///
    /// # Errors
    /// As [`PageSource::alloc_on`].
    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError>;

    /// Gives a block back.
    ///
    /// # Errors
    /// [`FreeError`]: the block was not the caller's; nothing was changed.
    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError>;

    /// Gives back single frames that came one by one, in bulk, or as parts of a block.
    ///
    /// # Errors
    /// The first frame that was not the caller's; those before it are given back.
    fn free_bulk(&mut self, frames: &[Pfn]) -> Result<(), FreeError> {
        frames.iter().try_for_each(|&pfn| self.free(pfn, Order(0)))
    }

    /// Gives back what [`PageSource::alloc_contig`] took.
    ///
    /// # Errors
    /// As [`PageSource::free_bulk`].
    fn free_contig(&mut self, pfn: Pfn, frames: u64) -> Result<(), FreeError> {
        let end = pfn.0.checked_add(frames).ok_or(FreeError::Foreign { pfn })?;
        (pfn.0..end).try_for_each(|frame| self.free(Pfn(frame), Order(0)))
    }

    /// Takes in a frame that boot had kept for itself: from now on it is this source's to give.
    ///
    /// # Errors
    /// [`FreeError`]: it is free, or was given to somebody; nothing was changed.
    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError>;

    /// The node of a frame that came from here; `None` if the source knows of no nodes.
    fn nid_of(&self, _pfn: Pfn) -> Option<u32> {
        None
    }

    /// Frames that could be taken now.
    fn free_frames(&self) -> u64;
}

impl<P: PageSource + ?Sized> PageSource for &mut P {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        (**self).alloc_on(nid, gfp, order)
    }

    fn alloc_bulk(&mut self, gfp: Gfp, out: &mut [Pfn]) -> usize {
        (**self).alloc_bulk(gfp, out)
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        (**self).alloc_contig(nid, gfp, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        (**self).free(pfn, order)
    }

    fn free_bulk(&mut self, frames: &[Pfn]) -> Result<(), FreeError> {
        (**self).free_bulk(frames)
    }

    fn free_contig(&mut self, pfn: Pfn, frames: u64) -> Result<(), FreeError> {
        (**self).free_contig(pfn, frames)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        (**self).adopt(pfn)
    }

    fn nid_of(&self, pfn: Pfn) -> Option<u32> {
        (**self).nid_of(pfn)
    }

    fn free_frames(&self) -> u64 {
        (**self).free_frames()
    }
}

/// Why no frames were given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AllocError {
    /// No zone that the request may use has such a block above its watermark.
    NoMemory {
        /// What was asked.
        gfp: Gfp,
        /// Its size.
        order: Order,
    },
    /// No block is that large.
    TooLarge {
        /// What was asked.
        order: Order,
    },
    /// The request names zones, or kinds of movability, that exclude each other.
    BadGfp(Gfp),
    /// The node does not exist.
    BadNode(u32),
    /// The range is not free, or cannot be made so.
    Busy {
        /// The first frame in the way.
        pfn: Pfn,
    },
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory { gfp, order } => write!(f, "no memory: order {}, gfp {:#x}", order.0, gfp.0),
            Self::TooLarge { order } => write!(f, "no block is as large as order {}", order.0),
            Self::BadGfp(gfp) => write!(f, "gfp {:#x} contradicts itself", gfp.0),
            Self::BadNode(nid) => write!(f, "there is no node {nid}"),
            Self::Busy { pfn } => write!(f, "frame {:#x} is in use", pfn.0),
        }
    }
}

impl core::error::Error for AllocError {}

/// Why a block was not taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FreeError {
    /// It is free already.
    DoubleFree {
        /// The frame.
        pfn: Pfn,
    },
    /// It was taken as a block of another order.
    WrongOrder {
        /// The frame.
        pfn: Pfn,
        /// The order that it was given back with.
        order: Order,
    },
    /// It was never the source's to give.
    Foreign {
        /// The frame.
        pfn: Pfn,
    },
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoubleFree { pfn } => write!(f, "frame {:#x} is free already", pfn.0),
            Self::WrongOrder { pfn, order } => {
                write!(f, "frame {:#x} was not taken as a block of order {}", pfn.0, order.0)
            }
            Self::Foreign { pfn } => write!(f, "frame {:#x} is none of this allocator's", pfn.0),
        }
    }
}

impl core::error::Error for FreeError {}
