//! Bits of a descriptor that software reads, by era; 0 where an era has none.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h, pgtable-hwdef.h; 4.14 UNVERIFIED.

use kernmem_base::Era;

use super::bit::{NG, PROT_NONE, VALID};

/// Device memory with page descriptors (`PTE_DEVMAP`).
///
/// | era | bit |
/// |---|---|
/// | 4.14 | none |
/// | 5.10 to 6.12 | 57 |
/// | 7.2 | none |
#[must_use]
pub const fn devmap(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V7_2 => 0,
        Era::V5_10 | Era::V6_1 | Era::V6_12 => 1 << 57,
    }
}

/// A page without rights, in an entry that is not valid (`PTE_PROT_NONE`).
///
/// | era | bit |
/// |---|---|
/// | to 6.1 | 58 |
/// | 6.12, 7.2 | none of its own: [`present_invalid`] without the rights of user mode |
#[must_use]
pub const fn prot_none(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => PROT_NONE,
        Era::V6_12 | Era::V7_2 => 0,
    }
}

/// Present for software, though the MMU may not use it (`PMD_PRESENT_INVALID`, later `PTE_PRESENT_INVALID`).
///
/// | era | bit |
/// |---|---|
/// | 4.14 | none |
/// | 5.10, 6.1 | 59, in blocks |
/// | 6.12, 7.2 | that of nG |
#[must_use]
pub const fn present_invalid(era: Era) -> u64 {
    match era {
        Era::V4_14 => 0,
        Era::V5_10 | Era::V6_1 => 1 << 59,
        Era::V6_12 | Era::V7_2 => NG,
    }
}

/// What makes an invalid kernel page valid again (`PTE_PRESENT_VALID_KERNEL`): the valid bit, and nG where kernel
/// mappings are not global, because its bit says something else in an invalid entry.
///
/// | era | |
/// |---|---|
/// | to 6.12 | the valid bit |
/// | 7.2 | as above |
#[must_use]
pub const fn present_valid_kernel(era: Era, not_global: bool) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => VALID,
        Era::V7_2 if not_global => VALID | NG,
        Era::V7_2 => VALID,
    }
}

/// Bits that software may change in a live entry (`PTE_SWBITS_MASK`).
///
/// | era | bits |
/// |---|---|
/// | to 6.1 | none |
/// | 6.12, 7.2 | 63 and 58:55 |
#[must_use]
pub const fn changeable(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
        Era::V6_12 | Era::V7_2 => 1 << 63 | 0xf << 55,
    }
}

/// Write protected for a handler of user mode, where that is built in (`PTE_UFFD_WP`).
///
/// | era | bit |
/// |---|---|
/// | to 6.1 | none |
/// | 6.12, 7.2 | 58 |
#[must_use]
pub const fn uffd_wp(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
        Era::V6_12 | Era::V7_2 => 1 << 58,
    }
}

/// The same in a swap entry (`PTE_SWP_UFFD_WP`).
///
/// | era | bit |
/// |---|---|
/// | to 6.1 | none |
/// | 6.12, 7.2 | 3 |
#[must_use]
pub const fn swap_uffd_wp(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
        Era::V6_12 | Era::V7_2 => 1 << 3,
    }
}

/// The page behind a swap entry belongs to one process alone (`PTE_SWP_EXCLUSIVE`).
///
/// | era | bit |
/// |---|---|
/// | to 5.10 | none |
/// | 6.1 and later | 2 |
#[must_use]
pub const fn swap_exclusive(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 => 0,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 1 << 2,
    }
}
