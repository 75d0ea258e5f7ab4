//! Frames that came back to one CPU and are not in the field yet: a table of 64 words, each at the place of its number.
//!
//! A word that comes to a place where another one is puts that one out, to the field. So frames that come back in a row
//! gather in their words, a frame that comes back twice meets itself, and a random free costs the field one word.
//!
//! # Invariants
//! 1. A place's mask is not 0 exactly while its bit in `used` is set.
//! 2. A bit of `near` is set only for places in use: words that the next requests of that column are served from.
//! 3. `frames` is the number of bits in all masks.

use super::word::Word;

/// Places.
const PLACES: usize = 64;

/// Kinds of requests that are served apart: unmovable, movable, reclaimable.
pub(super) const COLUMNS: usize = 3;

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Magazine {
    masks: [u64; PLACES],
    numbers: [u64; PLACES],
    used: u64,
    near: [u64; COLUMNS],
    frames: u32,
}

/// What became of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    /// It has its place.
    Kept,
    /// It has the place of a word that the field must get now, with whether that one was near.
    Out(Word, bool),
    /// These of its frames are here already; nothing was changed.
    Doubled(u64),
}

impl Magazine {
    pub const fn new() -> Self {
        Self { masks: [0; PLACES], numbers: [0; PLACES], used: 0, near: [0; COLUMNS], frames: 0 }
    }

    /// Frames in all words.
    pub const fn frames(&self) -> u32 {
        self.frames
    }

    /// Takes a word in; `near` is the column whose next requests may have it.
    #[inline]
    pub fn put(&mut self, word: Word, near: Option<usize>) -> Put {
        let place = word.number as usize % PLACES;
        let bit = 1_u64 << place;
        let old = self.masks[place];
        if old != 0 && self.numbers[place] == word.number {
            if old & word.mask != 0 {
                return Put::Doubled(old & word.mask);
            }
            self.masks[place] = old | word.mask;
            self.frames += word.frames();
            return Put::Kept;
        }
        let was_near = self.near.iter().any(|near| near & bit != 0);
        let out = Word { number: self.numbers[place], mask: old };
        self.forget(place);
        self.masks[place] = word.mask;
        self.numbers[place] = word.number;
        self.used |= bit;
        self.frames += word.frames();
        if let Some(near) = near.and_then(|column| self.near.get_mut(column)) {
            *near |= bit;
        }
        if old == 0 { Put::Kept } else { Put::Out(out, was_near) }
    }

    fn forget(&mut self, place: usize) -> Word {
        let keep = !(1_u64 << place);
        let word = Word { number: self.numbers[place], mask: self.masks[place] };
        self.frames -= word.frames();
        self.masks[place] = 0;
        self.used &= keep;
        for near in &mut self.near {
            *near &= keep;
        }
        word
    }

    /// Whether a word is near for a column.
    pub fn has_near(&self, column: usize) -> bool {
        self.near.get(column).is_some_and(|near| *near != 0)
    }

    /// Takes out a word that is near for a column.
    #[inline]
    pub fn take_near(&mut self, column: usize) -> Option<Word> {
        let near = *self.near.get(column)?;
        (near != 0).then(|| self.forget(near.trailing_zeros() as usize))
    }

    /// Takes out a word that is near for a column and that `fits`.
    pub fn take_fitting(&mut self, column: usize, fits: impl Fn(u64) -> bool) -> Option<Word> {
        let near = *self.near.get(column)?;
        let place = (0..PLACES).find(|&place| near >> place & 1 != 0 && fits(self.masks[place]))?;
        Some(self.forget(place))
    }

    /// Takes out any word.
    pub fn take_any(&mut self) -> Option<Word> {
        (self.used != 0).then(|| self.forget(self.used.trailing_zeros() as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(number: u64, mask: u64) -> Word {
        Word { number, mask }
    }

    #[test]
    fn frames_of_one_word_gather_and_a_second_free_is_told() {
        let mut magazine = Magazine::new();
        assert_eq!(magazine.put(word(7, 1), None), Put::Kept);
        assert_eq!(magazine.put(word(8, 1), None), Put::Kept);
        assert_eq!(magazine.put(word(7, 6), None), Put::Kept);
        assert_eq!(magazine.put(word(7, 12), None), Put::Doubled(4));
        assert_eq!(magazine.frames(), 4);
        assert_eq!(magazine.take_any(), Some(word(7, 7)));
    }

    #[test]
    fn a_word_puts_out_the_one_in_its_place() {
        let mut magazine = Magazine::new();
        assert_eq!(magazine.put(word(7, 1), Some(1)), Put::Kept);
        assert_eq!(magazine.put(word(71, 3), None), Put::Out(word(7, 1), true));
        assert_eq!(magazine.take_near(1), None);
        assert_eq!((magazine.take_any(), magazine.take_any(), magazine.frames()), (Some(word(71, 3)), None, 0));
    }

    #[test]
    fn near_words_are_taken_by_their_column() {
        let mut magazine = Magazine::new();
        for (number, column) in [(3, Some(0)), (4, Some(1)), (5, Some(1)), (6, None)] {
            assert_eq!(magazine.put(word(number, number), column), Put::Kept);
        }
        assert_eq!(magazine.take_fitting(1, |mask| mask == 5), Some(word(5, 5)));
        assert_eq!((magazine.take_near(1), magazine.take_near(1)), (Some(word(4, 4)), None));
        assert_eq!((magazine.take_near(0), magazine.take_near(2)), (Some(word(3, 3)), None));
    }
}
