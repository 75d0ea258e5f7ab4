//! Words of frames of one zone as they came back to a CPU: nothing was looked at but that the zone has them.
//!
//! Why: a free that looks at nothing is so short that the machine works on many of them, and on what their callers do
//! between, at the same time; what is to be looked at is looked at for many words in one loop.

use super::give::Doubled;
use super::open::NONE;
use super::set::doubled;
use super::word::{Word, ones};

/// Frames that may be here, about, unless the caller says otherwise.
pub(super) const LIMIT: u32 = 1024;

/// Words: a bit of 64 for each.
pub(super) const ROOM: usize = 64;

/// Those words, the last on top: frames of its word come to it, unless it was closed.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    numbers: [u64; ROOM],
    masks: [u64; ROOM],
    /// The place of the first word.
    first: usize,
    /// Past the last one: `ROOM` if there is no room.
    end: usize,
    /// The number of the last word, while frames may come to it.
    last: u64,
    /// How often frames may join a word.
    limit: u32,
    /// How often they still may.
    left: u32,
}

impl Inbox {
    pub const fn new() -> Self {
        let (numbers, masks) = ([NONE; ROOM], [0; ROOM]);
        Self { numbers, masks, first: 0, end: 0, last: NONE, limit: LIMIT, left: LIMIT }
    }

    /// Sets how many frames may be here, about; if there are words, once they were looked at.
    pub fn set_limit(&mut self, frames: u32) {
        self.limit = frames;
        if self.is_empty() {
            self.forget();
        }
    }

    /// Whether another word may be put.
    #[inline]
    pub const fn has_room(&self) -> bool {
        self.end < ROOM
    }

    /// Whether there are no words.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.end == self.first
    }

    /// Whether a number is that of the last word.
    #[inline]
    pub const fn is_last(&self, number: u64) -> bool {
        number == self.last
    }

    /// Adds frames to the last word. If they are many now, it is closed.
    ///
    /// # Errors
    /// The lowest of them that is there already; nothing was changed.
    #[inline]
    pub fn join(&mut self, word: Word) -> Result<(), Doubled> {
        let mask = &mut self.masks[self.end.wrapping_sub(1) % ROOM];
        doubled(*mask, word)?;
        *mask |= word.mask;
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            self.close();
        }
        Ok(())
    }

    /// Puts a word; there is room.
    #[inline]
    pub fn put(&mut self, word: Word) {
        self.numbers[self.end % ROOM] = word.number;
        self.masks[self.end % ROOM] = word.mask;
        self.end += 1;
        self.last = word.number;
    }

    /// No frames may come to the last word.
    pub const fn close(&mut self) {
        self.last = NONE;
    }

    /// Brings the words with numbers below `bound` to the front; how many they are. Which they are is as good as random, so
    /// it is no branch.
    #[inline]
    pub fn part(&mut self, bound: u64) -> usize {
        let (numbers, masks) = (&mut self.numbers, &mut self.masks);
        let mut at = self.first;
        for nth in self.first..self.end.min(ROOM) {
            let (number, mask) = (numbers[nth], masks[nth]);
            (numbers[nth], masks[nth]) = (numbers[at % ROOM], masks[at % ROOM]);
            (numbers[at % ROOM], masks[at % ROOM]) = (number, mask);
            at += usize::from(number < bound);
        }
        at - self.first
    }

    /// The words from the one of a place on: numbers and masks.
    #[inline]
    pub fn parts(&self, from: usize) -> (&[u64], &[u64]) {
        let places = (self.first + from).min(ROOM)..self.end.min(ROOM);
        let masks = self.masks.get(places.clone()).unwrap_or_default();
        (self.numbers.get(places).unwrap_or_default(), masks)
    }

    /// The words from the one of a place on.
    #[inline]
    pub fn words(&self, from: usize) -> impl Iterator<Item = Word> {
        let (numbers, masks) = self.parts(from);
        numbers.iter().zip(masks).map(|(&number, &mask)| Word { number, mask })
    }

    /// The word of a place.
    #[inline]
    pub const fn word(&self, nth: usize) -> Word {
        let at = (self.first + nth) % ROOM;
        Word { number: self.numbers[at], mask: self.masks[at] }
    }

    /// Which frames of a word are here.
    pub fn has(&self, number: u64) -> u64 {
        self.words(0).fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// Forgets the words.
    #[inline]
    pub fn forget(&mut self) {
        self.first = ROOM - (self.limit as usize).min(ROOM);
        self.end = self.first;
        self.last = NONE;
        self.left = self.limit;
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        self.words(0).map(|word| ones(word.mask)).sum()
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
    fn words_are_put_while_there_is_room() {
        let mut inbox = Inbox::new();
        (0..ROOM as u64).for_each(|number| {
            assert!(inbox.has_room());
            inbox.put(word(number, 3));
        });
        assert!(!inbox.has_room());
        assert_eq!((inbox.frames() as usize, inbox.words(60).count()), (2 * ROOM, 4));
        assert_eq!((inbox.word(1), inbox.has(5), inbox.has(99)), (word(1, 3), 3, 0));
        inbox.set_limit(2);
        assert_eq!((inbox.words(0).count(), inbox.has_room()), (ROOM, false), "nothing is lost");
        inbox.forget();
        assert!(inbox.is_empty() && inbox.has_room() && !inbox.is_last(63));
        inbox.set_limit(0);
        assert!(inbox.is_empty() && !inbox.has_room());
    }

    #[test]
    fn frames_come_to_the_last_word() {
        let mut inbox = Inbox::new();
        inbox.set_limit(2);
        [word(4, 1), word(5, 2)].into_iter().for_each(|word| inbox.put(word));
        assert!(inbox.is_last(5) && !inbox.is_last(4));
        assert_eq!((inbox.join(word(5, 1)), inbox.has_room()), (Ok(()), false), "two words are all that may be here");
        assert_eq!(inbox.join(word(5, 6)), Err(Doubled { pfn: kernmem_base::Pfn(5 * 64 + 1) }));
        assert_eq!((inbox.join(word(5, 4)), inbox.is_last(5)), (Ok(()), false), "two have come to it");
        assert_eq!(inbox.words(0).collect::<Vec<_>>(), [word(4, 1), word(5, 7)]);
        inbox.forget();
        inbox.put(word(6, 1));
        inbox.close();
        assert!(!inbox.is_last(6));
    }

    #[test]
    fn low_words_are_brought_to_the_front() {
        let mut inbox = Inbox::new();
        inbox.set_limit(5);
        [7, 1, 9, 2, 3].into_iter().for_each(|number| inbox.put(word(number, 1 << number)));
        assert_eq!(inbox.part(7), 3);
        assert_eq!([0, 1, 2].map(|nth| inbox.word(nth).number), [1, 2, 3]);
        let mut others: Vec<_> = inbox.words(3).collect();
        others.sort_by_key(|word| word.number);
        assert_eq!(others, [word(7, 1 << 7), word(9, 1 << 9)]);
        assert_eq!((inbox.has(2), inbox.part(0), inbox.part(10)), (4, 0, 5));
    }
}
