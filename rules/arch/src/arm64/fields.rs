//! The names of a descriptor's bits.
//!
//! Source: Arm ARM, VMSAv8-64 descriptors; Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h,
//! memory.h `MT_NORMAL`.

use kernmem_base::Era;

use crate::{Entry, Field};

const VALID: Field = Field::flag(0, "VALID", "the MMU uses the entry");
const TABLE: Field = Field::flag(1, "TABLE", "a table, or a page at the last level; clear in a block");
const USER: Field = Field::flag(6, "AP[1]", "user mode may access it");
const RDONLY: Field = Field::flag(7, "AP[2]", "read only");
const SH: Field = Field::wide(8, 2, "SH", "shareability", &["none", "reserved", "outer", "inner"]);
const AF: Field = Field::flag(10, "AF", "accessed");
const NG: Field = Field::flag(11, "nG", "not global: the translation belongs to an ASID");
const GP: Field = Field::flag(50, "GP", "guarded page: branches must land on a mark");
const DBM: Field = Field::flag(51, "DBM", "hardware may make it dirty; Linux's writable bit");
const CONT: Field = Field::flag(52, "CONT", "one of a contiguous group: one TLB entry may hold all of it");
const PXN: Field = Field::flag(53, "PXN", "the kernel may not execute it");
const UXN: Field = Field::flag(54, "UXN", "user mode may not execute it");
const DIRTY: Field = Field::flag(55, "DIRTY", "software: dirty");
const SPECIAL: Field = Field::flag(56, "SPECIAL", "software: no page descriptor belongs to it");
const DEVMAP: Field = Field::flag(57, "DEVMAP", "software: device memory with page descriptors");
const PRESENT_INVALID: Field = Field::flag(59, "PRESENT_INVALID", "software: present, though the MMU may not use it");

const fn memory_type(names: &'static [&'static str]) -> Field {
    Field::wide(2, 3, "AttrIndx", "memory type, an index into MAIR_EL1", names)
}

const TYPES_OLD: Field = memory_type(&["NORMAL", "NORMAL_TAGGED", "NORMAL_NC", "NORMAL_WT", "nGnRnE", "nGnRE", "GRE"]);
const TYPES: Field = memory_type(&["NORMAL", "NORMAL_TAGGED", "NORMAL_NC", "nGnRnE", "nGnRE"]);
const TYPES_FIRST: Field = memory_type(&["nGnRnE", "nGnRE", "GRE", "NORMAL_NC", "NORMAL", "NORMAL_WT"]);

macro_rules! leaf {
    ($types:expr $(, $more:expr)*) => {
        &[VALID, TABLE, $types, USER, RDONLY, SH, AF, NG, GP, DBM, CONT, PXN, UXN, DIRTY, SPECIAL $(, $more)*]
    };
}

const TABLE_FIELDS: &[Field] = &[
    VALID,
    TABLE,
    AF,
    Field::flag(59, "PXNTable", "nothing below is executable by the kernel"),
    Field::flag(60, "UXNTable", "nothing below is executable by user mode"),
    Field::wide(61, 2, "APTable", "takes rights from everything below", &[]),
];

/// The fields of an entry.
///
/// | era | memory types | software bits |
/// |---|---|---|
/// | 4.14 | device types first (UNVERIFIED) | 55 dirty, 56 special |
/// | 5.10 | 3 write-through, 4–6 device | 57 devmap, 59 present though invalid |
/// | 6.1 | 3 and 4 device | the same |
/// | 6.12 | the same | 57 devmap, 58 write-protected for user mode |
/// | 7.2 | the same | 58 alone |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h, memory.h.
#[must_use]
pub const fn fields(era: Era, entry: &Entry<u64>) -> &'static [Field] {
    const UFFD_WP: Field = Field::flag(58, "UFFD_WP", "software: write protected for a handler of user mode");
    const ABSENT_OLD: &[Field] = leaf!(TYPES_OLD, DEVMAP, PRESENT_INVALID);
    const ABSENT: &[Field] = leaf!(TYPES, DEVMAP, PRESENT_INVALID);
    match (entry, era) {
        (Entry::Table { .. }, _) => TABLE_FIELDS,
        (Entry::Absent { .. }, Era::V5_10) => ABSENT_OLD,
        (Entry::Absent { .. }, Era::V6_1) => ABSENT,
        (_, Era::V4_14) => leaf!(TYPES_FIRST),
        (_, Era::V5_10) => leaf!(TYPES_OLD, DEVMAP),
        (_, Era::V6_1) => leaf!(TYPES, DEVMAP),
        (_, Era::V6_12) => leaf!(TYPES, DEVMAP, UFFD_WP),
        (_, Era::V7_2) => leaf!(TYPES, UFFD_WP),
    }
}
