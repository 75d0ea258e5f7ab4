//! Dense placement: one bit a frame, one count a block of 512 frames; blocks are the maximal aligned runs of bits.
//!
//! ```text
//! words of a chunk   0 ..      a bit a frame, 1 = free
//!                    512 ..    free frames of each 512, 16 bits each
//! ```
//! Which blocks are free is a pure function of the bits and of the pageblocks' types; only the counts by order and type
//! are kept beside them, and each change recomputes those of the one largest block around it.
//! What is taken is the lowest block in a pageblock that is partly used, then the lowest of all.
//!
//! # Invariants
//! 1. `counts` is what [`DenseBits::blocks_of`] lists over all regions.
//! 2. No free frame lies in a chunk below `low`.
//! 3. A free block's type is that of its first pageblock, and all its pageblocks are of that type after a merge.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::{Block, Counts, End, FreeArea, KINDS, MERGES_AS, ORDERS, may_merge};
use crate::ground::Ground;
use crate::store::{CHUNK_SHIFT, States, Words};

const FRAMES: u64 = 1 << CHUNK_SHIFT;
const BIT_WORDS: u64 = FRAMES / 64;
/// Frames behind one count.
const RUN: u64 = 512;
const WORDS: u64 = BIT_WORDS + FRAMES / RUN / 4;

/// The bits of one zone.
#[derive(Debug)]
pub(crate) struct DenseBits<W> {
    words: W,
    counts: Counts,
    /// The lowest chunk that may have a free frame.
    low: u64,
    /// The highest chunk that was opened.
    high: u64,
}

impl<W: Words> DenseBits<W> {
    pub fn new(words: W) -> Self {
        Self { words, counts: [[0; KINDS]; ORDERS], low: u64::MAX, high: 0 }
    }

    fn bit_word<T: States>(ground: &Ground<T>, pfn: Pfn) -> u64 {
        ground.chunk(pfn) * WORDS + pfn.0 % FRAMES / 64
    }

    /// The word with the count of a run, and the count's place in it.
    fn run_place<T: States>(ground: &Ground<T>, pfn: Pfn) -> (u64, u64) {
        let run = pfn.0 % FRAMES / RUN;
        (ground.chunk(pfn) * WORDS + BIT_WORDS + run / 4, run % 4 * 16)
    }

    fn run_free<T: States>(&self, ground: &Ground<T>, pfn: Pfn) -> u64 {
        let (word, shift) = Self::run_place(ground, pfn);
        self.words.word(word) >> shift & 0xffff
    }

    fn chunk_free(&self, chunk: u64) -> bool {
        (chunk * WORDS + BIT_WORDS..(chunk + 1) * WORDS).any(|word| self.words.word(word) != 0)
    }

    /// Free frames of the aligned range of `2^order` frames at `pfn`.
    fn free_in<T: States>(&self, ground: &Ground<T>, pfn: Pfn, order: u8) -> u64 {
        let frames = 1_u64 << order;
        if frames >= RUN {
            return (pfn.0..pfn.0 + frames).step_by(RUN as usize).map(|run| self.run_free(ground, Pfn(run))).sum();
        }
        let words = (pfn.0..pfn.0 + frames).step_by(64).map(|at| self.words.word(Self::bit_word(ground, Pfn(at))));
        if frames >= 64 {
            return words.map(|word| u64::from(word.count_ones())).sum();
        }
        let mask = (1 << frames) - 1;
        words.map(|word| u64::from((word >> (pfn.0 % 64) & mask).count_ones())).sum()
    }

    fn is_of_one_kind<T: States>(ground: &Ground<T>, pfn: Pfn, order: u8) -> bool {
        let mut blocks = (pfn.0..pfn.0 + (1 << order)).step_by(1 << ground.pageblock_order);
        let Some(first) = blocks.next() else { return true };
        blocks.all(|block| may_merge(MERGES_AS, ground.kind(Pfn(first)), ground.kind(Pfn(block))))
    }

    /// The free blocks inside the aligned range of `2^order` frames at `pfn`, lowest first, until `found` says stop.
    fn blocks_of<T: States>(
        &self,
        ground: &Ground<T>,
        pfn: Pfn,
        order: u8,
        found: &mut dyn FnMut(Block) -> bool,
    ) -> bool {
        let free = self.free_in(ground, pfn, order);
        if free == 0 {
            return false;
        }
        let is_whole = free == 1 << order;
        if is_whole && (order <= ground.pageblock_order || Self::is_of_one_kind(ground, pfn, order)) {
            return found(Block { pfn, order, kind: ground.kind(pfn) });
        }
        let half = order - 1;
        self.blocks_of(ground, pfn, half, found) || self.blocks_of(ground, Pfn(pfn.0 + (1 << half)), half, found)
    }

    fn region<T: States>(ground: &Ground<T>, pfn: Pfn) -> Pfn {
        Pfn(pfn.0 >> ground.max_order << ground.max_order)
    }

    /// Changes something inside the largest block around `pfn`, and the counts with it.
    fn change<T: States>(&mut self, ground: &Ground<T>, pfn: Pfn, change: impl FnOnce(&mut Self)) {
        let region = Self::region(ground, pfn);
        let mut counts = self.counts;
        self.blocks_of(ground, region, ground.max_order, &mut |block| {
            counts[usize::from(block.order)][block.kind as usize] -= 1;
            false
        });
        change(self);
        self.blocks_of(ground, region, ground.max_order, &mut |block| {
            counts[usize::from(block.order)][block.kind as usize] += 1;
            false
        });
        self.counts = counts;
    }

    /// Sets or clears the bits of an aligned range.
    fn write<T: States>(&mut self, ground: &Ground<T>, pfn: Pfn, order: u8, free: bool) {
        let frames = 1_u64 << order;
        for at in (pfn.0..pfn.0 + frames).step_by(64) {
            let word = Self::bit_word(ground, Pfn(at));
            let mask = if frames >= 64 { !0 } else { ((1 << frames) - 1) << (at % 64) };
            let old = self.words.word(word);
            self.words.set_word(word, if free { old | mask } else { old & !mask });
        }
        let each = frames.min(RUN);
        for at in (pfn.0..pfn.0 + frames).step_by(RUN as usize) {
            let (word, shift) = Self::run_place(ground, Pfn(at));
            let old = self.words.word(word);
            self.words.set_word(word, if free { old + (each << shift) } else { old - (each << shift) });
        }
        if free {
            self.low = self.low.min(ground.chunk(pfn));
        }
        while !free && self.low < self.high && !self.chunk_free(self.low) {
            self.low += 1;
        }
    }

    fn lowest<T: States>(&self, ground: &Ground<T>, fits: &dyn Fn(Block) -> bool) -> Option<Block> {
        let first = ground.start.0 >> CHUNK_SHIFT;
        let mut answer = None;
        for chunk in self.low..=self.high {
            if !self.chunk_free(chunk) {
                continue;
            }
            let from = (first + chunk) << CHUNK_SHIFT;
            for region in (from..from + FRAMES).step_by(1 << ground.max_order) {
                let stopped = self.blocks_of(ground, Pfn(region), ground.max_order, &mut |block| {
                    answer = fits(block).then_some(block);
                    answer.is_some()
                });
                if stopped {
                    return answer;
                }
            }
        }
        None
    }
}

impl<T: States, W: Words> FreeArea<T> for DenseBits<W> {
    fn open(&mut self, ground: &Ground<T>, pfn: Pfn) -> bool {
        let chunk = ground.chunk(pfn);
        let is_open = self.words.open(chunk, WORDS as usize) && ground.open(pfn);
        self.high = if is_open { self.high.max(chunk) } else { self.high };
        is_open
    }

    fn count(&self, order: u8, kind: MigrateType) -> u64 {
        self.counts[usize::from(order)][kind as usize]
    }

    fn first(&self, ground: &Ground<T>, order: u8, kind: MigrateType) -> Option<Pfn> {
        if self.counts[usize::from(order)][kind as usize] == 0 {
            return None;
        }
        self.lowest(ground, &|block| block.order == order && block.kind == kind).map(|block| block.pfn)
    }

    fn choose(&self, ground: &Ground<T>, order: u8, kind: MigrateType) -> Option<Block> {
        let has = |orders: core::ops::RangeInclusive<u8>| {
            orders.into_iter().any(|order| self.counts[usize::from(order)][kind as usize] != 0)
        };
        let whole = ground.pageblock_order.min(ground.max_order);
        let most = if order < whole && has(order..=whole - 1) { whole - 1 } else { ground.max_order };
        if !has(order..=most) {
            return None;
        }
        self.lowest(ground, &|block| block.kind == kind && (order..=most).contains(&block.order))
    }

    fn insert(&mut self, ground: &Ground<T>, block: Block, _end: End) {
        self.change(ground, block.pfn, |area| area.write(ground, block.pfn, block.order, true));
    }

    fn give(&mut self, ground: &Ground<T>, block: Block, _end: Option<End>) -> Block {
        self.change(ground, block.pfn, |area| area.write(ground, block.pfn, block.order, true));
        let Some(merged) = self.find(ground, block.pfn) else { return block };
        if merged.order <= ground.pageblock_order {
            return merged;
        }
        self.change(ground, merged.pfn, |_| {
            for pageblock in (merged.pfn.0..merged.pfn.0 + (1 << merged.order)).step_by(1 << ground.pageblock_order) {
                ground.set_kind(Pfn(pageblock), block.kind);
            }
        });
        merged
    }

    fn remove(&mut self, ground: &Ground<T>, block: Block) {
        self.change(ground, block.pfn, |area| area.write(ground, block.pfn, block.order, false));
    }

    fn find(&self, ground: &Ground<T>, pfn: Pfn) -> Option<Block> {
        let mut answer = None;
        self.blocks_of(ground, Self::region(ground, pfn), ground.max_order, &mut |block| {
            answer = (block.pfn <= pfn && pfn.0 < block.pfn.0 + (1 << block.order)).then_some(block);
            answer.is_some()
        });
        answer
    }

    fn move_free(&mut self, _ground: &Ground<T>, _block_start: Pfn, _to: MigrateType) {}

    fn retype(&mut self, ground: &Ground<T>, block_start: Pfn, to: MigrateType) {
        let pfn = block_start.max(ground.start);
        self.change(ground, pfn, |_| ground.set_kind(pfn, to));
    }
}
