//! What an observer is told: the chain of calls by Linux's names.
//!
//! Source: Linux 6.1 mm/vmalloc.c; 7.2 appends `_noprof` to the names of `vmalloc`, `__vmalloc_node` and
//! `__vmalloc_node_range`.

use kernmem_base::{Order, VirtAddr, VirtRange};
use kernmem_page_alloc::Gfp;

/// One call of the chain, with its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Call {
    /// A plain request.
    Vmalloc {
        /// Bytes.
        size: u64,
    },
    /// A request for zeroed memory.
    Vzalloc {
        /// Bytes.
        size: u64,
    },
    /// A request that allows blocks.
    VmallocHuge {
        /// Bytes.
        size: u64,
    },
    /// The request with its defaults.
    VmallocNode {
        /// Bytes.
        size: u64,
        /// Alignment.
        align: u64,
        /// What taking pages may do.
        gfp: Gfp,
        /// The node wished for.
        nid: Option<u32>,
    },
    /// The request with its limits.
    VmallocNodeRange {
        /// Bytes.
        size: u64,
        /// Alignment.
        align: u64,
        /// Lowest address.
        start: VirtAddr,
        /// One past the highest address.
        end: VirtAddr,
        /// The node wished for.
        nid: Option<u32>,
    },
    /// The area is made.
    GetVmAreaNode {
        /// Bytes, rounded, without the guard page.
        size: u64,
        /// Alignment.
        align: u64,
        /// log2 of the rounding.
        shift: u32,
    },
    /// The area's descriptor, which is a part of the node here.
    KzallocNode,
    /// A hole is looked for.
    AllocVmapArea {
        /// Bytes, with the guard page.
        size: u64,
        /// Alignment.
        align: u64,
        /// Lowest address.
        start: VirtAddr,
        /// One past the highest address.
        end: VirtAddr,
    },
    /// The hole is bound to the area.
    SetupVmallocVm {
        /// Start of the area.
        addr: VirtAddr,
    },
    /// The area is filled.
    VmallocAreaNode {
        /// Its addresses, without the guard page.
        range: VirtRange,
        /// log2 of a block.
        shift: u32,
    },
    /// The array of page pointers, of at most a page: it is not allocated here.
    KmallocNode {
        /// Bytes.
        size: u64,
    },
    /// The pages are taken.
    VmAreaAllocPages {
        /// Base pages.
        pages: u64,
        /// The blocks in which they are taken.
        order: Order,
    },
    /// The pages are mapped.
    VmapPagesRange {
        /// Where.
        range: VirtRange,
        /// log2 of a block.
        shift: u32,
    },
    /// A physical range, or one block, is mapped.
    VmapRangeNoflush {
        /// Where.
        range: VirtRange,
        /// log2 of the largest leaf.
        shift: u32,
    },
    /// Pages of somebody else's.
    Vmap {
        /// Base pages.
        pages: u64,
    },
    /// An area goes without its pages.
    Vunmap {
        /// Its start.
        addr: VirtAddr,
    },
    /// An area goes with its pages.
    Vfree {
        /// Its start.
        addr: VirtAddr,
    },
    /// Entries are cleared; their tables stay.
    VunmapRangeNoflush {
        /// Where.
        range: VirtRange,
    },
    /// The addresses go to the lazily freed ones.
    FreeVmapAreaNoflush {
        /// First address.
        start: VirtAddr,
        /// Bytes, with the guard page.
        size: u64,
    },
    /// The lazily freed addresses are flushed and become free.
    PurgeVmapAreaLazy {
        /// What is flushed.
        range: VirtRange,
    },
}

impl Call {
    /// Linux's name of the function, as 6.1 and 6.12 have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vmalloc { .. } => "vmalloc",
            Self::Vzalloc { .. } => "vzalloc",
            Self::VmallocHuge { .. } => "vmalloc_huge",
            Self::VmallocNode { .. } => "__vmalloc_node",
            Self::VmallocNodeRange { .. } => "__vmalloc_node_range",
            Self::GetVmAreaNode { .. } => "__get_vm_area_node",
            Self::KzallocNode => "kzalloc_node",
            Self::AllocVmapArea { .. } => "alloc_vmap_area",
            Self::SetupVmallocVm { .. } => "setup_vmalloc_vm",
            Self::VmallocAreaNode { .. } => "__vmalloc_area_node",
            Self::KmallocNode { .. } => "kmalloc_node",
            Self::VmAreaAllocPages { .. } => "vm_area_alloc_pages",
            Self::VmapPagesRange { .. } => "vmap_pages_range",
            Self::VmapRangeNoflush { .. } => "vmap_range_noflush",
            Self::Vmap { .. } => "vmap",
            Self::Vunmap { .. } => "vunmap",
            Self::Vfree { .. } => "vfree",
            Self::VunmapRangeNoflush { .. } => "vunmap_range_noflush",
            Self::FreeVmapAreaNoflush { .. } => "free_vmap_area_noflush",
            Self::PurgeVmapAreaLazy { .. } => "__purge_vmap_area_lazy",
        }
    }
}

/// An observer of the chain. `()` does not look.
pub trait Trace {
    /// A call begins.
    fn enter(&mut self, call: &Call) {
        let _ = call;
    }

    /// The innermost call that began has ended, well or not.
    fn leave(&mut self, call: &Call, is_done: bool) {
        let _ = (call, is_done);
    }
}

impl Trace for () {}
