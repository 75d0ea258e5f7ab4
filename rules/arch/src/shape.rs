//! The shape of a format's tables as data, so that one walk reads them all.

use core::fmt;

use kernmem_base::{Granule, Level, VirtAddr, VirtRange};

/// One level of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LevelShape {
    /// Linux's name.
    pub level: Level,
    /// log2 of the bytes that one entry maps.
    pub shift: u32,
    /// log2 of the entries of a table.
    pub index_bits: u32,
    /// Whether an entry may be a leaf.
    pub leaf: bool,
    /// log2 of the entries of a contiguous group; 0 where there is none.
    pub contiguous_bits: u32,
}

impl LevelShape {
    /// Entries of a table.
    #[must_use]
    pub const fn entries(&self) -> usize {
        1 << self.index_bits
    }

    /// Bytes that one entry maps.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        1 << self.shift
    }

    /// The entry for `va`.
    #[must_use]
    pub const fn index(&self, va: VirtAddr) -> usize {
        ((va.0 >> self.shift) & ((1 << self.index_bits) - 1)) as usize
    }

    /// The part of `va` below this level's entries.
    #[must_use]
    pub const fn offset(&self, va: VirtAddr) -> u64 {
        va.0 & (self.bytes() - 1)
    }
}

/// A size that a leaf, or a contiguous group of leaves, can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeafSize {
    /// Bytes mapped by the leaf or by the whole group.
    pub bytes: u64,
    /// Where the leaf stands.
    pub level: Level,
    /// Whether it is a contiguous group.
    pub contiguous: bool,
}

/// Levels, index widths, leaf levels and contiguous groups of one format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Name of the architecture in the text form.
    pub arch: &'static str,
    /// Size of a base page.
    pub granule: Granule,
    /// Levels, root first.
    pub levels: &'static [LevelShape],
    /// Leaf sizes, largest first.
    pub leaves: &'static [LeafSize],
}

impl Shape {
    /// The position of `level` in [`Shape::levels`].
    ///
    /// # Panics
    /// The shape has no such level: a mistake of ours, since decoders name only levels of their shape.
    #[must_use]
    pub fn depth(&self, level: Level) -> usize {
        self.levels.iter().position(|shape| shape.level == level).expect("a level of this shape")
    }

    /// The shape of `level`.
    ///
    /// # Panics
    /// As [`Shape::depth`].
    #[must_use]
    pub fn level(&self, level: Level) -> &LevelShape {
        &self.levels[self.depth(level)]
    }

    /// Bits of a virtual address that are translated.
    #[must_use]
    pub const fn va_bits(&self) -> u32 {
        self.levels[0].shift + self.levels[0].index_bits
    }

    /// Whether addresses have more bits than are translated, so that an upper half begins with ones; a 32-bit space is
    /// translated whole.
    #[must_use]
    pub const fn has_halves(&self) -> bool {
        self.va_bits() > u32::BITS
    }

    /// The addresses that entry `index` of a root table maps in the upper (`high`) or lower half.
    #[must_use]
    pub fn root_range(&self, index: usize, high: bool) -> VirtRange {
        let root = &self.levels[0];
        let upper = if high && self.has_halves() { !0 << self.va_bits() } else { 0 };
        let start = VirtAddr(upper | (index as u64) << root.shift);
        VirtRange { start, last: VirtAddr(start.0 | (root.bytes() - 1)) }
    }

    /// The next larger size that a leaf of `bytes` could have had.
    #[must_use]
    pub fn next_larger(&self, bytes: u64) -> Option<LeafSize> {
        self.leaves.iter().rev().find(|leaf| leaf.bytes > bytes).copied()
    }
}

impl fmt::Display for Shape {
    /// The text form of libkdumpfile: `aarch64:12,9,9,9,9`, from the page offset up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.arch, self.granule.shift())?;
        for level in self.levels.iter().rev() {
            write!(f, ",{}", level.index_bits)?;
        }
        Ok(())
    }
}
