//! What reports ask: the free blocks of a zone, as a buddy system would list them.
//!
//! A free set has one cut into the largest aligned blocks of powers of two, so their numbers are a function of the bits,
//! the entries and the pageblocks' types. Blocks above a pageblock are one only where their types merge, and are
//! listed under the type of their first pageblock.
//!
//! One pass over the blocks answers all; those of one type that are empty or whole are counted many at a time.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::entry::Class;
use super::field::{Field, Kinds};
use super::mem::Mem;
use super::word::ALIGNED;
use crate::free_area::{KINDS, ORDERS};

/// Blocks that are looked at together.
const WINDOW: usize = 64;

/// Free blocks by order and migrate type.
pub type Counts = [[u64; KINDS]; ORDERS];

impl<M: Mem> Field<M> {
    /// The free blocks by order and type: exact while nobody takes or gives.
    #[must_use]
    pub fn counts(&self, kinds: &impl Kinds) -> Counts {
        let mut counts = [[0; KINDS]; ORDERS];
        let region = 1_usize << (self.shape.max_order - self.shape.block_order());
        let mut at = 0;
        while at < self.cut.blocks() {
            let (alike, class) = self.alike_whole(kinds, at, region);
            if class == Class::Whole {
                let kind = self.kind_of(kinds, at);
                counts[usize::from(self.shape.max_order) % ORDERS][kind as usize] += (alike / region) as u64;
            } else if class == Class::Part {
                self.count_in(kinds, at, region, &mut counts);
            }
            at += alike;
        }
        counts
    }

    /// How many blocks, a multiple of `region`, are whole and of one type, or empty, from the multiple `at` on; one region
    /// is [`Class::Part`] if it is neither.
    fn alike_whole(&self, kinds: &impl Kinds, at: usize, region: usize) -> (usize, Class) {
        let class = self.class(at);
        let window = at..(at + WINDOW.max(region)).min(self.cut.blocks());
        let such = window.take_while(|&block| self.class(block) == class).count();
        let such = if class == Class::Whole { self.alike(kinds, &(at..at + such.max(1))) - at } else { such };
        let regions = such / region * region;
        if regions == 0 || class == Class::Part { (region, Class::Part) } else { (regions, class) }
    }

    /// Counts the blocks of an aligned group of blocks.
    fn count_in(&self, kinds: &impl Kinds, first: usize, blocks: usize, counts: &mut Counts) {
        let groups = (0..=blocks.ilog2()).rev();
        let mut at = first;
        while at < (first + blocks).min(self.cut.blocks()) {
            let class = self.class(at);
            if class != Class::Whole {
                if class == Class::Part {
                    self.count_parts(at, self.kind_of(kinds, at), counts);
                }
                at += 1;
                continue;
            }
            let fits = |log: &u32| at.is_multiple_of(1 << log) && self.is_one(kinds, at, 1 << log);
            let log = groups.clone().find(fits).unwrap_or(0);
            let order = usize::from(self.shape.block_order()) + log as usize;
            counts[order % ORDERS][self.kind_of(kinds, at) as usize] += 1;
            at += 1 << log;
        }
    }

    /// Counts the blocks within one block that is partly used.
    fn count_parts(&self, block: usize, kind: MigrateType, counts: &mut Counts) {
        let (mut runs, mut full) = ([0; ORDERS], 0);
        for (nth, place) in self.cut.places(block).enumerate() {
            full |= add_runs(self.look(place), 0, &mut runs) << nth;
        }
        add_runs(full, 6, &mut runs);
        for (order, pair) in runs.windows(2).enumerate() {
            counts[order][kind as usize] += pair[0] - 2 * pair[1];
        }
    }

    /// The largest free block that a frame lies in, with its order; `None` if the frame is not free.
    #[must_use]
    pub fn block_of(&self, kinds: &impl Kinds, pfn: Pfn) -> Option<(Pfn, u8)> {
        if !self.is_free(pfn) {
            return None;
        }
        let head = |order: u8| Pfn(pfn.0 >> order << order);
        let order =
            (1..=self.shape.max_order).take_while(|&order| self.is_free_block(kinds, head(order), order)).last();
        let order = order.unwrap_or(0);
        Some((head(order), order))
    }

    fn is_free_block(&self, kinds: &impl Kinds, pfn: Pfn, order: u8) -> bool {
        let last = Pfn(pfn.0 + (1 << order) - 1);
        if !self.shape.contains(pfn) || !self.shape.contains(last) {
            return false;
        }
        if order >= self.shape.block_order() {
            return self.is_one(kinds, self.cut.block_of(pfn), 1 << (order - self.shape.block_order()));
        }
        super::give::words_of(pfn, Pfn(last.0 + 1)).all(|word| self.free_mask(word.number) & word.mask == word.mask)
    }

    /// Free frames in pageblocks of a type: exact while nobody takes or gives.
    #[must_use]
    pub fn free_of(&self, kinds: &impl Kinds, kind: MigrateType) -> u64 {
        let (mut at, mut frames) = (0, 0);
        while at < self.cut.blocks() {
            let stop = self.alike(kinds, &(at..(at + WINDOW).min(self.cut.blocks())));
            if self.kind_of(kinds, at) == kind {
                frames += (at..stop).map(|block| self.free_in(block)).sum::<u64>();
            }
            at = stop;
        }
        frames
    }

    fn free_in(&self, block: usize) -> u64 {
        let free = |bits: u64| if bits == 0 { 0 } else { bits.count_ones() };
        let written: u32 = self.words(block).map(free).sum();
        u64::from(if self.is_lazy(block) { self.cut.whole() } else { written })
    }
}

/// Adds the aligned runs of set bits of orders 0 to 5, each bit a block of order `unit`; the pairs of a run of one order
/// count again as one of the next. Answers those of order 6.
fn add_runs(bits: u64, unit: usize, runs: &mut [u64; ORDERS]) -> u64 {
    let mut left = bits;
    for order in 0..6 {
        if left == 0 {
            break;
        }
        runs[(unit + order) % ORDERS] += u64::from(left.count_ones());
        left &= left >> (1 << order) & ALIGNED[order + 1];
    }
    left
}
