//! Takers: who takes memory from the boot allocator, how much, and by which rule.
//!
//! Here: [`Taker`], [`Taken`], and one file for each taker that both architectures have. An architecture's boot orders
//! them; it has no rule of theirs.
//! Not here: where memory is found (`kernmem-memblock`), tables (`frames`), the memory map (`sparse_init`).
//!
//! # Invariants
//! 1. Each request is told to the witness with its taker, right after it was granted.
//! 2. A size is a pure function of era, configuration and the facts passed in.
//!
//! Source: Linux 6.1 init/main.c `start_kernel`, `mm_init`.

pub mod auto_init;
pub mod gigantic;
pub mod hash_tables;
pub mod log_buffer;
pub mod page_counts;
pub mod percpu;
mod small;
pub mod stack_depot;
pub mod swiotlb;
pub mod unknown_words;

use kernmem_base::{PhysAddr, PhysRange};
use kernmem_memblock::{Memblock, RegionArray, Request};

pub(crate) use small::RESOURCE_BYTES;
pub use small::{command_lines, standard_resources, unknown_parameters};

use crate::{BootError, Witness};

/// Who took memory before the page allocator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Taker {
    /// The kernel image.
    Image,
    /// The RAM disk.
    Initrd,
    /// The devicetree blob.
    Devicetree,
    /// What firmware keeps.
    Firmware,
    /// x86: pages behind the image for the first tables.
    EarlyTables,
    /// x86: the first MiB; up to 5.10 the parts of it that firmware keeps.
    LowMemory,
    /// x86: the code with which other CPUs start.
    Trampoline,
    /// Memory for a crash kernel.
    CrashKernel,
    /// The devicetree as structures.
    UnflattenedTree,
    /// Distances between nodes.
    DistanceTable,
    /// The descriptor of a node.
    NodeData,
    /// The pool of KFENCE.
    KfencePool,
    /// The array of pointers to section roots, and the roots.
    SectionRoots,
    /// Usage maps of sections.
    SectionUsage,
    /// The descriptors of pages.
    MemoryMap,
    /// Memory, firmware's map and devices as resources.
    Resources,
    /// A copy of the command line.
    CommandLine,
    /// The list of words that nobody knows.
    UnknownParameters,
    /// The plan of the per-CPU units.
    PercpuPlan,
    /// The units of per-CPU variables.
    PercpuUnits,
    /// Books about the first units.
    PercpuBooks,
    /// The log's text and its descriptors.
    LogBuffer,
    /// A hash table.
    HashTable,
    /// Gigantic pages.
    GiganticPages,
    /// The boot allocator's own lists, where they grew.
    MemblockLists,
    /// The pool of bounce buffers.
    BouncePool,
    /// Books about bounce buffers.
    BounceBooks,
    /// Shadow of KASAN.
    KasanShadow,
    /// The ring in which tag modes of KASAN keep stacks.
    KasanStacks,
}

impl Taker {
    /// Linux's function that asks.
    #[must_use]
    pub const fn caller(self) -> &'static str {
        match self {
            Self::Image => "setup_arch",
            Self::Initrd => "reserve_initrd",
            Self::Devicetree => "early_init_fdt_scan_reserved_mem",
            Self::Firmware => "early_reserve_memory",
            Self::EarlyTables => "reserve_brk",
            Self::LowMemory | Self::Trampoline => "reserve_real_mode",
            Self::CrashKernel => "reserve_crashkernel",
            Self::UnflattenedTree => "unflatten_device_tree",
            Self::DistanceTable => "numa_alloc_distance",
            Self::NodeData => "setup_node_data",
            Self::KfencePool => "kfence_alloc_pool",
            Self::SectionRoots => "sparse_index_alloc",
            Self::SectionUsage => "sparse_early_usemaps_alloc_pgdat_section",
            Self::MemoryMap => "sparse_buffer_init",
            Self::Resources => "request_standard_resources",
            Self::CommandLine => "setup_command_line",
            Self::UnknownParameters => "print_unknown_bootoptions",
            Self::PercpuPlan => "pcpu_build_alloc_info",
            Self::PercpuUnits => "pcpu_embed_first_chunk",
            Self::PercpuBooks => "pcpu_setup_first_chunk",
            Self::LogBuffer => "setup_log_buf",
            Self::HashTable => "alloc_large_system_hash",
            Self::GiganticPages => "alloc_bootmem_huge_page",
            Self::MemblockLists => "memblock_double_array",
            Self::BouncePool => "swiotlb_memblock_alloc",
            Self::BounceBooks => "swiotlb_init_remap",
            Self::KasanShadow => "kasan_init",
            Self::KasanStacks => "kasan_init_tags",
        }
    }

    /// What its size follows from, in a few words.
    #[must_use]
    pub const fn formula(self) -> &'static str {
        match self {
            Self::Image => "symbols",
            Self::Initrd | Self::Devicetree | Self::Firmware => "given by the loader or firmware",
            Self::EarlyTables => "pages of the image's heap",
            Self::LowMemory => "1 MiB",
            Self::Trampoline => "real-mode blob in pages",
            Self::CrashKernel => "crashkernel=",
            Self::UnflattenedTree => "nodes and properties of the tree",
            Self::DistanceTable => "nodes squared",
            Self::NodeData => "size of pglist_data",
            Self::KfencePool => "2 (objects + 1) pages",
            Self::SectionRoots => "sections by physical address bits",
            Self::SectionUsage => "sections of the node",
            Self::MemoryMap => "descriptors of the sections",
            Self::Resources => "entries times a resource",
            Self::CommandLine => "length of the line and 1",
            Self::UnknownParameters => "lengths of unknown words",
            Self::PercpuPlan => "groups and units",
            Self::PercpuUnits => "units times static, reserved and dynamic bytes",
            Self::PercpuBooks => "unit size in pieces of 4 bytes",
            Self::LogBuffer => "log_buf_len= or CPUs",
            Self::HashTable => "kernel pages by the table's scale",
            Self::GiganticPages => "hugepages=",
            Self::MemblockLists => "twice the entries, again and again",
            Self::BouncePool => "swiotlb= or 64 MiB",
            Self::BounceBooks => "slots of the pool",
            Self::KasanShadow => "mapped memory by the scale of the shadow",
            Self::KasanStacks => "kasan.stack_ring_size= or 32768 entries",
        }
    }
}

/// Memory and who took it. A part of it may have been given back since: what is still taken, the boot allocator's list
/// tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Who.
    pub taker: Taker,
    /// What.
    pub range: PhysRange,
}

/// Takes zeroed memory for `taker` and tells the witness.
///
/// # Errors
/// The boot allocator has no memory: nothing was taken.
pub fn allocate<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    taker: Taker,
    request: Request,
) -> Result<PhysAddr, BootError> {
    let start = memblock.alloc_try_nid(request)?;
    tell(memblock, taker, start, request.size);
    Ok(start)
}

/// As [`allocate`], anywhere, in whole cache lines.
///
/// # Errors
/// As [`allocate`].
pub fn allocate_lines<A: RegionArray, W: Witness>(
    memblock: &mut Memblock<A, W>,
    taker: Taker,
    bytes: u64,
) -> Result<PhysAddr, BootError> {
    let line = memblock.limits().smp_cache_bytes;
    allocate(memblock, taker, Request::new(bytes, line))
}

/// Tells the witness who took memory.
pub fn tell<A: RegionArray, W: Witness>(memblock: &mut Memblock<A, W>, taker: Taker, start: PhysAddr, bytes: u64) {
    memblock.observer().taken(&Taken { taker, range: PhysRange::new(start, start + bytes) });
}
