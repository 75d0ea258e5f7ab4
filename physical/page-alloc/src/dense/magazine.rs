//! Frames of one zone that a CPU keeps beside its open words: a table of words that came back, each at the place of its
//! number, and a stack of words that wait to be opened.
//!
//! A word that comes to a place of the table where another one is puts that one out. So frames that come back in a row
//! gather in their words, a frame that comes back twice meets itself, and a random free costs the field one word.
//! A word that is *near* for a column would be the next that the column asks the field for: it waits on the stack.
//!
//! # Invariants
//! 1. A place's mask is not 0 exactly while its bit in `used` is set.
//! 2. No word is twice in the table.

use super::open::NO_WORD;
use super::word::Word;

/// Places of the table.
const PLACES: usize = 64;

/// Words that may wait.
pub(super) const WAITING: usize = 48;

/// Table and stack.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    table: [Word; PLACES],
    used: u64,
    height: usize,
    stack: [Word; WAITING],
    /// The column of each that waits.
    columns: [u8; WAITING],
}

impl Magazine {
    pub const fn new() -> Self {
        Self { table: [NO_WORD; PLACES], used: 0, height: 0, stack: [NO_WORD; WAITING], columns: [0; WAITING] }
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        let waiting = self.stack.iter().take(self.height);
        self.table.iter().chain(waiting).map(|word| word.frames()).sum()
    }

    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.used == 0 && self.height == 0
    }

    /// Takes a word into the table that [`Magazine::find`] did not find; answers the word that it puts out, with no frames
    /// if there was none.
    #[inline]
    pub fn put(&mut self, word: Word) -> Word {
        let place = word.number as usize % PLACES;
        self.used |= 1 << place;
        core::mem::replace(&mut self.table[place], word)
    }

    /// The word in the table.
    #[inline]
    pub fn find(&mut self, number: u64) -> Option<&mut Word> {
        let word = &mut self.table[number as usize % PLACES];
        (word.number == number).then_some(word)
    }

    /// Which frames of a word wait to be opened.
    #[inline]
    pub fn waiting(&self, number: u64) -> u64 {
        let words = self.stack.iter().take(self.height);
        words.fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// Puts a word on the stack of those that wait for a column; false if there is no room.
    #[inline]
    pub fn wait(&mut self, word: Word, column: usize) -> bool {
        if self.height >= WAITING {
            return false;
        }
        self.stack[self.height % WAITING] = word;
        self.columns[self.height % WAITING] = column as u8;
        self.height += 1;
        true
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it =
            |at: &usize| usize::from(self.columns[at % WAITING]) == column && fits(self.stack[at % WAITING].mask);
        let at = (0..self.height).rev().find(is_it)?;
        let word = self.stack[at % WAITING];
        self.height -= 1;
        self.stack[at % WAITING] = self.stack[self.height % WAITING];
        self.columns[at % WAITING] = self.columns[self.height % WAITING];
        Some(word)
    }

    /// Whether a word waits for a column.
    pub fn has_waiting(&self, column: usize) -> bool {
        self.columns.iter().take(self.height).any(|&waits| usize::from(waits) == column)
    }

    /// Takes out any word.
    pub fn take_any(&mut self) -> Option<Word> {
        if self.used != 0 {
            let place = self.used.trailing_zeros() as usize % PLACES;
            self.used &= self.used - 1;
            let word = core::mem::replace(&mut self.table[place], NO_WORD);
            return Some(word);
        }
        self.height = self.height.checked_sub(1)?;
        Some(self.stack[self.height % WAITING])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(number: u64, mask: u64) -> Word {
        Word { number, mask }
    }

    #[test]
    fn a_word_puts_out_the_one_in_its_place() {
        let mut magazine = Magazine::new();
        assert_eq!(magazine.put(word(7, 1)), NO_WORD);
        assert_eq!(magazine.put(word(71, 3)), word(7, 1));
        assert_eq!(magazine.find(7), None);
        assert_eq!(magazine.find(71), Some(&mut word(71, 3)));
        assert_eq!(magazine.frames(), 2);
        assert_eq!((magazine.take_any(), magazine.take_any(), magazine.frames()), (Some(word(71, 3)), None, 0));
    }

    #[test]
    fn words_wait_for_their_column_and_the_last_comes_first() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, 0), (4, 1), (5, 1), (6, 1)] {
            assert!(magazine.wait(word(number, number), column));
        }
        assert_eq!((magazine.waiting(4), magazine.waiting(7), magazine.frames()), (4, 0, 7));
        assert_eq!(magazine.take_waiting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!(magazine.take_waiting(1, |_| true), Some(word(6, 6)));
        assert_eq!((magazine.has_waiting(0), magazine.has_waiting(2)), (true, false));
        assert_eq!((magazine.take_any(), magazine.take_any(), magazine.take_any()).2, None);
        assert_eq!(magazine.frames(), 0);
    }

    #[test]
    fn a_full_stack_takes_no_more() {
        let mut magazine = Magazine::new();
        assert!((0..WAITING as u64).all(|number| magazine.wait(word(number, 1), 0)));
        assert!(!magazine.wait(word(99, 1), 0));
        assert_eq!(magazine.frames() as usize, WAITING);
    }
}
