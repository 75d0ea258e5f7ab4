//! `buddy-slab-allocator`: its page half, with a record of 12 bytes for each page.
#![allow(unsafe_code)]

use core::fmt;

use buddy_slab_allocator::BuddyAllocator;
use kernmem_bench::host::Region;

use super::FramesMut;

/// The allocator. Its records lie at the start of the memory that it manages, so it gets a region of real addresses,
/// whose pages nobody touches.
pub struct BuddySlab {
    allocator: BuddyAllocator<4096>,
    region: Region,
    /// Number of its first frame.
    first: u64,
}

impl fmt::Debug for BuddySlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuddySlab").field("first", &self.first).finish_non_exhaustive()
    }
}

impl FramesMut for BuddySlab {
    const NAME: &'static str = "buddy-slab-allocator";
    const BARE: &'static str = "buddy-slab-allocator, no lock";

    fn new(frames: usize) -> Self {
        let region = Region::new(frames << 12, false).expect("addresses for the pool");
        let mut allocator = BuddyAllocator::new();
        // SAFETY:
        // 1. The region is readable and writable, and nothing else reaches it while the allocator has it: it is moved
        //    into the same value.
        let memory = unsafe { core::slice::from_raw_parts_mut(region.base().as_ptr(), region.bytes()) };
        // SAFETY:
        // 1. The memory lives as long as the allocator, as above.
        unsafe { allocator.init(memory) }.expect("a pool");
        // Blocks are aligned from where the records end, off the grid of 2 MiB: frames are numbered from there.
        let first = allocator.section(0).expect("one section").start as u64 >> 12;
        Self { allocator, region, first }
    }

    #[inline]
    fn alloc(&mut self, order: u32) -> Option<u64> {
        let at = self.allocator.alloc_pages(1 << order, 4096).ok()?;
        Some((at as u64 >> 12) - self.first)
    }

    #[inline]
    fn free(&mut self, pfn: u64, order: u32) {
        self.allocator.dealloc_pages(((pfn + self.first) << 12) as usize, 1 << order);
    }

    fn metadata_bytes(&self) -> usize {
        self.region.bytes() - self.allocator.managed_bytes()
    }

    fn usable(frames: usize) -> usize {
        frames - frames * 12 / 4096 - 8
    }
}
