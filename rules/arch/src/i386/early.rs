//! The tables of the first instructions: all of the image and room for the tables of low memory, mapped page by page.
//!
//! Source: Linux 5.10–7.2 arch/x86/kernel/head32.c `mk_early_pgtbl_32`; arch/x86/include/asm/pgtable_32.h
//! `PAGE_TABLE_SIZE`, pgtable-3level_types.h.

use kernmem_base::PhysAddr;

use super::layout::Paging;
use crate::x86::X86Attrs;
use crate::x86::bit::{PRESENT, RW};

const PAGE_BYTES: u64 = 1 << 12;

/// A page of the first tables (`PTE_IDENT_ATTR`): no accessed or dirty mark, not global.
pub const PAGE: X86Attrs = X86Attrs(PRESENT | RW);

/// Bytes of the tables that all of low memory needs in the worst case; `low_pages` is the kernel's part of the address
/// space.
///
/// | format | tables |
/// |---|---|
/// | two levels | one for 1024 pages |
/// | PAE | one for 512 pages, and four |
#[must_use]
pub const fn low_table_bytes(paging: Paging, low_pages: u64) -> u64 {
    let extra = match paging {
        Paging::Level2 => 0,
        Paging::Pae => 4,
    };
    (low_pages / paging.table_entries() + extra) * PAGE_BYTES
}

/// What the first tables map, and where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EarlyMap {
    /// One past the last byte that is mapped: whole tables.
    pub mapped_end: PhysAddr,
    /// Pages of tables, from the start of the image's heap on.
    pub tables: u64,
}

/// The first map of a kernel whose image ends at `end`.
#[must_use]
pub const fn early_map(paging: Paging, end: PhysAddr, low_pages: u64) -> EarlyMap {
    let limit = end.0 + low_table_bytes(paging, low_pages);
    let mapped = limit.next_multiple_of(paging.large());
    EarlyMap { mapped_end: PhysAddr(mapped), tables: mapped / paging.large() }
}
