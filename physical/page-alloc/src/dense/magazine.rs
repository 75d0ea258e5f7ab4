//! Frames of one zone that a CPU keeps beside its open words: a table of words that came back, each at the place of its
//! number, and a stack of words that wait to be opened.
//!
//! A word that comes to a place where another one is puts that one out. So frames that come back in a row gather in their
//! words, a frame that comes back twice meets itself, and a random free costs the field one word. A word that is *near*
//! for a column would be the next that the column asks the field for: put out, it waits on the stack instead.
//!
//! # Invariants
//! 1. A place's mask is not 0 exactly while its bit in `used` is set; `near` has only such bits.
//! 2. `frames` is the number of bits in all masks of both.

use super::open::NO_WORD;
use super::word::Word;

/// Places of the table.
const PLACES: usize = 64;

/// Words that may wait.
pub(super) const WAITING: usize = 48;

/// Kinds of requests that are served apart: unmovable, movable, reclaimable.
pub(super) const COLUMNS: usize = 3;

/// Table and stack.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    table: [Word; PLACES],
    used: u64,
    near: [u64; COLUMNS],
    stack: [Word; WAITING],
    /// The column of each that waits.
    columns: [u8; WAITING],
    height: usize,
    frames: u32,
}

impl Magazine {
    pub const fn new() -> Self {
        Self {
            table: [NO_WORD; PLACES],
            used: 0,
            near: [0; COLUMNS],
            stack: [NO_WORD; WAITING],
            columns: [0; WAITING],
            height: 0,
            frames: 0,
        }
    }

    /// Frames in all words.
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Takes a word in that [`Magazine::take_out`] did not find, near for a column or for none; answers a word that has no
    /// place any more, and whether it was near.
    #[inline]
    pub fn put(&mut self, word: Word, near: Option<usize>) -> Option<(Word, bool)> {
        let place = word.number as usize % PLACES;
        let (old, column) = self.forget(place);
        self.table[place] = word;
        self.used |= 1 << place;
        self.frames += word.frames();
        if let Some(near) = near.and_then(|column| self.near.get_mut(column)) {
            *near |= 1 << place;
        }
        if old.mask == 0 {
            return None;
        }
        match column {
            Some(column) => self.wait(old, column).map(|out| (out, true)),
            None => Some((old, false)),
        }
    }

    /// Empties a place; what was there, and for which column it was near.
    #[inline]
    fn forget(&mut self, place: usize) -> (Word, Option<usize>) {
        let bit = 1_u64 << place;
        let word = core::mem::replace(&mut self.table[place % PLACES], NO_WORD);
        self.frames -= word.frames();
        self.used &= !bit;
        let mut column = None;
        for (nth, near) in self.near.iter_mut().enumerate() {
            if *near & bit != 0 {
                *near &= !bit;
                column = Some(nth);
            }
        }
        (word, column)
    }

    /// Takes a word out of the table; 0 if it is not there.
    #[inline]
    pub fn take_out(&mut self, number: u64) -> u64 {
        let place = number as usize % PLACES;
        if self.table[place].number == number { self.forget(place).0.mask } else { 0 }
    }

    /// Which frames of a word wait to be opened.
    #[inline]
    pub fn waiting(&self, number: u64) -> u64 {
        let words = self.stack.iter().take(self.height);
        words.fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// Puts a word on the stack of those that wait for a column; answers it if there is no room.
    #[inline]
    pub fn wait(&mut self, word: Word, column: usize) -> Option<Word> {
        if self.height >= WAITING {
            return Some(word);
        }
        self.stack[self.height % WAITING] = word;
        self.columns[self.height % WAITING] = column as u8;
        self.height += 1;
        self.frames += word.frames();
        None
    }

    /// Takes a word for a column: the last that waits, else one that is near.
    #[inline]
    pub fn take_near(&mut self, column: usize) -> Option<Word> {
        if let Some(word) = self.take_waiting(column, |_| true) {
            return Some(word);
        }
        let near = *self.near.get(column)?;
        (near != 0).then(|| self.forget(near.trailing_zeros() as usize).0)
    }

    /// Takes a word for a column that `fits`.
    pub fn take_fitting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        if let Some(word) = self.take_waiting(column, &fits) {
            return Some(word);
        }
        let mut near = *self.near.get(column)?;
        while near != 0 {
            let place = near.trailing_zeros() as usize;
            if fits(self.table[place % PLACES].mask) {
                return Some(self.forget(place).0);
            }
            near &= near - 1;
        }
        None
    }

    #[inline]
    fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let mut waiting = (0..self.height).rev();
        let at = waiting
            .find(|&at| usize::from(self.columns[at % WAITING]) == column && fits(self.stack[at % WAITING].mask))?;
        self.height -= 1;
        let word = self.stack[at % WAITING];
        self.stack[at % WAITING] = self.stack[self.height % WAITING];
        self.columns[at % WAITING] = self.columns[self.height % WAITING];
        self.frames -= word.frames();
        Some(word)
    }

    /// Whether there is a word for a column.
    pub fn has_near(&self, column: usize) -> bool {
        let waits = self.columns.iter().take(self.height).any(|&waits| usize::from(waits) == column);
        waits || self.near.get(column).is_some_and(|near| *near != 0)
    }

    /// Takes out any word.
    pub fn take_any(&mut self) -> Option<Word> {
        if self.used != 0 {
            return Some(self.forget(self.used.trailing_zeros() as usize).0);
        }
        self.height = self.height.checked_sub(1)?;
        let word = self.stack[self.height % WAITING];
        self.frames -= word.frames();
        Some(word)
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
        assert_eq!(magazine.put(word(7, 1), None), None);
        assert_eq!(magazine.put(word(71, 3), None), Some((word(7, 1), false)));
        assert_eq!((magazine.take_out(7), magazine.take_out(71), magazine.take_out(71)), (0, 3, 0));
        assert_eq!((magazine.take_any(), magazine.frames()), (None, 0));
    }

    #[test]
    fn a_near_word_that_is_put_out_waits_for_its_column() {
        let mut magazine = Magazine::new();
        assert_eq!(magazine.put(word(7, 1), Some(1)), None);
        assert_eq!(magazine.put(word(71, 3), None), None);
        assert_eq!((magazine.waiting(7), magazine.waiting(71), magazine.frames()), (1, 0, 3));
        assert_eq!(
            (magazine.take_near(0), magazine.take_near(1), magazine.take_near(1)),
            (None, Some(word(7, 1)), None)
        );
        assert_eq!((magazine.take_any(), magazine.take_any(), magazine.frames()), (Some(word(71, 3)), None, 0));
    }

    #[test]
    fn near_words_are_taken_by_their_column() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, Some(0)), (4, Some(1)), (5, Some(1)), (6, None)] {
            assert_eq!(magazine.put(word(number, number), column), None);
        }
        assert_eq!(magazine.take_fitting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_near(1), magazine.take_near(1)), (Some(word(4, 4)), None));
        assert_eq!(
            (magazine.take_near(0), magazine.has_near(0), magazine.has_near(1)),
            (Some(word(3, 3)), false, false)
        );
    }

    #[test]
    fn a_full_stack_hands_the_word_back() {
        let mut magazine = Magazine::new();
        for number in 0..WAITING as u64 {
            assert_eq!(magazine.wait(word(number, 1), usize::from(number % 2 == 0)), None);
        }
        assert_eq!(magazine.wait(word(99, 1), 0), Some(word(99, 1)));
        assert_eq!(magazine.take_near(1), Some(word(WAITING as u64 - 2, 1)));
        assert_eq!(magazine.frames() as usize, WAITING - 1);
    }
}
