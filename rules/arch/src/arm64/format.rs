//! Stage 1 descriptors, 4K granule, 48-bit output address (no LPA2).
//!
//! Source: Arm ARM, VMSAv8-64 descriptors; Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h.

use core::fmt;
use core::sync::atomic::AtomicU64;

use kernmem_base::{Granule, Level, PhysAddr};

use crate::{Entry, EntryFormat, LeafSize, LevelShape, Shape};

/// The bits of a descriptor, in place.
pub mod bit {
    /// The entry is used by the MMU.
    pub const VALID: u64 = 1 << 0;
    /// A table above the last level, a page at it; clear in a block.
    pub const TABLE: u64 = 1 << 1;
    /// Where the index into MAIR_EL1 starts.
    pub const ATTR_INDEX_SHIFT: u32 = 2;
    /// The index into MAIR_EL1.
    pub const ATTR_INDEX: u64 = 7 << 2;
    /// Readable from user mode.
    pub const USER: u64 = 1 << 6;
    /// Read only.
    pub const RDONLY: u64 = 1 << 7;
    /// Inner shareable.
    pub const SHARED: u64 = 3 << 8;
    /// Accessed.
    pub const AF: u64 = 1 << 10;
    /// Not global: the translation belongs to an ASID.
    pub const NG: u64 = 1 << 11;
    /// Guarded page (BTI).
    pub const GP: u64 = 1 << 50;
    /// Dirty bit modifier; Linux's "writable".
    pub const DBM: u64 = 1 << 51;
    /// One of a contiguous group.
    pub const CONT: u64 = 1 << 52;
    /// Not executable by the kernel.
    pub const PXN: u64 = 1 << 53;
    /// Not executable by user mode.
    pub const UXN: u64 = 1 << 54;
    /// Software: dirty.
    pub const DIRTY: u64 = 1 << 55;
    /// Software: no page descriptor belongs to it.
    pub const SPECIAL: u64 = 1 << 56;
    /// Software, up to 6.1, in an entry that is not valid: a page without rights.
    pub const PROT_NONE: u64 = 1 << 58;
    /// In a table descriptor: nothing below is executable by the kernel.
    pub const PXN_TABLE: u64 = 1 << 59;
    /// In a table descriptor: nothing below is executable by user mode.
    pub const UXN_TABLE: u64 = 1 << 60;
    /// In a table descriptor, the lower bit of APTable: nothing below is reachable from user mode.
    pub const USER_TABLE: u64 = 1 << 61;
    /// In a table descriptor, the upper bit of APTable: nothing below is writable.
    pub const RDONLY_TABLE: u64 = 1 << 62;
}

/// Every bit of a descriptor but the output address, in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arm64Attrs(pub u64);

impl fmt::Debug for Arm64Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arm64Attrs({:#018x})", self.0)
    }
}

const PAGE: u64 = 0x0000_ffff_ffff_f000; // bits 47:12, also a table's address
const BLOCK_2M: u64 = 0x0000_ffff_ffe0_0000; // bits 47:21
const BLOCK_1G: u64 = 0x0000_ffff_c000_0000; // bits 47:30

const fn level(level: Level, shift: u32, leaf: bool, contiguous_bits: u32) -> LevelShape {
    LevelShape { level, shift, index_bits: 9, leaf, contiguous_bits }
}

const fn leaf(bytes: u64, level: Level, contiguous: bool) -> LeafSize {
    LeafSize { bytes, level, contiguous }
}

static SHAPE: Shape = Shape {
    arch: "aarch64",
    granule: Granule::K4,
    levels: &[
        level(Level::Pgd, 39, false, 0),
        level(Level::Pud, 30, true, 0), // Linux has no contiguous group here
        level(Level::Pmd, 21, true, 4),
        level(Level::Pte, 12, true, 4),
    ],
    leaves: &[
        leaf(1 << 30, Level::Pud, false),
        leaf(1 << 25, Level::Pmd, true),
        leaf(1 << 21, Level::Pmd, false),
        leaf(1 << 16, Level::Pte, true),
        leaf(1 << 12, Level::Pte, false),
    ],
};

/// arm64, 4K granule, 48-bit virtual and output addresses.
#[derive(Debug)]
pub enum Arm64Granule4K {}

impl EntryFormat for Arm64Granule4K {
    type Attrs = Arm64Attrs;
    type Slot = AtomicU64;
    const BREAK_BEFORE_MAKE: bool = true;

    fn shape() -> &'static Shape {
        &SHAPE
    }

    #[inline]
    fn decode(raw: u64, level: Level) -> Entry<Arm64Attrs> {
        let (mask, is_leaf) = match (raw & 0b11, level) {
            (0b11, Level::Pte) => (PAGE, true),
            (0b11, _) => (PAGE, false),
            (0b01, Level::Pmd) => (BLOCK_2M, true),
            (0b01, Level::Pud) => (BLOCK_1G, true),
            (0b01, _) => return Entry::Reserved { raw }, // no block at the root, no page of type 01
            _ => return Entry::Absent { sw: raw },       // bit 0 clear: the rest is software's
        };
        let (base, attrs) = (PhysAddr(raw & mask), Arm64Attrs(raw & !mask));
        if is_leaf { Entry::Leaf { base, attrs } } else { Entry::Table { next: base, attrs } }
    }

    fn bits(attrs: Arm64Attrs) -> u64 {
        attrs.0
    }

    fn attrs(bits: u64) -> Arm64Attrs {
        Arm64Attrs(bits)
    }

    fn leaf_attrs(page: Arm64Attrs, level: Level, contiguous: bool) -> Arm64Attrs {
        let sized = if level == Level::Pte { page.0 | bit::TABLE } else { page.0 & !bit::TABLE };
        Arm64Attrs(if contiguous { sized | bit::CONT } else { sized & !bit::CONT })
    }

    fn page_attrs(leaf: Arm64Attrs, _level: Level) -> Arm64Attrs {
        Arm64Attrs((leaf.0 | bit::TABLE) & !bit::CONT)
    }

    fn is_contiguous(attrs: Arm64Attrs) -> bool {
        attrs.0 & bit::CONT != 0
    }

    /// What one store may change on a live leaf: execution, read-only, writable, global to non-global, and the
    /// two kinds of normal memory. Anything to or from absent is safe.
    ///
    /// Source: Linux 6.1 arch/arm64/mm/mmu.c `pgattr_change_is_safe`.
    fn change_is_safe(old: u64, new: u64) -> bool {
        const MAY_CHANGE: u64 = bit::PXN | bit::RDONLY | bit::DBM | bit::NG;
        const NORMAL_TAGGED: u64 = 1 << bit::ATTR_INDEX_SHIFT;
        if old & bit::VALID == 0 || new & bit::VALID == 0 {
            return true;
        }
        if (old | new) & bit::CONT != 0 || old & !new & bit::NG != 0 {
            return false;
        }
        let is_normal = |raw: u64| raw & bit::ATTR_INDEX <= NORMAL_TAGGED;
        let memory_type = if is_normal(old) && is_normal(new) { bit::ATTR_INDEX } else { 0 };
        (old ^ new) & !(MAY_CHANGE | memory_type) == 0
    }
}
