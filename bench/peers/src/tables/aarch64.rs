//! `aarch64-paging`: a recursive walk over pieces of a range; whole subtrees are dropped by one invalid entry.
#![allow(unsafe_code)]

use core::fmt;
use core::ptr::NonNull;

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El1And0, MemoryRegion, PageTable, Translation, VaRange};
use kernmem_bench::arena;
use kernmem_bench::tables::{Leaf, Tables};

struct Frames;

impl Translation<El1Attributes> for Frames {
    #[inline]
    fn allocate_table(&mut self) -> (NonNull<PageTable<El1Attributes>>, PhysicalAddress) {
        let pa = super::frame() as usize;
        let table = NonNull::new(pa as *mut PageTable<El1Attributes>).expect("no frame at zero");
        // SAFETY:
        // 1. A frame of the arena: 4096 bytes of memory, aligned, the taker's alone.
        unsafe { table.cast::<u64>().write_bytes(0, 512) };
        (table, PhysicalAddress(pa))
    }

    #[inline]
    unsafe fn deallocate_table(&mut self, table: NonNull<PageTable<El1Attributes>>) {
        // SAFETY:
        // 1. The mapper took it, and gives it back when nothing links it any more.
        unsafe { arena::give_back(table.addr().get() as u64) };
    }

    #[inline]
    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<El1Attributes>> {
        NonNull::new(pa.0 as *mut _).expect("no table at zero")
    }
}

/// Its mapping, never active.
pub struct Aarch64(Mapping<Frames, El1And0>);

// SAFETY:
// 1. The mapping is addresses of frames and no borrow of a thread's; whoever has the value has the frames.
unsafe impl Send for Aarch64 {}

impl fmt::Debug for Aarch64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aarch64").finish_non_exhaustive()
    }
}

const DATA: El1Attributes =
    El1Attributes::VALID.union(El1Attributes::ACCESSED).union(El1Attributes::INNER_SHAREABLE).union(El1Attributes::UXN);

/// Pages alone, no contiguous marks: what the row asks of everybody.
const PAGES: Constraints = Constraints::NO_BLOCK_MAPPINGS.union(Constraints::NO_CONTIGUOUS_HINT);

fn region(va: u64, len: u64) -> MemoryRegion {
    MemoryRegion::new(va as usize, (va + len) as usize)
}

impl Aarch64 {
    fn set(&mut self, va: u64, pa: u64, len: u64, flags: El1Attributes, constraints: Constraints) {
        let to = PhysicalAddress(pa as usize);
        self.0.map_range(&region(va, len), to, flags, constraints).expect("a range");
    }

    fn add_flags(&mut self, va: u64, len: u64, flags: El1Attributes) {
        let change = self.0.modify_range(&region(va, len), &|_, entry| {
            if entry.is_table() { Ok(()) } else { entry.modify_flags(flags, El1Attributes::empty()) }
        });
        change.expect("a mapped range");
    }
}

impl Tables for Aarch64 {
    const NAME: &'static str = "aarch64-paging";
    const HAS_SPLIT: bool = true;
    const UNMAP_FREES: bool = true;

    fn new() -> Self {
        Self(Mapping::with_asid_and_va_range(Frames, 1, 0, El1And0, VaRange::Lower))
    }

    fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf) {
        let constraints = if leaf == Leaf::Page { PAGES } else { Constraints::NO_CONTIGUOUS_HINT };
        self.set(va, pa, len, DATA, constraints);
    }

    fn protect(&mut self, va: u64, len: u64, _leaf: Leaf) {
        self.add_flags(va, len, El1Attributes::READ_ONLY);
    }

    /// Without flags a range is written with invalid entries of the largest size that fits.
    fn unmap(&mut self, va: u64, len: u64, _leaf: Leaf) {
        self.set(va, 0, len, El1Attributes::empty(), Constraints::empty());
    }

    #[inline]
    fn map_one(&mut self, va: u64, pa: u64) {
        self.set(va, pa, 4096, DATA, PAGES);
    }

    #[inline]
    fn unmap_one(&mut self, va: u64) {
        self.set(va, 0, 4096, El1Attributes::empty(), Constraints::NO_BLOCK_MAPPINGS);
    }

    /// It splits where an edge of a range falls into a block: the first page is written with the flags that it has.
    fn split(&mut self, va: u64) {
        self.add_flags(va, 4096, El1Attributes::ACCESSED);
    }

    #[inline]
    fn translate(&self, va: u64) -> Option<u64> {
        let mut found = None;
        let walk = self.0.walk_range(&region(va & !0xfff, 4096), &mut |_, entry, level| {
            if entry.is_valid() && (level == 3 || !entry.is_table_or_page()) {
                let inside = (1u64 << (39 - 9 * level as u64)) - 1;
                found = Some(entry.output_address().0 as u64 & !inside | va & inside);
            }
            Ok(())
        });
        walk.ok()?;
        found
    }
}
