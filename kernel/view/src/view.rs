//! What can be asked of any kernel.

use alloc::vec::Vec;

use kernmem::kasan::ZeroShadow;
use kernmem::zones::Nodes;
use kernmem_arch::{Format, arm64, i386, x86};
use kernmem_base::{Era, Granule, PhysAddr, PhysRead};

/// An answer: known, or absent with the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<T> {
    /// The answer.
    Known(T),
    /// There is none, and why.
    Absent(&'static str),
}

impl<T> Answer<T> {
    /// The answer, if there is one.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent(_) => None,
        }
    }
}

/// Which tree of tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RootKind {
    /// The kernel's own.
    Kernel,
    /// In use while user mode runs.
    User,
    /// The identity map.
    Idmap,
    /// The first identity map, from before there was any C code.
    EarlyIdentity,
    /// The first map of the kernel.
    EarlyKernel,
}

/// Where each region lies, in the architecture's own words.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LayoutView<'k> {
    /// arm64.
    Arm64 {
        /// The regions.
        layout: &'k arm64::Layout,
        /// Physical address of the start of the linear map's region, modulo 2^64.
        memstart: u64,
    },
    /// x86-64.
    X86 {
        /// The regions.
        layout: &'k x86::layout::Layout,
        /// Fixed addresses.
        fixmap: &'k x86::fixmap::Fixmap,
        /// Landmarks of a listing.
        markers: &'k x86::markers::Markers,
    },
    /// i386.
    I386 {
        /// The regions.
        layout: &'k i386::layout::Layout,
        /// Fixed addresses.
        fixmap: &'k x86::fixmap::Fixmap,
        /// Landmarks of a listing.
        markers: &'k x86::markers::Markers,
    },
}

/// A kernel to look at.
pub trait KernelView {
    /// The memory that holds its tables.
    type Mem: PhysRead;

    /// The memory.
    fn mem(&self) -> &Self::Mem;

    /// The branch of Linux.
    fn era(&self) -> Era;

    /// The page size.
    fn granule(&self) -> Granule;

    /// The format of its tables.
    fn format(&self) -> Format;

    /// A root table.
    fn root(&self, kind: RootKind) -> Answer<PhysAddr>;

    /// Its regions.
    fn layout(&self) -> LayoutView<'_>;

    /// The image's mapped addresses, and the memory behind the first of them.
    fn image(&self) -> Answer<(kernmem_base::VirtRange, PhysAddr)>;

    /// The addresses of KFENCE's pool in the linear map.
    fn kfence_pool(&self) -> Answer<kernmem_base::VirtRange>;

    /// The page and the tables that all shadow of KASAN without memory of its own shares.
    fn zero_shadow(&self) -> Answer<ZeroShadow>;

    /// Bytes of the unit in which memory goes on- and offline.
    fn memory_block_bytes(&self) -> Answer<u64>;

    /// The counters of the direct map's leaves: leaf size in bytes, KiB counted; event counters, as Linux keeps them.
    fn direct_map(&self) -> Answer<Vec<(u64, u64)>>;

    /// Nodes and zones.
    fn nodes(&self) -> Answer<&Nodes>;

    /// Memory as the boot allocator left it: base, size, node.
    fn memory(&self) -> Answer<Vec<kernmem_memblock::Region>>;

    /// What the boot allocator gave away.
    fn reserved(&self) -> Answer<Vec<kernmem_memblock::Region>>;
}
