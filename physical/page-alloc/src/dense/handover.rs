//! Frames that are handed over to the field: at boot nearly all memory, later what is plugged in.
//!
//! A frame that was never handed over is in nobody's reach, so whoever hands it over has its entry and its bits for
//! itself: they are written by plain stores, and the index, which is a hint, makes them findable by one
//! read-modify-write for each word of it.
//!
//! Here: whole blocks, which are noted or written, and the parts of others. Not here: frames that come back (`give`).

use core::ops::Range;

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, Ordering, fence};

use super::entry::{Class, LAZY};
use super::field::{Field, Kinds};
use super::index::Bitmap;
use super::mem::{CHUNK_LINES, LINE_WORDS, Mem};
use super::word::WORD_FRAMES;

/// Words of a chunk.
const CHUNK_WORDS: usize = CHUNK_LINES * LINE_WORDS;

impl<M: Mem> Field<M> {
    /// Hands over the frames `[start, end)` of the zone as free. Nobody has any of them, and nobody else hands one over
    /// meanwhile. Whole blocks are noted in their entries alone and written when they are taken from, unless `eager`: then
    /// no taker needs memory for their bits.
    ///
    /// # Errors
    /// The first frame that is free already, lies outside the zone or has no memory for its bits; those below it were
    /// handed over. Frames of blocks that nobody handed over yet must not have been given: that is not looked at.
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
            let alike = self.alike(kinds, &(at..blocks.end));
            at += self.add_alike(kinds, at..alike, fresh, eager);
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

    /// Up to where some blocks are surely of the type of the first one, at least that one. Blocks before the zone are of
    /// any type.
    pub(super) fn alike(&self, kinds: &impl Kinds, blocks: &Range<usize>) -> usize {
        let (start, end) = (self.cut.block_start(blocks.start).max(self.shape.start), self.cut.block_start(blocks.end));
        let stop = if start < end { kinds.alike(start, end) } else { end };
        let stop = self.cut.block(self.cut.place(stop.0 / WORD_FRAMES));
        stop.clamp(blocks.start + 1, blocks.end)
    }

    /// As [`Field::add_blocks`] for blocks of one type; their frames are not counted.
    fn add_alike(&self, kinds: &impl Kinds, blocks: Range<usize>, fresh: usize, eager: bool) -> usize {
        let Some(entries) = self.mem.entries().get(blocks.clone()) else { return 0 };
        let is_empty = |block: &usize| self.class(*block) == Class::Empty;
        let is_fresh = blocks.start >= fresh;
        let empty = if is_fresh { blocks.len() } else { blocks.clone().take_while(is_empty).count() };
        let added = if eager { self.write(blocks.start..blocks.start + empty) } else { empty };
        if added == 0 {
            return 0;
        }
        let kind = self.kind_of(kinds, blocks.start);
        if !eager {
            // Release pairs with the taker's `unlazy`: it sees what was done with the frames before.
            entries[..added].iter().for_each(|entry| entry.store(LAZY, Ordering::Release));
        }
        let blocks = blocks.start..blocks.start + added;
        if let Some(tree) = self.trees.tree(kind, Bitmap::Whole) {
            self.trees.set_all(&self.mem, tree, blocks.clone());
        }
        // A type that changed meanwhile is followed, as in `mark`; the bit that is left behind is a hint that stands for
        // nothing.
        if self.kind_of(kinds, blocks.start) != kind || self.alike(kinds, &blocks) != blocks.end {
            let followed = blocks.filter(|&block| self.kind_of(kinds, block) != kind);
            followed.for_each(|block| self.mark(kinds, block, Bitmap::Whole));
        }
        added
    }

    /// Writes the bits of blocks, all free, up to the first one that has no memory for them. How many were.
    fn write(&self, blocks: Range<usize>) -> usize {
        // Pairs with the takers' `fetch_and`, for all the bits at once: who finds one set sees what was done with its frame before.
        fence(Ordering::Release);
        let chunk_blocks = CHUNK_WORDS / self.cut.places(0).len();
        let mut at = blocks.start;
        while at < blocks.end {
            let stop = ((at / chunk_blocks + 1) * chunk_blocks).min(blocks.end);
            if !self.write_in_chunk(at..stop) {
                break;
            }
            at = stop;
        }
        at - blocks.start
    }

    /// Writes the bits of blocks of one chunk, all free; false if there is no memory for them.
    fn write_in_chunk(&self, blocks: Range<usize>) -> bool {
        if !self.open_line(blocks.start) {
            return false;
        }
        let (first, end) = (self.cut.first_place(blocks.start), self.cut.first_place(blocks.end));
        let chunk = first / CHUNK_WORDS;
        let Some(lines) = self.mem.chunk(chunk) else { return false };
        let begin = chunk * CHUNK_WORDS;
        if first.is_multiple_of(LINE_WORDS) && end.is_multiple_of(LINE_WORDS) {
            let whole = &lines[(first - begin) / LINE_WORDS..(end - begin) / LINE_WORDS];
            for line in whole {
                line.0.iter().for_each(set_all);
            }
        } else {
            // Of a line that blocks share, the words of these alone.
            let words = lines.iter().flat_map(|line| &line.0);
            words.skip(first - begin).take(end - first).for_each(set_all);
        }
        true
    }
}

#[inline(always)]
fn set_all(bits: &AtomicU64) {
    // Relaxed: behind the fence of `write`.
    bits.store(!0, Ordering::Relaxed);
}
