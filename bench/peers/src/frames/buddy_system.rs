//! `buddy_system_allocator`: ordered sets of free blocks.

use core::fmt;

use buddy_system_allocator::FrameAllocator;

use super::FramesMut;

/// Its frame allocator, with orders 0 to 10.
pub struct BuddySystem(FrameAllocator<11>);

impl fmt::Debug for BuddySystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuddySystem").finish_non_exhaustive()
    }
}

impl FramesMut for BuddySystem {
    const NAME: &'static str = "buddy_system_allocator";
    const BARE: &'static str = "buddy_system_allocator, no lock";

    fn new(frames: usize) -> Self {
        let mut allocator = FrameAllocator::new();
        allocator.add_frame(0, frames);
        Self(allocator)
    }

    #[inline]
    fn alloc(&mut self, order: u32) -> Option<u64> {
        self.0.alloc(1 << order).map(|pfn| pfn as u64)
    }

    #[inline]
    fn free(&mut self, pfn: u64, order: u32) {
        self.0.dealloc(pfn as usize, 1 << order);
    }
}
