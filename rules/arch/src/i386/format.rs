//! Entries of i386 tables: 64-bit ones in three levels (PAE), 32-bit ones in two.
//!
//! ```text
//! PAE        pgd 4 entries of 1 GiB | pmd 512 of 2 MiB | pte 512 of 4 KiB     the root takes 32 bytes
//! two levels                          pmd 1024 of 4 MiB | pte 1024 of 4 KiB
//! ```
//! The upper of two levels is Linux's pmd as well as its pgd, which is folded into it; what is done to its leaves is done
//! by the name of the pmd.
//!
//! # Invariants
//! 1. An entry of PAE's root has no rights: nothing but presence, memory type and software bits.
//! 2. Bits 62:52 of a present entry of PAE are zero.
//! 3. A 32-bit entry has no NX, and the frame of one that is not present is stored as it is.
//!
//! Source: Intel SDM volume 3, 32-bit paging, PAE paging; Linux 5.10–7.2 arch/x86/include/asm/pgtable-2level.h,
//! pgtable-3level.h, pgtable-2level_types.h, pgtable-3level_types.h.

use kernmem_base::sync::atomic::{AtomicU32, AtomicU64};

use kernmem_base::{Access, Era, Granule, Half, Level, PhysAddr, Privilege, VirtAddr};

use super::layout::Paging;
use crate::x86::bit::{
    ACCESSED, DIRTY, FRAME, GLOBAL, NX, PAT_LARGE, PCD, PRESENT, PROTNONE, PSE, PWT, RW, SOFTW1, SOFTW2, SOFTW3,
    SPECIAL, USER,
};
use crate::x86::error_code::ErrorCode;
use crate::x86::mmu::{Control, is_canonical, reserved_bits};
use crate::x86::prot::{Masks, table};
use crate::x86::user::{protection, reprotect, settle};
use crate::x86::{
    X86Attrs, X86Format, decode_end, is_present_less, leaf, leaf_frame, table_entry, user_format, x86_entries, x86_mmu,
};
use crate::{
    Entry, EntryFormat, FaultKind, LeafSize, LevelShape, MmuFormat, Refusal, Rights, Shape, Syndrome, UserFormat,
    UserRights,
};

/// i386 with 64-bit entries in three levels.
#[derive(Debug)]
pub enum I386Pae {}

/// i386 with 32-bit entries in two levels.
#[derive(Debug)]
pub enum I386Level2 {}

const fn level(level: Level, shift: u32, index_bits: u32, leaf: bool) -> LevelShape {
    LevelShape { level, shift, index_bits, leaf, contiguous_bits: 0 }
}

const PAE_LEAVES: &[LeafSize] = &[leaf(1 << 21, Level::Pmd), leaf(1 << 12, Level::Pte)];
const LEVEL_2_LEAVES: &[LeafSize] = &[leaf(1 << 22, Level::Pmd), leaf(1 << 12, Level::Pte)];

const SHAPE_PAE: Shape = Shape {
    arch: "ia32_pae",
    granule: Granule::K4,
    levels: &[level(Level::Pgd, 30, 2, false), level(Level::Pmd, 21, 9, true), level(Level::Pte, 12, 9, true)],
    leaves: PAE_LEAVES,
};

const SHAPE_2: Shape = Shape {
    arch: "ia32",
    granule: Granule::K4,
    levels: &[level(Level::Pmd, 22, 10, true), level(Level::Pte, 12, 10, true)],
    leaves: LEVEL_2_LEAVES,
};

/// What an entry of PAE's root may have besides its table.
const ROOT_BITS: u64 = PRESENT | PWT | PCD | SOFTW1 | SOFTW2 | SOFTW3;
/// Bits of a 32-bit entry.
const BITS_32: u64 = 0xffff_ffff;
/// The frame of a 32-bit entry: bits 31:12.
const FRAME_32: u64 = FRAME & BITS_32;
/// The frame of a 4 MiB leaf: bits 31:22. Bits 20:13 are more of the address on some CPUs; Linux leaves them 0.
const LEAF_4M: u64 = 0xffc0_0000;

/// Bits 62:52, which 64-bit tables leave to software and which must be zero in a present entry of PAE.
const BEYOND_PAE: u64 = 0x7ff0_0000_0000_0000;

#[inline]
fn decode_pae(raw: u64, level: Level) -> Entry<X86Attrs> {
    let reserved = if level == Level::Pgd { !(FRAME | ROOT_BITS) } else { BEYOND_PAE };
    match level {
        Level::Pte if is_present_less(raw, reserved) => leaf_entry(raw, FRAME),
        Level::Pgd | Level::P4d | Level::Pud | Level::Pmd if is_present_less(raw, reserved | PSE) => table_entry(raw),
        _ if raw & PRESENT == 0 => Entry::Absent { sw: raw },
        _ if is_present_less(raw, reserved) => decode_end(raw, level),
        _ => Entry::Reserved { raw },
    }
}

#[inline]
fn decode_32(raw: u64, level: Level) -> Entry<X86Attrs> {
    match (level, raw & PRESENT != 0) {
        (_, false) => Entry::Absent { sw: raw },
        _ if raw > BITS_32 => Entry::Reserved { raw },
        (Level::Pmd, _) if raw & PSE != 0 && raw & FRAME_32 & !LEAF_4M & !PAT_LARGE != 0 => Entry::Reserved { raw },
        (Level::Pmd, _) if raw & PSE != 0 => leaf_entry(raw, LEAF_4M),
        (Level::Pte, _) => leaf_entry(raw, FRAME_32),
        (Level::Pgd | Level::P4d | Level::Pud | Level::Pmd, _) => {
            Entry::Table { next: PhysAddr(raw & FRAME_32), attrs: X86Attrs(raw & !FRAME_32) }
        }
    }
}

/// The output address of a leaf of `level`.
const fn leaf_frame_32(level: Level) -> u64 {
    match level {
        Level::Pte => FRAME_32,
        Level::Pgd | Level::P4d | Level::Pud | Level::Pmd => LEAF_4M,
    }
}

const fn leaf_entry(raw: u64, frame: u64) -> Entry<X86Attrs> {
    Entry::Leaf { base: PhysAddr(raw & frame), attrs: X86Attrs(raw & !frame) }
}

const fn root_has_no_rights(attrs: X86Attrs, level: Level) -> X86Attrs {
    match level {
        Level::Pgd => X86Attrs(attrs.0 & ROOT_BITS),
        Level::P4d | Level::Pud | Level::Pmd | Level::Pte => attrs,
    }
}

const fn same(attrs: X86Attrs, _level: Level) -> X86Attrs {
    attrs
}

x86_entries!([] I386Pae, AtomicU64, &SHAPE_PAE, decode_pae, root_has_no_rights, leaf_frame);
x86_entries!([] I386Level2, AtomicU32, &SHAPE_2, decode_32, same, leaf_frame_32);

impl X86Format for I386Pae {}

impl X86Format for I386Level2 {
    fn raw_leaf(masks: Masks, base: PhysAddr, attrs: X86Attrs, level: Level) -> u64 {
        (base.0 & leaf_frame_32(level)) | masks.supported(attrs).0
    }

    fn base_of(raw: u64, level: Level) -> PhysAddr {
        PhysAddr(raw & leaf_frame_32(level))
    }
}

/// The two formats, and which of them a type is.
pub trait I386Format: X86Format {
    /// Its name as a value.
    const PAGING: Paging;
}

impl I386Format for I386Pae {
    const PAGING: Paging = Paging::Pae;
}

impl I386Format for I386Level2 {
    const PAGING: Paging = Paging::Level2;
}

/// An entry of PAE's root takes nothing from the leaves below it.
const fn read_pae(entry: Entry<X86Attrs>, level: Level) -> Entry<X86Attrs> {
    match (entry, level) {
        (Entry::Table { next, attrs }, Level::Pgd) => Entry::Table { next, attrs: X86Attrs(attrs.0 | RW | USER) },
        (entry, _) => entry,
    }
}

/// The CPU marks no entry of PAE's root: it was loaded with the root.
const fn marks_pae(level: Level) -> u64 {
    match level {
        Level::Pgd => 0,
        Level::P4d | Level::Pud | Level::Pmd | Level::Pte => ACCESSED | DIRTY,
    }
}

const fn read_32(entry: Entry<X86Attrs>, _level: Level) -> Entry<X86Attrs> {
    entry
}

const fn marks_32(_level: Level) -> u64 {
    ACCESSED | DIRTY
}

x86_mmu!([] I386Pae, read_pae, marks_pae);
x86_mmu!([] I386Level2, read_32, marks_32);

/// The dirty mark of a write-protected page; 0 before 6.12.
///
/// | era | bit |
/// |---|---|
/// | to 6.1 | none |
/// | 6.12, 7.2 | the second software bit |
///
/// Source: Linux 6.12 arch/x86/include/asm/pgtable_types.h `_PAGE_BIT_SAVED_DIRTY`.
#[must_use]
pub const fn saved_dirty(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
        Era::V6_12 | Era::V7_2 => SOFTW2,
    }
}

/// A swapped-out page that one process owns (6.12 and later).
///
/// Source: Linux 6.12 arch/x86/include/asm/pgtable-2level.h, pgtable-3level.h `_PAGE_SWP_EXCLUSIVE`.
pub const SWP_EXCLUSIVE: u64 = PSE;

// The first kernel slot is that of kernels with 3 GiB for programs.
user_format!([] I386Pae, 3, !0, saved_dirty);
user_format!([] I386Level2, 768, BITS_32, saved_dirty);
