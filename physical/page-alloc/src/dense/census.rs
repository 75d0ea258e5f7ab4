//! What reports ask: the free blocks of a zone, as a buddy system would list them.
//!
//! A free set has one cut into the largest aligned blocks of powers of two, so their numbers are a function of the bits,
//! the entries and the pageblocks' types. Blocks above a pageblock are one only where their types merge, and are
//! listed under the type of their first pageblock.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::entry::Class;
use super::field::{Field, Kinds};
use super::mem::Mem;
use super::word::runs;
use crate::free_area::{KINDS, ORDERS};

/// Free blocks by order and migrate type.
pub type Counts = [[u64; KINDS]; ORDERS];

impl<M: Mem> Field<M> {
    /// The free blocks by order and type: exact while nobody takes or gives.
    #[must_use]
    pub fn counts(&self, kinds: &impl Kinds) -> Counts {
        let mut counts = [[0; KINDS]; ORDERS];
        let region = 1_usize << (self.shape.max_order - self.shape.block_order());
        for first in (0..self.cut.blocks()).step_by(region) {
            self.count_in(kinds, first, region, &mut counts);
        }
        counts
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
        let mut full = 0_u64;
        for (nth, place) in self.cut.places(block).enumerate() {
            let bits = self.look(place);
            full |= u64::from(bits == !0) << nth;
            if bits != 0 && bits != !0 {
                count_runs(bits, 0, kind, counts);
            }
        }
        count_runs(full, 6, kind, counts);
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
        let blocks = (0..self.cut.blocks()).filter(|&block| self.kind_of(kinds, block) == kind);
        let free = |block| {
            let written: u32 = self.words(block).map(u64::count_ones).sum();
            if self.is_lazy(block) { self.cut.whole() } else { written }
        };
        blocks.map(|block| u64::from(free(block))).sum()
    }
}

/// Counts the aligned runs of bits, each bit a block of order `unit`.
fn count_runs(bits: u64, unit: usize, kind: MigrateType, counts: &mut Counts) {
    for order in 0..=6_u8 {
        let here = runs(bits, order).count_ones();
        if here == 0 {
            return;
        }
        let above = if order < 6 { runs(bits, order + 1).count_ones() } else { 0 };
        counts[(unit + usize::from(order)) % ORDERS][kind as usize] += u64::from(here - 2 * above);
    }
}
