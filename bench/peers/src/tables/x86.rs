//! `x86_64`: a typed mapper for each page size, and a pass of its own that frees empty tables.
#![allow(unsafe_code)]

use core::fmt;

use kernmem_bench::arena;
use kernmem_bench::tables::{Leaf, Tables};
use x86_64::structures::paging::mapper::{CleanUp, MapperFlush, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

struct Frames;

// SAFETY:
// 1. The arena gives a frame to one taker until it comes back.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    #[inline]
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        arena::take().map(|pa| PhysFrame::containing_address(PhysAddr::new_truncate(pa)))
    }
}

impl FrameDeallocator<Size4KiB> for Frames {
    #[inline]
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        // SAFETY:
        // 1. The mapper took it, and gives it back when nothing links it any more.
        unsafe { arena::give_back(frame.start_address().as_u64()) };
    }
}

/// The mapper over one tree.
pub struct X86(OffsetPageTable<'static>);

impl fmt::Debug for X86 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X86").finish_non_exhaustive()
    }
}

/// What is done with each page of a range.
trait Each {
    fn each<S: PageSize>(&mut self, page: Page<S>)
    where
        OffsetPageTable<'static>: Mapper<S>;
}

fn over<S: PageSize>(va: u64, len: u64, what: &mut impl Each)
where
    OffsetPageTable<'static>: Mapper<S>,
{
    let mut page = Page::<S>::containing_address(VirtAddr::new_truncate(va));
    let end = page + len / S::SIZE;
    while page < end {
        what.each(page);
        page += 1;
    }
}

fn over_leaves(va: u64, len: u64, leaf: Leaf, what: &mut impl Each) {
    match leaf {
        Leaf::Page => over::<Size4KiB>(va, len, what),
        Leaf::M2 => over::<Size2MiB>(va, len, what),
        Leaf::G1 => over::<Size1GiB>(va, len, what),
    }
}

struct Map<'t> {
    tables: &'t mut OffsetPageTable<'static>,
    pa: u64,
}

impl Each for Map<'_> {
    #[inline]
    fn each<S: PageSize>(&mut self, page: Page<S>)
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        let frame = PhysFrame::<S>::containing_address(PhysAddr::new_truncate(self.pa));
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        // SAFETY:
        // 1. Nobody uses this tree as a CPU's: a mapping makes nothing reachable.
        let done = unsafe { self.tables.map_to(page, frame, flags, &mut Frames) };
        done.map(MapperFlush::ignore).ok().expect("a free page");
        self.pa += S::SIZE;
    }
}

struct Protect<'t>(&'t mut OffsetPageTable<'static>);

impl Each for Protect<'_> {
    #[inline]
    fn each<S: PageSize>(&mut self, page: Page<S>)
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        // SAFETY:
        // 1. As in `Map`.
        let done = unsafe { self.0.update_flags(page, PageTableFlags::PRESENT) };
        done.map(|flush| flush.ignore()).expect("a mapped page");
    }
}

struct Unmap<'t>(&'t mut OffsetPageTable<'static>);

impl Each for Unmap<'_> {
    #[inline]
    fn each<S: PageSize>(&mut self, page: Page<S>)
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        self.0.unmap(page).map(|(_, flush)| flush.ignore()).expect("a mapped page");
    }
}

impl Tables for X86 {
    const NAME: &'static str = "x86_64";
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        let root = super::frame() as *mut PageTable;
        // SAFETY:
        // 1. A frame of the arena: 4096 bytes of memory, aligned, this tree's alone from here on, and any bits are a
        //    table.
        let root = unsafe { &mut *root };
        root.zero();
        // SAFETY:
        // 1. Frames are seen at their physical addresses, and all memory that tables can name is mapped.
        Self(unsafe { OffsetPageTable::new(root, VirtAddr::new(0)) })
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf) {
        over_leaves(va, len, leaf, &mut Map { tables: &mut self.0, pa });
    }

    fn protect(&mut self, va: u64, len: u64, leaf: Leaf) {
        over_leaves(va, len, leaf, &mut Protect(&mut self.0));
    }

    fn unmap(&mut self, va: u64, len: u64, leaf: Leaf) {
        over_leaves(va, len, leaf, &mut Unmap(&mut self.0));
        let page = |va| Page::<Size4KiB>::containing_address(VirtAddr::new_truncate(va));
        let range = Page::range_inclusive(page(va), page(va + len - 1));
        // SAFETY:
        // 1. No table is shared with another tree.
        unsafe { self.0.clean_up_addr_range(range, &mut Frames) };
    }

    #[inline]
    fn map_one(&mut self, va: u64, pa: u64) {
        over::<Size4KiB>(va, 4096, &mut Map { tables: &mut self.0, pa });
    }

    #[inline]
    fn unmap_one(&mut self, va: u64) {
        over::<Size4KiB>(va, 4096, &mut Unmap(&mut self.0));
    }

    #[inline]
    fn translate(&self, va: u64) -> Option<u64> {
        match self.0.translate(VirtAddr::new_truncate(va)) {
            TranslateResult::Mapped { frame, offset, .. } => Some(frame.start_address().as_u64() + offset),
            _ => None,
        }
    }
}
