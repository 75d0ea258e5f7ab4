//! What each call works with: lent for its length, never stored.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::{Era, Order, Pfn, PhysMem, VirtAddr, VirtRange};
use kernmem_pgtable::Tables;

/// How a kernel maps its page descriptors.
pub struct Vmemmap<F: EntryFormat> {
    /// Branch of Linux.
    pub era: Era,
    /// Where the descriptor of frame 0 would be, modulo 2^64.
    pub base: VirtAddr,
    /// Bytes of a descriptor.
    pub descriptor_bytes: u64,
    /// Attributes of a page of descriptors.
    pub writable: F::Attrs,
    /// Attributes of an address that shows a shared page of descriptors.
    pub read_only: F::Attrs,
    /// Attributes of entries that link tables.
    pub table: F::Attrs,
}

impl<F: EntryFormat> fmt::Debug for Vmemmap<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmemmap").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<F: EntryFormat> Vmemmap<F> {
    /// The address of the descriptor of `pfn`.
    #[must_use]
    pub const fn descriptor(&self, pfn: Pfn) -> VirtAddr {
        self.base.wrapping_add(pfn.0.wrapping_mul(self.descriptor_bytes))
    }

    /// The descriptors of a block.
    #[must_use]
    pub fn descriptors(&self, pfn: Pfn, order: Order) -> Option<VirtRange> {
        VirtRange::of_size(self.descriptor(pfn), self.descriptor_bytes << order.0)
    }
}

/// What an operation on huge pages works with.
pub struct Env<'e, 'm, F: EntryFormat, M, P, T, D> {
    /// The kernel's tables.
    pub tables: &'e mut Tables<'m, F, M>,
    /// Frames: for huge pages, for tables, for descriptors.
    pub pages: &'e mut P,
    /// Who flushes.
    pub tlb: &'e mut T,
    /// How descriptors are mapped.
    pub vmemmap: &'e Vmemmap<F>,
    /// Descriptors as memory.
    pub descriptors: &'e D,
}

impl<F: EntryFormat, M: PhysMem, P, T, D> fmt::Debug for Env<'_, '_, F, M, P, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("vmemmap", &self.vmemmap).finish_non_exhaustive()
    }
}
