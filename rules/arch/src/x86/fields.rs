//! The names of an entry's bits, by era.
//!
//! # Invariants
//! 1. No two fields of an entry share a bit, and every bit that can hold no output address is in one.
//!
//! Source: Intel SDM volume 3, 4-level paging; Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h.

use kernmem_base::{Era, Level};

use crate::{Entry, Field};

pub(crate) const PRESENT: Field = Field::flag(0, "P", "present");
pub(crate) const RW: Field = Field::flag(1, "RW", "writable");
pub(crate) const USER: Field = Field::flag(2, "US", "user mode may access it");
pub(crate) const PWT: Field = Field::flag(3, "PWT", "write through: first bit of the index into the PAT register");
pub(crate) const PCD: Field = Field::flag(4, "PCD", "cache disable: second bit of the index");
pub(crate) const ACCESSED: Field = Field::flag(5, "A", "accessed");
pub(crate) const DIRTY: Field = Field::flag(6, "D", "dirty");
pub(crate) const PSE: Field = Field::flag(7, "PS", "a leaf above the last level");
pub(crate) const PAT: Field = Field::flag(7, "PAT", "third bit of the index into the PAT register");
pub(crate) const PAT_LARGE: Field = Field::flag(12, "PAT", "third bit of the index into the PAT register");
pub(crate) const GLOBAL: Field = Field::flag(8, "G", "survives a reload of CR3");
pub(crate) const PROTNONE: Field = Field::flag(8, "PROTNONE", "software: a page without rights");
pub(crate) const SOFTW1: Field =
    Field::flag(9, "SOFTW1", "software: no page descriptor belongs to it; in kernel pages a self-test");
pub(crate) const SOFTW2: Field =
    Field::flag(10, "SOFTW2", "software: write protected for a handler of user mode, if built");
pub(crate) const SOFTW3: Field = Field::flag(11, "SOFTW3", "software: written since the last look, if built");
pub(crate) const KERNEL_4K: Field = Field::flag(11, "SOFTW3", "software: may not become part of a larger leaf");
pub(crate) const IGNORED_7: Field = Field::flag(7, "PS", "must be clear in a table");
pub(crate) const IGNORED_8: Field = Field::flag(8, "IGN[8]", "ignored in a table");
const UNUSED_OLD: Field = Field::wide(52, 6, "AVL[57:52]", "software: unused", &[]);
const UNUSED: Field = Field::wide(52, 5, "AVL[56:52]", "software: unused", &[]);
const DEVMAP_OLD: Field = Field::flag(58, "SOFTW4", "software: device memory with page descriptors");
const DEVMAP: Field = Field::flag(57, "SOFTW4", "software: device memory with page descriptors");
const SOFTW4: Field = Field::flag(57, "SOFTW4", "software");
const SOFTW4_OLD: Field = Field::flag(58, "SOFTW4", "software");
const SAVED_DIRTY: Field = Field::flag(58, "SAVED_DIRTY", "software: a write-protected page that is dirty");
const NOPTI_SHADOW: Field = Field::flag(58, "NOPTISHADOW", "software: isolation does not mirror it into a user root");
const SOFTW5: Field = Field::flag(58, "SOFTW5", "software");
const PKEY: Field = Field::wide(59, 4, "PKEY", "key of a user page", &[]);
pub(crate) const NX: Field = Field::flag(63, "XD", "not executable");

macro_rules! fields {
    ($($own:expr),* ; $third:expr, $($soft:expr),*) => {
        &[PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, $($own,)* SOFTW1, SOFTW2, $third, $($soft,)* PKEY, NX]
    };
}

/// Bits 52 and above of a leaf, of a table, of a table in the root, and the third software bit of kernel leaves.
macro_rules! of_kind {
    ($entry:expr, $level:expr, $third:expr, [$($leaf:expr),*], [$($table:expr),*], [$($root:expr),*]) => {
        match ($entry, $level) {
            (Entry::Table { .. }, Level::Pgd) => fields!(IGNORED_7, IGNORED_8; SOFTW3, $($root),*),
            (Entry::Table { .. }, _) => fields!(IGNORED_7, IGNORED_8; SOFTW3, $($table),*),
            (Entry::Absent { .. }, Level::Pte) => fields!(PAT, PROTNONE; SOFTW3, $($leaf),*),
            (Entry::Absent { .. }, _) => fields!(PSE, PROTNONE, PAT_LARGE; SOFTW3, $($leaf),*),
            (_, Level::Pte) => fields!(PAT, GLOBAL; $third, $($leaf),*),
            (_, Level::Pgd | Level::P4d | Level::Pud | Level::Pmd) => {
                fields!(PSE, GLOBAL, PAT_LARGE; $third, $($leaf),*)
            }
        }
    };
}

/// The fields of an entry of `level`.
///
/// | era | software bits above the address |
/// |---|---|
/// | to 6.1 | 58 device memory with descriptors (4.14 UNVERIFIED) |
/// | 6.12 | 57 the same; 58 the dirty mark of a write-protected page, in a root "not mirrored" |
/// | 7.2 | 58 the same; 57 unused; 11 marks kernel pages that stay small |
///
/// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_BIT_SOFTW4`, `_PAGE_BIT_SAVED_DIRTY`.
#[must_use]
pub const fn fields(era: Era, level: Level, entry: &Entry<u64>) -> &'static [Field] {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => {
            of_kind!(entry, level, SOFTW3, [UNUSED_OLD, DEVMAP_OLD], [UNUSED_OLD, SOFTW4_OLD], [UNUSED_OLD, SOFTW4_OLD])
        }
        Era::V6_12 => of_kind!(
            entry,
            level,
            SOFTW3,
            [UNUSED, DEVMAP, SAVED_DIRTY],
            [UNUSED, SOFTW4, SOFTW5],
            [UNUSED, SOFTW4, NOPTI_SHADOW]
        ),
        Era::V7_2 => of_kind!(
            entry,
            level,
            KERNEL_4K,
            [UNUSED, SOFTW4, SAVED_DIRTY],
            [UNUSED, SOFTW4, SOFTW5],
            [UNUSED, SOFTW4, NOPTI_SHADOW]
        ),
    }
}
