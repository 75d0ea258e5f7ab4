//! Frames that are handed over to the field: at boot nearly all memory, later what is plugged in.
//!
//! A frame that was never handed over is in nobody's reach, so whoever hands it over has its entry and its bits for
//! itself: they are written by plain stores, and the index, which is a hint, makes them findable by one
//! read-modify-write for 64 blocks.
//!
//! Here: whole blocks, which are noted or written, and the parts of others. Not here: frames that come back (`give`).

use core::ops::Range;

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU16, Ordering};

use super::entry::Entry;
use super::field::{Field, Kinds};
use super::index::Bitmap;
use super::mem::Mem;
use super::word::WORD_FRAMES;

/// Blocks that one word of the index knows. Their bits lie in one chunk.
const GROUP: usize = 64;

impl<M: Mem> Field<M> {
    /// Hands over the frames `[start, end)` of the zone as free. Nobody has any of them, and nobody else hands one over
    /// meanwhile. Whole blocks are noted in their entries alone and written when they are taken from, unless `eager`: then
    /// no taker needs memory for their bits.
    ///
    /// # Errors
    /// The first frame that is free already, lies outside the zone or has no memory for its bits; those below it were
    /// handed over.
    pub fn add_free(&self, kinds: &impl Kinds, start: Pfn, end: Pfn, eager: bool) -> Result<(), Pfn> {
        if start >= end {
            return Ok(());
        }
        if !self.shape.contains(start) {
            return Err(start);
        }
        let stop = end.min(self.shape.end);
        let touched = self.cut.block_of(Pfn(stop.0 - 1)) + 1;
        // Relaxed: says nothing of any entry; those of blocks behind it are zero from the beginning.
        let fresh = self.fresh.fetch_max(touched, Ordering::Relaxed);
        let whole_end = self.cut.block(self.cut.place(stop.0 / WORD_FRAMES));
        let mut at = start;
        while at < stop {
            let block = self.cut.block_of(at);
            let is_first = self.cut.block_start(block) == at;
            let added = if is_first { self.add_blocks(kinds, block..whole_end, fresh, eager) } else { 0 };
            if added != 0 {
                at = self.cut.block_start(block + added);
                continue;
            }
            let next = self.cut.block_start(block + 1).min(stop);
            if !self.open_line(block) {
                return Err(at);
            }
            self.give_range(kinds, at, next).map_err(|doubled| doubled.pfn)?;
            at = next;
        }
        if stop < end { Err(stop) } else { Ok(()) }
    }

    /// Hands over whole blocks, up to the first one that is not empty or, if they are `eager`, has no memory for its bits.
    /// How many were.
    fn add_blocks(&self, kinds: &impl Kinds, blocks: Range<usize>, fresh: usize, eager: bool) -> usize {
        let mut at = blocks.start;
        while at < blocks.end {
            let group = at..((at / GROUP + 1) * GROUP).min(blocks.end);
            let alike = self.alike(kinds, &group);
            let added = self.add_group(kinds, at..alike, fresh, eager);
            at += added;
            if at < alike {
                break;
            }
        }
        let added = at.saturating_sub(blocks.start);
        if added != 0 {
            self.raise_level(added as u64 * u64::from(self.cut.whole()));
        }
        added
    }

    /// Up to where some blocks are of the type of the first one, at least that one.
    fn alike(&self, kinds: &impl Kinds, blocks: &Range<usize>) -> usize {
        let start = self.cut.block_start(blocks.start);
        let stop = kinds.alike(start, self.cut.block_start(blocks.end));
        let stop = self.cut.block(self.cut.place(stop.0 / WORD_FRAMES));
        stop.clamp(blocks.start + 1, blocks.end)
    }

    /// As [`Field::add_blocks`] for blocks of one type in one word of the index; their frames are not counted.
    fn add_group(&self, kinds: &impl Kinds, blocks: Range<usize>, fresh: usize, eager: bool) -> usize {
        let Some(entries) = self.mem.entries().get(blocks.clone()) else { return 0 };
        let is_fresh = blocks.start >= fresh;
        // Relaxed: none of these blocks is in anybody's reach but the caller's.
        let is_empty = |entry: &&AtomicU16| entry.load(Ordering::Relaxed) == 0;
        let empty = if is_fresh { blocks.len() } else { entries.iter().take_while(is_empty).count() };
        if empty == 0 || eager && !self.write(blocks.start..blocks.start + empty) {
            return 0;
        }
        let kind = self.kind_of(kinds, blocks.start);
        let noted = if eager { Entry(self.cut.whole() as u16) } else { Entry::lazy(self.cut.whole()) };
        for entry in &entries[..empty] {
            // Release pairs with the taker's `promise`, as raising an entry does: it sees the bits, and what was done with the
            // frames before.
            entry.store(noted.0, Ordering::Release);
        }
        if let Some(tree) = self.trees.tree(kind, Bitmap::Whole) {
            self.trees.set_word(&self.mem, tree, blocks.start, u64::MAX >> (GROUP - empty) << (blocks.start % GROUP));
        }
        // A type that changed meanwhile is followed, as in `mark`; the bit that is left behind is a hint that stands for
        // nothing.
        let added = blocks.start..blocks.start + empty;
        if self.kind_of(kinds, added.start) != kind || self.alike(kinds, &added) != added.end {
            let followed = added.filter(|&block| self.kind_of(kinds, block) != kind);
            followed.for_each(|block| self.mark(kinds, block, Bitmap::Whole));
        }
        empty
    }

    /// Writes the bits of blocks of one chunk, all free; false if there is no memory for them.
    fn write(&self, blocks: Range<usize>) -> bool {
        if !self.open_line(blocks.start) {
            return false;
        }
        for bits in blocks.flat_map(|block| self.cut.places(block)).filter_map(|place| self.bits(place)) {
            // Relaxed: published by the entry, which is stored next.
            bits.store(!0, Ordering::Relaxed);
        }
        true
    }
}
