//! The allocator as the CPUs of the stress see it.
//!
//! A test plants a fault by a subject that does one of these things wrong: the stress must find it.

use kernmem_base::{CpuId, Order, Pfn};
use kernmem_page_alloc::{AllocError, CpuPages, FreeError, Gfp, HeapStore, PageAllocator, Zone, ZoneSpan};
use kernmem_sparse::MigrateType;

use crate::naive::ORDERS;

/// The allocator that is stressed.
pub type Allocator = PageAllocator<HeapStore>;

/// What one CPU has for itself.
pub type Cpu = CpuPages<HeapStore>;

/// Blocks that the lists of one CPU have room for.
const SLOTS: usize = 2048;

/// What a zone says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Which zone.
    pub span: ZoneSpan,
    /// Frames that were handed over.
    pub managed: u64,
    /// Free frames, without isolated ones.
    pub free: u64,
    /// Free frames in CMA pageblocks.
    pub free_cma: u64,
    /// Free frames in pageblocks for urgent requests.
    pub free_highatomic: u64,
    /// Free blocks by order and type.
    pub blocks: [[u64; MigrateType::ALL.len()]; ORDERS],
}

impl Figures {
    /// Free blocks of an order.
    #[must_use]
    pub fn nr_free(&self, order: usize) -> u64 {
        self.blocks[order].iter().sum()
    }
}

/// A page allocator, or one with a fault.
pub trait Subject: Sync {
    /// The allocator itself, which does all that no fault is planted in.
    fn allocator(&self) -> &Allocator;

    /// Takes a block.
    ///
    /// # Errors
    /// As `PageAllocator::alloc`.
    fn alloc(&self, cpu: &mut Cpu, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        self.allocator().alloc(cpu, nid, gfp, order)
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// As `PageAllocator::free`.
    fn free(&self, cpu: &mut Cpu, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        self.allocator().free(cpu, pfn, order)
    }

    /// What a zone says of itself.
    fn figures(&self, zone: &Zone<HeapStore>) -> Figures {
        let mut blocks = [[0; MigrateType::ALL.len()]; ORDERS];
        for (order, row) in (0..=self.allocator().facts().max_order.0).zip(&mut blocks) {
            *row = MigrateType::ALL.map(|kind| zone.free_blocks(Order(order), kind));
        }
        Figures {
            span: zone.span(),
            managed: zone.managed(),
            free: zone.free(),
            free_cma: zone.free_cma(),
            free_highatomic: zone.free_highatomic(),
            blocks,
        }
    }

    /// Empty lists for a CPU.
    fn cpu(&self, cpu: u32, nid: u32) -> Cpu {
        CpuPages::on_heap(CpuId(cpu), nid, self.allocator(), SLOTS)
    }
}

impl Subject for Allocator {
    fn allocator(&self) -> &Allocator {
        self
    }
}
