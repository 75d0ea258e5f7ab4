//! Words of frames of one zone that a CPU keeps beside its open words: each is *near* for a column, which would ask the
//! field for just these frames next, and waits to be opened for it.
//!
//! `seen` tells for each class of numbers how many words of it may be here. Most words that come back are known by a look
//! at theirs to be kept nowhere.
//!
//! # Invariants
//! 1. A class is seen at least as often as there are words of it that wait, or that the owner says; it may have none.
//! 2. No word waits twice.

use kernmem_base::Pfn;

use super::open::{NONE, STACK_ORDER};
use super::word::{WORD_FRAMES, Word, ones};

/// Words that may wait: a power of two, so that a place is told without a division.
const ROOM: usize = 128;

/// Classes of numbers: many more than words, so that most words are known not to be here.
const CLASSES: u64 = 4096;

/// Words and frames that are few.
const FEW: usize = 8;

/// Words of a block of order 9: their classes lie side by side.
const BLOCK_WORDS: usize = (1 << STACK_ORDER) / 64;

/// The words, the last one on top: each is a frame that is taken first, and others.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    frames: [u64; ROOM],
    others: [u64; ROOM],
    /// The column that each waits for.
    columns: [u8; ROOM],
    height: usize,
    /// How often each class is seen: once for each word that is kept, which are fewer than 256.
    seen: [u8; CLASSES as usize],
}

impl Magazine {
    pub const fn new() -> Self {
        let (frames, others, columns) = ([NONE; ROOM], [0; ROOM], [0; ROOM]);
        Self { frames, others, columns, height: 0, seen: [0; CLASSES as usize] }
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        let words = self.frames.iter().zip(&self.others).take(self.height);
        words.map(|(&frame, &others)| Word::joined(frame, others))
    }

    /// The word of a place.
    #[inline]
    const fn word(&self, at: usize) -> Word {
        Word::joined(self.frames[at % ROOM], self.others[at % ROOM])
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        self.words().map(|word| ones(word.mask)).sum()
    }

    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.height == 0
    }

    /// Whether so few frames wait that more are to be asked for before they are taken: what came back meanwhile would be few
    /// too, and to look at few at a time is dear.
    #[inline]
    pub fn is_low(&self) -> bool {
        self.height < FEW && self.frames() < FEW as u32
    }

    /// Whether there is no room.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.height >= ROOM
    }

    /// Whether a word of that number may be kept here, or wherever its owner said.
    #[inline]
    pub const fn may_have(&self, number: u64) -> bool {
        self.seen[(number % CLASSES) as usize] != 0
    }

    /// Which frames of a word wait.
    pub fn search(&self, number: u64) -> u64 {
        self.words().find(|word| word.number == number).map_or(0, |word| word.mask)
    }

    /// Adds frames to their word, if it waits.
    pub fn join(&mut self, word: Word) -> bool {
        let at = (0..self.height).find(|&at| self.word(at).number == word.number);
        if let Some(at) = at {
            self.others[at % ROOM] |= word.mask;
        }
        at.is_some()
    }

    /// Puts a word that does not wait yet, for a column; there is room.
    #[inline]
    pub fn put(&mut self, word: Word, column: u8) {
        let at = self.height % ROOM;
        (self.frames[at], self.others[at], self.columns[at]) = (word.first().0, word.others(), column);
        self.height += 1;
        self.see(word.number);
    }

    /// The places of the next words, each a frame, others and a column, if there is room for that many and one more.
    #[inline]
    pub fn places(&mut self, more: usize) -> Option<(&mut [u64], &mut [u64], &mut [u8])> {
        let end = self.height + more;
        let places = if end < ROOM { self.height..end } else { return None };
        let (frames, others) = (self.frames.get_mut(places.clone())?, self.others.get_mut(places.clone())?);
        Some((frames, others, self.columns.get_mut(places)?))
    }

    /// Takes note of words that are at their places, and seen.
    #[inline]
    pub const fn grow(&mut self, more: usize) {
        self.height += more;
    }

    /// Takes note that a word is kept.
    #[inline]
    pub const fn see(&mut self, number: u64) {
        let seen = &mut self.seen[(number % CLASSES) as usize];
        *seen = seen.wrapping_add(1);
    }

    /// Takes note that a word is kept, if that `is` so, whose class is not seen.
    #[inline]
    pub const fn see_first(&mut self, number: u64, is: bool) {
        self.seen[(number % CLASSES) as usize] = is as u8;
    }

    /// Takes note that a word that was seen is here no more.
    #[inline]
    pub const fn unsee(&mut self, number: u64) {
        let seen = &mut self.seen[(number % CLASSES) as usize];
        debug_assert!(*seen != 0, "what is here is seen");
        *seen = seen.wrapping_sub(1);
    }

    /// The classes of the words of a block of order 9.
    #[inline]
    fn block(&mut self, number: u64) -> &mut [u8] {
        let first = number as usize % CLASSES as usize / BLOCK_WORDS * BLOCK_WORDS;
        &mut self.seen[first..first + BLOCK_WORDS]
    }

    /// Takes note that the words of a block of order 9 are kept.
    #[inline]
    pub fn see_block(&mut self, number: u64) {
        self.block(number).iter_mut().for_each(|seen| *seen = seen.wrapping_add(1));
    }

    /// Takes note that the words of a block of order 9 that were seen are here no more.
    #[inline]
    pub fn unsee_block(&mut self, number: u64) {
        self.block(number).iter_mut().for_each(|seen| *seen = seen.wrapping_sub(1));
    }

    /// Takes the last word, if it waits for that column: a frame, and others of its word.
    #[inline]
    pub fn take_last(&mut self, column: usize) -> Option<(Pfn, u64)> {
        let last = self.height.checked_sub(1)?;
        let at = last % ROOM;
        if usize::from(self.columns[at]) != column {
            return None;
        }
        self.height = last;
        let frame = self.frames[at];
        self.unsee(frame / WORD_FRAMES);
        Some((Pfn(frame), self.others[at]))
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it = |at: &usize| usize::from(self.columns[at % ROOM]) == column && fits(self.word(*at).mask);
        let at = (0..self.height).rev().find(is_it)?;
        Some(self.take_at(at))
    }

    fn take_at(&mut self, at: usize) -> Word {
        let word = self.word(at);
        self.height = self.height.saturating_sub(1);
        let (at, last) = (at % ROOM, self.height % ROOM);
        (self.frames[at], self.others[at]) = (self.frames[last], self.others[last]);
        self.columns[at] = self.columns[last];
        self.unsee(word.number);
        word
    }

    /// Takes the frames of a word.
    pub fn take(&mut self, number: u64) -> u64 {
        let at = (0..self.height).find(|&at| self.word(at).number == number);
        at.map_or(0, |at| self.take_at(at).mask)
    }

    /// Whether a word waits for a column.
    pub fn has_waiting(&self, column: usize) -> bool {
        self.columns.iter().take(self.height).any(|&waits| usize::from(waits) == column)
    }

    /// Forgets all words.
    pub fn forget(&mut self) {
        (0..self.height).for_each(|at| self.unsee(self.word(at).number));
        self.height = 0;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const fn word(number: u64, mask: u64) -> Word {
        Word { number, mask }
    }

    #[test]
    fn words_are_found_by_class_and_number() {
        let mut magazine = Magazine::new();
        (0..3).for_each(|nth| magazine.put(word(7 + CLASSES * nth, 1 << nth), 0));
        assert_eq!([word(7 + CLASSES, 8), word(8, 1)].map(|word| magazine.join(word)), [true, false]);
        assert!(magazine.may_have(7 + 9 * CLASSES) && !magazine.may_have(8));
        assert_eq!((magazine.search(7), magazine.search(7 + 9 * CLASSES), magazine.frames()), (1, 0, 4));
        assert_eq!((magazine.take(7 + CLASSES), magazine.take(7 + CLASSES)), (10, 0));
        assert_eq!(magazine.words().collect::<Vec<_>>(), [word(7, 1), word(7 + 2 * CLASSES, 4)]);
    }

    #[test]
    fn words_wait_for_their_column_and_the_last_comes_first() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, 0), (4, 1), (5, 1), (6, 1)] {
            magazine.put(word(number, number), column);
        }
        assert_eq!(magazine.take_waiting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_last(0), magazine.take_last(1)), (None, Some((Pfn(6 * 64 + 1), 4))));
        assert_eq!((magazine.has_waiting(0), magazine.has_waiting(2)), (true, false));
        assert_eq!(magazine.words().collect::<Vec<_>>(), [word(3, 3), word(4, 4)]);
        magazine.forget();
        assert!(magazine.is_empty());
    }

    #[test]
    fn the_room_is_told() {
        let mut magazine = Magazine::new();
        (0..ROOM as u64).for_each(|number| {
            assert!(!magazine.is_full());
            magazine.put(word(number, 1), 0);
        });
        assert!(magazine.is_full());
    }

    #[test]
    fn a_class_that_one_word_had_is_free_again() {
        let mut magazine = Magazine::new();
        magazine.put(word(100, 1), 0);
        magazine.put(word(101, 1), 0);
        assert_eq!(magazine.take_last(0), Some((Pfn(64 * 101), 0)));
        assert!(magazine.may_have(100) && !magazine.may_have(101));
        magazine.put(word(100 + CLASSES, 1), 0);
        assert_eq!(magazine.take_last(0), Some((Pfn(64 * (100 + CLASSES)), 0)));
        assert!(magazine.may_have(100), "the other word is here");
        assert_eq!((magazine.take_last(0), magazine.may_have(100)), (Some((Pfn(6400), 0)), false));
        magazine.see_first(7, true);
        let (frames, others, columns) = magazine.places(1).unwrap();
        (frames[0], others[0], columns[0]) = (450, 1, 0);
        magazine.grow(1);
        assert_eq!(
            (magazine.may_have(7), magazine.take_last(0), magazine.may_have(7)),
            (true, Some((Pfn(450), 1)), false)
        );
    }

    #[test]
    fn the_classes_of_a_block_lie_side_by_side() {
        let mut magazine = Magazine::new();
        magazine.see_block(CLASSES + 13);
        assert!((8..16).all(|number| magazine.may_have(number)) && !magazine.may_have(7) && !magazine.may_have(16));
        [9, 100].into_iter().for_each(|number| magazine.put(word(number, 1), 0));
        magazine.unsee_block(13);
        assert_eq!([8, 9, 15, 100].map(|number| magazine.may_have(number)), [false, true, false, true]);
        magazine.forget();
        assert!(!magazine.may_have(9) && !magazine.may_have(100));
    }
}
