//! Why a mapping has its size and its rights: a small number with arguments, never a text.
//!
//! A boot reports each mapping to its witness with the reasons that bounded it; `explain` turns them into sentences,
//! and the causal test flips the options that they name and watches the leaves change.

use kernmem_base::PhysAddr;

/// A word of the command line (or of the configuration) that a reason can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Opt {
    /// `rodata=`.
    Rodata,
    /// `debug_pagealloc=`.
    DebugPagealloc,
    /// CONFIG_KFENCE, and `kfence.sample_interval=`.
    KfenceInterval,
    /// `crashkernel=`.
    Crashkernel,
    /// `nokaslr`, or the seed.
    Kaslr,
    /// `kpti=` (arm64).
    Kpti,
    /// `mem=`.
    Mem,
    /// `memmap=` (x86).
    Memmap,
    /// `nogbpages` (x86).
    Gbpages,
    /// `pti=`, `nopti` (x86).
    Pti,
    /// `hugepages=` and `hugetlb_free_vmemmap=`.
    Hugepages,
}

/// What an edge of a mapping is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Bound {
    /// A bank of memory begins or ends in the firmware's description.
    Bank,
    /// The `mem=` limit.
    MemLimit,
    /// A `memmap=` item (x86).
    Memmap,
    /// A region that firmware wants left unmapped.
    NoMap,
    /// The window over the kernel's text and read-only data, mapped apart.
    ImageWindow,
    /// A segment of the kernel image.
    Segment,
    /// The guard pool of KFENCE.
    KfencePool,
    /// The legacy hole below 1 MiB (x86).
    IsaHole,
    /// A device tree, a trampoline, an area whose size is its own.
    Object,
    /// Memory-map sections end here.
    Section,
    /// Memory above is high and has no map of its own (i386).
    LowMemory,
    /// What KASAN's shadow speaks for begins or ends.
    Shadow,
}

/// Why a leaf has its size or its rights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The format has no larger leaf.
    LargestLeaf,
    /// Virtual and physical address are not congruent modulo the next larger size.
    Incongruent,
    /// The next larger size would reach over an edge.
    Edge {
        /// What ends there.
        bound: Bound,
        /// Where.
        at: PhysAddr,
    },
    /// `rodata=full`: each page's rights must be changeable alone (arm64).
    RodataFull,
    /// debug_pagealloc: each free page is unmapped alone.
    DebugPagealloc,
    /// KFENCE may start late and then needs single pages (arm64).
    KfenceLate,
    /// A crash kernel is reserved after the map is built (arm64 5.10, 6.1).
    CrashkernelDeferred,
    /// The kernel is the guest of a realm, which shares memory by pages (arm64 7.2).
    Realm,
    /// Guard pages of the KFENCE pool.
    KfencePool,
    /// A caller that maps pages, never blocks.
    PagesOnly,
    /// No contiguous groups: neighbours will get other rights later.
    NoContiguous,
    /// The CPU has no leaves of the next larger size.
    CpuLacks,
    /// `nogbpages`.
    NoGbpages,
    /// Rights of part of the block were changed, which split it.
    SplitBy {
        /// The change.
        cause: Change,
    },
    /// Not global because KASLR wants user and kernel tables apart (arm64 nG).
    NotGlobalKaslr,
    /// Not global because user and kernel tables are apart (arm64 nG).
    NotGlobalKpti,
    /// There because KASLR wants user and kernel tables apart (arm64).
    ApartKaslr,
    /// There because user and kernel tables are apart (arm64).
    ApartKpti,
    /// KASAN's shadow is made page by page.
    ShadowPages,
    /// One page of KASAN's shadow stands for all that nobody writes.
    SharedShadow,
    /// A caller that maps 2M blocks, nothing larger and no groups.
    BlocksOnly,
    /// Not global because of page-table isolation (x86).
    PtiGlobal,
    /// Rights that the mapping was born with.
    Born(Born),
    /// `rodata=off`: rights that a later step would have taken stay.
    RodataOff,
    /// Rights that a later step gave.
    Changed(Change),
}

/// Rights that a mapping was born with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Born {
    /// Data: writable, not executable.
    Data,
    /// Kernel text: read only, executable.
    Text,
    /// Kernel text with `rodata=off`: writable, executable.
    TextWritable,
    /// The whole image, writable and executable until later steps take what parts do not need (x86).
    Image,
    /// Linear map of ordinary memory.
    Linear,
    /// Read only from the start.
    ReadOnly,
    /// Device memory.
    Device,
    /// KASAN's shadow of memory.
    Shadow,
    /// KASAN's shadow of what is no memory: read only once boot has filled its one page.
    SharedShadow,
}

/// A step of boot that changed the rights of a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Change {
    /// The linear alias of text and read-only data became read only (arm64).
    LinearAliasRo,
    /// Read-only data became read only.
    RodataRo,
    /// Everything behind the text lost execution (x86).
    TextNx,
    /// Init memory was freed.
    InitFreed,
    /// The SMP-alternatives section was freed (x86).
    SmpLocksFreed,
    /// A gap between text, read-only data and data was freed (x86).
    GapFreed,
    /// The IDT became read only (x86).
    IdtRo,
    /// The real-mode trampoline got its rights (x86).
    Trampoline,
    /// Page 0 was forced to 4K (x86).
    PageZero,
    /// A guard page of the KFENCE pool was invalidated.
    KfenceGuard,
    /// Page-table isolation made it global or not global (x86).
    Pti,
    /// Memory-map pages of a huge page were given back.
    Hvo,
}

impl Reason {
    /// The option that this reason names, if an option decides it.
    #[must_use]
    pub const fn option(self) -> Option<Opt> {
        match self {
            Self::RodataFull | Self::RodataOff => Some(Opt::Rodata),
            Self::DebugPagealloc => Some(Opt::DebugPagealloc),
            Self::KfenceLate | Self::KfencePool => Some(Opt::KfenceInterval),
            Self::CrashkernelDeferred => Some(Opt::Crashkernel),
            Self::NoGbpages => Some(Opt::Gbpages),
            Self::NotGlobalKaslr | Self::ApartKaslr => Some(Opt::Kaslr),
            Self::NotGlobalKpti | Self::ApartKpti => Some(Opt::Kpti),
            Self::PtiGlobal => Some(Opt::Pti),
            Self::Edge { bound, .. } => match bound {
                Bound::MemLimit => Some(Opt::Mem),
                Bound::Memmap => Some(Opt::Memmap),
                Bound::KfencePool => Some(Opt::KfenceInterval),
                _ => None,
            },
            Self::SplitBy { cause } | Self::Changed(cause) => cause.option(),
            Self::Born(Born::Text | Born::TextWritable) => Some(Opt::Rodata),
            Self::LargestLeaf
            | Self::Incongruent
            | Self::PagesOnly
            | Self::BlocksOnly
            | Self::NoContiguous
            | Self::ShadowPages
            | Self::SharedShadow
            | Self::CpuLacks
            | Self::Realm
            | Self::Born(_) => None,
        }
    }
}

impl Change {
    /// The option without which the step is not taken.
    #[must_use]
    pub const fn option(self) -> Option<Opt> {
        match self {
            Self::RodataRo | Self::TextNx | Self::GapFreed => Some(Opt::Rodata),
            Self::KfenceGuard => Some(Opt::KfenceInterval),
            Self::Pti => Some(Opt::Pti),
            Self::Hvo => Some(Opt::Hugepages),
            Self::LinearAliasRo
            | Self::InitFreed
            | Self::SmpLocksFreed
            | Self::IdtRo
            | Self::Trampoline
            | Self::PageZero => None,
        }
    }
}
