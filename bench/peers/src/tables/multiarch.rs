//! `page_table_multiarch`: a walk from the root for each page; its cursor gathers addresses to flush.
#![allow(unsafe_code)]

use core::fmt;

use kernmem_bench::arena;
use kernmem_bench::tables::{Leaf, Tables};
use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::x86_64::X64PageTable;
use page_table_multiarch::{MappingFlags, PageSize, PagingHandler};

struct Handler;

impl PagingHandler for Handler {
    #[inline]
    fn alloc_frames(_count: usize, _align: usize) -> Option<PhysAddr> {
        arena::take().map(|pa| PhysAddr::from(pa as usize))
    }

    #[inline]
    fn dealloc_frames(pa: PhysAddr, _count: usize) {
        // SAFETY:
        // 1. The mapper took it, and gives it back when nothing links it any more.
        unsafe { arena::give_back(pa.as_usize() as u64) };
    }

    #[inline]
    fn phys_to_virt(pa: PhysAddr) -> VirtAddr {
        VirtAddr::from(pa.as_usize())
    }
}

/// Its table of x86-64.
pub struct Multiarch(X64PageTable<Handler>);

// SAFETY:
// 1. The table is addresses of frames and no borrow of a thread's; whoever has the value has the frames.
unsafe impl Send for Multiarch {}

impl fmt::Debug for Multiarch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiarch").finish_non_exhaustive()
    }
}

const DATA: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

fn va(va: u64) -> VirtAddr {
    VirtAddr::from(va as usize)
}

fn pa(pa: u64) -> PhysAddr {
    PhysAddr::from(pa as usize)
}

impl Tables for Multiarch {
    const NAME: &'static str = "page_table_multiarch";

    fn new() -> Self {
        Self(X64PageTable::try_new().expect("a frame for the root"))
    }

    fn map(&mut self, at: u64, to: u64, len: u64, leaf: Leaf) {
        let apart = to.wrapping_sub(at) as usize;
        let to = |at: VirtAddr| PhysAddr::from(at.as_usize().wrapping_add(apart));
        self.0.cursor().map_region(va(at), to, len as usize, DATA, leaf != Leaf::Page).expect("a free range");
    }

    fn protect(&mut self, at: u64, len: u64, _leaf: Leaf) {
        self.0.cursor().protect_region(va(at), len as usize, MappingFlags::READ).expect("a mapped range");
    }

    fn unmap(&mut self, at: u64, len: u64, _leaf: Leaf) {
        self.0.cursor().unmap_region(va(at), len as usize).expect("a mapped range");
    }

    #[inline]
    fn map_one(&mut self, at: u64, to: u64) {
        self.0.cursor().map(va(at), pa(to), PageSize::Size4K, DATA).expect("a free page");
    }

    #[inline]
    fn unmap_one(&mut self, at: u64) {
        self.0.cursor().unmap(va(at)).expect("a mapped page");
    }

    fn map_run(&mut self, at: u64, pas: &[u64]) {
        let mut cursor = self.0.cursor();
        for (page, &to) in (0..).zip(pas) {
            cursor.map(va(at + (page << 12)), pa(to), PageSize::Size4K, DATA).expect("a free page");
        }
    }

    fn unmap_run(&mut self, at: u64, n: usize) {
        let mut cursor = self.0.cursor();
        for page in 0..n as u64 {
            cursor.unmap(va(at + (page << 12))).expect("a mapped page");
        }
    }

    #[inline]
    fn translate(&self, at: u64) -> Option<u64> {
        self.0.query(va(at)).ok().map(|(to, _, _)| to.as_usize() as u64)
    }
}
