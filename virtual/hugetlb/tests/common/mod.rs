//! A small kernel whose memory map lies in one 2M block.

use core::sync::atomic::AtomicU64;

use kernmem_arch::arm64::{self, Arm64Granule4K};
use kernmem_arch::x86::X86Level4;
use kernmem_arch::x86::prot::{Masks, Prot, table};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{
    BusError, BusFault, Era, Granule, Level, Pfn, PhysAddr, PhysMem, PhysRange, Tlb, VirtAddr, VirtRange,
};
use kernmem_hugetlb::{Env, HugePage, Pool, Vmemmap};
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Mapping, Sizes, Tables, Walk, translate};
use kernmem_sparse::Descriptors;
use kernmem_sparse::page::fresh;

/// Frames of memory: 32 MiB.
pub const FRAMES: u64 = 8192;
/// Where the memory map's block lies; boot keeps everything below the end of it.
pub const MAP: PhysAddr = PhysAddr(2 << 20);
pub const KEPT: u64 = 1024;

/// A format with the attributes of its memory map.
pub trait Machine: EntryFormat {
    fn vmemmap() -> Vmemmap<Self>
    where
        Self: Sized;
}

impl Machine for X86Level4 {
    fn vmemmap() -> Vmemmap<Self> {
        let masks = Masks::new(true, true, false);
        Vmemmap {
            era: Era::V6_1,
            base: VirtAddr(0xffff_ea00_0000_0000),
            descriptor_bytes: 64,
            writable: masks.kernel(Era::V6_1, Prot::Kernel),
            read_only: masks.kernel(Era::V6_1, Prot::KernelRo),
            table: table::PAGE,
        }
    }
}

impl Machine for Arm64Granule4K {
    fn vmemmap() -> Vmemmap<Self> {
        Vmemmap {
            era: Era::V6_1,
            base: VirtAddr(0xffff_fc00_0000_0000),
            descriptor_bytes: 64,
            writable: arm64::prot::PAGE_KERNEL,
            read_only: arm64::prot::PAGE_KERNEL_RO,
            table: arm64::prot::table(Era::V6_1, false),
        }
    }
}

/// Counts flushes, and which addresses they were about.
#[derive(Default)]
pub struct Flushes(pub Vec<VirtRange>);

impl Tlb for Flushes {
    fn flush(&mut self, range: VirtRange, _tables: bool) {
        self.0.push(range);
    }
}

/// Descriptors found through the kernel's tables.
pub struct Mapped<'m, F: EntryFormat> {
    pub mem: &'m HeapMem,
    pub root: PhysAddr,
    pub vmemmap: Vmemmap<F>,
}

impl<F: EntryFormat> Descriptors for Mapped<'_, F> {
    fn words(&self, pfn: Pfn) -> Result<&[AtomicU64], BusError> {
        let va = self.vmemmap.descriptor(pfn);
        match translate::<F, _>(self.mem, self.root, va) {
            Ok(Walk::Mapped { pa, .. }) => self.mem.table_mut::<AtomicU64>(pa, 8),
            _ => Err(BusError { pa: PhysAddr(va.0), fault: BusFault::Hole }),
        }
    }
}

/// The kernel.
pub struct Small<'m, F: EntryFormat> {
    pub tables: Tables<'m, F, HeapMem>,
    pub pages: FramePool,
    pub tlb: Flushes,
    pub descriptors: Mapped<'m, F>,
}

pub fn memory() -> HeapMem {
    HeapMem::new(PhysRange::new(PhysAddr(0), PhysAddr(FRAMES << 12)))
}

impl<'m, F: Machine> Small<'m, F> {
    pub fn boot(mem: &'m HeapMem) -> Self {
        let mut pages = FramePool::new(Granule::K4, Pfn(0), Pfn(FRAMES));
        pages.keep(Pfn(0), Pfn(KEPT));
        let root = pages.take_frame().expect("a frame for the root");
        let vmemmap = F::vmemmap();
        let mut tables = Tables::<F, _>::new(mem, root);
        let range = VirtRange::of_size(vmemmap.base, 2 << 20).expect("a block");
        let blocks = Sizes::only(F::shape(), |leaf| !leaf.contiguous && leaf.level == Level::Pmd);
        let mapping = Mapping::new(MAP, vmemmap.writable, blocks).with_table_attrs(vmemmap.table);
        tables.cursor(range).map(&mut pages, &mapping).expect("the map's block").forgive("nothing was mapped there");
        let descriptors = Mapped { mem, root, vmemmap };
        for pfn in 0..FRAMES {
            let page = descriptors.vmemmap.descriptor(Pfn(pfn));
            fresh(descriptors.words(Pfn(pfn)).expect("a descriptor"), 2 << 55, page);
        }
        Self { tables, pages, tlb: Flushes::default(), descriptors }
    }

    pub fn pool() -> Pool<Vec<HugePage>> {
        Pool::new(kernmem_base::Order(9), kernmem_base::Order(10), Vec::new())
    }

    pub fn env(&mut self) -> Env<'_, 'm, F, HeapMem, FramePool, Flushes, Mapped<'m, F>> {
        Env {
            tables: &mut self.tables,
            pages: &mut self.pages,
            tlb: &mut self.tlb,
            vmemmap: &self.descriptors.vmemmap,
            descriptors: &self.descriptors,
        }
    }

    /// The page entry for `va`: frame and attribute bits.
    pub fn page_entry(&self, va: VirtAddr) -> (PhysAddr, u64) {
        let steps = kernmem_pgtable::steps::<F, _>(self.descriptors.mem, self.descriptors.root, va);
        let last = steps.last().expect("a step").expect("a table in memory");
        assert_eq!(last.level, Level::Pte, "{va} is mapped by a page");
        match last.entry {
            Entry::Leaf { base, attrs } => (base, F::bits(attrs)),
            entry => panic!("{va}: {entry:?}"),
        }
    }

    /// The words of all descriptors of a block.
    pub fn words_of(&self, pfn: Pfn, frames: u64) -> Vec<Vec<u64>> {
        let load = |word: &AtomicU64| word.load(core::sync::atomic::Ordering::Relaxed);
        (pfn.0..pfn.0 + frames)
            .map(|pfn| self.descriptors.words(Pfn(pfn)).expect("a descriptor").iter().map(load).collect())
            .collect()
    }
}
