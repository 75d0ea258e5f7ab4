//! Words of frames of one zone as they came back to a CPU: nothing was looked at but that the zone has them.
//!
//! Why: a free that looks at nothing is so short that the machine works on many of them, and on what their callers do
//! between, at the same time; what is to be looked at is looked at for many words in one loop.

use super::give::Doubled;
use super::open::{NO_WORD, NONE, put_back};
use super::word::{Word, ones};

/// Frames that may be here, about, unless the caller says otherwise.
pub(super) const LIMIT: u32 = 1024;

/// Words: a bit of 64 for each.
pub(super) const ROOM: usize = 64;

/// Those words, the last on top: frames of its word come to it, unless it was closed.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    words: [Word; ROOM],
    len: usize,
    /// The number of the last word, while frames may come to it.
    last: u64,
    /// Words that may be here.
    room: usize,
    /// How often frames may join a word.
    limit: u32,
    /// How often they still may.
    left: u32,
}

impl Inbox {
    pub const fn new() -> Self {
        Self { words: [NO_WORD; ROOM], len: 0, last: NONE, room: ROOM, limit: LIMIT, left: LIMIT }
    }

    /// Sets how many frames may be here, about.
    pub fn set_limit(&mut self, frames: u32) {
        if self.limit != frames {
            self.limit = frames;
            self.allow();
        }
    }

    fn allow(&mut self) {
        self.left = self.limit;
        self.room = (self.limit as usize).min(ROOM);
    }

    /// Whether another word may be put.
    #[inline]
    pub const fn has_room(&self) -> bool {
        self.len < self.room
    }

    /// Whether there are no words.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a number is that of the last word.
    #[inline]
    pub const fn is_last(&self, number: u64) -> bool {
        number == self.last
    }

    /// Adds frames to the last word. If they are many now, there is no room for another.
    ///
    /// # Errors
    /// The lowest of them that is there already; nothing was changed.
    #[inline]
    pub fn join(&mut self, word: Word) -> Result<(), Doubled> {
        let at = self.len.wrapping_sub(1) % ROOM;
        put_back(&mut self.words[at], word)?;
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            self.room = 0;
        }
        Ok(())
    }

    /// Puts a word; there is room.
    #[inline]
    pub fn put(&mut self, word: Word) {
        self.words[self.len % ROOM] = word;
        self.len += 1;
        self.last = word.number;
    }

    /// No frames may come to the last word.
    pub fn close(&mut self) {
        self.last = NONE;
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[Word] {
        &self.words[..self.len.min(ROOM)]
    }

    /// The word of a place.
    #[inline]
    pub const fn word(&self, nth: usize) -> Word {
        self.words[nth % ROOM]
    }

    /// Which frames of a word are here.
    pub fn has(&self, number: u64) -> u64 {
        self.words().iter().fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask })
    }

    /// Forgets the words.
    #[inline]
    pub fn forget(&mut self) {
        self.len = 0;
        self.last = NONE;
        self.allow();
    }

    /// Frames in all words.
    pub fn frames(&self) -> u32 {
        self.words().iter().map(|word| ones(word.mask)).sum()
    }
}

/// The places of the set bits, lowest first.
#[inline]
pub(super) fn places(bits: u64) -> impl Iterator<Item = usize> {
    let mut left = bits;
    core::iter::from_fn(move || {
        let place = left.trailing_zeros() as usize;
        let is_left = left != 0;
        left &= left.wrapping_sub(1);
        is_left.then_some(place)
    })
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
        assert_eq!((inbox.frames() as usize, inbox.words().len()), (2 * ROOM, ROOM));
        assert_eq!((inbox.word(1), inbox.has(5), inbox.has(99)), (word(1, 3), 3, 0));
        inbox.forget();
        assert!(inbox.is_empty() && inbox.has_room() && !inbox.is_last(63));
        inbox.set_limit(0);
        assert!(!inbox.has_room());
    }

    #[test]
    fn frames_come_to_the_last_word() {
        let mut inbox = Inbox::new();
        inbox.set_limit(2);
        [word(4, 1), word(5, 2)].into_iter().for_each(|word| inbox.put(word));
        assert!(inbox.is_last(5) && !inbox.is_last(4));
        assert_eq!((inbox.join(word(5, 1)), inbox.has_room()), (Ok(()), false), "two words are all that may be here");
        assert_eq!([4, 8].map(|mask| inbox.join(word(5, mask))), [Ok(()); 2]);
        assert_eq!(inbox.join(word(5, 6)), Err(Doubled { pfn: kernmem_base::Pfn(5 * 64 + 1) }));
        assert_eq!(inbox.words(), [word(4, 1), word(5, 15)]);
        inbox.close();
        assert!(!inbox.is_last(5));
        inbox.forget();
        assert!(inbox.has_room());
    }

    #[test]
    fn bits_are_told_by_place() {
        assert_eq!(places(1 << 63 | 0b101).collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!(places(0).count(), 0);
    }
}
