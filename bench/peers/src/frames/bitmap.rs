//! `bitmap-allocator`: a tree of masks of 16 bits, lowest number first.
#![allow(unsafe_code)]

use core::fmt;

use bitmap_allocator::{BitAlloc, BitAlloc1M, BitAlloc256M};
use kernmem_bench::frames::FRAMES;
use kernmem_bench::time::wall_seconds;

use super::FramesMut;

/// Its allocator of 2^20 bits.
pub struct Bitmap(Box<BitAlloc1M>);

impl fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bitmap").finish_non_exhaustive()
    }
}

/// A tree without members, straight on the heap: it is too large for a stack.
fn empty<T: BitAlloc>() -> Box<T> {
    // SAFETY:
    // 1. A tree is made of masks of `u16`, and its `DEFAULT` has all of them zero.
    unsafe { Box::<T>::new_zeroed().assume_init() }
}

impl FramesMut for Bitmap {
    const NAME: &'static str = "bitmap-allocator";
    const BARE: &'static str = "bitmap-allocator, no lock";

    fn new(frames: usize) -> Self {
        assert!(frames <= FRAMES, "a tree of 2^20 bits");
        let mut tree: Box<BitAlloc1M> = empty();
        tree.insert(0..frames);
        Self(tree)
    }

    #[inline]
    fn alloc(&mut self, order: u32) -> Option<u64> {
        let taken = match order {
            0 => self.0.alloc(),
            _ => self.0.alloc_contiguous(None, 1 << order, order as usize),
        };
        taken.map(|pfn| pfn as u64)
    }

    #[inline]
    fn free(&mut self, pfn: u64, order: u32) {
        if order == 0 {
            self.0.dealloc(pfn as usize);
        } else {
            self.0.dealloc_contiguous(pfn as usize, 1 << order);
        }
    }

    fn metadata_bytes(&self) -> usize {
        size_of::<BitAlloc1M>()
    }
}

/// Row F9: 2^28 bits are 1 TiB.
pub fn bring_up() -> f64 {
    let mut made = None;
    wall_seconds(|| {
        let mut tree: Box<BitAlloc256M> = empty();
        tree.insert(0..1 << 28);
        made = Some(tree);
    })
}
