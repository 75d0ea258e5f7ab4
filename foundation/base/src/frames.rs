//! Where frames for page tables come from: a source is passed to each call, never stored.

use core::fmt;

use crate::{Level, PhysAddr};

/// Who gave a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum FrameOrigin {
    /// Part of the kernel image, or of a buffer set aside inside it.
    Image,
    /// The boot allocator.
    Memblock,
    /// The page allocator.
    PageAllocator,
}

/// A page frame that now belongs to the taker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// First byte, a multiple of the granule.
    pub pa: PhysAddr,
    /// Who gave it.
    pub origin: FrameOrigin,
    /// Whether every byte is known to be zero; otherwise the taker clears what it does not write.
    pub zeroed: bool,
}

/// A lender of frames for page tables.
pub trait FrameSource {
    /// Takes one frame for a table of `level`.
    ///
    /// # Errors
    /// [`NoFrame`]; the source is unchanged then.
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame>;

    /// Takes back a frame that no TLB and no walker can reach any more.
    fn give_back(&mut self, frame: PhysAddr);

    /// Takes back many such frames at once, in this order.
    #[inline]
    fn give_back_all(&mut self, frames: &[PhysAddr]) {
        frames.iter().for_each(|frame| self.give_back(*frame));
    }
}

impl<T: FrameSource + ?Sized> FrameSource for &mut T {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        (**self).take(level)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        (**self).give_back(frame);
    }

    fn give_back_all(&mut self, frames: &[PhysAddr]) {
        (**self).give_back_all(frames);
    }
}

/// The source has no frame left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoFrame {
    /// The level the table was wanted for.
    pub level: Level,
}

impl fmt::Display for NoFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no frame left for a {} table", self.level)
    }
}

impl core::error::Error for NoFrame {}
