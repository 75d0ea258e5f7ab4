//! Page-table isolation: whether it is on, what it says, and which kernel pages stay global.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/pti.c.

use kernmem_base::{Era, Level, VirtAddr, VirtRange};

use super::format::bit::{NX, PRESENT, USER, nopti_shadow};
use super::image::ImageSymbols;
use super::layout::Paging;
use crate::Reason;

/// What the command line says about isolation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PtiOption {
    /// Nothing.
    Unset,
    /// `pti=auto`.
    Auto,
    /// `pti=on`.
    On,
    /// `pti=off` or `nopti`.
    Off,
}

/// What decides whether isolation is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtiFacts {
    /// Built in.
    pub built: bool,
    /// The command line.
    pub option: PtiOption,
    /// `mitigations=off`.
    pub mitigations_off: bool,
    /// The CPU is open to Meltdown.
    pub meltdown: bool,
    /// A paravirtual Xen guest.
    pub xen_pv: bool,
}

/// What the boot log says besides `enabled`, which stands there whenever isolation is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PtiMessage {
    /// A CPU that does not need it was told to use it.
    ForceEnabled,
    /// A CPU that needs it was told to go without.
    DisabledByOption,
    /// A CPU that needs it runs as a paravirtual guest.
    DisabledOnXen,
}

/// Whether isolation is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtiDecision {
    /// On.
    pub on: bool,
    /// What else is logged.
    pub message: Option<PtiMessage>,
}

/// Whether page-table isolation is on.
///
/// | case | on |
/// |---|---|
/// | not built; Xen PV | no |
/// | `pti=off`, `nopti` | no |
/// | `pti=on` | yes |
/// | `mitigations=off` | no |
/// | `pti=auto` or nothing | on CPUs open to Meltdown |
///
/// `mitigations=off` together with `pti=on` or `pti=auto`: to 6.1 the `pti=` word wins, from 6.12 on the other does
/// (both UNVERIFIED).
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pti.c `pti_check_boottime_disable`.
#[must_use]
pub const fn decide(era: Era, facts: PtiFacts) -> PtiDecision {
    const fn off(message: PtiMessage, facts: PtiFacts) -> PtiDecision {
        PtiDecision { on: false, message: if facts.meltdown { Some(message) } else { None } }
    }
    if !facts.built {
        return PtiDecision { on: false, message: None };
    }
    if facts.xen_pv {
        return off(PtiMessage::DisabledOnXen, facts);
    }
    let mitigations_win = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => matches!(facts.option, PtiOption::Unset),
        Era::V6_12 | Era::V7_2 => true,
    };
    match facts.option {
        PtiOption::Off => off(PtiMessage::DisabledByOption, facts),
        _ if facts.mitigations_off && mitigations_win => off(PtiMessage::DisabledByOption, facts),
        PtiOption::On => {
            PtiDecision { on: true, message: if facts.meltdown { None } else { Some(PtiMessage::ForceEnabled) } }
        }
        PtiOption::Auto | PtiOption::Unset => PtiDecision { on: facts.meltdown, message: None },
    }
}

/// What decides whether kernel text may be global under isolation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GlobalFacts {
    /// The command line.
    pub option: PtiOption,
    /// Process-context identifiers are used.
    pub pcid: bool,
    /// An AMD K8.
    pub amd_k8: bool,
    /// The layout of structures is randomised.
    pub randstruct: bool,
}

/// Whether kernel text and read-only data may be global, and visible to user mode, under isolation. The same in all
/// eras.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pti.c `pti_kernel_image_global_ok`.
#[must_use]
pub const fn image_may_be_global(facts: GlobalFacts) -> bool {
    !facts.pcid && matches!(facts.option, PtiOption::Auto | PtiOption::Unset) && !facts.amd_k8 && !facts.randstruct
}

/// What isolation does to the image's map, in the order of boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtiImage {
    /// Made not global at first, with its alias.
    pub nonglobal: VirtRange,
    /// Whole 2 MiB of entry text: shared with the user root and marked global in place; again after read-only data is
    /// protected.
    pub entry: VirtRange,
    /// If allowed, at the end: whole 2 MiB shared with the user root and marked global in place.
    pub shared_text: Option<VirtRange>,
    /// If allowed, at the very end: made global, with its alias.
    pub global_text: Option<VirtRange>,
}

/// What isolation does to the image's map.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pti.c `pti_init`, `pti_finalize`, `pti_clone_kernel_text`,
/// `pti_set_kernel_image_nonglobal`.
#[must_use]
pub fn image_ranges(symbols: &ImageSymbols, may_be_global: bool) -> PtiImage {
    const LARGE: u64 = 1 << 21;
    const PAGE: u64 = 1 << 12;
    let up = |va: VirtAddr, align: u64| VirtAddr(va.0.next_multiple_of(align));
    let range = |start: VirtAddr, end: VirtAddr| VirtRange { start, last: end - 1 };
    let text = up(symbols.text, PAGE);
    let entry = range(symbols.entry_text_start.align_down(LARGE), up(symbols.entry_text_end, LARGE));
    let shared = range(text.align_down(LARGE), up(symbols.end_rodata_aligned, LARGE));
    PtiImage {
        nonglobal: range(text, up(symbols.end, LARGE)),
        entry,
        shared_text: may_be_global.then_some(shared),
        global_text: may_be_global.then_some(range(text, up(symbols.etext, PAGE))),
    }
}

/// Why a kernel leaf is not global: isolation, or a CPU without global pages.
#[must_use]
pub const fn why_not_global(pti: bool) -> Reason {
    if pti { Reason::PtiGlobal } else { Reason::CpuLacks }
}

/// What a write to a root slot writes in the two roots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootWrite {
    /// In the kernel root.
    pub kernel: u64,
    /// In the user root, if it is mirrored there.
    pub user: Option<u64>,
}

/// Mirrors an entry of the user half to the user root, and takes execution from the kernel's copy of it.
///
/// | era | not mirrored |
/// |---|---|
/// | to 6.1 | kernel-half slots (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | the same, and entries with the mark that forbids it |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pti.c `__pti_set_user_pgtbl`.
#[must_use]
pub const fn root_write(era: Era, slot: u64, raw: u64, nx: bool) -> RootWrite {
    const USER_SLOTS: u64 = 256;
    let unmirrored = nopti_shadow(era);
    if slot >= USER_SLOTS || (unmirrored != 0 && raw & unmirrored != 0) {
        return RootWrite { kernel: raw, user: None };
    }
    let poison = nx && raw & (PRESENT | USER) == PRESENT | USER;
    RootWrite { kernel: if poison { raw | NX } else { raw }, user: Some(raw) }
}

/// Distance of the user root from the kernel root: the next frame.
pub const USER_ROOT_OFFSET: u64 = 1 << 12;

/// The level at which the user root shares the CPU entry areas and the espfix stacks with the kernel's.
#[must_use]
pub const fn shared_area_level(paging: Paging) -> Level {
    match paging {
        Paging::Level4 => Level::Pgd,
        Paging::Level5 => Level::P4d,
    }
}
