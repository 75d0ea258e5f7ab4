//! Giving frames to the field: their bits, then what the index must know.

use core::fmt;

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, Ordering};

use super::field::{Field, Kinds, Look};
use super::mem::Mem;
use super::word::{WORD_FRAMES, Word, ones, runs};

/// A frame was given that is free already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubled {
    /// The frame, the lowest of those in question.
    pub pfn: Pfn,
}

impl fmt::Display for Doubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x} is free already", self.pfn.0)
    }
}

impl core::error::Error for Doubled {}

/// The order of eight frames: the run that the index knows of.
pub(super) const RUN_ORDER: u8 = 3;

/// A word got its first free frame.
pub(super) const FIRST: u32 = 1;

/// All frames of a word are free.
pub(super) const FULL: u32 = 2;

/// A word got eight aligned free frames.
pub(super) const RUN: u32 = 4;

/// What happened to a word that was `old` when `mask` was set: [`FIRST`], [`FULL`], [`RUN`].
#[inline]
const fn turn(old: u64, mask: u64) -> u32 {
    // Most words come with a single frame: where its eight are not full now, neither is the word, and no run came.
    let eight = mask.trailing_zeros() & 56;
    let may_be_run = ((old | mask) >> eight) as u8 == u8::MAX || mask >> eight > 0xff;
    if old != 0 && !may_be_run { 0 } else { turn_of(old, old | mask) }
}

#[inline(never)]
const fn turn_of(old: u64, new: u64) -> u32 {
    let is_run = runs(new, RUN_ORDER) != 0 && runs(old, RUN_ORDER) == 0;
    let first = if old == 0 { FIRST } else { 0 };
    first | if new == !0 { FULL } else { 0 } | if is_run { RUN } else { 0 }
}

impl<M: Mem> Field<M> {
    /// Gives frames of one word. Frames that are free already are left alone; the others are free afterwards.
    ///
    /// # Errors
    /// The mask of frames that were free already. A word with frames outside the zone is refused as a whole.
    pub fn give_word(&self, kinds: &impl Kinds, word: Word) -> Result<(), u64> {
        let mut batch = Batch::new();
        let doubled = batch.give(self, kinds, word);
        let _ = batch.end(self, kinds);
        if doubled == 0 { Ok(()) } else { Err(doubled) }
    }

    /// Gives words, those of one block behind each other: the index learns of each block once.
    ///
    /// # Errors
    /// The first frame that was free already; all others are given.
    #[inline]
    pub fn give_words(&self, kinds: &impl Kinds, words: impl IntoIterator<Item = Word>) -> Result<(), Doubled> {
        let mut batch = Batch::new();
        for word in words {
            batch.give(self, kinds, word);
        }
        batch.end(self, kinds)
    }

    /// Gives the frames `[start, end)` of the zone.
    ///
    /// # Errors
    /// The lowest frame that is free already, or that is none of the zone's; nothing is given, unless it was given by
    /// somebody else meanwhile.
    pub fn give_range(&self, kinds: &impl Kinds, start: Pfn, end: Pfn) -> Result<(), Doubled> {
        for word in words_of(start, end) {
            let free = self.free_mask(word.number);
            if free & word.mask != 0 {
                return Err(Doubled { pfn: Word { mask: free & word.mask, ..word }.first() });
            }
        }
        self.give_words(kinds, words_of(start, end))
    }

    /// Gives the aligned block of `2^order` frames at `pfn`.
    ///
    /// # Errors
    /// As [`Field::give_range`].
    pub fn give_run(&self, kinds: &impl Kinds, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        self.give_range(kinds, pfn, Pfn(pfn.0.saturating_add(1 << order)))
    }

    /// Which of 64 frames are free; frames outside the zone count as free, since nobody may give them.
    #[inline]
    pub(super) fn free_mask(&self, number: u64) -> u64 {
        let outside = if self.cut.is_inner(number) { 0 } else { self.outside(number) };
        if outside == !0 {
            return !0;
        }
        self.free_bits(number) | outside
    }

    /// Which of 64 frames of the zone are free; the caller knows that none lies outside.
    #[inline]
    pub(super) fn free_bits(&self, number: u64) -> u64 {
        let place = self.cut.place(number);
        let lazy = if self.is_lazy(self.cut.block(place)) { !0 } else { 0 };
        self.look(place) | lazy
    }

    /// Which of 64 frames are none of the zone's.
    fn outside(&self, number: u64) -> u64 {
        let first = number.saturating_mul(WORD_FRAMES);
        if first >= self.shape.end.0 || first + WORD_FRAMES <= self.shape.start.0 {
            return !0;
        }
        let below = (1 << self.shape.start.0.saturating_sub(first)) - 1;
        let left = self.shape.end.0 - first;
        below | if left < WORD_FRAMES { !0 << left } else { 0 }
    }
}

/// The words that `[start, end)` touches, each with the frames that lie in the range.
pub(super) fn words_of(start: Pfn, end: Pfn) -> impl DoubleEndedIterator<Item = Word> {
    let numbers = if start < end { start.0 / WORD_FRAMES..(end.0 - 1) / WORD_FRAMES + 1 } else { 0..0 };
    numbers.map(move |number| {
        let first = number * WORD_FRAMES;
        let low = !0 << start.0.saturating_sub(first).min(63);
        let high = !0 >> (first + WORD_FRAMES).saturating_sub(end.0).min(63);
        Word { number, mask: low & high }
    })
}

/// Words that are given one after another: the index learns what happened to a block once for all that come in a row.
#[derive(Debug)]
pub(super) struct Batch {
    block: usize,
    /// What happened to words of the block.
    turned: u32,
    /// Frames given.
    total: u32,
    /// The first frame that was free already.
    doubled: Option<Doubled>,
}

impl Batch {
    pub const fn new() -> Self {
        Self { block: usize::MAX, turned: 0, total: 0, doubled: None }
    }

    /// Gives a word; answers the frames that were free already, or are none of the zone's.
    #[inline(always)]
    fn give<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds, word: Word) -> u64 {
        if !field.cut.is_inner(word.number) && field.outside(word.number) & word.mask != 0 {
            self.refuse(word);
            return word.mask;
        }
        self.set(field, kinds, word, field.written(word.number))
    }

    /// Gives a word of the zone whose bits are `bits`, if they were written; answers the frames that were free already.
    #[inline(always)]
    pub fn set<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds, word: Word, bits: Option<&AtomicU64>) -> u64 {
        // AcqRel: Release pairs with the taker's `fetch_and`; Acquire with the index's repair.
        let old = bits.map_or(!0, |bits| bits.fetch_or(word.mask, Ordering::AcqRel));
        self.count(field, kinds, word, old, bits.is_some())
    }

    /// Gives a frame, and others of its word, to bits that were looked at.
    #[inline(always)]
    pub fn set_from<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds, pfn: Pfn, others: u64, look: Look<'_>) {
        let word = Word::joined(pfn.0, others);
        let Look { bits: Some(bits), now } = look else {
            self.refuse(word);
            return;
        };
        // AcqRel: as `set`. Relaxed: a failure is followed by another read-modify-write.
        let was = bits.compare_exchange(now, now | word.mask, Ordering::AcqRel, Ordering::Relaxed);
        let old = was.unwrap_or_else(|_| bits.fetch_or(word.mask, Ordering::AcqRel));
        // Most often a frame came alone, was not free, and nothing happened to the word.
        let eight = (old | word.mask) >> (pfn.0 % WORD_FRAMES / 8 * 8);
        if others | old & word.mask == 0 && old != 0 && eight as u8 != u8::MAX {
            self.total += 1;
        } else {
            self.count(field, kinds, word, old, true);
        }
    }

    /// Takes note of a word that was given to bits that were `old`; answers the frames that were free already.
    #[inline]
    fn count<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds, word: Word, old: u64, is_written: bool) -> u64 {
        let doubled = old & word.mask;
        if doubled != 0 {
            self.refuse(Word { mask: doubled, ..word });
        }
        let turned = turn(old, word.mask);
        if turned != 0 && is_written {
            self.turn(field, kinds, word.number, turned);
        }
        self.total += ones(word.mask & !old);
        doubled
    }

    #[cold]
    fn refuse(&mut self, word: Word) {
        self.doubled.get_or_insert(Doubled { pfn: word.first() });
    }

    #[inline]
    fn turn<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds, number: u64, turned: u32) {
        let block = field.cut.block(field.cut.place(number));
        if block != self.block {
            self.rise(field, kinds);
            self.block = block;
        }
        self.turned |= turned;
    }

    #[inline]
    fn rise<M: Mem>(&mut self, field: &Field<M>, kinds: &impl Kinds) {
        if self.turned != 0 {
            field.rise(kinds, self.block, self.turned);
            self.turned = 0;
        }
    }

    /// Tells the index and the level.
    ///
    /// # Errors
    /// The first frame that was free already.
    #[inline]
    pub fn end<M: Mem>(mut self, field: &Field<M>, kinds: &impl Kinds) -> Result<(), Doubled> {
        self.rise(field, kinds);
        if self.total != 0 {
            field.raise_level(self.total);
        }
        self.doubled.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_a_word_is_told() {
        assert_eq!((turn(0, 1), turn(1, 2), turn(0x7f, 0x80), turn(0xff, 0x80)), (FIRST, 0, RUN, 0));
        assert_eq!((turn(1, 0xff00), turn(0x7f00, 0x8100), turn(0xff, 0xff00), turn(0xff7f, 0x80)), (RUN, RUN, 0, 0));
        assert_eq!((turn(0, !0), turn(!1, 1), turn(0xff, !0xff)), (FIRST | FULL | RUN, FULL, FULL));
    }
}
