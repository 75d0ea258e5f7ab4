//! Levels of tables by page size and address bits, under Linux's names.
//!
//! Linux names levels from the leaves up and folds those that a geometry does not have: a folded level has one entry,
//! of the size that an entry of the root has.
//!
//! | page | bits | levels | entries of the root | root, PUD, PMD shift |
//! |---|---|---|---|---|
//! | 4K | 39, 48, 52 | 3, 4, 5 | 512, 512, 16 | 30, 39, 48 · 30 · 21 |
//! | 16K | 36, 47, 48, 52 | 2, 3, 4, 4 | 2048, 2048, 2, 32 | 25, 36, 47, 47 · 36 · 25 |
//! | 64K | 42, 48, 52 | 2, 3, 3 | 8192, 64, 1024 | 29, 42, 42 · 42 · 29 |
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h.

use kernmem_base::{Granule, Level};

/// The geometry of one kernel's tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Geometry {
    /// The page size.
    pub granule: Granule,
    /// Address bits.
    pub va_bits: u32,
}

/// A level's distance from the leaves.
const fn height(level: Level) -> u32 {
    match level {
        Level::Pte => 0,
        Level::Pmd => 1,
        Level::Pud => 2,
        Level::P4d => 3,
        Level::Pgd => 4,
    }
}

impl Geometry {
    /// log2 of the entries of a table.
    const fn index_bits(self) -> u32 {
        self.granule.shift() - 3
    }

    /// Levels of tables (`CONFIG_PGTABLE_LEVELS`).
    #[must_use]
    pub const fn levels(self) -> u32 {
        (self.va_bits - 4) / self.index_bits()
    }

    /// log2 of the bytes that an entry of the root maps (`PGDIR_SHIFT`).
    #[must_use]
    pub const fn root_shift(self) -> u32 {
        self.granule.shift() + self.index_bits() * (self.levels() - 1)
    }

    /// log2 of the bytes that an entry of `level` maps; of a folded level what an entry of the root maps.
    #[must_use]
    pub const fn shift(self, level: Level) -> u32 {
        let own = self.granule.shift() + self.index_bits() * height(level);
        if own < self.root_shift() { own } else { self.root_shift() }
    }

    /// Whether the geometry has no tables of `level`.
    #[must_use]
    pub const fn is_folded(self, level: Level) -> bool {
        !matches!(level, Level::Pgd) && height(level) + 1 >= self.levels()
    }

    /// Entries of a table of `level`; 1 where it is folded.
    #[must_use]
    pub const fn entries(self, level: Level) -> u64 {
        match level {
            Level::Pgd => 1 << (self.va_bits - self.root_shift()),
            _ if self.is_folded(level) => 1,
            _ => 1 << self.index_bits(),
        }
    }
}

/// log2 of the entries of a contiguous group; 0 where Linux uses none.
///
/// | page | PTE | PMD |
/// |---|---|---|
/// | 4K | 16 entries, 64K | 16, 32M |
/// | 16K | 128, 2M | 32, 1G |
/// | 64K | 32, 2M | 32, 16G |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h `CONT_PTE_SHIFT`, `CONT_PMD_SHIFT`.
#[must_use]
pub const fn contiguous_bits(granule: Granule, level: Level) -> u32 {
    match (level, granule) {
        (Level::Pte | Level::Pmd, Granule::K4) => 4,
        (Level::Pte, Granule::K16) => 7,
        (Level::Pmd, Granule::K16) | (Level::Pte | Level::Pmd, Granule::K64) => 5,
        (Level::Pud | Level::P4d | Level::Pgd, _) => 0,
    }
}

/// log2 of the bytes of a block one level above the pages, which every geometry can map (`PMD_SHIFT`).
#[must_use]
pub const fn block_shift(granule: Granule) -> u32 {
    granule.shift() * 2 - 3
}

/// Entries of the root of a kernel built for 52 bits that are left for 48 (`PTRS_PER_PGD_48_VA`).
#[must_use]
pub const fn root_entries_of_48(granule: Granule) -> u64 {
    1 << (48 - Geometry { granule, va_bits: 52 }.root_shift())
}

/// How far behind its start the root of a 52-bit kernel is entered where only 48 bits are in use, in bytes: the entries
/// in use are the last ones (`TTBR1_BADDR_4852_OFFSET`).
///
/// Only 64K kernels run so; with smaller pages the fall-back has one level fewer instead.
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h.
#[must_use]
pub const fn fallback_root_offset(granule: Granule) -> u64 {
    let built = Geometry { granule, va_bits: 52 };
    (built.entries(Level::Pgd) - root_entries_of_48(granule)) << 3
}
