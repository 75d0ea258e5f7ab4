//! Words of frames of one zone that a CPU keeps beside its open words: each is *near* for a column, which would ask the
//! field for just these frames next, and waits to be opened for it.
//!
//! `seen` tells for each class of numbers how many words of it may be here. Most words that come back are known by a look
//! at theirs to be kept nowhere.
//!
//! # Invariants
//! 1. A class is seen at least as often as there are words of it that wait, or that the owner says; it may have none.
//! 2. No word waits twice.

use super::open::{NO_WORD, STACK_ORDER};
use super::word::{Word, ones};

/// Words that may wait: a power of two, so that a place is told without a division.
const ROOM: usize = 128;

/// Classes of numbers: many more than words, so that most words are known not to be here.
const CLASSES: u64 = 4096;

/// Words and frames that are few.
const FEW: usize = 8;

/// Words of a block of order 9: their classes lie side by side.
const BLOCK_WORDS: usize = (1 << STACK_ORDER) / 64;

/// The words, the last one on top.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    words: [Word; ROOM],
    /// The column that each waits for.
    columns: [u8; ROOM],
    height: usize,
    /// How often each class is seen: once for each word that is kept, which are fewer than 256.
    seen: [u8; CLASSES as usize],
}

impl Magazine {
    pub const fn new() -> Self {
        Self { words: [NO_WORD; ROOM], columns: [0; ROOM], height: 0, seen: [0; CLASSES as usize] }
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        self.words.iter().take(self.height).copied()
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

    /// The word of a number.
    pub fn find(&mut self, number: u64) -> Option<&mut Word> {
        self.words.iter_mut().take(self.height).find(|word| word.number == number)
    }

    /// Puts a word that does not wait yet, for a column; there is room.
    #[inline]
    pub fn put(&mut self, word: Word, column: u8) {
        let at = self.height % ROOM;
        self.words[at] = word;
        self.columns[at] = column;
        self.height += 1;
        self.see(word.number);
    }

    /// The places of the next words and their columns, if there is room for that many and one more.
    #[inline]
    pub fn places(&mut self, more: usize) -> Option<(&mut [Word], &mut [u8])> {
        let end = self.height + more;
        let places = if end < ROOM { self.height..end } else { return None };
        self.words.get_mut(places.clone()).zip(self.columns.get_mut(places))
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

    /// Takes the last word, if it waits for that column.
    #[inline]
    pub fn take_last(&mut self, column: usize) -> Option<Word> {
        let at = self.height.checked_sub(1)?;
        if usize::from(self.columns[at % ROOM]) != column {
            return None;
        }
        self.height = at;
        let word = self.words[at % ROOM];
        self.unsee(word.number);
        Some(word)
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it = |at: &usize| usize::from(self.columns[at % ROOM]) == column && fits(self.words[at % ROOM].mask);
        let at = (0..self.height).rev().find(is_it)?;
        Some(self.take_at(at))
    }

    fn take_at(&mut self, at: usize) -> Word {
        let word = self.words[at % ROOM];
        self.height = self.height.saturating_sub(1);
        self.words[at % ROOM] = self.words[self.height % ROOM];
        self.columns[at % ROOM] = self.columns[self.height % ROOM];
        self.unsee(word.number);
        word
    }

    /// Takes the frames of a word.
    pub fn take(&mut self, number: u64) -> u64 {
        let at = (0..self.height).find(|at| self.words[at % ROOM].number == number);
        at.map_or(0, |at| self.take_at(at).mask)
    }

    /// Whether a word waits for a column.
    pub fn has_waiting(&self, column: usize) -> bool {
        self.columns.iter().take(self.height).any(|&waits| usize::from(waits) == column)
    }

    /// Forgets all words.
    pub fn forget(&mut self) {
        (0..self.height).for_each(|at| self.unsee(self.words[at % ROOM].number));
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
        assert_eq!(magazine.find(7 + CLASSES), Some(&mut word(7 + CLASSES, 2)));
        assert_eq!(magazine.find(8), None);
        assert!(magazine.may_have(7 + 9 * CLASSES) && !magazine.may_have(8));
        assert_eq!((magazine.search(7), magazine.search(7 + 9 * CLASSES), magazine.frames()), (1, 0, 3));
        assert_eq!((magazine.take(7 + CLASSES), magazine.take(7 + CLASSES)), (2, 0));
        assert_eq!(magazine.words().collect::<Vec<_>>(), [word(7, 1), word(7 + 2 * CLASSES, 4)]);
    }

    #[test]
    fn words_wait_for_their_column_and_the_last_comes_first() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, 0), (4, 1), (5, 1), (6, 1)] {
            magazine.put(word(number, number), column);
        }
        assert_eq!(magazine.take_waiting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_last(0), magazine.take_last(1)), (None, Some(word(6, 6))));
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
        assert_eq!(magazine.take_last(0), Some(word(101, 1)));
        assert!(magazine.may_have(100) && !magazine.may_have(101));
        magazine.put(word(100 + CLASSES, 1), 0);
        assert_eq!(magazine.take_last(0), Some(word(100 + CLASSES, 1)));
        assert!(magazine.may_have(100), "the other word is here");
        assert_eq!((magazine.take_last(0), magazine.may_have(100)), (Some(word(100, 1)), false));
        magazine.see_first(7, true);
        let (places, columns) = magazine.places(1).unwrap();
        (places[0], columns[0]) = (word(7, 1), 0);
        magazine.grow(1);
        assert_eq!(
            (magazine.may_have(7), magazine.take_last(0), magazine.may_have(7)),
            (true, Some(word(7, 1)), false)
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
