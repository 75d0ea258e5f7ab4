//! Frames of one zone that a CPU keeps beside its open words: a table of words that came back and go to the field all at
//! once, and a stack of words that wait to be opened.
//!
//! Why all at once: each word costs the field two atomic operations, and while one of them runs a CPU can neither look
//! ahead nor wait for several lines of memory at a time.
//! Frames that come back in a row gather in their words, and a frame that comes back twice meets itself.
//! A word that is *near* for a column would be the next that the column asks the field for: it waits on the stack.
//!
//! # Invariants
//! 1. `filled` places of the table hold words, those that `order` names, none twice; the others hold none.
//! 2. A class counts the words on the stack whose numbers are of it.
//! 3. A word is at the first free place from the one of its number on, as the table was when it came.

use super::open::NO_WORD;
use super::word::Word;

/// Places of the table.
const PLACES: usize = 64;

/// Words that the table takes: with more of them a search would take long.
const FULL: usize = 44;

/// Words that may wait.
pub(super) const WAITING: usize = 48;

/// Room for them: a power of two, so that a place is told without a division.
const ROOM: usize = 64;

/// Classes of numbers of words that wait: most that do not wait are told by their class.
const CLASSES: usize = 256;

/// Table and stack.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    table: [Word; PLACES],
    /// The places in use, in the order in which words came.
    order: [u8; PLACES],
    filled: usize,
    height: usize,
    stack: [Word; ROOM],
    /// The column of each that waits.
    columns: [u8; ROOM],
    /// Words on the stack by the rest of their numbers by [`CLASSES`].
    classes: [u8; CLASSES],
}

/// What the table says of a word.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found<'m> {
    /// It is there.
    Word(&'m mut Word),
    /// It would have this place.
    Place(usize),
}

impl Magazine {
    pub const fn new() -> Self {
        Self {
            table: [NO_WORD; PLACES],
            order: [0; PLACES],
            filled: 0,
            height: 0,
            stack: [NO_WORD; ROOM],
            columns: [0; ROOM],
            classes: [0; CLASSES],
        }
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        let waiting = self.stack.iter().take(self.height);
        self.table.iter().chain(waiting).map(|word| word.frames()).sum()
    }

    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.filled == 0 && self.height == 0
    }

    /// Looks for a word in the table.
    #[inline]
    pub fn find(&mut self, number: u64) -> Found<'_> {
        let mut place = number as usize % PLACES;
        // Ends: the table is never full.
        while self.table[place].mask != 0 {
            if self.table[place].number == number {
                return Found::Word(&mut self.table[place]);
            }
            place = (place + 1) % PLACES;
        }
        Found::Place(place)
    }

    /// Which frames of a word are in the table or wait.
    pub fn has(&self, number: u64) -> u64 {
        let words = self.table.iter().filter(|word| word.number == number);
        words.fold(self.waiting(number), |mask, word| mask | word.mask)
    }

    /// Puts a word at the place that [`Magazine::find`] named; whether the table is full now.
    #[inline]
    pub fn put(&mut self, place: usize, word: Word) -> bool {
        self.table[place % PLACES] = word;
        self.order[self.filled % PLACES] = place as u8;
        self.filled += 1;
        self.filled >= FULL
    }

    /// Empties the table: its words in the order in which they came.
    #[inline]
    pub fn empty(&mut self) -> impl Iterator<Item = Word> {
        let filled = core::mem::take(&mut self.filled);
        let (order, table) = (&self.order, &mut self.table);
        order.iter().take(filled).map(|&place| core::mem::replace(&mut table[usize::from(place) % PLACES], NO_WORD))
    }

    /// Which frames of a word wait to be opened.
    #[inline]
    pub fn waiting(&self, number: u64) -> u64 {
        if self.classes[number as usize % CLASSES] == 0 { 0 } else { self.search_stack(number) }
    }

    #[cold]
    fn search_stack(&self, number: u64) -> u64 {
        let words = self.stack.iter().take(self.height);
        words.filter(|word| word.number == number).fold(0, |mask, word| mask | word.mask)
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
        self.classes[word.number as usize % CLASSES] += 1;
        true
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it = |at: &usize| usize::from(self.columns[at % ROOM]) == column && fits(self.stack[at % ROOM].mask);
        let at = (0..self.height).rev().find(is_it)?;
        let word = self.stack[at % ROOM];
        self.classes[word.number as usize % CLASSES] -= 1;
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
        self.classes = [0; CLASSES];
        self.stack.iter().take(height).copied()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const fn word(number: u64, mask: u64) -> Word {
        Word { number, mask }
    }

    /// Puts a word that is not there.
    fn put(magazine: &mut Magazine, word: Word) -> bool {
        match magazine.find(word.number) {
            Found::Place(place) => magazine.put(place, word),
            Found::Word(_) => panic!("there"),
        }
    }

    #[test]
    fn words_of_one_place_stand_side_by_side() {
        let mut magazine = Magazine::new();
        for nth in [0, 1, 2] {
            assert!(!put(&mut magazine, word(7 + 64 * nth, 1)));
        }
        assert!(!put(&mut magazine, word(63, 2)) && !put(&mut magazine, word(127, 4)));
        assert_eq!(magazine.find(71), Found::Word(&mut word(71, 1)));
        assert_eq!(magazine.find(127), Found::Word(&mut word(127, 4)));
        assert_eq!((magazine.frames(), magazine.find(7 + 64 * 3)), (5, Found::Place(10)));
        let words: Vec<_> = magazine.empty().collect();
        assert_eq!(words, [word(7, 1), word(71, 1), word(135, 1), word(63, 2), word(127, 4)]);
        assert_eq!((magazine.frames(), magazine.is_empty(), magazine.find(71)), (0, true, Found::Place(7)));
    }

    #[test]
    fn a_full_table_says_so_and_still_answers() {
        let mut magazine = Magazine::new();
        assert!((1..FULL as u64).all(|number| !put(&mut magazine, word(number * 64, 1))));
        assert!(put(&mut magazine, word(5, 1)));
        assert_eq!(magazine.find(64 * 99), Found::Place(FULL));
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
        assert_eq!(magazine.empty_stack().collect::<Vec<_>>(), [word(3, 3), word(4, 4)]);
        assert!(magazine.is_empty());
    }

    #[test]
    fn a_full_stack_takes_no_more() {
        let mut magazine = Magazine::new();
        assert!((0..WAITING as u64).all(|number| magazine.wait(word(number, 1), 0)));
        assert!(!magazine.wait(word(99, 1), 0));
        assert_eq!(magazine.frames() as usize, WAITING);
    }
}
