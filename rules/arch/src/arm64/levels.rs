//! Levels of tables under Linux's names, those that a geometry does not have included.
//!
//! Linux names levels from the leaves up and folds those that a geometry lacks: a folded level has one entry, of the
//! size that an entry of the root has.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h `PGDIR_SHIFT`, `PTRS_PER_PGD`.

use kernmem_base::{Granule, Level};

use super::Geometry;
use crate::LevelShape;

impl Geometry {
    /// Levels of tables (`CONFIG_PGTABLE_LEVELS`).
    #[must_use]
    pub const fn levels(self) -> u32 {
        self.shape().levels.len() as u32
    }

    const fn root(self) -> LevelShape {
        self.shape().levels[0]
    }

    /// The level's own shape; `None` where it is folded.
    const fn own(self, level: Level) -> Option<LevelShape> {
        let levels = self.shape().levels;
        let mut at = 0;
        while at < levels.len() {
            if levels[at].level as usize == level as usize {
                return Some(levels[at]);
            }
            at += 1;
        }
        None
    }

    /// log2 of the bytes that an entry of `level` maps; of a folded level what an entry of the root maps.
    #[must_use]
    pub const fn shift(self, level: Level) -> u32 {
        match self.own(level) {
            Some(shape) => shape.shift,
            None => self.root().shift,
        }
    }

    /// Entries of a table of `level`; 1 where it is folded.
    #[must_use]
    pub const fn entries(self, level: Level) -> u64 {
        match self.own(level) {
            Some(shape) => 1 << shape.index_bits,
            None => 1,
        }
    }
}

/// log2 of the bytes of a block one level above the pages, which every geometry can map.
#[must_use]
pub const fn block_shift(granule: Granule) -> u32 {
    granule.shift() * 2 - 3
}

/// log2 of the bytes of the two contiguous groups that Linux uses: of pages, and of blocks.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h `CONT_PTE_SHIFT`, `CONT_PMD_SHIFT`.
#[must_use]
pub const fn contiguous_shifts(granule: Granule) -> (u32, u32) {
    let levels = match Geometry::of(granule.shift(), 48) {
        Some(geometry) => geometry.shape().levels,
        None => panic!("every page size has tables of 48 bits"),
    };
    let (page, block) = (levels[levels.len() - 1], levels[levels.len() - 2]);
    (page.shift + page.contiguous_bits, block.shift + block.contiguous_bits)
}

/// The tables of a kernel with this page size that was built for 52 bits.
const fn of_52(granule: Granule) -> Geometry {
    match Geometry::of(granule.shift(), 52) {
        Some(geometry) => geometry,
        None => panic!("every page size has tables of 52 bits"),
    }
}

/// Entries of the root of a kernel built for 52 bits that are left for 48 (`PTRS_PER_PGD_48_VA`).
#[must_use]
pub const fn root_entries_of_48(granule: Granule) -> u64 {
    1 << (48 - of_52(granule).root().shift)
}

/// How far behind its start the root of a 52-bit kernel is entered where only 48 bits are in use, in bytes: the entries
/// in use are the last ones (`TTBR1_BADDR_4852_OFFSET`).
///
/// Only 64K kernels run so; with smaller pages the fall-back has one level fewer instead.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h.
#[must_use]
pub const fn fallback_root_offset(granule: Granule) -> u64 {
    (of_52(granule).entries(Level::Pgd) - root_entries_of_48(granule)) << 3
}
