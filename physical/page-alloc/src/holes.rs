//! Frames of a dense zone that are nobody's although others of their block were handed over: a bit each, opened where there
//! are some.
//!
//! Dense placement knows a frame as free or not free. Boot's own frames, and the edges of memory, are not free and were never
//! given: these bits tell them from frames that somebody has. Blocks that are handed over whole need none.
//!
//! # Invariants
//! 1. The bit of a free frame, or of one that somebody was given, is clear.
//! 2. Bits change under the zone's set-up lock alone.

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicBool, Ordering};

use crate::store::{CHUNK_SHIFT, States};

/// Bytes of a chunk.
pub(crate) const BYTES: usize = 1 << CHUNK_SHIFT >> 3;

/// The bits of one zone.
#[derive(Debug)]
pub(crate) struct Holes<T> {
    bits: T,
    /// The first frame of the zone's first chunk.
    base: u64,
    /// Whether there ever was a hole.
    any: AtomicBool,
}

impl<T: States> Holes<T> {
    /// No holes in a zone that begins at `start`.
    pub fn new(bits: T, start: Pfn) -> Self {
        Self { bits, base: start.0 >> CHUNK_SHIFT << CHUNK_SHIFT, any: AtomicBool::new(false) }
    }

    /// Whether a frame of the zone is a hole.
    #[inline]
    pub fn has(&self, pfn: Pfn) -> bool {
        // Relaxed, as the bits: who is given a frame, or tells of a hole, learned of it after the bit was written.
        self.any.load(Ordering::Relaxed) && self.bit(pfn)
    }

    /// The first hole of `[start, end)`.
    pub fn first(&self, start: Pfn, end: Pfn) -> Option<Pfn> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut at = start;
        while at < end {
            let index = at.0 - self.base;
            let next = Pfn(self.base + index / 8 * 8 + 8);
            let byte = self.bits.byte(index / 8).map_or(0, |byte| byte.load(Ordering::Relaxed)) >> (index % 8);
            if byte != 0 {
                let found = Pfn(at.0 + u64::from(byte.trailing_zeros()));
                return (found < end).then_some(found);
            }
            at = next;
        }
        None
    }

    /// The holes among the 64 frames that begin at `64 * number`.
    #[inline]
    pub fn word(&self, number: u64) -> u64 {
        if self.any.load(Ordering::Relaxed) { self.bytes(number) } else { 0 }
    }

    fn bytes(&self, number: u64) -> u64 {
        let Some(first) = (64 * number).checked_sub(self.base) else { return 0 };
        let byte = |at: u64| self.bits.byte(first / 8 + at).map_or(0, |byte| byte.load(Ordering::Relaxed));
        (0..8).fold(0, |word, at| word | u64::from(byte(at)) << (8 * at))
    }

    fn bit(&self, pfn: Pfn) -> bool {
        let at = pfn.0 - self.base;
        self.bits.byte(at / 8).is_some_and(|byte| byte.load(Ordering::Relaxed) >> (at % 8) & 1 != 0)
    }

    /// Opens the bits of `[start, end)`; false if there is no memory for them.
    pub fn open(&self, start: Pfn, end: Pfn) -> bool {
        if start >= end {
            return true;
        }
        let mut chunks = (start.0 - self.base) >> CHUNK_SHIFT..=(end.0 - 1 - self.base) >> CHUNK_SHIFT;
        chunks.all(|chunk| self.bits.open(chunk, BYTES))
    }

    /// Makes holes of `[start, end)`; false, and nothing is changed, if there is no memory for the bits.
    pub fn make(&self, start: Pfn, end: Pfn) -> bool {
        if !self.open(start, end) {
            return false;
        }
        if start >= end {
            return true;
        }
        self.any.store(true, Ordering::Relaxed);
        self.each(start, end, |byte, mask| byte | mask);
        true
    }

    /// `[start, end)` are no holes any more.
    pub fn fill(&self, start: Pfn, end: Pfn) {
        if self.any.load(Ordering::Relaxed) {
            self.each(start, end, |byte, mask| byte & !mask);
        }
    }

    /// Changes the bytes of `[start, end)`, each by the mask of its frames.
    fn each(&self, start: Pfn, end: Pfn, change: impl Fn(u8, u8) -> u8) {
        let mut at = start.0 - self.base;
        let end = end.0 - self.base;
        while at < end {
            let next = (at / 8 * 8 + 8).min(end);
            let mask = (0xff_u16 << (at % 8)) as u8 & (0xff_u16 >> (at / 8 * 8 + 8 - next)) as u8;
            if let Some(byte) = self.bits.byte(at / 8) {
                byte.store(change(byte.load(Ordering::Relaxed), mask), Ordering::Relaxed);
            }
            at = next;
        }
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::HeapStore;
    use crate::store::{Store, ZoneNeeds};

    #[test]
    fn holes_are_the_frames_that_were_named() {
        let needs = ZoneNeeds { chunks: 2, state_bytes: BYTES, words: 0 };
        let holes = Holes::new(HeapStore.states(needs).unwrap(), Pfn(0x8003));
        let is_hole = |pfn: u64| holes.has(Pfn(pfn));
        assert!(!is_hole(0x8003));
        assert!(holes.make(Pfn(0xfffd), Pfn(0x1_0013)) && holes.make(Pfn(0x8005), Pfn(0x8007)));
        holes.fill(Pfn(0x1_0001), Pfn(0x1_000a));
        let all: Vec<u64> = (0x8003..0x1_8000).filter(|&pfn| is_hole(pfn)).collect();
        let expected = [0x8005..0x8007, 0xfffd..0x1_0001, 0x1_000a..0x1_0013];
        assert_eq!(all, expected.into_iter().flatten().collect::<Vec<u64>>());
        let first = |start, end| holes.first(Pfn(start), Pfn(end)).map(|pfn| pfn.0);
        assert_eq!(
            [first(0x8003, 0x8005), first(0x8003, 0x8006), first(0x1_0002, 0x1_000b)],
            [None, Some(0x8005), Some(0x1_000a)]
        );
        assert_eq!((holes.word(0x8000 / 64), holes.word(0x1_0000 / 64)), (0x60, 1 | 0x1ff << 10));
        assert!(!holes.make(Pfn(0x1_7fff), Pfn(0x1_8001)), "no chunk behind the last");
    }
}
