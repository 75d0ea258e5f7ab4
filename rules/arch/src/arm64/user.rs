//! Pages and tables of user mode.
//!
//! ```text
//! writable and clean   DBM, RDONLY        writable and dirty   DBM, not RDONLY
//! read only            RDONLY             DIRTY is software's note of an earlier write
//! ```
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h `PAGE_SHARED`, pgtable.h `pte_modify`,
//! pgalloc.h `pmd_populate`; values of every era in `golden/arm64_prot.csv`.

use kernmem_base::{Era, Level, PhysAddr};

use super::bit::{
    AF, ATTR_INDEX, DBM, DIRTY, GP, NG, PROT_NONE, PXN, PXN_TABLE, RDONLY, SHARED, SPECIAL, TABLE, USER, UXN, VALID,
};
use super::format::Output;
use super::{Arm64, Arm64Attrs};
use crate::{Entry, EntryFormat, UserFormat, UserRights};

/// `PAGE_READONLY_EXEC`.
pub(super) const READONLY_EXEC: u64 = VALID | TABLE | USER | RDONLY | SHARED | AF | NG | PXN;

/// A page without rights: not valid, and marked so that software finds it.
///
/// | era | mark |
/// |---|---|
/// | to 6.1 | bit 58 (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | nG while not valid |
pub(super) const fn none(era: Era) -> u64 {
    const BARE: u64 = TABLE | RDONLY | SHARED | AF | NG | PXN | UXN;
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => BARE | PROT_NONE,
        Era::V6_12 | Era::V7_2 => BARE,
    }
}

const fn is_without_rights(era: Era, raw: u64) -> bool {
    let mark = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => PROT_NONE,
        Era::V6_12 | Era::V7_2 => NG,
    };
    raw & VALID == 0 && raw & mark != 0
}

const fn is_hardware_dirty(raw: u64) -> bool {
    raw & (DBM | RDONLY) == DBM
}

impl<const PAGE: u32, const VA: u32> UserFormat for Arm64<PAGE, VA> {
    const KERNEL_SLOT: Option<usize> = None;

    fn protection(era: Era, rights: UserRights, shared: bool) -> Arm64Attrs {
        let no_sharing = if matches!(Self::OUTPUT, Output::Lpa2) { SHARED } else { 0 };
        if !rights.any() {
            return Arm64Attrs(none(era) & !no_sharing);
        }
        let execute = if rights.execute { 0 } else { UXN };
        let write = if shared && rights.write { DBM } else { 0 };
        Arm64Attrs((READONLY_EXEC | execute | write) & !no_sharing)
    }

    /// The table entries of user mode: nothing below them is executed by the kernel.
    ///
    /// | era | |
    /// |---|---|
    /// | to 5.10 | plain (4.14 UNVERIFIED) |
    /// | 6.1, 6.12 | PXNTable |
    /// | 7.2 | the same, marked accessed (the mark UNVERIFIED for user mode) |
    fn table(era: Era) -> Arm64Attrs {
        match era {
            Era::V4_14 | Era::V5_10 => Arm64Attrs(VALID | TABLE),
            Era::V6_1 | Era::V6_12 => Arm64Attrs(VALID | TABLE | PXN_TABLE),
            Era::V7_2 => Arm64Attrs(VALID | TABLE | PXN_TABLE | AF),
        }
    }

    fn page_raw(base: PhysAddr, attrs: Arm64Attrs) -> u64 {
        Self::place(base) | attrs.0
    }

    fn page(era: Era, raw: u64) -> Option<(PhysAddr, Arm64Attrs)> {
        let valid = if is_without_rights(era, raw) { raw | VALID | TABLE } else { raw };
        match Self::decode(valid, Level::Pte) {
            Entry::Leaf { base, .. } => Some((base, Arm64Attrs(raw & !Self::place(base)))),
            _ => None,
        }
    }

    fn is_valid(attrs: Arm64Attrs) -> bool {
        attrs.0 & VALID != 0
    }

    fn is_young(attrs: Arm64Attrs) -> bool {
        attrs.0 & AF != 0
    }

    fn is_dirty(_era: Era, attrs: Arm64Attrs) -> bool {
        attrs.0 & DIRTY != 0 || is_hardware_dirty(attrs.0)
    }

    fn is_writable(attrs: Arm64Attrs) -> bool {
        attrs.0 & DBM != 0
    }

    fn is_special(attrs: Arm64Attrs) -> bool {
        attrs.0 & SPECIAL != 0
    }

    fn make_young(attrs: Arm64Attrs) -> Arm64Attrs {
        Arm64Attrs(attrs.0 | AF)
    }

    fn make_old(attrs: Arm64Attrs) -> Arm64Attrs {
        Arm64Attrs(attrs.0 & !AF)
    }

    fn make_special(attrs: Arm64Attrs) -> Arm64Attrs {
        Arm64Attrs(attrs.0 | SPECIAL)
    }

    fn make_written(_era: Era, attrs: Arm64Attrs) -> Arm64Attrs {
        Arm64Attrs((attrs.0 | DBM | DIRTY) & !RDONLY)
    }

    fn write_protect(_era: Era, attrs: Arm64Attrs) -> Arm64Attrs {
        let dirty = if is_hardware_dirty(attrs.0) { DIRTY } else { 0 };
        Arm64Attrs((attrs.0 | dirty | RDONLY) & !DBM)
    }

    fn reprotect(_era: Era, attrs: Arm64Attrs, protection: Arm64Attrs) -> Arm64Attrs {
        const RIGHTS: u64 = USER | PXN | UXN | RDONLY | PROT_NONE | VALID | DBM | GP | ATTR_INDEX;
        let dirty = if is_hardware_dirty(attrs.0) { DIRTY } else { 0 };
        let new = (attrs.0 | dirty) & !RIGHTS | protection.0 & RIGHTS;
        let is_written = new & (DBM | DIRTY) == DBM | DIRTY;
        Arm64Attrs(if is_written { new & !RDONLY } else { new })
    }
}
