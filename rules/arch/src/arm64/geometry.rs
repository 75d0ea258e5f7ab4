//! The tables that arm64 can have: page size and translated bits, and their shapes as data.
//!
//! ```text
//! page   bits   levels (index bits)            blocks       contiguous groups
//! 4K     39     PGD 9, PMD 9, PTE 9            1G, 2M       32M, 64K
//! 4K     48     PGD 9, PUD 9, PMD 9, PTE 9     1G, 2M       32M, 64K
//! 4K     52     PGD 4, P4D 9, PUD 9, ...       1G, 2M       32M, 64K
//! 16K    36     PGD 11, PTE 11                 32M          2M
//! 16K    47     PGD 11, PMD 11, PTE 11         32M          1G, 2M
//! 16K    48     PGD 1, PUD 11, PMD 11, PTE 11  32M          1G, 2M
//! 16K    52     PGD 5, PUD 11, PMD 11, PTE 11  32M          1G, 2M
//! 64K    42     PGD 13, PTE 13                 512M         2M
//! 64K    48     PGD 6, PMD 13, PTE 13          512M         16G, 2M
//! 64K    52     PGD 10, PMD 13, PTE 13         512M         16G, 2M
//! ```
//! Sizes that only the architecture has (64G, 4T, contiguous 1G) are left out: Linux never uses them for the kernel.
//! Groups of root entries neither: the mapper looks at one root entry at a time.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h, arch/arm64/Kconfig.

use kernmem_base::{Granule, Level};

use super::format::{Arm64, Output};
use super::{Arm64Attrs, mmu};
use crate::{LeafSize, LevelShape, MmuFormat, Shape, UserFormat};

/// An arm64 format of whatever page size and bits.
pub trait Arm64Format: UserFormat<Attrs = Arm64Attrs> + MmuFormat<Control = mmu::Control> {}

impl<const PAGE: u32, const VA: u32> Arm64Format for Arm64<PAGE, VA> {}

/// What is done with arm64 tables once their type is known.
pub trait WithArm64 {
    /// What comes out.
    type Output;

    /// Does it.
    fn run<F: Arm64Format>(self) -> Self::Output;
}

/// One choice of page size and translated bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Geometry {
    page: u32,
    va_bits: u32,
}

const fn level(level: Level, shift: u32, index_bits: u32, leaf: bool, contiguous_bits: u32) -> LevelShape {
    LevelShape { level, shift, index_bits, leaf, contiguous_bits }
}

const fn leaf(shift: u32, level: Level, contiguous: bool) -> LeafSize {
    LeafSize { bytes: 1 << shift, level, contiguous }
}

macro_rules! shape {
    ($granule:ident,
     levels [$($level:ident $shift:literal $bits:literal $leaf:literal $cont:literal),+],
     leaves [$($at:ident $size:literal $group:literal),+]) => {
        Shape {
            arch: "aarch64",
            granule: Granule::$granule,
            levels: &[$(level(Level::$level, $shift, $bits, $leaf, $cont)),+],
            leaves: &[$(leaf($size, Level::$at, $group)),+],
        }
    };
}

const K4_39: Shape = shape!(
    K4,
    levels [Pgd 30 9 true 0, Pmd 21 9 true 4, Pte 12 9 true 4],
    leaves [Pgd 30 false, Pmd 25 true, Pmd 21 false, Pte 16 true, Pte 12 false]
);
const K4_48: Shape = shape!(
    K4,
    levels [Pgd 39 9 false 0, Pud 30 9 true 0, Pmd 21 9 true 4, Pte 12 9 true 4],
    leaves [Pud 30 false, Pmd 25 true, Pmd 21 false, Pte 16 true, Pte 12 false]
);
const K4_52: Shape = shape!(
    K4,
    levels [Pgd 48 4 false 0, P4d 39 9 false 0, Pud 30 9 true 0, Pmd 21 9 true 4, Pte 12 9 true 4],
    leaves [Pud 30 false, Pmd 25 true, Pmd 21 false, Pte 16 true, Pte 12 false]
);
const K16_36: Shape = shape!(
    K16,
    levels [Pgd 25 11 true 0, Pte 14 11 true 7],
    leaves [Pgd 25 false, Pte 21 true, Pte 14 false]
);
const K16_47: Shape = shape!(
    K16,
    levels [Pgd 36 11 false 0, Pmd 25 11 true 5, Pte 14 11 true 7],
    leaves [Pmd 30 true, Pmd 25 false, Pte 21 true, Pte 14 false]
);
const K16_48: Shape = shape!(
    K16,
    levels [Pgd 47 1 false 0, Pud 36 11 false 0, Pmd 25 11 true 5, Pte 14 11 true 7],
    leaves [Pmd 30 true, Pmd 25 false, Pte 21 true, Pte 14 false]
);
const K16_52: Shape = shape!(
    K16,
    levels [Pgd 47 5 false 0, Pud 36 11 false 0, Pmd 25 11 true 5, Pte 14 11 true 7],
    leaves [Pmd 30 true, Pmd 25 false, Pte 21 true, Pte 14 false]
);
const K64_42: Shape = shape!(
    K64,
    levels [Pgd 29 13 true 0, Pte 16 13 true 5],
    leaves [Pgd 29 false, Pte 21 true, Pte 16 false]
);
const K64_48: Shape = shape!(
    K64,
    levels [Pgd 42 6 false 0, Pmd 29 13 true 5, Pte 16 13 true 5],
    leaves [Pmd 34 true, Pmd 29 false, Pte 21 true, Pte 16 false]
);
const K64_52: Shape = shape!(
    K64,
    levels [Pgd 42 10 false 0, Pmd 29 13 true 5, Pte 16 13 true 5],
    leaves [Pmd 34 true, Pmd 29 false, Pte 21 true, Pte 16 false]
);

impl Geometry {
    /// Every choice.
    pub const ALL: [Self; 10] = [
        Self { page: 12, va_bits: 39 },
        Self { page: 12, va_bits: 48 },
        Self { page: 12, va_bits: 52 },
        Self { page: 14, va_bits: 36 },
        Self { page: 14, va_bits: 47 },
        Self { page: 14, va_bits: 48 },
        Self { page: 14, va_bits: 52 },
        Self { page: 16, va_bits: 42 },
        Self { page: 16, va_bits: 48 },
        Self { page: 16, va_bits: 52 },
    ];

    /// The tables with pages of `1 << page` bytes that translate `va_bits`; `None` if arm64 has none such.
    #[must_use]
    pub const fn of(page: u32, va_bits: u32) -> Option<Self> {
        let mut at = 0;
        while at < Self::ALL.len() {
            let one = Self::ALL[at];
            if one.page == page && one.va_bits == va_bits {
                return Some(one);
            }
            at += 1;
        }
        None
    }

    /// The tables of a kernel with `va_bits` address bits that runs with `in_use` of them.
    ///
    /// | page | configured | in use | tables of |
    /// |---|---|---|---|
    /// | 4K | 52 | 48 | 48 bits: one level fewer |
    /// | 16K | 52 | 47 | 47 bits: one level fewer |
    /// | 64K | 52 | 48 | 52 bits: the last 64 entries of the root are those of 48 bits |
    ///
    /// Source: Linux 6.12 arch/arm64/include/asm/pgtable.h `pgtable_l5_enabled`, `pgtable_l4_enabled`; 5.10
    /// arch/arm64/kernel/head.S `offset_ttbr1`.
    #[must_use]
    pub const fn in_use(granule: Granule, va_bits: u32, in_use: u32) -> Option<Self> {
        let bits = match granule {
            Granule::K4 | Granule::K16 => in_use,
            Granule::K64 => va_bits,
        };
        Self::of(granule.shift(), bits)
    }

    /// Calls `then` with the type of these tables.
    pub fn with<T: WithArm64>(self, then: T) -> T::Output {
        match (self.page, self.va_bits) {
            (12, 39) => then.run::<Arm64<12, 39>>(),
            (12, 52) => then.run::<Arm64<12, 52>>(),
            (12, _) => then.run::<Arm64<12, 48>>(),
            (14, 36) => then.run::<Arm64<14, 36>>(),
            (14, 47) => then.run::<Arm64<14, 47>>(),
            (14, 52) => then.run::<Arm64<14, 52>>(),
            (14, _) => then.run::<Arm64<14, 48>>(),
            (_, 42) => then.run::<Arm64<16, 42>>(),
            (_, 52) => then.run::<Arm64<16, 52>>(),
            _ => then.run::<Arm64<16, 48>>(),
        }
    }

    /// The page size.
    #[must_use]
    pub const fn granule(self) -> Granule {
        self.shape().granule
    }

    /// Bits of a virtual address that are translated.
    #[must_use]
    pub const fn va_bits(self) -> u32 {
        self.va_bits
    }

    /// Where output addresses stand.
    #[must_use]
    pub const fn output(self) -> Output {
        match (self.page, self.va_bits) {
            (16, _) => Output::Lpa,
            (_, 52) => Output::Lpa2,
            _ => Output::Plain,
        }
    }

    /// Levels, index widths and leaf sizes.
    #[must_use]
    pub const fn shape(self) -> &'static Shape {
        match (self.page, self.va_bits) {
            (12, 39) => &K4_39,
            (12, 48) => &K4_48,
            (12, 52) => &K4_52,
            (14, 36) => &K16_36,
            (14, 47) => &K16_47,
            (14, 48) => &K16_48,
            (14, 52) => &K16_52,
            (16, 42) => &K64_42,
            (16, 48) => &K64_48,
            _ => &K64_52,
        }
    }
}
