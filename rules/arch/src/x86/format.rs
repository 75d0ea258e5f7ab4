//! Entries of x86-64 tables, four and five levels.
//!
//! # Invariants
//! 1. Every bit that is no output address stays in the attributes, also those that only software reads.
//! 2. A base page keeps its PAT bit at 7, a larger leaf at 12 (bit 7 is its size mark); `leaf_attrs` and
//!    `page_attrs` move it.
//!
//! Source: Intel SDM volume 3, 4-level and 5-level paging; Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h.

use core::fmt;
use kernmem_base::sync::atomic::AtomicU64;

use kernmem_base::{Era, Granule, Level, PhysAddr};

use super::layout::Paging;
use super::prot::{Masks, base_of};
use crate::{Entry, EntryFormat, LeafSize, LevelShape, Shape, UserFormat};

/// The bits of an entry, in place.
pub mod bit {
    use kernmem_base::Era;

    /// Present.
    pub const PRESENT: u64 = 1 << 0;
    /// Writable.
    pub const RW: u64 = 1 << 1;
    /// Reachable from user mode.
    pub const USER: u64 = 1 << 2;
    /// Page write through: first bit of the index into the PAT register.
    pub const PWT: u64 = 1 << 3;
    /// Page cache disable: second bit of the index.
    pub const PCD: u64 = 1 << 4;
    /// Accessed.
    pub const ACCESSED: u64 = 1 << 5;
    /// Dirty.
    pub const DIRTY: u64 = 1 << 6;
    /// In a leaf above the last level: this is a leaf.
    pub const PSE: u64 = 1 << 7;
    /// In a base page: third bit of the index into the PAT register.
    pub const PAT: u64 = 1 << 7;
    /// Survives a reload of CR3.
    pub const GLOBAL: u64 = 1 << 8;
    /// In an entry that is not present: a page without rights.
    pub const PROTNONE: u64 = 1 << 8;
    /// First software bit.
    pub const SOFTW1: u64 = 1 << 9;
    /// Second software bit.
    pub const SOFTW2: u64 = 1 << 10;
    /// Third software bit.
    pub const SOFTW3: u64 = 1 << 11;
    /// Software, user pages: no page descriptor belongs to it.
    pub const SPECIAL: u64 = SOFTW1;
    /// Software, kernel pages: mark of the self-test of changed attributes.
    pub const CPA_TEST: u64 = SOFTW1;
    /// Software: write protected for a fault handler of user mode, where that is built.
    pub const UFFD_WP: u64 = SOFTW2;
    /// Software: written since the last look, where that is built.
    pub const SOFT_DIRTY: u64 = SOFTW3;
    /// In a leaf above the last level: third bit of the index into the PAT register.
    pub const PAT_LARGE: u64 = 1 << 12;
    /// Keys of user pages, where they are built.
    pub const PKEY: u64 = 0xf << 59;
    /// Not executable.
    pub const NX: u64 = 1 << 63;
    /// The memory-type bits of a base page.
    pub const CACHE: u64 = PAT | PCD | PWT;
    /// The memory-type bits of a larger leaf.
    pub const CACHE_LARGE: u64 = PAT_LARGE | PCD | PWT;
    /// What some CPUs set by mistake: accessed and dirty.
    pub const KNL_ERRATUM: u64 = ACCESSED | DIRTY;
    /// The frame of a base page or table: bits 51:12. A listing looks at everything else.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
    /// A swapped-out page that was dirty in the sense of [`SOFT_DIRTY`], where that is built.
    pub const SWP_SOFT_DIRTY: u64 = RW;
    /// A swapped-out page with [`UFFD_WP`], where that is built.
    pub const SWP_UFFD_WP: u64 = USER;
    /// A swapped-out page that one process owns (6.1 and later).
    pub const SWP_EXCLUSIVE: u64 = PWT;

    /// Fourth software bit.
    ///
    /// | era | bit |
    /// |---|---|
    /// | to 6.1 | 58 (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | 57 |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_BIT_SOFTW4`.
    #[must_use]
    pub const fn softw4(era: Era) -> u64 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => 1 << 58,
            Era::V6_12 | Era::V7_2 => 1 << 57,
        }
    }

    /// Device memory with page descriptors; 0 where the era has no such mark (7.2).
    ///
    /// Source: Linux 5.10–7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_DEVMAP`.
    #[must_use]
    pub const fn devmap(era: Era) -> u64 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => softw4(era),
            Era::V7_2 => 0,
        }
    }

    /// The dirty mark of a write-protected page, which must not look like a shadow stack; 0 before 6.12.
    ///
    /// Source: Linux 6.12 arch/x86/include/asm/pgtable_types.h `_PAGE_SAVED_DIRTY`.
    #[must_use]
    pub const fn saved_dirty(era: Era) -> u64 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
            Era::V6_12 | Era::V7_2 => 1 << 58,
        }
    }

    /// In a root entry: isolation does not mirror it; 0 before 6.12. Shares the bit of [`saved_dirty`].
    ///
    /// Source: Linux 6.12 arch/x86/include/asm/pgtable_types.h `_PAGE_NOPTISHADOW`.
    #[must_use]
    pub const fn nopti_shadow(era: Era) -> u64 {
        saved_dirty(era)
    }

    /// A kernel page that must stay small; 0 before 7.2. Shares the bit of [`SOFT_DIRTY`].
    ///
    /// Source: Linux 7.2 arch/x86/include/asm/pgtable_types.h `_PAGE_KERNEL_4K`.
    #[must_use]
    pub const fn kernel_4k(era: Era) -> u64 {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => 0,
            Era::V7_2 => SOFTW3,
        }
    }
}

/// Every bit of an entry but the output address, in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct X86Attrs(pub u64);

impl X86Attrs {
    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// The form of a base page's attributes in a larger leaf: PAT moves to bit 12, the size mark is set.
    #[must_use]
    pub const fn page_to_large(self) -> Self {
        Self(self.0 & !bit::PAT | (self.0 & bit::PAT) << 5 | bit::PSE)
    }

    /// The form of a larger leaf's attributes in a base page: the size mark is dropped, PAT moves to bit 7.
    #[must_use]
    pub const fn large_to_page(self) -> Self {
        Self(self.0 & !(bit::PSE | bit::PAT_LARGE) | (self.0 & bit::PAT_LARGE) >> 5)
    }
}

impl fmt::Debug for X86Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X86Attrs({:#018x})", self.0)
    }
}

const LEAF_2M: u64 = 0x000f_ffff_ffe0_0000; // bits 51:21
const LEAF_1G: u64 = 0x000f_ffff_c000_0000; // bits 51:30

/// The output address of a leaf of `level`; above the pud there is none, and the page's mask stands.
pub(crate) const fn leaf_frame(level: Level) -> u64 {
    match level {
        Level::Pud => LEAF_1G,
        Level::Pmd => LEAF_2M,
        Level::Pgd | Level::P4d | Level::Pte => bit::FRAME,
    }
}

const fn level(level: Level, shift: u32, leaf: bool) -> LevelShape {
    LevelShape { level, shift, index_bits: 9, leaf, contiguous_bits: 0 }
}

pub(crate) const fn leaf(bytes: u64, level: Level) -> LeafSize {
    LeafSize { bytes, level, contiguous: false }
}

const LEAVES: &[LeafSize] = &[leaf(1 << 30, Level::Pud), leaf(1 << 21, Level::Pmd), leaf(1 << 12, Level::Pte)];

const SHAPE_4: Shape = Shape {
    arch: "x86_64",
    granule: Granule::K4,
    levels: &[
        level(Level::Pgd, 39, false),
        level(Level::Pud, 30, true),
        level(Level::Pmd, 21, true),
        level(Level::Pte, 12, true),
    ],
    leaves: LEAVES,
};

const SHAPE_5: Shape = Shape {
    arch: "x86_64",
    granule: Granule::K4,
    levels: &[
        level(Level::Pgd, 48, false),
        level(Level::P4d, 39, false),
        level(Level::Pud, 30, true),
        level(Level::Pmd, 21, true),
        level(Level::Pte, 12, true),
    ],
    leaves: LEAVES,
};

/// x86-64 with `LEVELS` levels: four or five.
#[derive(Debug)]
pub enum X86<const LEVELS: usize> {}

/// x86-64 with four levels.
pub type X86Level4 = X86<4>;

/// x86-64 with five levels.
pub type X86Level5 = X86<5>;

impl<const LEVELS: usize> X86<LEVELS> {
    /// The depth as a value.
    pub const PAGING: Paging = match LEVELS {
        4 => Paging::Level4,
        5 => Paging::Level5,
        _ => panic!("x86-64 has four or five levels"),
    };
}

/// Whether an entry is present and has none of `bits`, which are above [`bit::PRESENT`].
///
/// Taking the lowest bit away borrows only where it is clear, and the borrow leaves it set: one test tells both.
#[inline]
pub(crate) const fn is_present_less(raw: u64, bits: u64) -> bool {
    raw.wrapping_sub(bit::PRESENT) & (bit::PRESENT | bits) == 0
}

/// An entry at `level`; the formats of both depths agree.
#[inline]
pub(crate) fn decode(raw: u64, level: Level) -> Entry<X86Attrs> {
    if is_present_less(raw, bit::PSE) && level != Level::Pte { table_entry(raw) } else { decode_end(raw, level) }
}

/// An entry that links a table.
#[inline]
pub(crate) const fn table_entry(raw: u64) -> Entry<X86Attrs> {
    Entry::Table { next: PhysAddr(raw & bit::FRAME), attrs: X86Attrs(raw & !bit::FRAME) }
}

/// An entry at `level` that links no table.
#[inline]
pub(crate) fn decode_end(raw: u64, level: Level) -> Entry<X86Attrs> {
    if raw & bit::PRESENT == 0 {
        return Entry::Absent { sw: raw }; // bit 7 means nothing to the MMU here, though a listing looks at it
    }
    if matches!(level, Level::Pgd | Level::P4d) {
        return Entry::Reserved { raw };
    }
    let frame = leaf_frame(level);
    if level != Level::Pte && raw & bit::FRAME & !frame & !bit::PAT_LARGE != 0 {
        return Entry::Reserved { raw }; // address bits below the leaf's size, except PAT
    }
    Entry::Leaf { base: PhysAddr(raw & frame), attrs: X86Attrs(raw & !frame) }
}

/// The entries of a format whose attributes are [`X86Attrs`]: its slots, its shape, its `decode`, and the form of
/// attributes in table entries, and where leaves hold their address.
macro_rules! x86_entries {
    ([$($generics:tt)*] $format:ty, $slot:ty, $shape:expr, $decode:expr, $table_attrs:expr, $address_bits:expr) => {
        impl<$($generics)*> EntryFormat for $format {
            type Attrs = X86Attrs;
            type Slot = $slot;
            const BREAK_BEFORE_MAKE: bool = false;

            #[inline]
            fn shape() -> &'static Shape {
                $shape
            }

            #[inline]
            fn decode(raw: u64, level: Level) -> Entry<X86Attrs> {
                $decode(raw, level)
            }

            #[inline]
            fn address_bits(level: Level) -> u64 {
                $address_bits(level)
            }

            #[inline]
            fn bits(attrs: X86Attrs) -> u64 {
                attrs.0
            }

            #[inline]
            fn attrs(bits: u64) -> X86Attrs {
                X86Attrs(bits)
            }

            #[inline]
            fn leaf_attrs(page: X86Attrs, level: Level, _contiguous: bool) -> X86Attrs {
                if level == Level::Pte { page } else { page.page_to_large() }
            }

            #[inline]
            fn table_attrs(attrs: X86Attrs, level: Level) -> X86Attrs {
                $table_attrs(attrs, level)
            }

            #[inline]
            fn page_attrs(leaf: X86Attrs, level: Level) -> X86Attrs {
                if level == Level::Pte { leaf } else { leaf.large_to_page() }
            }

            #[inline]
            fn is_contiguous(_attrs: X86Attrs) -> bool {
                false
            }

            /// Always: a stale translation may be used until the flush, but two that disagree are no fault here.
            #[inline]
            fn change_is_safe(_old: u64, _new: u64) -> bool {
                true
            }
        }
    };
}

pub(crate) use x86_entries;

/// Every level of 64-bit tables knows the same bits of table entries.
const fn same(attrs: X86Attrs, _level: Level) -> X86Attrs {
    attrs
}

/// The shape of either depth.
const fn shape(paging: Paging) -> &'static Shape {
    match paging {
        Paging::Level4 => &SHAPE_4,
        Paging::Level5 => &SHAPE_5,
    }
}

x86_entries!([const LEVELS: usize] X86<LEVELS>, AtomicU64, shape(Self::PAGING), decode, same, leaf_frame);

/// What the formats of x86 differ in beyond their entries: the frame of an entry that is not present.
pub trait X86Format: UserFormat<Attrs = X86Attrs> {
    /// The raw leaf of `level` for the memory at `base`, as [`Masks::raw_leaf`].
    #[must_use]
    fn raw_leaf(masks: Masks, base: PhysAddr, attrs: X86Attrs, level: Level) -> u64 {
        masks.raw_leaf(base, attrs, level)
    }

    /// The memory that a raw leaf of `level` names: the inverse of [`X86Format::raw_leaf`].
    #[must_use]
    fn base_of(raw: u64, level: Level) -> PhysAddr {
        base_of(raw, level)
    }
}

impl<const LEVELS: usize> X86Format for X86<LEVELS> {}

/// Whether Linux's listing takes an entry above the last level for a leaf: not always what the MMU does.
///
/// | level | era | leaf when |
/// |---|---|---|
/// | pmd | all | the size mark alone |
/// | pud | to 6.1 | size mark and present (4.14 UNVERIFIED) |
/// | pud | 6.12, 7.2 | the size mark alone |
/// | above | all | never |
///
/// An entry that is neither empty, present nor such a leaf is passed over: the line that is open goes on.
///
/// Source: Linux 5.10–7.2 mm/pagewalk.c, mm/ptdump.c; arch/x86/include/asm/pgtable.h `pmd_large`, `pud_large`,
/// `pud_leaf`.
#[must_use]
pub const fn listed_as_leaf(era: Era, raw: u64, level: Level) -> bool {
    let marked = raw & bit::PSE != 0;
    match level {
        Level::Pgd | Level::P4d => false,
        Level::Pte => true,
        Level::Pmd => marked,
        Level::Pud => match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => marked && raw & bit::PRESENT != 0,
            Era::V6_12 | Era::V7_2 => marked,
        },
    }
}
