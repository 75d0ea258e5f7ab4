//! The index: for each migrate type, bitmaps over blocks that find the lowest block of a class in a few loads.
//!
//! Each bitmap is a tree: a bit of a level says that the word below it is not zero.
//!
//! # Invariants
//! 1. Bits of the lowest level are hints of the field, which says who sets and clears them.
//! 2. Once nobody is at work, a word that is not zero has its bit in the level above. A bit above a word of zeros may
//!    stand: a search goes past it.

use core::ops::Range;

use kernmem_base::sync::atomic::Ordering;
use kernmem_sparse::MigrateType;

use super::mem::Mem;

/// Levels of 64 branches: enough for 2^30 blocks.
const LEVELS: usize = 5;

/// Bitmaps a type.
const BITMAPS: usize = 3;

/// Types with bitmaps: nobody takes from an isolated block.
const TYPES: usize = MigrateType::ALL.len() - 1;

/// What a bitmap is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bitmap {
    /// Blocks with some free frames.
    Part,
    /// Such blocks with eight aligned free frames.
    Run,
    /// Blocks of which all frames are free.
    Whole,
}

/// Where the trees of a zone lie in its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trees {
    /// First word of each level within a tree.
    at: [usize; LEVELS],
    levels: usize,
    /// Words of a tree.
    each: usize,
}

/// One tree: its first word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree(usize);

impl Trees {
    pub fn new(blocks: usize) -> Self {
        let (mut at, mut levels, mut each) = ([0; LEVELS], 0, 0);
        let mut bits = blocks.max(1);
        while levels < LEVELS {
            at[levels] = each;
            levels += 1;
            let words = bits.div_ceil(64);
            each += words;
            if words == 1 {
                break;
            }
            bits = words;
        }
        Self { at, levels, each }
    }

    /// Words of all trees.
    pub fn words(&self) -> usize {
        self.each * BITMAPS * TYPES
    }

    /// The tree of a type; `None` for isolated blocks, which are in none.
    #[inline]
    pub fn tree(&self, kind: MigrateType, bitmap: Bitmap) -> Option<Tree> {
        let kind = kind as usize;
        (kind < TYPES).then_some(Tree((kind * BITMAPS + bitmap as usize) * self.each))
    }

    #[inline]
    fn place(&self, tree: Tree, level: usize, bit: usize) -> usize {
        tree.0 + self.at[level % LEVELS] + bit / 64
    }

    /// Sets a block's bit, and those above it that were not set.
    pub fn set(&self, mem: &impl Mem, tree: Tree, block: usize) {
        self.set_from(mem, tree, 0, block);
    }

    /// Sets the bits of some blocks, at least one, and those above them.
    pub fn set_all(&self, mem: &impl Mem, tree: Tree, blocks: Range<usize>) {
        let (mut first, mut last) = (blocks.start, blocks.end - 1);
        for level in 0..self.levels {
            for nth in first / 64..=last / 64 {
                let Some(word) = mem.index(self.place(tree, level, nth * 64)) else { return };
                let (below, above) = (first.saturating_sub(nth * 64), (nth * 64 + 63).saturating_sub(last));
                // AcqRel: as in `set_from`.
                word.fetch_or(!0 << below & !0 >> above, Ordering::AcqRel);
            }
            (first, last) = (first / 64, last / 64);
        }
    }

    fn set_from(&self, mem: &impl Mem, tree: Tree, from: usize, bit: usize) {
        let mut bit = bit;
        for level in from..self.levels {
            let Some(word) = mem.index(self.place(tree, level, bit)) else { return };
            // AcqRel pairs with `clear`: see the module's parent.
            if word.fetch_or(1 << (bit % 64), Ordering::AcqRel) != 0 {
                return;
            }
            bit /= 64;
        }
    }

    /// Clears a block's bit, and those above it that stand for nothing now.
    pub fn clear(&self, mem: &impl Mem, tree: Tree, block: usize) {
        let mut bit = block;
        for level in 0..self.levels {
            let Some(word) = mem.index(self.place(tree, level, bit)) else { return };
            let mask = 1 << (bit % 64);
            // AcqRel pairs with `set`: the loads that follow see what was done before the bit was set.
            let left = word.fetch_and(!mask, Ordering::AcqRel) & !mask;
            if level > 0 {
                self.repair(mem, tree, level, bit);
            }
            if left != 0 {
                return;
            }
            bit /= 64;
        }
    }

    /// Sets a bit again if the word below it is not zero.
    fn repair(&self, mem: &impl Mem, tree: Tree, level: usize, bit: usize) {
        let below = mem.index(self.place(tree, level - 1, bit * 64));
        // Acquire: comes after the clearing in program order, which is what the protocol asks for.
        if below.is_some_and(|word| word.load(Ordering::Acquire) != 0) {
            self.set_from(mem, tree, level, bit);
        }
    }

    /// Whether a block's bit is set.
    pub fn has(&self, mem: &impl Mem, tree: Tree, block: usize) -> bool {
        let word = mem.index(self.place(tree, 0, block));
        // Relaxed: a hint.
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (block % 64) & 1 != 0)
    }

    /// The lowest block from `from` on whose bit is set.
    #[inline]
    pub fn first(&self, mem: &impl Mem, tree: Tree, from: usize) -> Option<usize> {
        let mut level = if from == 0 { self.levels - 1 } else { 0 };
        let mut bit = from;
        loop {
            if bit / 64 >= self.width(level) {
                return None;
            }
            // Relaxed: a hint; what it leads to is checked at the block.
            let word = mem.index(self.place(tree, level, bit))?.load(Ordering::Relaxed);
            let left = word & (!0 << (bit % 64));
            if left != 0 {
                bit = bit / 64 * 64 + left.trailing_zeros() as usize;
                if level == 0 {
                    return Some(bit);
                }
                level -= 1;
                bit *= 64;
            } else {
                level += 1;
                if level == self.levels {
                    return None;
                }
                bit = bit / 64 + 1;
            }
        }
    }

    /// Words of a level.
    #[inline]
    fn width(&self, level: usize) -> usize {
        let end = if level + 1 < self.levels { self.at[(level + 1) % LEVELS] } else { self.each };
        end - self.at[level % LEVELS]
    }
}
