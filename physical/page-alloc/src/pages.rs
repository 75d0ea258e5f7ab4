//! The page allocator as one CPU sees it: what is passed to the layers above.

use kernmem_base::{Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, Order, Pfn, PhysAddr};

use crate::pcp::CpuPages;
use crate::store::Store;
use crate::{AddError, AllocError, FreeError, Gfp, PageAllocator, PageSource};

/// The allocator and the lists of the CPU that asks.
#[derive(Debug)]
pub struct Pages<'a, S: Store> {
    /// The allocator.
    pub allocator: &'a PageAllocator<S>,
    /// The CPU's own lists.
    pub cpu: &'a mut CpuPages<S>,
}

impl<S: Store> PageSource for Pages<'_, S> {
    fn alloc_on(&mut self, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.allocator.alloc(self.cpu, nid, gfp, order)
    }

    fn alloc_bulk(&mut self, gfp: Gfp, out: &mut [Pfn]) -> usize {
        self.allocator.alloc_bulk(self.cpu, None, gfp, out)
    }

    fn alloc_contig(&mut self, nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.allocator.alloc_contig_pages(self.cpu, nid, gfp, frames, frames)
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.allocator.free(self.cpu, pfn, order)
    }

    fn free_bulk(&mut self, frames: &[Pfn]) -> Result<(), FreeError> {
        self.allocator.free_bulk(self.cpu, frames)
    }

    fn free_contig(&mut self, pfn: Pfn, frames: u64) -> Result<(), FreeError> {
        self.allocator.free_contig(self.cpu, pfn, frames)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        let end = pfn.0.checked_add(1).ok_or(FreeError::Foreign { pfn })?;
        self.allocator.free_reserved(self.cpu, pfn, Pfn(end)).map_err(|error| match error {
            AddError::Known { pfn } => FreeError::DoubleFree { pfn },
            AddError::NoZone { .. } | AddError::NoRecords { .. } => FreeError::Foreign { pfn },
        })
    }

    fn nid_of(&self, pfn: Pfn) -> Option<u32> {
        self.allocator.nid_of(pfn)
    }

    fn free_frames(&self) -> u64 {
        self.allocator.free_frames() + self.cpu.total()
    }
}

impl<S: Store> Pages<'_, S> {
    fn granule(&self) -> Granule {
        self.allocator.facts().granule
    }
}

impl<S: Store> FrameSource for Pages<'_, S> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pfn = self.alloc(Gfp::KERNEL | Gfp::ZERO, Order(0)).map_err(|_| NoFrame { level })?;
        let pa = pfn.to_phys(self.granule()).ok_or(NoFrame { level })?;
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        let given = self.free(frame.pfn(self.granule()), Order(0));
        debug_assert!(given.is_ok(), "a table's frame comes from here");
    }
}
