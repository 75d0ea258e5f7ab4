//! Which leaf sizes a mapping may use.

use kernmem_arch::{LeafSize, Shape};

/// A set of the leaf sizes of a shape, one bit each in the order of [`Shape::leaves`]; base pages are always in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes(u8);

impl Sizes {
    /// Every size that the format has.
    pub const ALL: Self = Self(u8::MAX);

    /// Base pages alone.
    pub const PAGES: Self = Self(0);

    /// The sizes for which `keep` holds.
    #[must_use]
    pub fn only(shape: &Shape, keep: impl Fn(&LeafSize) -> bool) -> Self {
        let mut bits = 0;
        for (bit, leaf) in shape.leaves.iter().enumerate() {
            if keep(leaf) {
                bits |= 1 << bit;
            }
        }
        Self(bits)
    }

    /// The sizes in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The sizes of `shape` that are in the set, largest first.
    pub fn leaves(self, shape: &Shape) -> impl Iterator<Item = &LeafSize> {
        let page = shape.granule.bytes();
        shape
            .leaves
            .iter()
            .enumerate()
            .filter(move |(bit, leaf)| leaf.bytes == page || self.0 & 1 << bit != 0)
            .map(|(_, leaf)| leaf)
    }

    /// Whether `leaf`, a size of `shape`, is in the set.
    #[must_use]
    pub fn allow(self, shape: &Shape, leaf: &LeafSize) -> bool {
        self.leaves(shape).any(|own| own == leaf)
    }
}
