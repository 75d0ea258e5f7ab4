//! Granules, levels and orders: the sizes a translation is made of.

use core::fmt;

/// The size of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB (arm64).
    K16,
    /// 64 KiB (arm64).
    K64,
}

impl Granule {
    /// log2 of the page size.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// The page size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }
}

/// A level of the page tables, by Linux's names; the root of every kernel is its [`Level::Pgd`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The root.
    Pgd,
    /// The second of five levels; folded where there are four.
    P4d,
    /// 1 GiB an entry with 4K pages.
    Pud,
    /// 2 MiB an entry with 4K pages.
    Pmd,
    /// Pages.
    Pte,
}

impl Level {
    /// All levels, root first.
    pub const ALL: [Self; 5] = [Self::Pgd, Self::P4d, Self::Pud, Self::Pmd, Self::Pte];

    /// The name in capitals, as arm64 prints it; x86 prints it in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pgd => "PGD",
            Self::P4d => "P4D",
            Self::Pud => "PUD",
            Self::Pmd => "PMD",
            Self::Pte => "PTE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A block of `2^order` frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Order(pub u8);
