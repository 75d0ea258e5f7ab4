//! Room in the image for the boot page tables: how many pages are set aside, by era, page size and address bits.
//!
//! A range takes a root, and for each level that holds tables as many pages as the range spans entries of the level
//! above, with one to spare because a moved image may straddle one more boundary.
//!
//! Source: Linux 5.10, 6.1 arch/arm64/include/asm/kernel-pgtable.h `EARLY_PAGES`, `INIT_DIR_SIZE`,
//! `INIT_IDMAP_DIR_SIZE`; 6.12, 7.2 the same with `EARLY_SEGMENT_EXTRA_PAGES`, `EARLY_IDMAP_EXTRA_PAGES`.

use kernmem_base::{Era, Granule, Level, VirtAddr};

use super::Geometry;
use super::levels::block_shift;
use super::limits::{MAX_FDT_BYTES, SEGMENT_ALIGN};

/// Address bits of the identity map from 6.12 on, and what wider ones of earlier kernels reach.
pub const IDMAP_VA_BITS: u32 = 48;

/// The tables of such a map.
#[must_use]
pub const fn of_identity(granule: Granule) -> Geometry {
    match Geometry::of(granule.shift(), IDMAP_VA_BITS) {
        Some(geometry) => geometry,
        None => panic!("every page size has tables of 48 bits"),
    }
}

/// log2 of the bytes of the leaves of the boot maps (`SWAPPER_BLOCK_SHIFT`): blocks with 4K pages, else pages.
#[must_use]
pub const fn leaf_shift(granule: Granule) -> u32 {
    match granule {
        Granule::K4 => block_shift(granule),
        Granule::K16 | Granule::K64 => granule.shift(),
    }
}

/// log2 of the bytes that one table of such leaves maps (`SWAPPER_TABLE_SHIFT`).
#[must_use]
pub const fn table_shift(granule: Granule) -> u32 {
    leaf_shift(granule) + granule.shift() - 3
}

/// Levels of the boot maps of a geometry: one fewer where they are made of blocks (`SWAPPER_PGTABLE_LEVELS`).
#[must_use]
pub const fn boot_levels(geometry: Geometry) -> u32 {
    match geometry.granule() {
        Granule::K4 => geometry.levels() - 1,
        Granule::K16 | Granule::K64 => geometry.levels(),
    }
}

/// Entries of `1 << shift` bytes that a range touches.
const fn spanned(start: u64, end: u64, shift: u32) -> u64 {
    ((end - 1) >> shift) - (start >> shift) + 1
}

/// Pages for a range: the root, and the tables below it.
const fn pages(geometry: Geometry, start: u64, end: u64) -> u64 {
    let index_bits = geometry.granule().shift() - 3;
    let mut pages = 1;
    let mut left = boot_levels(geometry) - 1;
    let mut shift = geometry.shift(Level::Pgd);
    while left > 0 {
        pages += spanned(start, end, shift) + 1;
        shift -= index_bits;
        left -= 1;
    }
    pages
}

/// One kernel's image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CarveOuts {
    /// The branch.
    pub era: Era,
    /// Page size and configured address bits.
    pub geometry: Geometry,
    /// The first address of the linked image.
    pub start: VirtAddr,
    /// One past its last.
    pub end: VirtAddr,
}

impl CarveOuts {
    const fn of_idmap(&self) -> Geometry {
        of_identity(self.geometry.granule())
    }

    const fn bytes(&self, pages: u64) -> u64 {
        pages << self.geometry.granule().shift()
    }

    /// Pages beyond the formula because segments meet inside one block (4K pages).
    ///
    /// | era | kernel map | identity map | devicetree |
    /// |---|---|---|---|
    /// | to 6.1 | 0 | 0 | not there (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | 7 | 3 | 2 |
    const fn extra(&self, segments: u64) -> u64 {
        let meets = 1 << leaf_shift(self.geometry.granule()) > SEGMENT_ALIGN;
        match self.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => 0,
            Era::V6_12 | Era::V7_2 => {
                if meets {
                    segments
                } else {
                    0
                }
            }
        }
    }

    /// Pages beyond the formula in the kernel map (`EARLY_SEGMENT_EXTRA_PAGES`).
    #[must_use]
    pub const fn kernel_extra_pages(&self) -> u64 {
        self.extra(7)
    }

    /// Pages beyond the formula in the identity map (`EARLY_IDMAP_EXTRA_PAGES`).
    #[must_use]
    pub const fn identity_extra_pages(&self) -> u64 {
        self.extra(3)
    }

    /// Pages beyond the formula for the devicetree's identity map (`EARLY_IDMAP_EXTRA_FDT_PAGES`).
    #[must_use]
    pub const fn fdt_extra_pages(&self) -> u64 {
        self.extra(2)
    }

    /// Bytes for the kernel map (`INIT_DIR_SIZE`).
    #[must_use]
    pub const fn kernel_bytes(&self) -> u64 {
        self.bytes(pages(self.geometry, self.start.0, self.end.0) + self.kernel_extra_pages())
    }

    /// Bytes for the identity map.
    ///
    /// | era | bytes |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | a page for each level that 48 bits need (`IDMAP_DIR_SIZE`) |
    /// | 6.1 | image, devicetree and a block, in the kernel's geometry; two more pages below 48 bits, which may have to be extended |
    /// | 6.12, 7.2 | image, in the geometry of 48 bits (`INIT_IDMAP_DIR_SIZE`) |
    #[must_use]
    pub const fn identity_bytes(&self) -> u64 {
        let granule = self.geometry.granule();
        match self.era {
            Era::V4_14 | Era::V5_10 => self.bytes(boot_levels(self.of_idmap()) as u64),
            Era::V6_1 => {
                let end = self.end.0 + MAX_FDT_BYTES + (1 << leaf_shift(granule));
                let extended = if self.geometry.va_bits() < IDMAP_VA_BITS { 2 } else { 0 };
                self.bytes(pages(self.geometry, self.start.0, end) + extended)
            }
            Era::V6_12 | Era::V7_2 => {
                self.bytes(pages(self.of_idmap(), self.start.0, self.end.0) + self.identity_extra_pages())
            }
        }
    }

    /// Pages below the root for the devicetree's identity map from 6.12 on (`INIT_IDMAP_FDT_PAGES`).
    #[must_use]
    pub const fn fdt_pages(&self) -> u64 {
        pages(self.of_idmap(), 0, MAX_FDT_BYTES) - 1
    }

    /// Bytes for them (`INIT_IDMAP_FDT_SIZE`).
    #[must_use]
    pub const fn fdt_bytes(&self) -> u64 {
        self.bytes(self.fdt_pages() + self.fdt_extra_pages())
    }

    /// Levels of the boot's identity map.
    ///
    /// | era | levels |
    /// |---|---|
    /// | to 5.10 | those of 48 bits (`IDMAP_PGTABLE_LEVELS`; 4.14 UNVERIFIED) |
    /// | 6.1 | the kernel's own |
    /// | 6.12, 7.2 | those of 48 bits (`INIT_IDMAP_PGTABLE_LEVELS`) |
    #[must_use]
    pub const fn identity_levels(&self) -> u32 {
        match self.era {
            Era::V6_1 => boot_levels(self.geometry),
            Era::V4_14 | Era::V5_10 | Era::V6_12 | Era::V7_2 => boot_levels(self.of_idmap()),
        }
    }
}
