//! Frames of one zone that a CPU keeps beside its open words: words that came back and go to the field all at once, and
//! a stack of words that wait to be opened.
//!
//! Why all at once: each word costs the field two atomic operations, and while one of them runs a CPU can neither look
//! ahead nor wait for several lines of memory at a time.
//! A word that is *near* for a column would be the next that the column asks the field for: it waits on the stack.
//! Few words share a class, so that most are known not to be here by a look at theirs.
//!
//! # Invariants
//! 1. A class counts the words here whose numbers are of it.
//! 2. No word is twice among those that came back.

use super::open::NO_WORD;
use super::word::Word;

/// Words that come back before they go to the field.
const FULL: usize = 44;

/// Words that may wait.
const WAITING: usize = 48;

/// Room for either: a power of two, so that a place is told without a division.
const ROOM: usize = 64;

/// Classes of numbers.
const CLASSES: usize = 512;

/// Both.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    /// Words that came back, in the order in which they did.
    back: [Word; ROOM],
    stack: [Word; ROOM],
    /// The column of each that waits.
    columns: [u8; ROOM],
    filled: usize,
    height: usize,
    /// Words by the rest of their numbers by [`CLASSES`].
    classes: [u8; CLASSES],
}

impl Magazine {
    pub const fn new() -> Self {
        Self {
            back: [NO_WORD; ROOM],
            stack: [NO_WORD; ROOM],
            columns: [0; ROOM],
            filled: 0,
            height: 0,
            classes: [0; CLASSES],
        }
    }

    fn words(&self) -> impl Iterator<Item = &Word> {
        self.back.iter().take(self.filled).chain(self.stack.iter().take(self.height))
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        self.words().map(|word| word.frames()).sum()
    }

    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.filled == 0 && self.height == 0
    }

    #[inline]
    fn class(&mut self, number: u64) -> &mut u8 {
        &mut self.classes[number as usize % CLASSES]
    }

    /// Whether a word of that number may be here.
    #[inline]
    pub const fn may_have(&self, number: u64) -> bool {
        self.classes[number as usize % CLASSES] != 0
    }

    /// Which frames of a word are here.
    #[inline]
    pub fn has(&self, number: u64) -> u64 {
        if self.may_have(number) { self.search(number) } else { 0 }
    }

    fn search(&self, number: u64) -> u64 {
        self.words().fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// The word among those that came back.
    pub fn find(&mut self, number: u64) -> Option<&mut Word> {
        self.back.iter_mut().take(self.filled).rev().find(|word| word.number == number)
    }

    /// Puts a word to those that came back, which [`Magazine::find`] did not find; whether they are many now.
    #[inline]
    pub fn put(&mut self, word: Word) -> bool {
        self.back[self.filled % ROOM] = word;
        self.filled += 1;
        *self.class(word.number) += 1;
        self.filled >= FULL
    }

    /// Takes out the words that came back, in the order in which they did.
    #[inline]
    pub fn empty(&mut self) -> impl Iterator<Item = Word> {
        let filled = core::mem::take(&mut self.filled);
        let (back, classes) = (&self.back, &mut self.classes);
        back.iter().take(filled).inspect(|word| classes[word.number as usize % CLASSES] -= 1).copied()
    }

    /// Puts a word on the stack of those that wait for a column; false if there is no room.
    #[inline]
    pub fn wait(&mut self, word: Word, column: usize) -> bool {
        if self.height >= WAITING {
            return false;
        }
        self.stack[self.height % ROOM] = word;
        self.columns[self.height % ROOM] = column as u8;
        self.height += 1;
        *self.class(word.number) += 1;
        true
    }

    /// Takes the last word that waits, if it does for that column.
    #[inline]
    pub fn take_last(&mut self, column: usize) -> Option<Word> {
        let at = self.height.checked_sub(1)?;
        if usize::from(self.columns[at % ROOM]) != column {
            return None;
        }
        let word = self.stack[at % ROOM];
        self.height = at;
        *self.class(word.number) -= 1;
        Some(word)
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it = |at: &usize| usize::from(self.columns[at % ROOM]) == column && fits(self.stack[at % ROOM].mask);
        let at = (0..self.height).rev().find(is_it)?;
        let word = self.stack[at % ROOM];
        *self.class(word.number) -= 1;
        self.height -= 1;
        self.stack[at % ROOM] = self.stack[self.height % ROOM];
        self.columns[at % ROOM] = self.columns[self.height % ROOM];
        Some(word)
    }

    /// Whether a word waits for a column.
    pub fn has_waiting(&self, column: usize) -> bool {
        self.columns.iter().take(self.height).any(|&waits| usize::from(waits) == column)
    }

    /// Empties the stack.
    pub fn empty_stack(&mut self) -> impl Iterator<Item = Word> {
        let height = core::mem::take(&mut self.height);
        let (stack, classes) = (&self.stack, &mut self.classes);
        stack.iter().take(height).inspect(|word| classes[word.number as usize % CLASSES] -= 1).copied()
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
    fn words_that_came_back_are_found_and_leave_in_their_order() {
        let mut magazine = Magazine::new();
        for nth in [0, 1, 2] {
            assert!(!magazine.put(word(7 + CLASSES as u64 * nth, 1 << nth)));
        }
        assert_eq!(magazine.find(7 + CLASSES as u64), Some(&mut word(7 + CLASSES as u64, 2)));
        assert_eq!(magazine.find(8), None);
        assert_eq!(magazine.has(7), 1);
        assert!(magazine.may_have(7 + 9 * CLASSES as u64) && !magazine.may_have(8));
        assert_eq!((magazine.has(7 + 9 * CLASSES as u64), magazine.frames()), (0, 3));
        let words: Vec<_> = magazine.empty().map(|word| word.mask).collect();
        assert_eq!((words.as_slice(), magazine.is_empty(), magazine.may_have(7)), ([1, 2, 4].as_slice(), true, false));
    }

    #[test]
    fn many_words_are_told() {
        let mut magazine = Magazine::new();
        assert!((1..FULL as u64).all(|number| !magazine.put(word(number * 64, 1))));
        assert!(magazine.put(word(5, 1)));
        assert_eq!(magazine.frames() as usize, FULL);
    }

    #[test]
    fn words_wait_for_their_column_and_the_last_comes_first() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, 0), (4, 1), (5, 1), (6, 1)] {
            assert!(magazine.wait(word(number, number), column));
        }
        assert_eq!((magazine.has(4), magazine.has(7), magazine.frames()), (4, 0, 7));
        assert_eq!(magazine.take_waiting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_last(0), magazine.take_last(1)), (None, Some(word(6, 6))));
        assert_eq!((magazine.has_waiting(0), magazine.has_waiting(2), magazine.may_have(6)), (true, false, false));
        assert_eq!(magazine.empty_stack().collect::<Vec<_>>(), [word(3, 3), word(4, 4)]);
        assert!(magazine.is_empty() && !magazine.may_have(3));
    }

    #[test]
    fn a_full_stack_takes_no_more() {
        let mut magazine = Magazine::new();
        assert!((0..WAITING as u64).all(|number| magazine.wait(word(number, 1), 0)));
        assert!(!magazine.wait(word(99, 1), 0));
        assert_eq!(magazine.frames() as usize, WAITING);
    }
}
