//! One area, what is asked for, and the flags of both.
//!
//! Source: Linux 6.1 include/linux/vmalloc.h `struct vm_struct`.

use core::ops::BitOr;

use kernmem_base::{Granule, Order, PhysAddr, VirtAddr, VirtRange};
use kernmem_page_alloc::Gfp;

/// Linux's flags of an area.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VmFlags(pub u32);

impl VmFlags {
    /// A window on device memory; forces natural alignment.
    pub const IOREMAP: Self = Self(0x1);
    /// Made by the vmalloc family.
    pub const ALLOC: Self = Self(0x2);
    /// Pages of somebody else's.
    pub const MAP: Self = Self(0x4);
    /// May be mapped for a program.
    pub const USERMAP: Self = Self(0x8);
    /// Memory of a device, mapped again.
    pub const DMA_COHERENT: Self = Self(0x10);
    /// Still being built.
    pub const UNINITIALIZED: Self = Self(0x20);
    /// No guard page behind the area.
    pub const NO_GUARD: Self = Self(0x40);
    /// Has shadow of its own.
    pub const KASAN: Self = Self(0x80);
    /// Reset the linear map's rights when the area is freed.
    pub const FLUSH_RESET_PERMS: Self = Self(0x100);
    /// `vfree` of mapped pages gives them back (5.10 and later).
    pub const MAP_PUT_PAGES: Self = Self(0x200);
    /// Blocks may be used (6.1 and later).
    pub const ALLOW_HUGE_VMAP: Self = Self(0x400);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for VmFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Who asked for an area: a small number that its giver can turn into a symbol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Caller(pub u32);

/// A busy area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// First byte.
    pub start: VirtAddr,
    /// Bytes, with the guard page.
    pub size: u64,
    /// Kind and properties.
    pub flags: VmFlags,
    /// Who asked.
    pub caller: Caller,
    /// Base pages that belong to the area and go with it; 0 if they are somebody else's.
    pub nr_pages: u64,
    /// The blocks in which those pages were taken.
    pub page_order: Order,
    /// Device memory behind the area.
    pub phys: Option<PhysAddr>,
    /// The area that stands for the array of page pointers, where that is larger than a page (`vpages`).
    pub array: Option<VirtAddr>,
}

impl Area {
    /// An area without pages.
    #[must_use]
    pub const fn new(start: VirtAddr, size: u64, flags: VmFlags, caller: Caller) -> Self {
        Self { start, size, flags, caller, nr_pages: 0, page_order: Order(0), phys: None, array: None }
    }

    /// Bytes that may be mapped: all but the guard page.
    #[must_use]
    pub const fn usable(&self, granule: Granule) -> u64 {
        if self.flags.contains(VmFlags::NO_GUARD) { self.size } else { self.size.saturating_sub(granule.bytes()) }
    }

    /// The addresses that may be mapped; `None` if there are none.
    #[must_use]
    pub const fn usable_range(&self, granule: Granule) -> Option<VirtRange> {
        VirtRange::of_size(self.start, self.usable(granule))
    }
}

/// A request for an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Bytes, without the guard page; rounded up to pages.
    pub size: u64,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Lowest address, a multiple of the granule and not 0.
    pub start: VirtAddr,
    /// One past the highest address.
    pub end: VirtAddr,
    /// What taking pages may do.
    pub gfp: Gfp,
    /// The node wished for.
    pub nid: Option<u32>,
    /// Flags of the area.
    pub flags: VmFlags,
    /// Who asks.
    pub caller: Caller,
}
