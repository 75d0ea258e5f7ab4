//! Who listens to a boot.

use alloc::string::String;
use alloc::vec::Vec;

use kernmem_arch::{Change, Reason};
use kernmem_base::{FrameOrigin, Level, Pfn, PhysAddr, PhysRange, VirtRange};
use kernmem_memblock::Observer;
use kernmem_pgtable::Sizes;

use crate::hand_over::MemoryFigures;
use crate::takers::Taken;
use crate::takers::auto_init::AutoInit;
use crate::takers::hash_tables::HashMemory;
use crate::takers::percpu::UnitSizes;

/// A part of the kernel's address space, by what is mapped there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Area {
    /// All memory at one offset.
    LinearMap,
    /// A segment of the kernel image.
    Image(Segment),
    /// The memory map.
    Vmemmap,
    /// Fixed slots.
    Fixmap,
    /// Areas mapped page by page.
    Vmalloc,
    /// Per-CPU entry areas (x86).
    CpuEntryArea,
    /// The identity map.
    Idmap,
    /// The tables with which user mode enters the kernel.
    Trampoline,
    /// The shadow of KASAN.
    KasanShadow,
}

/// A segment of the kernel image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Segment {
    /// The image's header, in front of its text.
    Head,
    /// Text.
    Text,
    /// Read-only data.
    Rodata,
    /// Text of init.
    InitText,
    /// Data of init.
    InitData,
    /// Data and bss.
    Data,
    /// All of it at once: before the segments have rights of their own.
    Whole,
}

/// A mapping that boot made, with every reason that bounded it.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    /// Its addresses.
    pub range: VirtRange,
    /// The memory behind the first byte.
    pub pa: PhysAddr,
    /// What it is.
    pub area: Area,
    /// Why it starts where it starts.
    pub start: Reason,
    /// Why it ends where it ends.
    pub end: Reason,
    /// Reasons that limit the leaves, each with the sizes that it allows.
    pub limits: &'a [(Reason, Sizes)],
    /// Why its rights are what they are.
    pub rights: &'a [Reason],
}

/// Rights that a step of boot changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The addresses.
    pub range: VirtRange,
    /// The step.
    pub cause: Change,
    /// Whether the leaves are gone afterwards.
    pub unmapped: bool,
}

/// Rights that stayed because a step was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The addresses.
    pub range: VirtRange,
    /// Why the step was not taken.
    pub reason: Reason,
}

/// A frame that became a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableFrame {
    /// Its first byte.
    pub pa: PhysAddr,
    /// The table's level.
    pub level: Level,
    /// Who gave it.
    pub origin: FrameOrigin,
}

/// Memory of boot that becomes free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Freed {
    /// The RAM disk.
    Initrd,
    /// Lock prefixes of SMP alternatives (x86).
    SmpLocks,
    /// Init text and data.
    Init,
    /// Between text and read-only data (x86).
    TextGap,
    /// Between read-only data and data (x86).
    RodataGap,
}

/// How KASAN uses the CPU's own tags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareTags {
    /// When a mismatch is told: `sync`, `async` or `asymm`.
    pub mode: &'static str,
    /// Whether memory of vmalloc is tagged.
    pub vmalloc: bool,
    /// Whether writes alone are checked (7.2).
    pub write_only: bool,
}

/// A fact that the boot log tells; its text is `kernmem-report`'s business.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LogEntry {
    /// The command line is parsed: from here on `memblock=debug` prints.
    ParamsParsed,
    /// `mem=` limits memory to so many bytes.
    MemoryLimited(u64),
    /// Firmware names no NUMA nodes.
    NoNuma,
    /// The command line forbids NUMA nodes.
    NumaOff,
    /// All memory becomes one node.
    FakeNode(PhysRange),
    /// The descriptor of a node was placed.
    NodeData {
        /// The node.
        nid: u32,
        /// The descriptor.
        range: PhysRange,
    },
    /// Limits of the zones, by name; an empty zone has none.
    ZoneRanges(Vec<(&'static str, Option<PhysRange>)>),
    /// Where the movable zone starts on each node that has one.
    MovableStarts(Vec<(u32, PhysAddr)>),
    /// Memory by node, in whole pages.
    NodeRanges(Vec<(u32, PhysRange)>),
    /// A node's span.
    InitmemSetup {
        /// The node.
        nid: u32,
        /// From its first to its last memory.
        span: PhysRange,
    },
    /// Frames of a zone that have a descriptor but no memory.
    Unavailable {
        /// The node.
        nid: u32,
        /// The zone's name.
        zone: &'static str,
        /// How many.
        pages: u64,
    },
    /// Memory for a crash kernel; `low` is its part below the DMA limit.
    CrashKernel {
        /// The memory.
        range: PhysRange,
        /// Whether it is the low part.
        low: bool,
        /// Bytes of all memory; for x86's low part of memory below 4 GiB.
        ram: u64,
    },
    /// The first MiB is taken for a crash kernel (x86, 5.10).
    CrashLowMemory,
    /// Every section with memory has its part of the memory map.
    SectionsReady,
    /// The shadow of KASAN is in place.
    KasanReady,
    /// The tags of KASAN are in use (arm64).
    KasanTagsReady {
        /// The CPU's own tags; else those of software.
        hardware: Option<HardwareTags>,
        /// Whether the stacks of allocations are kept.
        stacktrace: bool,
    },
    /// 1 GiB leaves are used for the direct map (x86).
    GbPages,
    /// Bytes of high memory (i386).
    HighMemory(u64),
    /// Bytes of low memory (i386).
    LowMemory(u64),
    /// A larger buffer for the log.
    LogBuffer {
        /// Bytes of text.
        bytes: u64,
    },
    /// The first areas of per-CPU variables.
    Percpu(UnitSizes),
    /// In which order a node asks the nodes for memory.
    FallbackOrder {
        /// The node.
        nid: u32,
        /// The nodes, itself first.
        order: Vec<u32>,
    },
    /// The zonelists are built.
    ZonelistsBuilt {
        /// Nodes.
        nodes: usize,
        /// Whether pages are grouped by mobility.
        mobility: bool,
        /// Pages that are expected to be managed.
        pages: u64,
    },
    /// The highest zone that policies of nodes apply to.
    PolicyZone(&'static str),
    /// Words of the command line that nobody knows.
    UnknownParameters(Vec<String>),
    /// A hash table.
    HashTable {
        /// Its name.
        name: &'static str,
        /// Its entries.
        entries: u64,
        /// log2 of its pages.
        order: u32,
        /// Its bytes.
        bytes: u64,
        /// Where it lies.
        memory: HashMemory,
    },
    /// What is cleared by itself.
    AutoInit(AutoInit),
    /// Areas of the pool of bounce buffers.
    SwiotlbAreas(u64),
    /// The pool of bounce buffers has so many bytes instead of the default.
    SwiotlbAdjusted(u64),
    /// The pool of bounce buffers was rounded up to so many bytes.
    SwiotlbRounded(u64),
    /// The pool of bounce buffers.
    SwiotlbMapped(PhysRange),
    /// Memory at the hand-over.
    Memory(MemoryFigures),
    /// Memory of boot that became free.
    Freed {
        /// What it held.
        what: Freed,
        /// Its whole pages in bytes.
        bytes: u64,
    },
    /// Memory of boot that stays taken and is unmapped instead, to notice uses of it (x86).
    Unmapped(VirtRange),
    /// The kernel starts to use the page allocator.
    HandOver {
        /// Whole free pages.
        free_pages: Pfn,
    },
}

/// Listens to a boot. Every method has an empty default, so listening costs nothing when nobody does.
pub trait Witness: Observer {
    /// A run was mapped.
    fn mapped(&mut self, _mapped: &Mapped<'_>) {}

    /// Rights were changed.
    fn changed(&mut self, _changed: &Changed) {}

    /// Rights stayed as they were.
    fn kept(&mut self, _kept: &Kept) {}

    /// Memory was taken before the page allocator.
    fn taken(&mut self, _taken: &Taken) {}

    /// A frame became a table.
    fn table(&mut self, _frame: &TableFrame) {}

    /// The log has a line to tell.
    fn log(&mut self, _entry: LogEntry) {}

    /// Frames that the page allocator gives boot at most, asked once at the hand-over; the counterpart of
    /// [`Observer::permits`].
    fn late_frames(&mut self) -> u64 {
        u64::MAX
    }
}

impl Witness for () {}

impl<W: Witness + ?Sized> Witness for &mut W {
    fn mapped(&mut self, mapped: &Mapped<'_>) {
        (**self).mapped(mapped);
    }

    fn changed(&mut self, changed: &Changed) {
        (**self).changed(changed);
    }

    fn kept(&mut self, kept: &Kept) {
        (**self).kept(kept);
    }

    fn table(&mut self, frame: &TableFrame) {
        (**self).table(frame);
    }

    fn log(&mut self, entry: LogEntry) {
        (**self).log(entry);
    }

    fn taken(&mut self, taken: &Taken) {
        (**self).taken(taken);
    }

    fn late_frames(&mut self) -> u64 {
        (**self).late_frames()
    }
}
