//! What a call on a space works with: memory, frames, TLBs, counts. Passed to each call, never stored.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use kernmem_base::{Era, Frame, FrameSource, Granule, Level, NoFrame, Order, Pfn, PhysAddr, PhysMem, PhysRange, Tlb};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::{Broken, PageCounts, SpaceError};

/// What a call works with.
pub struct Env<'e, M, P, T, C> {
    /// Tables and pages.
    pub mem: &'e M,
    /// Frames for pages, and for tables.
    pub frames: &'e mut P,
    /// How a flush is paid.
    pub tlb: &'e mut T,
    /// How often each page is mapped.
    pub counts: &'e mut C,
    /// The page of zeros that every read of untouched memory sees.
    pub zero_page: PhysAddr,
    /// The rules of which kernel.
    pub era: Era,
}

impl<M, P, T, C> fmt::Debug for Env<'_, M, P, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("zero_page", &self.zero_page).field("era", &self.era).finish_non_exhaustive()
    }
}

impl<M: PhysMem, P: PageSource + FrameSource, T: Tlb, C: PageCounts> Env<'_, M, P, T, C> {
    /// Takes a page for a program, exclusive to one entry, its bytes undefined.
    pub(crate) fn take_page(&mut self, granule: Granule) -> Result<PhysAddr, SpaceError> {
        let pfn = self.frames.alloc(Gfp::HIGHUSER_MOVABLE, Order(0))?;
        if let Err(error) = self.counts.start(pfn) {
            self.frames.free(pfn, Order(0))?;
            return Err(error.into());
        }
        pfn.to_phys(granule).ok_or(SpaceError::Broken(Broken::Frame))
    }

    /// Takes a page of zeros.
    pub(crate) fn take_zeroed(&mut self, granule: Granule) -> Result<PhysAddr, SpaceError> {
        let page = self.take_page(granule)?;
        match self.mem.zero(PhysRange::new(page, page + granule.bytes())) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.put_page(page.pfn(granule))?;
                Err(error.into())
            }
        }
    }

    /// Takes a page with the bytes of another.
    pub(crate) fn take_copy(&mut self, granule: Granule, of: PhysAddr) -> Result<PhysAddr, SpaceError> {
        let page = self.take_page(granule)?;
        match copy_page(self.mem, granule, of, page) {
            Ok(()) => Ok(page),
            Err(error) => {
                self.put_page(page.pfn(granule))?;
                Err(error)
            }
        }
    }

    /// Takes one entry off a page's count; a page that nothing maps any more goes back.
    pub(crate) fn put_page(&mut self, pfn: Pfn) -> Result<(), SpaceError> {
        if self.counts.put(pfn)? == 0 {
            self.frames.free(pfn, Order(0))?;
        }
        Ok(())
    }
}

/// Copies one page, word by word.
fn copy_page<M: PhysMem>(mem: &M, granule: Granule, from: PhysAddr, to: PhysAddr) -> Result<(), SpaceError> {
    let words = (granule.bytes() / 8) as usize;
    let source = mem.table::<AtomicU64>(from, words)?;
    let target = mem.table_mut::<AtomicU64>(to, words)?;
    for (source, target) in source.iter().zip(target) {
        // Relaxed on both sides: the new page is published by its entry, and the old one is write protected.
        target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(())
}

/// A source of frames that counts the bytes of the tables below the root.
pub(crate) struct Counted<'a, P> {
    pub frames: &'a mut P,
    pub bytes: &'a mut u64,
    pub granule: Granule,
}

impl<P: FrameSource> FrameSource for Counted<'_, P> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let frame = self.frames.take(level)?;
        *self.bytes += self.granule.bytes();
        Ok(frame)
    }

    fn give_back(&mut self, frame: PhysAddr) {
        *self.bytes -= self.granule.bytes();
        self.frames.give_back(frame);
    }
}
