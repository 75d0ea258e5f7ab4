//! Protections in the form of a base page, without the address.
//!
//! Here: [`Prot`], every protection by Linux's name under the conditions of one kernel ([`ProtFacts`]); the constants
//! of kernels of 5.10 and later without LPA2; conversions; table entries.
//! Not here: which protection a mapping gets (the boot), rights of user mode as a value (`user`).
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h; values of every era in `golden/arm64_prot.csv`.

use kernmem_base::Era;

use super::bit::{
    AF, ATTR_INDEX_SHIFT, CONT, DBM, DIRTY, GP, NG, PXN, PXN_TABLE, RDONLY, SHARED, TABLE, USER, UXN, UXN_TABLE, VALID,
};
use super::{Arm64Attrs, MemoryType, Output, bit, user};

/// Index of normal memory with tags; used by the linear map whether or not the CPU has tags.
pub const MT_NORMAL_TAGGED: u64 = 1;

/// What every page has (`PROT_DEFAULT`): valid, accessed, shareable.
const DEFAULT: u64 = VALID | TABLE | AF | SHARED;
const PAGE: u64 = DEFAULT | UXN;

/// The conditions under which a kernel composes protections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtFacts {
    /// The branch.
    pub era: Era,
    /// The form of output addresses in use: with LPA2 the bits of shareability are the address's.
    pub output: Output,
    /// Kernel mappings belong to an ASID.
    pub not_global: bool,
    /// The kernel guards its own branches (BTI), built in and supported.
    pub guarded: bool,
}

impl ProtFacts {
    /// Global mappings, 48 bits of output address, no guarded branches.
    #[must_use]
    pub const fn plain(era: Era) -> Self {
        Self { era, output: Output::Plain, not_global: false, guarded: false }
    }

    /// What every page of these conditions can have of `attrs`: without shareability under LPA2.
    #[must_use]
    pub const fn in_this_form(&self, attrs: Arm64Attrs) -> Arm64Attrs {
        for_output(attrs, self.output)
    }

    /// A kernel protection under these conditions: in their form, and tied to an ASID if kernel mappings are.
    #[must_use]
    pub const fn kernel(&self, attrs: Arm64Attrs) -> Arm64Attrs {
        with_ng(self.in_this_form(attrs), self.not_global)
    }

    /// What text has beside its protection (`PTE_MAYBE_GP`).
    #[must_use]
    pub const fn maybe_guarded(&self) -> u64 {
        if self.guarded { GP } else { 0 }
    }
}

/// A protection by Linux's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Prot {
    /// `PROT_DEFAULT`: what the others are made of.
    Default,
    /// `PROT_SECT_DEFAULT`: the same for a block.
    SectDefault,
    /// `PROT_DEVICE_nGnRnE`.
    DeviceNGnRnE,
    /// `PROT_DEVICE_nGnRE`: what `ioremap` maps with; also `FIXMAP_PAGE_IO`.
    DeviceNGnRE,
    /// `PROT_NORMAL_NC`.
    NormalNc,
    /// `PROT_NORMAL_WT`, up to 5.10.
    NormalWt,
    /// `PROT_NORMAL`.
    Normal,
    /// `PROT_NORMAL_TAGGED`.
    NormalTagged,
    /// `PROT_SECT_DEVICE_nGnRE`: a block.
    SectDeviceNGnRE,
    /// `PROT_SECT_NORMAL`: a block.
    SectNormal,
    /// `PROT_SECT_NORMAL_EXEC`: a block.
    SectNormalExec,
    /// `PAGE_KERNEL`, `FIXMAP_PAGE_NORMAL`.
    Kernel,
    /// `PAGE_KERNEL_RO`, `FIXMAP_PAGE_RO`.
    KernelRo,
    /// `PAGE_KERNEL_ROX`.
    KernelRox,
    /// `PAGE_KERNEL_EXEC`.
    KernelExec,
    /// `PAGE_KERNEL_EXEC_CONT`.
    KernelExecCont,
    /// `PAGE_NONE`.
    UserNone,
    /// `PAGE_SHARED`.
    UserShared,
    /// `PAGE_SHARED_EXEC`.
    UserSharedExec,
    /// `PAGE_READONLY`.
    UserReadonly,
    /// `PAGE_READONLY_EXEC`.
    UserReadonlyExec,
    /// `PAGE_EXECONLY`, from 6.1 on: a CPU with EPAN lets user mode execute it and nothing else.
    UserExecOnly,
    /// `_PAGE_GCS`, 7.2: a guarded control stack.
    UserGcs,
    /// `_PAGE_GCS_RO`, 7.2: one that nobody may write.
    UserGcsRo,
}

impl Prot {
    const fn memory_type(self) -> MemoryType {
        match self {
            Self::DeviceNGnRnE => MemoryType::DeviceNGnRnE,
            Self::DeviceNGnRE | Self::SectDeviceNGnRE => MemoryType::DeviceNGnRE,
            Self::NormalNc => MemoryType::NormalNc,
            Self::NormalWt => MemoryType::NormalWt,
            Self::NormalTagged => MemoryType::NormalTagged,
            _ => MemoryType::Normal,
        }
    }

    /// Whether the era has it.
    ///
    /// | era | missing |
    /// |---|---|
    /// | 4.14 (UNVERIFIED) | tagged memory, execute-only pages, guarded control stacks |
    /// | 5.10 | execute-only pages, guarded control stacks |
    /// | 6.1, 6.12 | memory written through, guarded control stacks |
    /// | 7.2 | memory written through |
    const fn exists(self, era: Era) -> bool {
        let has_type = self.memory_type().index(era).is_some();
        match (self, era) {
            (Self::UserExecOnly, Era::V4_14 | Era::V5_10) => false,
            (Self::UserGcs | Self::UserGcsRo, Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12) => false,
            _ => has_type,
        }
    }

    /// Software's mark of a written page in kernel protections.
    ///
    /// | era | marked |
    /// |---|---|
    /// | 4.14 | no (UNVERIFIED) |
    /// | 5.10 and later | yes |
    const fn kernel_dirty(era: Era) -> u64 {
        match era {
            Era::V4_14 => 0,
            Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => DIRTY,
        }
    }

    /// Software's writable bit in a block of normal memory (`PROT_SECT_NORMAL`).
    ///
    /// | era | set |
    /// |---|---|
    /// | to 6.1 | no (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | yes |
    const fn block_write(era: Era) -> u64 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
            Era::V6_12 | Era::V7_2 => DBM,
        }
    }

    /// The bits without memory type and conditions.
    const fn shape(self, era: Era) -> u64 {
        const BLOCK: u64 = DEFAULT & !TABLE;
        let dirty = Self::kernel_dirty(era);
        match self {
            Self::Default => DEFAULT,
            Self::SectDefault => BLOCK,
            Self::DeviceNGnRnE
            | Self::DeviceNGnRE
            | Self::NormalNc
            | Self::NormalWt
            | Self::Normal
            | Self::NormalTagged => PAGE | PXN | DBM,
            Self::SectDeviceNGnRE => BLOCK | PXN | UXN,
            Self::SectNormal => BLOCK | PXN | UXN | Self::block_write(era),
            Self::SectNormalExec => BLOCK | UXN,
            Self::Kernel => PAGE | PXN | DBM | dirty,
            Self::KernelRo => PAGE | PXN | RDONLY | dirty,
            Self::KernelRox => PAGE | RDONLY | dirty,
            Self::KernelExec => PAGE | DBM | dirty,
            Self::KernelExecCont => PAGE | DBM | CONT | dirty,
            Self::UserNone => user::none(era),
            Self::UserShared => user::READONLY_EXEC | UXN | DBM,
            Self::UserSharedExec => user::READONLY_EXEC | DBM,
            Self::UserReadonly => user::READONLY_EXEC | UXN,
            Self::UserReadonlyExec => user::READONLY_EXEC,
            Self::UserExecOnly => user::READONLY_EXEC & !USER,
            Self::UserGcs => PAGE | USER | NG | DBM,
            Self::UserGcsRo => PAGE | USER | NG,
        }
    }

    /// Whether it is one of user mode, whose macros know nothing of conditions.
    #[must_use]
    pub const fn is_user(self) -> bool {
        matches!(
            self,
            Self::UserNone
                | Self::UserShared
                | Self::UserSharedExec
                | Self::UserReadonly
                | Self::UserReadonlyExec
                | Self::UserExecOnly
                | Self::UserGcs
                | Self::UserGcsRo
        )
    }

    /// The value of Linux's macro under `facts`; `None` where the era has no such protection.
    ///
    /// User protections are here as they are written down, with shareability; a region's pages get them
    /// [`ProtFacts::in_this_form`].
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h; 6.12 arch/arm64/mm/mmap.c `adjust_protection_map`.
    #[must_use]
    pub const fn raw(self, facts: &ProtFacts) -> Option<Arm64Attrs> {
        if !self.exists(facts.era) {
            return None;
        }
        let Some(bits) = self.memory_type().put(facts.era, self.shape(facts.era)) else { return None };
        let attrs = Arm64Attrs(bits);
        Some(if self.is_user() { attrs } else { facts.kernel(attrs) })
    }
}

/// What `ioremap` maps with: device memory, writable, not executable, of unknown age.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h `PROT_DEVICE_nGnRE`.
#[must_use]
pub const fn device(era: Era) -> Arm64Attrs {
    let bits = Prot::DeviceNGnRE.shape(era);
    match MemoryType::DeviceNGnRE.put(era, bits) {
        Some(bits) => Arm64Attrs(bits),
        None => Arm64Attrs(bits),
    }
}

/// The same page with another memory type and not executable; `None` where the era has no such type.
///
/// | Linux | type |
/// |---|---|
/// | `pgprot_noncached` | device nGnRnE |
/// | `pgprot_device` | device nGnRE |
/// | `pgprot_writecombine`, `pgprot_dmacoherent` | normal, not cached |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable.h `pgprot_noncached`.
#[must_use]
pub const fn as_memory(attrs: Arm64Attrs, era: Era, kind: MemoryType) -> Option<Arm64Attrs> {
    match kind.put(era, attrs.0 | PXN | UXN) {
        Some(bits) => Some(Arm64Attrs(bits)),
        None => None,
    }
}

/// The same page, not executable by the kernel (`pgprot_nx`).
#[must_use]
pub const fn no_exec(attrs: Arm64Attrs) -> Arm64Attrs {
    Arm64Attrs(attrs.0 | PXN)
}

/// What the first instructions map the image with, in the form of a base page: executable, and writable or not.
///
/// | era | identity map | kernel map |
/// |---|---|---|
/// | to 5.10 | writable (`SWAPPER_MM_MMUFLAGS`; 4.14 UNVERIFIED) | writable |
/// | 6.1 | read only, tables and devicetree writable (`SWAPPER_RX_MMUFLAGS`, `SWAPPER_RW_MMUFLAGS`) | writable |
/// | 6.12, 7.2 | kernel protections | kernel protections |
///
/// Source: Linux 5.10, 6.1 arch/arm64/include/asm/kernel-pgtable.h.
#[must_use]
pub const fn boot_map(writable: bool) -> Arm64Attrs {
    Arm64Attrs(if writable { DEFAULT } else { DEFAULT | RDONLY })
}

/// A kernel protection of 5.10 and later without LPA2: normal memory has the index 0 and needs no bits.
const fn later(prot: Prot) -> Arm64Attrs {
    Arm64Attrs(prot.shape(Era::V5_10))
}

/// Kernel data: writable, not executable.
pub const PAGE_KERNEL: Arm64Attrs = later(Prot::Kernel);
/// Read only, not executable.
pub const PAGE_KERNEL_RO: Arm64Attrs = later(Prot::KernelRo);
/// Kernel text.
pub const PAGE_KERNEL_ROX: Arm64Attrs = later(Prot::KernelRox);
/// Kernel text with `rodata=off`.
pub const PAGE_KERNEL_EXEC: Arm64Attrs = later(Prot::KernelExec);

/// The same rights with the tagged memory type: ordinary memory in the linear map.
#[must_use]
pub const fn tagged(attrs: Arm64Attrs) -> Arm64Attrs {
    Arm64Attrs(attrs.0 & !bit::ATTR_INDEX | MT_NORMAL_TAGGED << ATTR_INDEX_SHIFT)
}

/// The same rights, tied to an ASID if `not_global`.
#[must_use]
pub const fn with_ng(attrs: Arm64Attrs, not_global: bool) -> Arm64Attrs {
    if not_global { Arm64Attrs(attrs.0 | NG) } else { attrs }
}

/// The same rights without shareability, where a format holds an address in its place.
#[must_use]
pub const fn for_output(attrs: Arm64Attrs, output: Output) -> Arm64Attrs {
    match output {
        Output::Plain | Output::Lpa => attrs,
        Output::Lpa2 => Arm64Attrs(attrs.0 & !SHARED),
    }
}

/// The block form in which vmemmap is mapped up to 6.1 (type bit aside, which the cursor sets): clean and not
/// writable by the software model, though hardware sees it writable; from 6.12 on writable by both.
///
/// Source: Linux 6.1 arch/arm64/mm/mmu.c `vmemmap_set_pmd`, `PROT_SECT_NORMAL`.
#[must_use]
pub const fn vmemmap_block(era: Era) -> Arm64Attrs {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => Arm64Attrs(Prot::SectNormal.shape(era) | TABLE),
        Era::V7_2 => PAGE_KERNEL,
    }
}

/// Attributes of a table entry that was there before the kernel's mapper: the fixmap's, up to 6.12.
pub const TABLE_STATIC: Arm64Attrs = Arm64Attrs(VALID | TABLE);

/// Attributes of an entry that links one of the fixmap's tables.
///
/// | era | |
/// |---|---|
/// | 6.12 and before | plain |
/// | 7.2 | marked accessed |
///
/// Source: Linux 6.12, 7.2 arch/arm64/mm/fixmap.c `early_fixmap_init`.
#[must_use]
pub const fn table_static(era: Era) -> Arm64Attrs {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => TABLE_STATIC,
        Era::V7_2 => Arm64Attrs(VALID | TABLE | AF),
    }
}

/// Attributes of an entry that links a table of the first maps.
///
/// | era | |
/// |---|---|
/// | 6.1 and before | plain |
/// | 6.12, 7.2 | not executable by user mode |
///
/// Source: Linux 5.10, 6.1 arch/arm64/kernel/head.S; 6.12, 7.2 arch/arm64/kernel/pi/map_range.c `map_range`.
#[must_use]
pub const fn table_early(era: Era) -> Arm64Attrs {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => TABLE_STATIC,
        Era::V6_12 | Era::V7_2 => Arm64Attrs(VALID | TABLE | UXN_TABLE),
    }
}

/// Attributes of a table entry for kernel mappings; `no_exec` tables let nothing below them be executed.
///
/// | era | |
/// |---|---|
/// | 5.10 and before | plain |
/// | 6.1, 6.12 | not executable by user mode; the linear map's not by the kernel either |
/// | 7.2 | the same, marked accessed |
///
/// Source: Linux 6.1 arch/arm64/mm/mmu.c `alloc_init_cont_pmd`; arch/arm64/include/asm/pgalloc.h `pud_populate`.
#[must_use]
pub const fn table(era: Era, no_exec: bool) -> Arm64Attrs {
    let hierarchical = if no_exec { UXN_TABLE | PXN_TABLE } else { UXN_TABLE };
    match era {
        Era::V4_14 | Era::V5_10 => TABLE_STATIC,
        Era::V6_1 | Era::V6_12 => Arm64Attrs(VALID | TABLE | hierarchical),
        Era::V7_2 => Arm64Attrs(VALID | TABLE | AF | hierarchical),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts: the table of kernel protections, columns 5.10 to 7.2 without LPA2.
    #[test]
    fn protections_have_the_bits_of_the_headers() {
        assert_eq!(PAGE_KERNEL.0, 0x00e8_0000_0000_0703);
        assert_eq!(PAGE_KERNEL_RO.0, 0x00e0_0000_0000_0783);
        assert_eq!(PAGE_KERNEL_ROX.0, 0x00c0_0000_0000_0783);
        assert_eq!(PAGE_KERNEL_EXEC.0, 0x00c8_0000_0000_0703);
        assert_eq!(tagged(PAGE_KERNEL).0, 0x00e8_0000_0000_0707);
        assert_eq!(vmemmap_block(Era::V6_1).0 & !TABLE, 0x0060_0000_0000_0701);
        assert_eq!(vmemmap_block(Era::V6_12).0 & !TABLE, 0x0068_0000_0000_0701);
        assert_eq!(vmemmap_block(Era::V7_2).0 & !TABLE, 0x00e8_0000_0000_0701);
        assert_eq!(device(Era::V5_10).0, 0x0068_0000_0000_0717);
        assert_eq!(device(Era::V6_1).0, 0x0068_0000_0000_0713);
        assert_eq!(table(Era::V6_1, true).0, 0x1800_0000_0000_0003);
        assert_eq!(table(Era::V7_2, false).0, 0x1000_0000_0000_0403);
        assert_eq!((table_static(Era::V6_12).0, table_static(Era::V7_2).0), (3, 0x403));
        assert_eq!((table_early(Era::V6_1).0, table_early(Era::V7_2).0), (3, 0x1000_0000_0000_0003));
    }
}
