//! Frames for tables from the boot allocator, while there is one.

use kernmem_base::{Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, PhysAddr, PhysRange};
use kernmem_memblock::{Memblock, RegionArray, Request, UpTo};

use crate::{TableFrame, Witness};

/// How the boot allocator is asked for a table.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// Physical memory anywhere up to the limit: the tables of the linear map.
    Anywhere,
    /// Physical memory in a window: the tables of x86's direct map.
    Within(PhysRange),
    /// Zeroed memory by its virtual interface, preferring a place: the tables of vmemmap.
    Node(Request),
    /// As [`Ask::Node`], by the zeroing interface of plain allocations.
    Plain(Request),
}

/// The boot allocator as a source of tables.
pub struct EarlyFrames<'b, A, W> {
    memblock: &'b mut Memblock<A, W>,
    granule: Granule,
    ask: Ask,
}

impl<A, W> core::fmt::Debug for EarlyFrames<'_, A, W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EarlyFrames").field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl<'b, A, W> EarlyFrames<'b, A, W> {
    /// Tables of one page of `granule`, asked for as `ask` says.
    pub fn new(memblock: &'b mut Memblock<A, W>, granule: Granule, ask: Ask) -> Self {
        Self { memblock, granule, ask }
    }
}

impl<A: RegionArray, W: Witness> FrameSource for EarlyFrames<'_, A, W> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let page = self.granule.bytes();
        let pa = match self.ask {
            Ask::Anywhere => self.memblock.phys_alloc_range(page, page, PhysAddr(0), UpTo::NOLEAKTRACE),
            Ask::Within(window) => self.memblock.phys_alloc_range(page, page, window.start, UpTo::from(window.end)),
            Ask::Node(request) => self.memblock.alloc_try_nid_raw(request),
            Ask::Plain(request) => self.memblock.alloc_try_nid(request),
        };
        let pa = pa.map_err(|_| NoFrame { level })?;
        self.memblock.observer().table(&TableFrame { pa, level, origin: FrameOrigin::Memblock });
        Ok(Frame { pa, origin: FrameOrigin::Memblock, zeroed: false })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        // A table that stayed empty: the list of taken memory is as before.
        let _ = self.memblock.phys_free(frame, self.granule.bytes());
    }
}
