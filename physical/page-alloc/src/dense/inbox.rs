//! Words of frames of one zone as they came back to a CPU: nothing was looked at but that the zone has them.
//!
//! Why: a free that looks at nothing is so short that the machine works on many of them, and on what their callers do
//! between, at the same time; what is to be looked at is looked at for many words in one loop.

use kernmem_base::Pfn;

use super::give::Doubled;
use super::open::NONE;
use super::set::doubled;
use super::word::{WORD_FRAMES, Word, ones};

/// Frames that may be here, about, unless the caller says otherwise.
pub(super) const LIMIT: u32 = 1024;

/// Words: a bit of 64 for each.
pub(super) const ROOM: usize = 64;

/// Those words, the last on top: frames of its word come to it, unless it was closed.
///
/// Most words have one frame, so a word is that and what others came to it.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    frames: [u64; ROOM],
    /// Which other frames of its word each has: none but below.
    others: [u64; ROOM],
    /// The place of the first word.
    first: usize,
    /// Past the last one: `ROOM` if there is no room.
    end: usize,
    /// The number of the last word, while frames may come to it.
    last: u64,
    /// How often frames may join a word.
    limit: u32,
    /// How often they still may, and could at the beginning.
    left: u32,
    could: u32,
}

impl Inbox {
    pub const fn new() -> Self {
        let (frames, others) = ([NONE; ROOM], [0; ROOM]);
        Self { frames, others, first: 0, end: 0, last: NONE, limit: LIMIT, left: LIMIT, could: LIMIT }
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

    /// Adds a frame to the last word. If they are many now, it is closed.
    ///
    /// # Errors
    /// It is there already; nothing was changed.
    #[inline]
    pub fn join(&mut self, pfn: Pfn) -> Result<(), Doubled> {
        let (at, bit) = (self.end.wrapping_sub(1) % ROOM, 1 << (pfn.0 % WORD_FRAMES));
        if self.frames[at] == pfn.0 || self.others[at] & bit != 0 {
            return Err(Doubled { pfn });
        }
        self.others[at] |= bit;
        self.joined();
        Ok(())
    }

    /// Adds frames to the last word. If they are many now, it is closed.
    ///
    /// # Errors
    /// The lowest of them that is there already; nothing was changed.
    pub fn join_all(&mut self, word: Word) -> Result<(), Doubled> {
        let at = self.end.wrapping_sub(1) % ROOM;
        doubled(Word::joined(self.frames[at], self.others[at]).mask, word)?;
        self.others[at] |= word.mask;
        self.joined();
        Ok(())
    }

    #[inline]
    const fn joined(&mut self) {
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            self.close();
        }
    }

    /// Puts a frame of a word; there is room.
    #[inline]
    pub fn put(&mut self, pfn: Pfn) {
        debug_assert!(self.has_room(), "the caller saw to it");
        self.frames[self.end % ROOM] = pfn.0;
        self.end += 1;
        self.last = pfn.0 / WORD_FRAMES;
    }

    /// No frames may come to the last word.
    pub const fn close(&mut self) {
        self.last = NONE;
    }

    /// Brings the words with numbers below `bound` to the front; how many they are. Which they are is as good as random, so
    /// it is no branch.
    #[inline]
    pub fn part(&mut self, bound: u64) -> usize {
        let (bound, is_joined) = (bound.saturating_mul(WORD_FRAMES), self.is_joined());
        let mut at = self.first;
        for nth in self.first..self.end.min(ROOM) {
            let is_near = self.frames[nth] < bound;
            self.frames.swap(nth, at % ROOM);
            if is_joined {
                self.others.swap(nth, at % ROOM);
            }
            at += usize::from(is_near);
        }
        at - self.first
    }

    /// The words from the one of a place on: a frame of each, and the others.
    #[inline]
    pub fn parts(&self, from: usize) -> (&[u64], &[u64]) {
        let places = (self.first + from).min(ROOM)..self.end.min(ROOM);
        let others = self.others.get(places.clone()).unwrap_or_default();
        (self.frames.get(places).unwrap_or_default(), others)
    }

    /// The words from the one of a place on.
    #[inline]
    pub fn words(&self, from: usize) -> impl Iterator<Item = Word> {
        let (frames, others) = self.parts(from);
        frames.iter().zip(others).map(|(&frame, &others)| Word::joined(frame, others))
    }

    /// Whether some word has more than a frame.
    #[inline]
    pub const fn is_joined(&self) -> bool {
        self.left != self.could
    }

    /// The word of a place.
    #[inline]
    pub const fn word(&self, nth: usize) -> Word {
        let at = (self.first + nth) % ROOM;
        Word::joined(self.frames[at], self.others[at])
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
        if self.is_joined() {
            self.others = [0; ROOM];
        }
        (self.left, self.could) = (self.limit, self.limit);
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
            inbox.put(Pfn(64 * number + 1));
        });
        assert!(!inbox.has_room());
        assert_eq!((inbox.frames() as usize, inbox.words(60).count()), (ROOM, 4));
        assert_eq!((inbox.word(1), inbox.has(5), inbox.has(99)), (word(1, 2), 2, 0));
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
        [Pfn(256), Pfn(321)].into_iter().for_each(|pfn| inbox.put(pfn));
        assert!(inbox.is_last(5) && !inbox.is_last(4) && !inbox.is_joined());
        assert_eq!((inbox.join(Pfn(320)), inbox.has_room()), (Ok(()), false), "two words are all that may be here");
        assert_eq!([320, 321].map(|pfn| inbox.join(Pfn(pfn))), [320, 321].map(|pfn| Err(Doubled { pfn: Pfn(pfn) })));
        assert_eq!(inbox.join_all(word(5, 6)), Err(Doubled { pfn: Pfn(5 * 64 + 1) }));
        assert_eq!((inbox.join_all(word(5, 4)), inbox.is_last(5)), (Ok(()), false), "two have come to it");
        assert_eq!(inbox.words(0).collect::<Vec<_>>(), [word(4, 1), word(5, 7)]);
        assert!(inbox.is_joined());
        inbox.forget();
        [Pfn(384), Pfn(386)].into_iter().for_each(|pfn| inbox.put(pfn));
        inbox.close();
        assert_eq!((inbox.word(1), inbox.is_last(6)), (word(6, 4), false), "what joined before is gone");
    }

    #[test]
    fn low_words_are_brought_to_the_front() {
        let mut inbox = Inbox::new();
        inbox.set_limit(5);
        let mut put = |number: u64| {
            inbox.put(Pfn(65 * number));
            inbox.join(Pfn(64 * number + 63)).unwrap();
        };
        [7, 1, 9, 2, 3].into_iter().for_each(&mut put);
        assert_eq!(inbox.part(7), 3);
        assert_eq!([0, 1, 2].map(|nth| inbox.word(nth)), [1, 2, 3].map(|number| word(number, 1 << 63 | 1 << number)));
        let mut others: Vec<_> = inbox.words(3).collect();
        others.sort_by_key(|word| word.number);
        assert_eq!(others, [7, 9].map(|number| word(number, 1 << 63 | 1 << number)));
        assert_eq!((inbox.has(2), inbox.part(0), inbox.part(10)), (1 << 63 | 4, 0, 5));
    }
}
