//! The names of an entry's bits, by era: those of x86-64, less what entries of 32 bits and PAE's root do not have.
//!
//! # Invariants
//! 1. No two fields of an entry share a bit, and every bit that can hold no output address is in one.
//!
//! Source: Intel SDM volume 3, 32-bit paging, PAE paging; Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h.

use kernmem_base::{Era, Level};

use super::layout::Paging;
use crate::x86::fields::{
    ACCESSED, DIRTY, GLOBAL, IGNORED_7, IGNORED_8, KERNEL_4K, NX, PAT, PAT_LARGE, PCD, PRESENT, PROTNONE, PSE, PWT, RW,
    SOFTW1, SOFTW2, SOFTW3, USER,
};
use crate::{Entry, Field};

const SAVED_DIRTY: Field = Field::flag(10, "SAVED_DIRTY", "software: a write-protected page that is dirty");
const NOPTI_SHADOW: Field = Field::flag(10, "NOPTISHADOW", "software: isolation does not mirror it into a user root");
const RESERVED: Field = Field::wide(52, 11, "RES0[62:52]", "reserved: must be clear", &[]);
const ROOT_RIGHTS: Field = Field::wide(1, 2, "RES0[2:1]", "reserved in PAE's root: no rights there", &[]);
const ROOT_MARKS: Field = Field::wide(5, 4, "RES0[8:5]", "reserved in PAE's root", &[]);
const ROOT_TOP: Field = Field::wide(52, 12, "RES0[63:52]", "reserved in PAE's root", &[]);

macro_rules! fields {
    ([$($own:expr),*], $second:expr, $third:expr, [$($top:expr),*]) => {
        &[PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, $($own,)* SOFTW1, $second, $third $(, $top)*]
    };
}

macro_rules! of_kind {
    ($entry:expr, $level:expr, $second:expr, $third:expr, $top:tt) => {
        match ($entry, $level) {
            (Entry::Table { .. }, _) => fields!([IGNORED_7, IGNORED_8], SOFTW2, SOFTW3, $top),
            (Entry::Absent { .. }, Level::Pte) => fields!([PAT, PROTNONE], $second, SOFTW3, $top),
            (Entry::Absent { .. }, _) => fields!([PSE, PROTNONE, PAT_LARGE], $second, SOFTW3, $top),
            (_, Level::Pte) => fields!([PAT, GLOBAL], $second, $third, $top),
            (_, Level::Pgd | Level::P4d | Level::Pud | Level::Pmd) => {
                fields!([PSE, GLOBAL, PAT_LARGE], $second, $third, $top)
            }
        }
    };
}

macro_rules! of_paging {
    ($paging:expr, $entry:expr, $level:expr, $second:expr, $third:expr, $root:expr) => {
        match ($paging, $level) {
            (Paging::Level2, _) => of_kind!($entry, $level, $second, $third, []),
            (Paging::Pae, Level::Pgd) => &[PRESENT, ROOT_RIGHTS, PWT, PCD, ROOT_MARKS, SOFTW1, $root, SOFTW3, ROOT_TOP],
            (Paging::Pae, _) => of_kind!($entry, $level, $second, $third, [RESERVED, NX]),
        }
    };
}

/// The fields of an entry of `level`; of a 32-bit one the lower half of a word.
///
/// | era | second software bit | third, of kernel pages |
/// |---|---|---|
/// | to 6.1 | write protected for user mode (4.14 UNVERIFIED) | written since the last look |
/// | 6.12 | the dirty mark of a write-protected page; in PAE's root "not mirrored" | the same |
/// | 7.2 | the same | stays small |
///
/// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_BIT_SAVED_DIRTY`, `_PAGE_BIT_KERNEL_4K`.
#[must_use]
pub const fn fields(era: Era, paging: Paging, level: Level, entry: &Entry<u64>) -> &'static [Field] {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => of_paging!(paging, entry, level, SOFTW2, SOFTW3, SOFTW2),
        Era::V6_12 => of_paging!(paging, entry, level, SAVED_DIRTY, SOFTW3, NOPTI_SHADOW),
        Era::V7_2 => of_paging!(paging, entry, level, SAVED_DIRTY, KERNEL_4K, NOPTI_SHADOW),
    }
}
