//! Kernel protections in the form of a base page, without the address.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h; values of every era in `golden/arm64_prot.csv`.

use kernmem_base::Era;

use super::bit::{AF, ATTR_INDEX_SHIFT, DBM, DIRTY, NG, PXN, PXN_TABLE, RDONLY, SHARED, TABLE, UXN, UXN_TABLE, VALID};
use super::{Arm64Attrs, Output, bit};

/// Index into MAIR_EL1 of normal memory.
pub const MT_NORMAL: u64 = 0;
/// Index of normal memory with tags; used by the linear map whether or not the CPU has tags.
pub const MT_NORMAL_TAGGED: u64 = 1;

/// Index of device memory whose writes may be gathered nowhere, reordered nowhere, and acknowledged early.
///
/// | era | index |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | 5 |
/// | 6.1 and later | 4 |
const fn mt_device(era: Era) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 => 5,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => 4,
    }
}

/// What `ioremap` maps with: device memory, writable, not executable, of unknown age.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-prot.h `PROT_DEVICE_nGnRE`.
#[must_use]
pub const fn device(era: Era) -> Arm64Attrs {
    Arm64Attrs(PAGE | mt_device(era) << ATTR_INDEX_SHIFT | DBM | PXN)
}

const PAGE: u64 = VALID | TABLE | AF | SHARED | UXN;

const fn normal(bits: u64) -> Arm64Attrs {
    Arm64Attrs(PAGE | MT_NORMAL << ATTR_INDEX_SHIFT | bits)
}

/// Kernel data: writable, not executable.
pub const PAGE_KERNEL: Arm64Attrs = normal(DBM | PXN | DIRTY);
/// Read only, not executable.
pub const PAGE_KERNEL_RO: Arm64Attrs = normal(RDONLY | PXN | DIRTY);
/// Kernel text.
pub const PAGE_KERNEL_ROX: Arm64Attrs = normal(RDONLY | DIRTY);
/// Kernel text with `rodata=off`.
pub const PAGE_KERNEL_EXEC: Arm64Attrs = normal(DBM | DIRTY);

/// The same rights with the tagged memory type: ordinary memory in the linear map.
#[must_use]
pub const fn tagged(attrs: Arm64Attrs) -> Arm64Attrs {
    Arm64Attrs(attrs.0 & !bit::ATTR_INDEX | MT_NORMAL_TAGGED << ATTR_INDEX_SHIFT)
}

/// The same rights, tied to an ASID if `not_global`.
#[must_use]
pub const fn with_ng(attrs: Arm64Attrs, not_global: bool) -> Arm64Attrs {
    if not_global { Arm64Attrs(attrs.0 | NG) } else { attrs }
}

/// The same rights without shareability, where a format holds an address in its place.
#[must_use]
pub const fn for_output(attrs: Arm64Attrs, output: Output) -> Arm64Attrs {
    match output {
        Output::Plain | Output::Lpa => attrs,
        Output::Lpa2 => Arm64Attrs(attrs.0 & !SHARED),
    }
}

/// The block form in which vmemmap is mapped up to 6.1 (type bit aside, which the cursor sets): clean and not
/// writable by the software model, though hardware sees it writable; from 6.12 on writable by both.
///
/// Source: Linux 6.1 arch/arm64/mm/mmu.c `vmemmap_set_pmd`, `PROT_SECT_NORMAL`.
#[must_use]
pub const fn vmemmap_block(era: Era) -> Arm64Attrs {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => normal(PXN),
        Era::V6_12 => normal(PXN | DBM),
        Era::V7_2 => PAGE_KERNEL,
    }
}

/// Attributes of a table entry that was there before the kernel's mapper: the fixmap's.
pub const TABLE_STATIC: Arm64Attrs = Arm64Attrs(VALID | TABLE);

/// Attributes of a table entry for kernel mappings; `no_exec` tables let nothing below them be executed.
///
/// | era | |
/// |---|---|
/// | 5.10 and before | plain |
/// | 6.1, 6.12 | not executable by user mode; the linear map's not by the kernel either |
/// | 7.2 | the same, marked accessed |
///
/// Source: Linux 6.1 arch/arm64/mm/mmu.c `alloc_init_cont_pmd`; arch/arm64/include/asm/pgalloc.h `pud_populate`.
#[must_use]
pub const fn table(era: Era, no_exec: bool) -> Arm64Attrs {
    let hierarchical = if no_exec { UXN_TABLE | PXN_TABLE } else { UXN_TABLE };
    match era {
        Era::V4_14 | Era::V5_10 => TABLE_STATIC,
        Era::V6_1 | Era::V6_12 => Arm64Attrs(VALID | TABLE | hierarchical),
        Era::V7_2 => Arm64Attrs(VALID | TABLE | AF | hierarchical),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts: the table of kernel protections, columns 5.10 to 7.2 without LPA2.
    #[test]
    fn protections_have_the_bits_of_the_headers() {
        assert_eq!(PAGE_KERNEL.0, 0x00e8_0000_0000_0703);
        assert_eq!(PAGE_KERNEL_RO.0, 0x00e0_0000_0000_0783);
        assert_eq!(PAGE_KERNEL_ROX.0, 0x00c0_0000_0000_0783);
        assert_eq!(PAGE_KERNEL_EXEC.0, 0x00c8_0000_0000_0703);
        assert_eq!(tagged(PAGE_KERNEL).0, 0x00e8_0000_0000_0707);
        assert_eq!(vmemmap_block(Era::V6_1).0 & !TABLE, 0x0060_0000_0000_0701);
        assert_eq!(vmemmap_block(Era::V6_12).0 & !TABLE, 0x0068_0000_0000_0701);
        assert_eq!(vmemmap_block(Era::V7_2).0 & !TABLE, 0x00e8_0000_0000_0701);
        assert_eq!(device(Era::V5_10).0, 0x0068_0000_0000_0717);
        assert_eq!(device(Era::V6_1).0, 0x0068_0000_0000_0713);
        assert_eq!(table(Era::V6_1, true).0, 0x1800_0000_0000_0003);
        assert_eq!(table(Era::V7_2, false).0, 0x1000_0000_0000_0403);
    }
}
