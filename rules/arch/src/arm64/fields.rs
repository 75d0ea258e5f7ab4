//! The names of a descriptor's bits, by era and form.
//!
//! # Invariants
//! 1. No two fields of an entry share a bit, and every bit that can hold no output address is in one.
//!
//! Source: Arm ARM, VMSAv8-64 descriptors; Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h,
//! memory.h `MT_NORMAL`.

use kernmem_base::{Era, Level};

use super::Output;
use crate::{Entry, Field};

const VALID: Field = Field::flag(0, "VALID", "the MMU uses the entry");
const TABLE: Field = Field::flag(1, "TABLE", "a table, or a page at the last level; clear in a block");
const NS: Field = Field::flag(5, "NS", "not secure; ignored outside the secure state");
const USER: Field = Field::flag(6, "AP[1]", "user mode may access it");
const RDONLY: Field = Field::flag(7, "AP[2]", "read only");
const SH: Field = Field::wide(8, 2, "SH", "shareability", &["none", "reserved", "outer", "inner"]);
const ADDRESS_LPA2: Field = Field::wide(8, 2, "OA[51:50]", "upper bits of the output address", &[]);
const ADDRESS_LPA: Field = Field::wide(12, 4, "OA[51:48]", "upper bits of the output address", &[]);
const AF: Field = Field::flag(10, "AF", "accessed");
const NG: Field = Field::flag(11, "nG", "not global: the translation belongs to an ASID");
const NG_PRESENT: Field = Field::flag(11, "PRESENT_INVALID", "software: present, though the MMU may not use it");
const NT: Field = Field::flag(16, "nT", "a block whose size may change under it: not kept in TLBs");
const RES_48: Field = Field::wide(48, 2, "RES0[49:48]", "reserved in this form", &[]);
const GP: Field = Field::flag(50, "GP", "guarded page: branches must land on a mark");
const DBM: Field = Field::flag(51, "DBM", "hardware may make it dirty; Linux's writable bit");
const CONT: Field = Field::flag(52, "CONT", "one of a contiguous group: one TLB entry may hold all of it");
const PXN: Field = Field::flag(53, "PXN", "the kernel may not execute it");
const UXN: Field = Field::flag(54, "UXN", "user mode may not execute it");
const DIRTY: Field = Field::flag(55, "DIRTY", "software: dirty");
const SPECIAL: Field = Field::flag(56, "SPECIAL", "software: no page descriptor belongs to it");
const DEVMAP: Field = Field::flag(57, "DEVMAP", "software: device memory with page descriptors");
const SW_57: Field = Field::flag(57, "SW[57]", "software: unused");
const PROT_NONE: Field = Field::flag(58, "PROT_NONE", "software: a page without rights");
const SW_58: Field = Field::flag(58, "SW[58]", "software: unused while the entry is valid");
const UFFD_WP: Field = Field::flag(58, "UFFD_WP", "software: write protected for a handler of user mode");
const PRESENT_INVALID: Field = Field::flag(59, "PRESENT_INVALID", "software: present, though the MMU may not use it");
const PBHA: Field = Field::wide(59, 4, "PBHA", "given to the memory system as it is, where a CPU does so", &[]);
const PBHA_UPPER: Field = Field::wide(60, 3, "PBHA[3:1]", "given to the memory system as it is", &[]);
const PBHA_LOW: Field = Field::flag(59, "PBHA[0]", "given to the memory system as it is, where a CPU does so");
const OVERLAY: Field = Field::wide(60, 3, "POIndex", "overlay of rights: an index into a register of user mode", &[]);
const IGNORED_63: Field = Field::flag(63, "IGN[63]", "ignored");
const SW_63: Field = Field::flag(63, "SW[63]", "software: may change in a live entry, unused");

const fn memory_type(names: &'static [&'static str]) -> Field {
    Field::wide(2, 3, "AttrIndx", "memory type, an index into MAIR_EL1", names)
}

const TYPES_OLD: Field = memory_type(&["NORMAL", "NORMAL_TAGGED", "NORMAL_NC", "NORMAL_WT", "nGnRnE", "nGnRE", "GRE"]);
const TYPES: Field = memory_type(&["NORMAL", "NORMAL_TAGGED", "NORMAL_NC", "nGnRnE", "nGnRE"]);
const TYPES_FIRST: Field = memory_type(&["nGnRnE", "nGnRE", "GRE", "NORMAL_NC", "NORMAL", "NORMAL_WT"]);

macro_rules! leaf {
    ($types:expr, $ng:expr, [$($form:expr),*], $($soft:expr),*) => {
        &[
            VALID, TABLE, $types, NS, USER, RDONLY, $($form,)* AF, $ng, GP, DBM, CONT, PXN, UXN, DIRTY, SPECIAL,
            $($soft,)*
        ]
    };
}

/// What lies between the rights and software's bits, in the form's order.
macro_rules! of_form {
    ($form:expr, $level:expr, $types:expr, $ng:expr, $($soft:expr),*) => {
        match ($form, $level) {
            (Output::Plain, Level::Pte) => leaf!($types, $ng, [SH, RES_48], $($soft),*),
            (Output::Plain, _) => leaf!($types, $ng, [SH, NT, RES_48], $($soft),*),
            (Output::Lpa, Level::Pte) => leaf!($types, $ng, [SH, ADDRESS_LPA, RES_48], $($soft),*),
            (Output::Lpa, _) => leaf!($types, $ng, [SH, ADDRESS_LPA, NT, RES_48], $($soft),*),
            (Output::Lpa2, Level::Pte) => leaf!($types, $ng, [ADDRESS_LPA2], $($soft),*),
            (Output::Lpa2, _) => leaf!($types, $ng, [ADDRESS_LPA2, NT], $($soft),*),
        }
    };
}

const IGNORED: Field = Field::wide(2, 8, "IGN[9:2]", "ignored in a table", &[]);
const IGNORED_LPA2: Field = Field::wide(2, 6, "IGN[7:2]", "ignored in a table", &[]);
const IGNORED_11: Field = Field::flag(11, "IGN[11]", "ignored in a table");
const TABLE_AF: Field = Field::flag(10, "AF", "accessed, where hardware marks tables");
const IGNORED_50: Field = Field::wide(50, 9, "IGN[58:50]", "ignored in a table", &[]);
const PXN_TABLE: Field = Field::flag(59, "PXNTable", "nothing below is executable by the kernel");
const UXN_TABLE: Field = Field::flag(60, "UXNTable", "nothing below is executable by user mode");
const AP_TABLE: Field = Field::wide(61, 2, "APTable", "takes rights from everything below", &[]);
const NS_TABLE: Field = Field::flag(63, "NSTable", "not secure; ignored outside the secure state");

macro_rules! table {
    ($ignored:expr $(, $form:expr)*) => {
        &[
            VALID, TABLE, $ignored, TABLE_AF, IGNORED_11, $($form,)* IGNORED_50, PXN_TABLE, UXN_TABLE, AP_TABLE,
            NS_TABLE,
        ]
    };
}

const fn table_fields(form: Output) -> &'static [Field] {
    match form {
        Output::Plain => table!(IGNORED, RES_48),
        Output::Lpa => table!(IGNORED, ADDRESS_LPA, RES_48),
        Output::Lpa2 => table!(IGNORED_LPA2, ADDRESS_LPA2),
    }
}

/// The fields of an entry of `level` whose output address has `form`.
///
/// | era | memory types | software bits |
/// |---|---|---|
/// | 4.14 | device types first (UNVERIFIED) | 55 dirty, 56 special; 58 without rights though invalid |
/// | 5.10 | 3 write-through, 4–6 device | the same, 57 devmap, 59 present though invalid |
/// | 6.1 | 3 and 4 device | the same |
/// | 6.12 | the same | 55, 56, 57 devmap, 58 write-protected for user mode; 11 present though invalid |
/// | 7.2 | the same | the same without 57 |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h, memory.h.
#[must_use]
pub const fn fields(era: Era, form: Output, level: Level, entry: &Entry<u64>) -> &'static [Field] {
    match (entry, era) {
        (Entry::Table { .. }, _) => table_fields(form),
        (Entry::Absent { .. }, _) => absent_fields(era, form, level),
        (_, Era::V4_14) => of_form!(form, level, TYPES_FIRST, NG, SW_57, SW_58, PBHA, IGNORED_63),
        (_, Era::V5_10) => of_form!(form, level, TYPES_OLD, NG, DEVMAP, SW_58, PBHA, IGNORED_63),
        (_, Era::V6_1) => of_form!(form, level, TYPES, NG, DEVMAP, SW_58, PBHA, IGNORED_63),
        (_, Era::V6_12) => of_form!(form, level, TYPES, NG, DEVMAP, UFFD_WP, PBHA_LOW, OVERLAY, SW_63),
        (_, Era::V7_2) => of_form!(form, level, TYPES, NG, SW_57, UFFD_WP, PBHA_LOW, OVERLAY, SW_63),
    }
}

/// An entry that the MMU does not use, read as the page that it was.
const fn absent_fields(era: Era, form: Output, level: Level) -> &'static [Field] {
    match era {
        Era::V4_14 => of_form!(form, level, TYPES_FIRST, NG, SW_57, PROT_NONE, PBHA, IGNORED_63),
        Era::V5_10 => {
            of_form!(form, level, TYPES_OLD, NG, DEVMAP, PROT_NONE, PRESENT_INVALID, PBHA_UPPER, IGNORED_63)
        }
        Era::V6_1 => of_form!(form, level, TYPES, NG, DEVMAP, PROT_NONE, PRESENT_INVALID, PBHA_UPPER, IGNORED_63),
        Era::V6_12 => of_form!(form, level, TYPES, NG_PRESENT, DEVMAP, UFFD_WP, PBHA_LOW, OVERLAY, SW_63),
        Era::V7_2 => of_form!(form, level, TYPES, NG_PRESENT, SW_57, UFFD_WP, PBHA_LOW, OVERLAY, SW_63),
    }
}
