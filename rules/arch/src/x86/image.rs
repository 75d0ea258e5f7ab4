//! The kernel image's own map: what it starts as, and the changes of rights that boot makes to it, as data.
//!
//! Each step names a range, the change, and whether aliases follow; `cpa` says what becomes of the leaves.
//!
//! ```text
//! trampoline, IDT -> isolation (`pti`) -> SMP alternatives freed -> init memory freed
//!     -> read-only data protected: RO, NX behind the text, gaps freed -> isolation again
//! ```
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `cleanup_highmap`, `mark_rodata_ro`, arch/x86/mm/init.c
//! `free_init_pages`, `free_kernel_image_pages`, arch/x86/realmode/init.c `set_real_mode_permissions`.

use kernmem_base::{Era, VirtAddr, VirtRange};

use super::X86Attrs;
use super::bit::kernel_4k;
use super::cpa::Masking;
use super::prot::Prot;
use crate::Change;

const PAGE: u64 = 1 << 12;
const LARGE: u64 = 1 << 21;

/// Addresses of the running image, after it was moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageSymbols {
    /// `_text`.
    pub text: VirtAddr,
    /// `_etext`.
    pub etext: VirtAddr,
    /// `__entry_text_start`.
    pub entry_text_start: VirtAddr,
    /// `__entry_text_end`.
    pub entry_text_end: VirtAddr,
    /// `__start_rodata`.
    pub start_rodata: VirtAddr,
    /// `__end_rodata`.
    pub end_rodata: VirtAddr,
    /// `__end_rodata_aligned`.
    pub end_rodata_aligned: VirtAddr,
    /// `__end_rodata_hpage_align`.
    pub end_rodata_hpage_align: VirtAddr,
    /// `_sdata`.
    pub sdata: VirtAddr,
    /// `__init_begin`.
    pub init_begin: VirtAddr,
    /// `__init_end`.
    pub init_end: VirtAddr,
    /// `__smp_locks`.
    pub smp_locks: VirtAddr,
    /// `__smp_locks_end`.
    pub smp_locks_end: VirtAddr,
    /// `idt_table`.
    pub idt_table: VirtAddr,
    /// `_end`.
    pub end: VirtAddr,
    /// `_brk_end`, after boot took from it: the end of what is kept.
    pub brk_end: VirtAddr,
}

impl ImageSymbols {
    /// The addresses that stay mapped after `cleanup_highmap`: [_text, end of brk's 2 MiB).
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `cleanup_highmap`.
    #[must_use]
    pub fn kept(&self) -> VirtRange {
        between(self.text, up(self.brk_end, LARGE))
    }

    /// The attributes that every leaf of the image's map is born with: 2 MiB, writable, executable, global.
    ///
    /// The tables are built before anything is known of the CPU; only NX would be cut, and is not there.
    #[must_use]
    pub const fn born(era: Era) -> X86Attrs {
        Prot::KernelLargeExec.raw(era)
    }
}

/// One change of rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageStep {
    /// Where.
    pub range: VirtRange,
    /// What changes.
    pub change: Masking,
    /// Whether aliases follow.
    pub aliases: bool,
    /// Why.
    pub cause: Change,
}

/// What decides how memory of the image is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeFacts {
    /// Page-table isolation is on.
    pub pti: bool,
    /// Page-alloc debugging is on.
    pub debug_pagealloc: bool,
}

/// A part of the image that boot gives to the page allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FreedPart {
    /// The lock prefixes of SMP alternatives.
    SmpLocks,
    /// Init text and data.
    Init,
    /// Between text and read-only data.
    TextGap,
    /// Between read-only data and data.
    RodataGap,
}

impl FreedPart {
    /// Its addresses; `None` if it is empty.
    #[must_use]
    pub fn range(self, symbols: &ImageSymbols) -> Option<VirtRange> {
        let (start, end) = match self {
            Self::SmpLocks => (symbols.smp_locks, symbols.smp_locks_end),
            Self::Init => (symbols.init_begin, symbols.init_end),
            Self::TextGap => (symbols.etext, symbols.start_rodata),
            Self::RodataGap => (symbols.end_rodata, symbols.sdata),
        };
        let (start, end) = (up(start, PAGE), up(end, PAGE));
        (start < end).then(|| between(start, end))
    }

    /// Why its rights change.
    #[must_use]
    pub const fn cause(self) -> Change {
        match self {
            Self::SmpLocks => Change::SmpLocksFreed,
            Self::Init => Change::InitFreed,
            Self::TextGap | Self::RodataGap => Change::GapFreed,
        }
    }

    /// The steps that free it. The same in all eras.
    ///
    /// | case | steps |
    /// |---|---|
    /// | page-alloc debugging | not present, with aliases |
    /// | else | NX, then RW |
    /// | isolation, but not SMP alternatives | last, not present in the image's map alone |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `free_init_pages`, `free_kernel_image_pages`.
    pub fn steps(self, symbols: &ImageSymbols, facts: FreeFacts) -> impl Iterator<Item = ImageStep> + use<> {
        let first = match facts.debug_pagealloc {
            true => [Some((Masking::NP, true)), None],
            false => [Some((Masking::NX, true)), Some((Masking::RW, true))],
        };
        let hides = facts.pti && !matches!(self, Self::SmpLocks);
        let last = hides.then_some((Masking::NP, false));
        let (range, cause) = (self.range(symbols), self.cause());
        first
            .into_iter()
            .chain([last])
            .flatten()
            .filter_map(move |(change, aliases)| Some(ImageStep { range: range?, change, aliases, cause }))
    }
}

/// Whether the lock prefixes of SMP alternatives are freed: not if they may be needed again.
///
/// Source: Linux 5.10–7.2 arch/x86/kernel/alternative.c `alternative_instructions`.
#[must_use]
pub const fn frees_smp_locks(patched_to_one_cpu: bool, possible_cpus: u32) -> bool {
    !patched_to_one_cpu || possible_cpus == 1
}

/// The two steps that protect read-only data; from the first on, [`super::cpa::Protections`] guard it. The gaps are
/// freed next. The same in all eras but for the dirty bit.
///
/// | step | range |
/// |---|---|
/// | RO | text and read-only data, whole leaves |
/// | NX | everything behind the text |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `mark_rodata_ro`.
#[must_use]
pub fn rodata_steps(era: Era, symbols: &ImageSymbols) -> [ImageStep; 2] {
    let ro = between(up(symbols.text, PAGE), symbols.end_rodata_hpage_align);
    let nx = between(up(symbols.etext, PAGE), up(symbols.brk_end, LARGE));
    [
        ImageStep { range: ro, change: Masking::ro(era), aliases: true, cause: Change::RodataRo },
        ImageStep { range: nx, change: Masking::NX, aliases: true, cause: Change::TextNx },
    ]
}

/// KiB that the boot log says are write protected.
#[must_use]
pub fn protected_kib(symbols: &ImageSymbols) -> u64 {
    (symbols.end_rodata_hpage_align - up(symbols.text, PAGE)) >> 10
}

/// The interrupt descriptor table becomes read only.
#[must_use]
pub fn idt_step(era: Era, symbols: &ImageSymbols) -> ImageStep {
    let range = between(symbols.idt_table, symbols.idt_table + PAGE);
    ImageStep { range, change: Masking::ro(era), aliases: true, cause: Change::IdtRo }
}

/// Where the real-mode trampoline lies in the direct map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trampoline {
    /// Its first byte.
    pub start: VirtAddr,
    /// Its size, whole pages.
    pub bytes: u64,
    /// Offset of its text.
    pub text_start: u64,
    /// Offset of the end of what may be read only.
    pub ro_end: u64,
}

/// The trampoline's rights: none executable, its first part read only, the text in it executable.
///
/// Source: Linux 5.10–7.2 arch/x86/realmode/init.c `set_real_mode_permissions`.
#[must_use]
pub fn trampoline_steps(era: Era, trampoline: &Trampoline) -> [ImageStep; 3] {
    let start = trampoline.start;
    let ro_end = start + trampoline.ro_end.next_multiple_of(PAGE);
    let step = |range, change| ImageStep { range, change, aliases: true, cause: Change::Trampoline };
    [
        step(between(start, start + trampoline.bytes), Masking::NX),
        step(between(start, ro_end), Masking::ro(era)),
        step(between(start + trampoline.text_start, ro_end), Masking::X),
    ]
}

/// Whether page 0 of the direct map is forced to be a small page: only where no 1 GiB leaves are used.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `init_memory_mapping` callers, arch/x86/mm/pat/set_memory.c
/// `set_memory_4k`.
#[must_use]
pub const fn forces_page_zero(gbpages_in_use: bool) -> bool {
    !gbpages_in_use
}

/// Forces the first page of the direct map, at `first`, to be a small one.
///
/// | era | the page |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | is split off |
/// | 7.2 | is split off and marked to stay so |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `set_memory_4k`.
#[must_use]
pub fn page_zero_step(era: Era, first: VirtAddr) -> ImageStep {
    let change = Masking { set: kernel_4k(era), clear: 0 };
    ImageStep { range: between(first, first + PAGE), change, aliases: true, cause: Change::PageZero }
}

fn up(va: VirtAddr, align: u64) -> VirtAddr {
    VirtAddr(va.0.next_multiple_of(align))
}

fn between(start: VirtAddr, end: VirtAddr) -> VirtRange {
    VirtRange { start, last: end - 1 }
}
