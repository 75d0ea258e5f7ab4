//! Stage 1 descriptors of every page size: their bits, and the format as a type of page size and address bits.
//!
//! ```text
//! output address      bits           above 2^48
//! 48 bits             47:page        none
//! 64K pages (LPA)     47:16          51:48 in bits 15:12
//! 52-bit 4K, 16K      49:page        51:50 in bits 9:8, which are no shareability then (LPA2)
//! ```
//! Source: Arm ARM, VMSAv8-64 descriptors; Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h.

use core::fmt;
use kernmem_base::sync::atomic::AtomicU64;

use kernmem_base::{Era, Level, PhysAddr};

use super::change::change_is_safe;
use super::geometry::Geometry;
use crate::{Entry, EntryFormat, Shape};

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

/// Where the bits of an output address stand in a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Output {
    /// 48 bits, each in its place.
    Plain,
    /// LPA, with 64K pages: bits 51:48 stand in 15:12.
    Lpa,
    /// LPA2, with smaller pages and 52 bits: bits 51:50 stand in 9:8.
    Lpa2,
}

impl Output {
    /// Bits of an output address.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Plain => 48,
            Self::Lpa | Self::Lpa2 => 52,
        }
    }

    /// The bits of a descriptor that hold an address aligned to `1 << shift`.
    const fn mask(self, shift: u32) -> u64 {
        match self {
            Self::Plain => bits(47, shift),
            Self::Lpa => bits(47, shift) | bits(15, 12),
            Self::Lpa2 => bits(49, shift) | bits(9, 8),
        }
    }

    /// The address in place.
    const fn place(self, pa: u64) -> u64 {
        match self {
            Self::Plain => pa,
            Self::Lpa => pa & bits(47, 0) | pa >> 36 & bits(15, 12) | pa & !bits(51, 0),
            Self::Lpa2 => pa & bits(49, 0) | pa >> 42 & bits(9, 8) | pa & !bits(51, 0),
        }
    }

    /// The address whose placed bits are `placed`.
    const fn address(self, placed: u64) -> u64 {
        match self {
            Self::Plain => placed,
            Self::Lpa => placed & bits(47, 16) | (placed & bits(15, 12)) << 36,
            Self::Lpa2 => placed & bits(49, 12) | (placed & bits(9, 8)) << 42,
        }
    }
}

/// Ones from bit `low` to bit `high`.
const fn bits(high: u32, low: u32) -> u64 {
    (!0 >> (63 - high)) & (!0 << low)
}

/// The format of tables with pages of `1 << PAGE` bytes that translate `VA` bits.
///
/// 52 bits with pages below 64K are LPA2's; tables with 64K pages always have the room that LPA takes, and hold zeros
/// there without it.
#[derive(Debug)]
pub enum Arm64<const PAGE: u32, const VA: u32> {}

/// 4K pages, 48 bits: what most kernels are built with.
pub type Arm64Granule4K = Arm64<12, 48>;

impl<const PAGE: u32, const VA: u32> Arm64<PAGE, VA> {
    /// Page size and bits as a value.
    pub(super) const GEOMETRY: Geometry = match Geometry::of(PAGE, VA) {
        Some(geometry) => geometry,
        None => panic!("arm64 has no such tables"),
    };

    /// The tables as a value.
    pub(super) const SHAPE: &'static Shape = Self::GEOMETRY.shape();

    /// Where output addresses stand.
    pub(super) const OUTPUT: Output = Self::GEOMETRY.output();

    const PAGE_MASK: u64 = Self::OUTPUT.mask(PAGE); // also a table's address

    /// The bits of a page's or a table's address that stand in a descriptor where they stand in the address.
    const LOW_MASK: u64 = Self::PAGE_MASK & !Self::OUTPUT.high_mask();

    /// The bits of a block's address by level; 0 where the level has no block.
    const BLOCK_MASK: [u64; 5] = {
        let (mut masks, mut depth) = ([0; 5], 0);
        while depth + 1 < Self::SHAPE.levels.len() {
            let level = Self::SHAPE.levels[depth];
            if level.leaf {
                masks[level.level as usize] = Self::OUTPUT.mask(level.shift);
            }
            depth += 1;
        }
        masks
    };
}

impl<const PAGE: u32, const VA: u32> EntryFormat for Arm64<PAGE, VA> {
    type Attrs = Arm64Attrs;
    type Slot = AtomicU64;
    const BREAK_BEFORE_MAKE: bool = true;

    #[inline]
    fn shape() -> &'static Shape {
        Self::SHAPE
    }

    #[inline]
    fn decode(raw: u64, level: Level) -> Entry<Arm64Attrs> {
        if raw & (0b11 | Self::OUTPUT.high_mask()) == 0b11 {
            // A page or a table below the upper bits of addresses, as nearly all are: one test tells it.
            let (address, attrs) = (PhysAddr(raw & Self::LOW_MASK), Arm64Attrs(raw & !Self::PAGE_MASK));
            return match level {
                Level::Pte => Entry::Leaf { base: address, attrs },
                Level::Pgd | Level::P4d | Level::Pud | Level::Pmd => Entry::Table { next: address, attrs },
            };
        }
        let (mask, is_leaf) = match raw & 0b11 {
            0b11 => (Self::PAGE_MASK, matches!(level, Level::Pte)),
            0b01 => (Self::BLOCK_MASK[level as usize], true),
            _ => return Entry::Absent { sw: raw }, // bit 0 clear: the rest is software's
        };
        if mask == 0 {
            return Entry::Reserved { raw }; // no block at this level, no page of type 01
        }
        let (address, attrs) = (PhysAddr(Self::OUTPUT.address(raw & mask)), Arm64Attrs(raw & !mask));
        if is_leaf { Entry::Leaf { base: address, attrs } } else { Entry::Table { next: address, attrs } }
    }

    #[inline]
    fn place(pa: PhysAddr) -> u64 {
        Self::OUTPUT.place(pa.0)
    }

    #[inline]
    fn address_bits(level: Level) -> u64 {
        if level == Level::Pte { Self::PAGE_MASK } else { Self::BLOCK_MASK[level as usize] }
    }

    #[inline]
    fn table_bits() -> u64 {
        Self::LOW_MASK
    }

    #[inline]
    fn bits(attrs: Arm64Attrs) -> u64 {
        attrs.0
    }

    #[inline]
    fn attrs(bits: u64) -> Arm64Attrs {
        Arm64Attrs(bits)
    }

    #[inline]
    fn leaf_attrs(page: Arm64Attrs, level: Level, contiguous: bool) -> Arm64Attrs {
        let sized = if level == Level::Pte { page.0 | bit::TABLE } else { page.0 & !bit::TABLE };
        Arm64Attrs(if contiguous { sized | bit::CONT } else { sized & !bit::CONT })
    }

    #[inline]
    fn page_attrs(leaf: Arm64Attrs, _level: Level) -> Arm64Attrs {
        Arm64Attrs((leaf.0 | bit::TABLE) & !bit::CONT)
    }

    #[inline]
    fn is_contiguous(attrs: Arm64Attrs) -> bool {
        attrs.0 & bit::CONT != 0
    }

    /// By 6.1's rule, which forgives least; what is not valid is no live leaf.
    #[inline]
    fn change_is_safe(old: u64, new: u64) -> bool {
        old & new & bit::VALID == 0 || change_is_safe(Era::V6_1, old, new)
    }
}
