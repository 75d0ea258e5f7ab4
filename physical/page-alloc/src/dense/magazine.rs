//! Words of frames of one zone that a CPU keeps beside its open words: those that are *near* for a column wait to be
//! opened for it, those that are far wait until there are many, and then go to the field all at once.
//!
//! ```text
//! words    near: from the first place on, the last on top    free places    far: from the last place on
//! seen     a bit for each class of numbers: a word whose class has none is not here
//! ```
//! Why all at once: an atomic operation lets a CPU neither look ahead nor wait for several lines of memory at a time, so
//! the frames of many calls had better come to it together. Whether a word is near is told by where it is put and not by
//! a branch, since it is as good as random.
//!
//! # Invariants
//! 1. The class of a word that is here is seen; a class that is seen may have none.
//! 2. No word is here twice.

use super::open::NO_WORD;
use super::word::{Word, ones};

/// Words that may be here: a power of two, so that a place is told without a division.
const ROOM: usize = 64;

/// Far words that are worth a visit to the field.
const MANY: usize = 16;

/// Classes of numbers: many more than words, so that most words are known not to be here.
const CLASSES: u64 = 4096;

/// Words that are put before the classes are told anew.
const STALE: u32 = 256;

/// For no column: where a number of a column may stand.
pub(super) const FAR: u8 = u8::MAX;

/// Both.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    words: [Word; ROOM],
    /// The column that each near word waits for.
    columns: [u8; ROOM],
    near: usize,
    far: usize,
    seen: [u64; (CLASSES / 64) as usize],
    /// Words that were put since the classes were told.
    put: u32,
}

impl Magazine {
    pub const fn new() -> Self {
        let seen = [0; (CLASSES / 64) as usize];
        Self { words: [NO_WORD; ROOM], columns: [0; ROOM], near: 0, far: 0, seen, put: 0 }
    }

    fn near(&self) -> &[Word] {
        &self.words[..self.near.min(ROOM)]
    }

    fn far(&self) -> &[Word] {
        &self.words[ROOM.saturating_sub(self.far)..]
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        self.near().iter().chain(self.far()).copied()
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        self.words().map(|word| ones(word.mask)).sum()
    }

    /// Whether there are no words.
    pub const fn is_empty(&self) -> bool {
        self.near == 0 && self.far == 0
    }

    /// Whether there is no room.
    pub const fn is_full(&self) -> bool {
        self.near + self.far >= ROOM
    }

    /// Whether far words are many.
    pub const fn is_far(&self) -> bool {
        self.far >= MANY
    }

    /// The far words, if there are any.
    pub fn far_words(&self) -> Option<&[Word]> {
        (self.far != 0).then(|| self.far())
    }

    /// Whether a word of that number may be here.
    #[inline]
    pub const fn may_have(&self, number: u64) -> bool {
        let class = number % CLASSES;
        self.seen[(class / 64) as usize] >> (class % 64) & 1 != 0
    }

    /// Which frames of a word are here.
    #[inline]
    pub fn has(&self, number: u64) -> u64 {
        if self.may_have(number) { self.search(number) } else { 0 }
    }

    fn search(&self, number: u64) -> u64 {
        self.words().find(|word| word.number == number).map_or(0, |word| word.mask)
    }

    /// The word of a number.
    pub fn find(&mut self, number: u64) -> Option<&mut Word> {
        let (near, far) = self.words.split_at_mut(ROOM.saturating_sub(self.far));
        near.iter_mut().take(self.near).chain(far).find(|word| word.number == number)
    }

    /// Puts a word that is not here, for a column or [`FAR`]; whether there is no room for another.
    #[inline]
    pub fn put(&mut self, word: Word, column: u8) -> bool {
        let is_near = column != FAR;
        let at = if is_near { self.near } else { (ROOM - 1).wrapping_sub(self.far) } % ROOM;
        self.words[at] = word;
        self.columns[at] = column;
        self.near += usize::from(is_near);
        self.far += usize::from(!is_near);
        self.see(word.number);
        self.put += 1;
        if self.put >= STALE {
            self.tell_classes();
        }
        self.is_full()
    }

    #[inline]
    const fn see(&mut self, number: u64) {
        let class = number % CLASSES;
        self.seen[(class / 64) as usize] |= 1 << (class % 64);
    }

    /// Takes note of the classes of what is here, and of no others.
    #[inline(never)]
    fn tell_classes(&mut self) {
        self.seen = [0; (CLASSES / 64) as usize];
        self.put = 0;
        for at in (0..self.near).chain(ROOM.saturating_sub(self.far)..ROOM) {
            self.see(self.words[at % ROOM].number);
        }
    }

    /// Takes the last word that is near, if it waits for that column.
    #[inline]
    pub fn take_last(&mut self, column: usize) -> Option<Word> {
        let at = self.near.checked_sub(1)?;
        if usize::from(self.columns[at % ROOM]) != column {
            return None;
        }
        self.near = at;
        Some(self.words[at % ROOM])
    }

    /// Takes the last word that waits for a column and that `fits`.
    #[inline]
    pub fn take_waiting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let is_it = |at: &usize| usize::from(self.columns[at % ROOM]) == column && fits(self.words[at % ROOM].mask);
        let at = (0..self.near).rev().find(is_it)?;
        Some(self.take_near(at))
    }

    fn take_near(&mut self, at: usize) -> Word {
        let word = self.words[at % ROOM];
        self.near = self.near.saturating_sub(1);
        self.words[at % ROOM] = self.words[self.near % ROOM];
        self.columns[at % ROOM] = self.columns[self.near % ROOM];
        word
    }

    /// Takes the frames of a word that is near for some column.
    #[inline]
    pub fn take(&mut self, number: u64) -> u64 {
        if !self.may_have(number) {
            return 0;
        }
        let at = (0..self.near).find(|at| self.words[at % ROOM].number == number);
        at.map_or(0, |at| self.take_near(at).mask)
    }

    /// Whether a word waits for a column.
    pub fn has_waiting(&self, column: usize) -> bool {
        self.columns.iter().take(self.near).any(|&waits| usize::from(waits) == column)
    }

    /// Forgets the far words.
    pub fn forget_far(&mut self) {
        self.far = 0;
        self.tell_classes();
    }

    /// Forgets all words.
    pub fn forget(&mut self) {
        self.near = 0;
        self.forget_far();
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
    fn words_are_found_near_or_far() {
        let mut magazine = Magazine::new();
        for (nth, column) in [(0, FAR), (1, 2), (2, FAR)] {
            assert!(!magazine.put(word(7 + CLASSES * nth, 1 << nth), column));
        }
        assert_eq!(magazine.find(7 + CLASSES), Some(&mut word(7 + CLASSES, 2)));
        assert_eq!(magazine.find(7 + 2 * CLASSES), Some(&mut word(7 + 2 * CLASSES, 4)));
        assert_eq!(magazine.find(8), None);
        assert_eq!(magazine.has(7), 1);
        assert!(magazine.may_have(7 + 9 * CLASSES) && !magazine.may_have(8));
        assert_eq!((magazine.has(7 + 9 * CLASSES), magazine.frames()), (0, 3));
        assert_eq!((magazine.take(7), magazine.take(7 + CLASSES), magazine.take(7 + CLASSES)), (0, 2, 0));
        let far: Vec<u64> = magazine.far_words().unwrap_or_default().iter().map(|word| word.mask).collect();
        assert_eq!(far, [4, 1]);
        magazine.forget_far();
        assert!(magazine.is_empty() && !magazine.may_have(7) && magazine.far_words().is_none());
    }

    #[test]
    fn near_and_far_words_share_the_room() {
        let mut magazine = Magazine::new();
        assert!((1..ROOM as u64).all(|number| !magazine.put(word(number * 64, 1), [0, FAR][number as usize % 2])));
        assert!(magazine.put(word(5, 1), FAR) && magazine.is_far());
        assert_eq!((magazine.frames() as usize, magazine.words().count()), (ROOM, ROOM));
        assert!((1..ROOM as u64).all(|number| magazine.has(number * 64) == 1) && magazine.has(5) == 1);
        magazine.forget();
        assert!(magazine.is_empty() && (0..ROOM as u64).all(|number| !magazine.may_have(number * 64)));
    }

    #[test]
    fn words_wait_for_their_column_and_the_last_comes_first() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, 0), (4, 1), (5, 1), (6, 1), (9, FAR)] {
            assert!(!magazine.put(word(number, number), column));
        }
        assert_eq!((magazine.has(4), magazine.has(7), magazine.frames()), (4, 0, 9));
        assert_eq!(magazine.take_waiting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_last(0), magazine.take_last(1)), (None, Some(word(6, 6))));
        assert_eq!((magazine.has_waiting(0), magazine.has_waiting(2)), (true, false));
        assert_eq!(magazine.words().collect::<Vec<_>>(), [word(3, 3), word(4, 4), word(9, 9)]);
    }

    #[test]
    fn classes_are_told_anew_before_they_are_all_seen() {
        let mut magazine = Magazine::new();
        for number in 0..2 * u64::from(STALE) {
            magazine.put(word(number, 1), 0);
            assert_eq!(magazine.has(number), 1);
            assert_eq!(magazine.take_last(0), Some(word(number, 1)));
        }
        assert!((0..u64::from(STALE)).all(|number| !magazine.may_have(number)));
    }
}
