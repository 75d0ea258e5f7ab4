//! The sentence for each reason, bound, change and option. One function for each kind.

use alloc::format;
use alloc::string::String;

use kernmem::{Area, Segment};
use kernmem_arch::{Born, Bound, Change, Opt, Reason};
use kernmem_base::Era;
use kernmem_config::Arch;

/// Said of what this report does not know yet: the kinds may grow.
const UNKNOWN: &str = "a reason that this report has no words for";

/// What was mapped.
pub(super) const fn area(area: Area) -> &'static str {
    match area {
        Area::LinearMap => "part of the linear map",
        Area::Image(Segment::Head) => "header of the kernel image",
        Area::Image(Segment::Text) => "text of the kernel image",
        Area::Image(Segment::Rodata) => "read-only data of the kernel image",
        Area::Image(Segment::InitText) => "init text of the kernel image",
        Area::Image(Segment::InitData) => "init data of the kernel image",
        Area::Image(Segment::Data) => "data of the kernel image",
        Area::Image(Segment::Whole) => "the kernel image as a whole",
        Area::Vmemmap => "page descriptors",
        Area::Fixmap => "a fixed slot",
        Area::Vmalloc => "an area mapped page by page",
        Area::CpuEntryArea => "a CPU's entry area",
        Area::Idmap => "the identity map",
        Area::Trampoline => "the trampoline between user mode and kernel",
        Area::KasanShadow => "shadow of KASAN",
        _ => UNKNOWN,
    }
}

/// Why a leaf has its size or its rights.
pub(super) fn reason(reason: Reason) -> String {
    let fixed = match reason {
        Reason::Edge { bound, at } => {
            return format!("a larger leaf would reach over {:#x}, where {}", at.0, self::bound(bound));
        }
        Reason::SplitBy { cause } => return format!("a part of the larger leaf got other rights: {}", change(cause)),
        Reason::Born(born) => self::born(born),
        Reason::Changed(cause) => change(cause),
        Reason::LargestLeaf => "the format has no larger leaf",
        Reason::Incongruent => "virtual and physical address differ modulo the next larger size",
        Reason::RodataFull => "rodata=full: the rights of each page must be changeable alone",
        Reason::RodataOff => "rodata=off: rights that read-only data would have taken were not taken",
        Reason::DebugPagealloc => "debug_pagealloc: each free page is unmapped alone",
        Reason::KfenceLate => "KFENCE may start late and then needs single pages",
        Reason::CrashkernelDeferred => {
            "a crash kernel is reserved only after the map is built, and must be protectable"
        }
        Reason::Realm => "the guest of a realm shares memory page by page",
        Reason::KfencePool => "KFENCE's pool needs a guard page beside each object",
        Reason::PagesOnly => "the code that maps it maps pages, never blocks",
        Reason::ShadowPages => "KASAN takes memory for its shadow page by page",
        Reason::SharedShadow => {
            "one page stands for all shadow of what is no memory, so each entry maps that page again"
        }
        Reason::BlocksOnly => "the code that maps it maps 2M blocks, nothing larger and no groups",
        Reason::NoContiguous => "no contiguous groups: neighbours get other rights later",
        Reason::CpuLacks => "the CPU has no leaves of the next larger size",
        Reason::NoGbpages => "nogbpages: no 1G leaves",
        Reason::NotGlobalKaslr => "not global: KASLR wants the tables of user mode and kernel apart",
        Reason::NotGlobalKpti => "not global: the tables of user mode and kernel are apart",
        Reason::ApartKaslr => "there because KASLR wants the tables of user mode and kernel apart",
        Reason::ApartKpti => "there because the tables of user mode and kernel are apart",
        Reason::PtiGlobal => "not global: page-table isolation",
        _ => UNKNOWN,
    };
    String::from(fixed)
}

/// What ends at an edge.
const fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Bank => "a bank of memory begins or ends",
        Bound::MemLimit => "mem= cuts memory off",
        Bound::Memmap => "an item of memmap= begins or ends",
        Bound::NoMap => "a region begins or ends that firmware wants left unmapped",
        Bound::ImageWindow => {
            "the window over the kernel's text and read-only data begins or ends, which is mapped apart"
        }
        Bound::Segment => "a segment of the kernel image begins or ends",
        Bound::KfencePool => "KFENCE's pool begins or ends",
        Bound::IsaHole => "the legacy hole below 1 MiB begins or ends",
        Bound::Object => "the mapped object itself ends",
        Bound::Shadow => "the memory begins or ends that the shadow speaks for",
        Bound::Section => "a section of the memory map ends",
        _ => UNKNOWN,
    }
}

/// Rights from the start.
const fn born(born: Born) -> &'static str {
    match born {
        Born::Data => "mapped as data: writable, not executable",
        Born::Text => "mapped as kernel text: read only, executable",
        Born::TextWritable => "mapped as text under rodata=off: writable and executable",
        Born::Image => {
            "mapped with the whole image, writable and executable, until later steps took what it does not need"
        }
        Born::Linear => "mapped as ordinary memory of the linear map: writable, not executable",
        Born::ReadOnly => "mapped read only from the start",
        Born::Shadow => "mapped as KASAN's shadow: writable, not executable",
        Born::SharedShadow => "mapped read only: this shadow says the same for every byte, and nobody may write it",
        Born::Device => "mapped as device memory",
        _ => UNKNOWN,
    }
}

/// A step of boot.
const fn change(change: Change) -> &'static str {
    match change {
        Change::LinearAliasRo => "the linear alias of text and read-only data became read only",
        Change::RodataRo => "read-only data became read only",
        Change::TextNx => "everything behind the text lost execution",
        Change::InitFreed => "init memory was freed",
        Change::SmpLocksFreed => "the section of SMP alternatives was freed",
        Change::GapFreed => "a gap between segments was freed",
        Change::IdtRo => "the interrupt descriptor table became read only",
        Change::Trampoline => "the real-mode trampoline got its rights",
        Change::PageZero => "page 0 was forced to 4K",
        Change::KfenceGuard => "a guard page of KFENCE's pool was made invalid",
        Change::Pti => "page-table isolation changed the global mark",
        Change::Hvo => "page descriptors of a huge page were given back",
        _ => UNKNOWN,
    }
}

/// What an option means in an era.
pub(super) fn note(option: Opt, era: Era, arch: Arch) -> String {
    let fixed = match option {
        Opt::Rodata => return String::from(rodata(era, arch)),
        Opt::DebugPagealloc => "debug_pagealloc=off, or a kernel built without it, leaves free pages mapped",
        Opt::KfenceInterval => match era {
            Era::V4_14 | Era::V5_10 => "kfence.sample_interval= does not exist yet",
            Era::V6_1 | Era::V6_12 | Era::V7_2 => "kfence.sample_interval=0 leaves KFENCE off at boot",
        },
        Opt::Crashkernel => match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => "without crashkernel= no crash kernel splits the linear map",
            Era::V6_12 | Era::V7_2 => "crashkernel= no longer counts for the size of leaves",
        },
        Opt::Kaslr => "nokaslr, or no seed, leaves the image where it is linked",
        Opt::Kpti => "kpti=off keeps kernel mappings global",
        Opt::Mem => "without mem= all memory of the machine is used",
        Opt::Memmap => "without memmap= the firmware's map stands",
        Opt::Gbpages => "without nogbpages the direct map uses 1G leaves where the CPU has them",
        Opt::Pti => "nopti or pti=off keeps kernel mappings global",
        Opt::Hugepages => "without hugepages= and hugetlb_free_vmemmap= no page descriptors are given back",
        _ => UNKNOWN,
    };
    String::from(fixed)
}

/// What `rodata=` means in an era.
const fn rodata(era: Era, arch: Arch) -> &'static str {
    match (arch, era) {
        (Arch::Arm64, Era::V4_14) => "rodata=off leaves text and read-only data writable",
        (Arch::Arm64, Era::V5_10) => {
            "rodata=off (or 0) leaves text and read-only data writable; rodata=on (or 1) protects the image alone; \
             rodata=full the linear alias of every page too"
        }
        (Arch::Arm64, Era::V6_1 | Era::V6_12) => {
            "rodata=off leaves text and read-only data writable; rodata=on protects the image alone; rodata=full the \
             linear alias of every page too; 0 and 1 are invalid and change nothing"
        }
        (Arch::Arm64, Era::V7_2) => {
            "rodata=off leaves text and read-only data writable; rodata=noalias protects the image alone; rodata=on \
             the linear alias of every page too"
        }
        (Arch::X86_64 | Arch::I386, Era::V4_14 | Era::V5_10) => {
            "rodata=off (or 0) leaves text and read-only data writable"
        }
        (Arch::X86_64 | Arch::I386, Era::V6_1 | Era::V6_12 | Era::V7_2) => {
            "rodata=off leaves text and read-only data writable; 0 and 1 are invalid and change nothing"
        }
    }
}
