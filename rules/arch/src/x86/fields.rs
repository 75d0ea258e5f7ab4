//! The names of an entry's bits.
//!
//! Source: Intel SDM volume 3, 4-level paging; Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h.

use kernmem_base::{Era, Level};

use crate::{Entry, Field};

const PRESENT: Field = Field::flag(0, "P", "present");
const RW: Field = Field::flag(1, "RW", "writable");
const USER: Field = Field::flag(2, "US", "user mode may access it");
const PWT: Field = Field::flag(3, "PWT", "write through: first bit of the index into the PAT register");
const PCD: Field = Field::flag(4, "PCD", "cache disable: second bit of the index");
const ACCESSED: Field = Field::flag(5, "A", "accessed");
const DIRTY: Field = Field::flag(6, "D", "dirty");
const PSE: Field = Field::flag(7, "PS", "a leaf above the last level");
const PAT: Field = Field::flag(7, "PAT", "third bit of the index into the PAT register");
const PAT_LARGE: Field = Field::flag(12, "PAT", "third bit of the index into the PAT register");
const GLOBAL: Field = Field::flag(8, "G", "survives a reload of CR3");
const PROTNONE: Field = Field::flag(8, "PROTNONE", "software: a page without rights");
const SOFTW1: Field = Field::flag(9, "SOFTW1", "software");
const SOFTW2: Field = Field::flag(10, "SOFTW2", "software");
const SOFTW3: Field = Field::flag(11, "SOFTW3", "software");
const PKEY: Field = Field::wide(59, 4, "PKEY", "key of a user page", &[]);
const NX: Field = Field::flag(63, "XD", "not executable");

macro_rules! fields {
    ($($own:expr),* ; $soft:expr) => {
        &[PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, $($own,)* SOFTW1, SOFTW2, SOFTW3, $soft, PKEY, NX]
    };
}

macro_rules! of_kind {
    ($entry:expr, $level:expr, $soft:expr) => {
        match ($entry, $level) {
            (Entry::Table { .. }, _) => fields!(; $soft),
            (Entry::Absent { .. }, _) => fields!(PROTNONE; $soft),
            (_, Level::Pte) => fields!(PAT, GLOBAL; $soft),
            (_, Level::Pgd | Level::P4d | Level::Pud | Level::Pmd) => fields!(PSE, GLOBAL, PAT_LARGE; $soft),
        }
    };
}

/// The fields of an entry of `level`.
///
/// | era | fourth software bit |
/// |---|---|
/// | to 6.1 | 58 (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | 57; 58 is the dirty mark of a write-protected page |
///
/// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_BIT_SOFTW4`.
#[must_use]
pub const fn fields(era: Era, level: Level, entry: &Entry<u64>) -> &'static [Field] {
    const SOFTW4: Field = Field::flag(58, "SOFTW4", "software");
    const SOFT_PAIR: Field = Field::wide(57, 2, "SOFTW4-5", "software", &[]);
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => of_kind!(entry, level, SOFTW4),
        Era::V6_12 | Era::V7_2 => of_kind!(entry, level, SOFT_PAIR),
    }
}
