//! `page-table-generic`: recursive over ranges, with an entry type that its user brings; frees empty tables.
#![allow(unsafe_code)]

use core::fmt;

use kernmem_bench::arena;
use kernmem_bench::tables::{Leaf, Tables};
use page_table_generic::{FrameAllocator, MapConfig, PageTable, PageTableEntry, PhysAddr, TableMeta, VirtAddr};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 0x80;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry of x86-64.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Entry(u64);

impl PageTableEntry for Entry {
    type PteConfig = u64;

    #[inline]
    fn new_page(pa: PhysAddr, config: u64, huge: bool) -> Self {
        Self(pa.as_usize() as u64 | config | if huge { LARGE } else { 0 })
    }

    #[inline]
    fn new_table(pa: PhysAddr) -> Self {
        Self(pa.as_usize() as u64 | PRESENT | WRITABLE)
    }

    #[inline]
    fn paddr(&self, _dir: bool) -> PhysAddr {
        PhysAddr::from_usize((self.0 & ADDRESS) as usize)
    }

    #[inline]
    fn config(&self, _dir: bool) -> u64 {
        self.0 & !(ADDRESS | LARGE)
    }

    #[inline]
    fn present(&self) -> bool {
        self.0 & PRESENT != 0
    }

    #[inline]
    fn huge(&self, dir: bool) -> bool {
        dir && self.0 & LARGE != 0
    }

    #[inline]
    fn unused(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

#[derive(Clone, Copy)]
struct FourLevels;

impl TableMeta for FourLevels {
    type P = Entry;
    const PAGE_SIZE: usize = 4096;
    const LEVEL_BITS: &[usize] = &[9, 9, 9, 9];
    const MAX_BLOCK_LEVEL: usize = 3;

    #[inline]
    fn flush(_va: Option<VirtAddr>) {}
}

#[derive(Clone, Copy)]
struct Frames;

impl FrameAllocator for Frames {
    #[inline]
    fn alloc_frame(&self) -> Option<PhysAddr> {
        arena::take().map(|pa| PhysAddr::from_usize(pa as usize))
    }

    #[inline]
    fn dealloc_frame(&self, frame: PhysAddr) {
        // SAFETY:
        // 1. The mapper took it, and gives it back when nothing links it any more.
        unsafe { arena::give_back(frame.as_usize() as u64) };
    }

    #[inline]
    fn phys_to_virt(&self, pa: PhysAddr) -> *mut u8 {
        pa.as_usize() as *mut u8
    }
}

/// Its table.
pub struct Generic(PageTable<FourLevels, Frames>);

// SAFETY:
// 1. The table is addresses of frames and no borrow of a thread's; whoever has the value has the frames.
unsafe impl Send for Generic {}

impl fmt::Debug for Generic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generic").finish_non_exhaustive()
    }
}

fn va(va: u64) -> VirtAddr {
    VirtAddr::from_usize(va as usize)
}

fn pa(pa: u64) -> PhysAddr {
    PhysAddr::from_usize(pa as usize)
}

impl Tables for Generic {
    const NAME: &'static str = "page-table-generic";
    const HAS_SPLIT: bool = true;
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        Self(PageTable::new(Frames).expect("a frame for the root"))
    }

    fn map(&mut self, at: u64, to: u64, len: u64, leaf: Leaf) {
        let config = MapConfig {
            vaddr: va(at),
            paddr: pa(to),
            size: len as usize,
            pte: PRESENT | WRITABLE,
            allow_huge: leaf != Leaf::Page,
            flush: false,
        };
        self.0.map(&config).expect("a free range");
    }

    fn protect(&mut self, at: u64, len: u64, _leaf: Leaf) {
        self.0.protect_region(va(at), len as usize, PRESENT).expect("a mapped range");
    }

    fn unmap(&mut self, at: u64, len: u64, _leaf: Leaf) {
        self.0.unmap(va(at), len as usize).expect("a mapped range");
    }

    #[inline]
    fn map_one(&mut self, at: u64, to: u64) {
        self.0.map_page(va(at), pa(to), 4096, PRESENT | WRITABLE).expect("a free page");
    }

    #[inline]
    fn unmap_one(&mut self, at: u64) {
        self.0.unmap_page(va(at)).expect("a mapped page");
    }

    fn split(&mut self, at: u64) {
        self.0.split_huge_page(va(at)).expect("a block");
    }

    #[inline]
    fn translate(&self, at: u64) -> Option<u64> {
        self.0.translate(va(at)).ok().map(|(to, _)| to.as_usize() as u64)
    }
}
