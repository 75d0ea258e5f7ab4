//! A plain source of frames: one range, lowest block first, with a counter that makes the nth request fail.
//!
//! For examples, tests and fault sweeps: it has no zones, no lists and no speed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use kernmem_base::{Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, Order, Pfn, PhysAddr};

use crate::{AllocError, FreeError, Gfp, PageSource};

/// The frames `[start, end)`.
#[derive(Clone, Debug)]
pub struct FramePool {
    start: u64,
    taken: Vec<bool>,
    /// Blocks that were taken, by first frame.
    blocks: BTreeMap<u64, u64>,
    granule: Granule,
    /// Requests that may still succeed.
    left: Option<u64>,
}

impl FramePool {
    /// All frames of the range are free.
    #[must_use]
    pub fn new(granule: Granule, start: Pfn, end: Pfn) -> Self {
        let frames = end.0.saturating_sub(start.0) as usize;
        Self { start: start.0, taken: alloc::vec![false; frames], blocks: BTreeMap::new(), granule, left: None }
    }

    /// Lets `requests` more requests succeed and every later one fail; `None` takes the limit away.
    pub fn fail_after(&mut self, requests: Option<u64>) {
        self.left = requests;
    }

    /// Marks the frames `[from, to)` as boot's own: nobody took them, and they can be taken in by `adopt`.
    pub fn keep(&mut self, from: Pfn, to: Pfn) {
        for pfn in from.0.max(self.start)..to.0.min(self.start + self.taken.len() as u64) {
            self.taken[(pfn - self.start) as usize] = true;
        }
    }

    /// Takes one frame, for a root table or for a test's own use.
    pub fn take_frame(&mut self) -> Option<PhysAddr> {
        self.alloc(Gfp::KERNEL, Order(0)).ok()?.to_phys(self.granule)
    }

    fn take(&mut self, frames: u64) -> Option<Pfn> {
        match &mut self.left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None => {}
        }
        let first = self.start.next_multiple_of(frames);
        let end = self.start + self.taken.len() as u64;
        let mut at = first;
        while at + frames <= end {
            let index = (at - self.start) as usize;
            let block = &mut self.taken[index..index + frames as usize];
            if block.iter().all(|taken| !taken) {
                block.fill(true);
                self.blocks.insert(at, frames);
                return Some(Pfn(at));
            }
            at += frames;
        }
        None
    }

    /// The block that holds `pfn`: first frame and length.
    fn block_of(&self, pfn: Pfn) -> Option<(u64, u64)> {
        let (&first, &held) = self.blocks.range(..=pfn.0).next_back()?;
        (pfn.0 < first + held).then_some((first, held))
    }

    fn give(&mut self, pfn: Pfn, frames: u64, order: Order) -> Result<(), FreeError> {
        let end = self.start + self.taken.len() as u64;
        if pfn.0 < self.start || pfn.0 + frames > end {
            return Err(FreeError::Foreign { pfn });
        }
        let index = (pfn.0 - self.start) as usize;
        if let Some(free) = self.taken[index..index + frames as usize].iter().position(|taken| !taken) {
            return Err(FreeError::DoubleFree { pfn: Pfn(pfn.0 + free as u64) });
        }
        // A taken frame of no block is one that boot kept.
        let (first, held) = self.block_of(pfn).ok_or(FreeError::Foreign { pfn })?;
        // Parts of a block may come back one by one; more than a block may not.
        if pfn.0 + frames > first + held {
            return Err(FreeError::WrongOrder { pfn, order });
        }
        self.blocks.remove(&first);
        if first < pfn.0 {
            self.blocks.insert(first, pfn.0 - first);
        }
        if pfn.0 + frames < first + held {
            self.blocks.insert(pfn.0 + frames, first + held - pfn.0 - frames);
        }
        self.taken[index..index + frames as usize].fill(false);
        Ok(())
    }
}

impl PageSource for FramePool {
    fn alloc_on(&mut self, _nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.take(1 << order.0).ok_or(AllocError::NoMemory { gfp, order })
    }

    fn alloc_contig(&mut self, _nid: Option<u32>, gfp: Gfp, frames: u64) -> Result<Pfn, AllocError> {
        self.take(frames).ok_or(AllocError::NoMemory { gfp, order: Order(frames.ilog2() as u8) })
    }

    fn free(&mut self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.give(pfn, 1 << order.0, order)
    }

    fn adopt(&mut self, pfn: Pfn) -> Result<(), FreeError> {
        let index = pfn.0.checked_sub(self.start).ok_or(FreeError::Foreign { pfn })? as usize;
        if self.block_of(pfn).is_some() {
            return Err(FreeError::WrongOrder { pfn, order: Order(0) });
        }
        match self.taken.get_mut(index) {
            Some(taken) if *taken => {
                *taken = false;
                Ok(())
            }
            Some(_) => Err(FreeError::DoubleFree { pfn }),
            None => Err(FreeError::Foreign { pfn }),
        }
    }

    fn free_frames(&self) -> u64 {
        self.taken.iter().filter(|taken| !**taken).count() as u64
    }
}

impl FrameSource for FramePool {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pa = self.take_frame().ok_or(NoFrame { level })?;
        Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        let given = self.free(frame.pfn(self.granule), Order(0));
        debug_assert!(given.is_ok(), "a table's frame comes from here");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_whole_or_in_parts_and_once() {
        let mut pool = FramePool::new(Granule::K4, Pfn(3), Pfn(16));
        let block = pool.alloc(Gfp::KERNEL, Order(2)).unwrap();
        assert_eq!(block, Pfn(4));
        assert_eq!(pool.free(Pfn(5), Order(0)), Ok(()));
        assert_eq!(pool.free(Pfn(5), Order(0)), Err(FreeError::DoubleFree { pfn: Pfn(5) }));
        assert_eq!(pool.free(Pfn(2), Order(0)), Err(FreeError::Foreign { pfn: Pfn(2) }));
        assert_eq!(pool.free(Pfn(4), Order(0)).and(pool.free(Pfn(6), Order(1))), Ok(()));
        assert_eq!(pool.free_frames(), 13);
        pool.keep(Pfn(10), Pfn(12));
        assert_eq!(pool.free(Pfn(10), Order(0)), Err(FreeError::Foreign { pfn: Pfn(10) }));
        assert_eq!(pool.adopt(Pfn(10)), Ok(()));
        assert_eq!(pool.adopt(Pfn(10)), Err(FreeError::DoubleFree { pfn: Pfn(10) }));
        assert_eq!(pool.free_frames(), 12);
        pool.fail_after(Some(1));
        assert!(pool.alloc(Gfp::KERNEL, Order(0)).is_ok());
        assert_eq!(pool.alloc(Gfp::KERNEL, Order(0)), Err(AllocError::NoMemory { gfp: Gfp::KERNEL, order: Order(0) }));
    }
}
