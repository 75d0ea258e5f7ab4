//! Protections of kernel and user pages, the masks that a boot applies to them, and what table entries hold.
//!
//! A protection is a raw value of this table; what reaches a table is that value less the bits of a mask
//! ([`Masks`]), which the CPU's features and page-table isolation decide.
//!
//! Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h, arch/x86/mm/init.c `probe_page_size_mask`.

use kernmem_base::{Era, Level, PhysAddr};

use super::X86Attrs;
use super::format::bit::{ACCESSED, DIRTY, GLOBAL, NX, PAT, PCD, PRESENT, PROTNONE, PSE, PWT, RW, USER};
use super::format::leaf_frame;

/// A protection by Linux's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prot {
    /// `__PAGE_KERNEL`: data.
    Kernel,
    /// `__PAGE_KERNEL_EXEC`.
    KernelExec,
    /// `__PAGE_KERNEL_RO`.
    KernelRo,
    /// `__PAGE_KERNEL_ROX`.
    KernelRox,
    /// `__PAGE_KERNEL_NOCACHE`: strongly uncached.
    KernelNocache,
    /// `__PAGE_KERNEL_VVAR`: the vsyscall page, readable from user mode.
    KernelVvar,
    /// `__PAGE_KERNEL_LARGE`: data, in a leaf above the last level.
    KernelLarge,
    /// `__PAGE_KERNEL_LARGE_EXEC`; also the early identity map's.
    KernelLargeExec,
    /// `__PAGE_KERNEL_WP`: write protected by the memory type.
    KernelWp,
    /// `__PAGE_KERNEL_IO`: a device's memory, before its memory type is added.
    KernelIo,
    /// `__PAGE_KERNEL_IO_NOCACHE`.
    KernelIoNocache,
    /// `PAGE_NONE`: user page without rights.
    UserNone,
    /// `PAGE_SHARED`.
    UserShared,
    /// `PAGE_SHARED_EXEC`.
    UserSharedExec,
    /// `PAGE_COPY`, `PAGE_READONLY`.
    UserReadonly,
    /// `PAGE_COPY_EXEC`, `PAGE_READONLY_EXEC`.
    UserReadonlyExec,
}

impl Prot {
    /// The raw value, before any mask.
    ///
    /// Read-only kernel protections lose D where shadow stacks exist, because a page that is read only and dirty is
    /// one of them.
    ///
    /// | era | read-only kernel pages |
    /// |---|---|
    /// | to 6.1 | dirty (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | clean |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `__PAGE_KERNEL_*`, `PAGE_*`.
    #[must_use]
    pub const fn raw(self, era: Era) -> X86Attrs {
        const DATA: u64 = PRESENT | RW | ACCESSED | DIRTY | GLOBAL;
        let ro = match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => PRESENT | ACCESSED | DIRTY | GLOBAL,
            Era::V6_12 | Era::V7_2 => PRESENT | ACCESSED | GLOBAL,
        };
        X86Attrs(match self {
            Self::Kernel | Self::KernelIo => DATA | NX,
            Self::KernelExec => DATA,
            Self::KernelRo => ro | NX,
            Self::KernelRox => ro,
            Self::KernelNocache | Self::KernelIoNocache => DATA | PWT | PCD | NX,
            Self::KernelVvar => ro | USER | NX,
            Self::KernelLarge => DATA | PSE | NX,
            Self::KernelLargeExec => DATA | PSE,
            Self::KernelWp => DATA | PAT | PWT | NX,
            Self::UserNone => ACCESSED | PROTNONE,
            Self::UserShared => PRESENT | RW | USER | ACCESSED | NX,
            Self::UserSharedExec => PRESENT | RW | USER | ACCESSED,
            Self::UserReadonly => PRESENT | USER | ACCESSED | NX,
            Self::UserReadonlyExec => PRESENT | USER | ACCESSED,
        })
    }
}

/// Entries that point to a table, by who makes them; the frame is or-ed in.
pub mod table {
    use super::{ACCESSED, DIRTY, NX, PRESENT, RW, USER, X86Attrs};

    /// `_KERNPG_TABLE`: splits of large leaves, tables of the user root, early tables, KASAN's early shadow, EFI.
    pub const KERNPG: X86Attrs = X86Attrs(PRESENT | RW | ACCESSED | DIRTY);
    /// `_PAGE_TABLE`: everything hooked by the populate helpers, also for kernel addresses.
    pub const PAGE: X86Attrs = X86Attrs(PRESENT | RW | USER | ACCESSED | DIRTY);
    /// Tables of the espfix area.
    pub const ESPFIX: X86Attrs = X86Attrs(PRESENT | ACCESSED | DIRTY | NX);
}

/// What the CPU and the command line say that protections depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuFacts {
    /// Leaves of 2 MiB.
    pub pse: bool,
    /// Global pages.
    pub pge: bool,
    /// No-execute.
    pub nx: bool,
    /// Leaves of 1 GiB.
    pub gbpages: bool,
    /// Process-context identifiers.
    pub pcid: bool,
}

/// A feature without which a kernel stops at its first instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needed {
    /// Leaves of 2 MiB.
    Pse,
    /// Global pages.
    Pge,
}

/// The feature that a 64-bit kernel misses on this CPU.
///
/// | era | needs |
/// |---|---|
/// | to 6.12 | PSE (4.14 UNVERIFIED) |
/// | 7.2 | PSE, PGE |
///
/// Source: Linux 5.10–7.2 arch/x86/include/asm/required-features.h; 7.2 arch/x86/Kconfig.cpufeatures.
#[must_use]
pub const fn missing_feature(era: Era, cpu: CpuFacts) -> Option<Needed> {
    if !cpu.pse {
        return Some(Needed::Pse);
    }
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => None,
        Era::V7_2 if cpu.pge => None,
        Era::V7_2 => Some(Needed::Pge),
    }
}

/// Whether NX is used: the CPU has it, and `noexec=off` did not refuse it while that was an option.
///
/// | era | `noexec=off` |
/// |---|---|
/// | to 5.10 | honoured (4.14 UNVERIFIED) |
/// | 6.1 and later | ignored |
///
/// Source: Linux 5.10 arch/x86/mm/setup_nx.c `noexec_setup`; 6.1 arch/x86/mm/init.c `x86_configure_nx`.
#[must_use]
pub const fn nx_used(era: Era, cpu_has_nx: bool, noexec_off: bool) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => cpu_has_nx && !noexec_off,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => cpu_has_nx,
    }
}

/// Which bits may reach a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Masks {
    /// Bits that this CPU has: every present entry written by `pfn_pte` is cut to them.
    pub supported: u64,
    /// Bits of the kernel's own protections: the same, less GLOBAL under page-table isolation.
    pub default_kernel: u64,
}

impl Masks {
    /// The masks before the direct map is built: only NX is known.
    #[must_use]
    pub const fn early(nx: bool) -> Self {
        let mask = if nx { !0 } else { !NX };
        Self { supported: mask, default_kernel: mask }
    }

    /// The masks from the direct map on.
    ///
    /// | PGE | isolation | supported | default kernel |
    /// |---|---|---|---|
    /// | no | any | without G | without G |
    /// | yes | no | all | all |
    /// | yes | yes | all | without G |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `probe_page_size_mask`.
    #[must_use]
    pub const fn new(nx: bool, pge: bool, pti: bool) -> Self {
        let early = Self::early(nx).supported;
        let supported = if pge { early } else { early & !GLOBAL };
        Self { supported, default_kernel: if pti { supported & !GLOBAL } else { supported } }
    }

    /// A kernel protection as Linux's `PAGE_KERNEL*` give it.
    #[must_use]
    pub const fn kernel(self, era: Era, prot: Prot) -> X86Attrs {
        X86Attrs(prot.raw(era).0 & self.default_kernel)
    }

    /// Cuts attributes to what the CPU has, if they are present.
    #[must_use]
    pub const fn supported(self, attrs: X86Attrs) -> X86Attrs {
        if attrs.has(PRESENT) { X86Attrs(attrs.0 & self.supported) } else { attrs }
    }

    /// The raw leaf of `level` for the memory at `base`: cut to what the CPU has; the frame of an entry that is
    /// neither empty nor present is stored inverted, so that speculation finds no memory there.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable.h `pfn_pte`, pgtable-invert.h `protnone_mask`.
    #[must_use]
    pub const fn raw_leaf(self, base: PhysAddr, attrs: X86Attrs, level: Level) -> u64 {
        let attrs = self.supported(attrs);
        let frame = if is_inverted(attrs.0) { !base.0 } else { base.0 };
        (frame & leaf_frame(level)) | attrs.0
    }
}

/// Whether the frame bits of a raw leaf are inverted: it is neither empty nor present.
const fn is_inverted(raw: u64) -> bool {
    raw != 0 && raw & PRESENT == 0
}

/// The memory that a raw leaf of `level` names: the inverse of [`Masks::raw_leaf`].
#[must_use]
pub const fn base_of(raw: u64, level: Level) -> PhysAddr {
    PhysAddr((if is_inverted(raw) { !raw } else { raw }) & leaf_frame(level))
}

/// Clears GLOBAL from attributes that are not present, where the bit would mean a page without rights.
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pat/set_memory.c `pgprot_clear_protnone_bits`.
#[must_use]
pub const fn clear_protnone(attrs: X86Attrs) -> X86Attrs {
    if attrs.has(PRESENT) { attrs } else { X86Attrs(attrs.0 & !GLOBAL) }
}
