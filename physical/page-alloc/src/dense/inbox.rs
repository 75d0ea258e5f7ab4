//! Words of frames of one zone as they came back to a CPU: nothing was looked at but that the zone has them.
//!
//! Why: a free that looks at nothing is so short that the machine works on many of them, and on what their callers do
//! between, at the same time; what is to be looked at is looked at for many words in one loop.

use super::open::NO_WORD;
use super::word::{Word, ones};

/// Words, one of which is kept free for a last one; a bit of 64 for each.
const ROOM: usize = 64;

/// Those words, the last on top.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    words: [Word; ROOM],
    len: usize,
    /// Words that may be put before they are looked at.
    room: usize,
}

impl Inbox {
    pub const fn new() -> Self {
        Self { words: [NO_WORD; ROOM], len: 0, room: ROOM - 1 }
    }

    /// Whether a word may be put that is not the last one.
    #[inline]
    pub const fn has_room(&self) -> bool {
        self.len < self.room
    }

    /// Sets how many frames may be here.
    pub fn set_limit(&mut self, frames: u32) {
        self.room = (frames as usize).min(ROOM - 1);
    }

    /// Whether anything may be here.
    #[inline]
    pub const fn may_keep(&self) -> bool {
        self.room != 0
    }

    /// Whether there are no words.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a word.
    #[inline]
    pub fn put(&mut self, word: Word) {
        self.words[self.len % ROOM] = word;
        self.len += 1;
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

    #[test]
    fn there_is_room_for_one_more() {
        let mut inbox = Inbox::new();
        (1..ROOM as u64).for_each(|number| inbox.put(Word { number, mask: 3 }));
        assert!(!inbox.has_room());
        inbox.put(Word { number: 0, mask: 1 });
        assert_eq!((inbox.frames() as usize, inbox.words().len()), (2 * ROOM - 1, ROOM));
        assert_eq!((inbox.word(1), inbox.has(5), inbox.has(99)), (Word { number: 2, mask: 3 }, 3, 0));
        inbox.forget();
        assert!(inbox.is_empty() && inbox.has_room());
        inbox.set_limit(0);
        assert!(!inbox.has_room() && !inbox.may_keep());
    }

    #[test]
    fn bits_are_told_by_place() {
        assert_eq!(places(1 << 63 | 0b101).collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!(places(0).count(), 0);
    }
}
