//! Blocks of the largest order that were handed over and not looked at yet: spans in place of records.
//!
//! They are the tail of the movable list of the largest order, in order: boot appends to that tail alone, and a block is
//! opened when the list before it is empty.
//!
//! # Invariants
//! 1. Every span begins and ends at a multiple of the largest block; spans do not overlap.
//! 2. No frame of a span has a record.

use kernmem_base::Pfn;

/// Spans that are kept; one more is opened at once.
const SPANS: usize = 64;

/// Blocks `[start, end)`, in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Span {
    start: u64,
    end: u64,
}

/// The spans of one zone, first one first.
#[derive(Debug)]
pub(crate) struct Deferred {
    spans: [Span; SPANS],
    len: usize,
    /// log2 of the frames of a block.
    order: u8,
}

impl Deferred {
    pub const fn new(order: u8) -> Self {
        Self { spans: [Span { start: 0, end: 0 }; SPANS], len: 0, order }
    }

    fn used(&self) -> &[Span] {
        &self.spans[..self.len]
    }

    /// Blocks that wait.
    pub fn blocks(&self) -> u64 {
        self.used().iter().map(|span| (span.end - span.start) >> self.order).sum()
    }

    /// Appends `[start, end)`; false if there is no room.
    pub fn push(&mut self, start: Pfn, end: Pfn) -> bool {
        if let Some(last) = self.spans[..self.len].last_mut().filter(|last| last.end == start.0) {
            last.end = end.0;
            return true;
        }
        if self.len == SPANS {
            return false;
        }
        self.spans[self.len] = Span { start: start.0, end: end.0 };
        self.len += 1;
        true
    }

    /// The first block in list order.
    pub fn first(&self) -> Option<Pfn> {
        self.used().first().map(|span| Pfn(span.start))
    }

    /// Whether a frame lies in a block that waits.
    pub fn contains(&self, pfn: Pfn) -> bool {
        self.used().iter().any(|span| span.start <= pfn.0 && pfn.0 < span.end)
    }

    /// The first frame of `[start, end)` that lies in a block that waits.
    pub fn meets(&self, start: Pfn, end: Pfn) -> Option<Pfn> {
        let common = self.used().iter().map(|span| (span.start.max(start.0), span.end.min(end.0)));
        common.filter(|(from, to)| from < to).map(|(from, _)| Pfn(from)).min()
    }

    /// Takes the block of a frame out; false if it does not wait, or if its span would become two and there is no room.
    pub fn take(&mut self, pfn: Pfn) -> bool {
        let Some(at) = self.used().iter().position(|span| span.start <= pfn.0 && pfn.0 < span.end) else {
            return false;
        };
        let span = self.spans[at];
        let start = pfn.0 >> self.order << self.order;
        let end = start + (1 << self.order);
        match (span.start == start, span.end == end) {
            (true, true) => {
                self.spans.copy_within(at + 1..self.len, at);
                self.len -= 1;
            }
            (true, false) => self.spans[at].start = end,
            (false, true) => self.spans[at].end = start,
            (false, false) if self.len == SPANS => return false,
            (false, false) => {
                self.spans.copy_within(at..self.len, at + 1);
                self.len += 1;
                self.spans[at].end = start;
                self.spans[at + 1].start = end;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_taken_from_the_middle_leaves_two_spans_in_order() {
        let mut waiting = Deferred::new(2);
        assert!(waiting.push(Pfn(0), Pfn(16)) && waiting.push(Pfn(16), Pfn(20)) && waiting.push(Pfn(40), Pfn(44)));
        assert_eq!((waiting.blocks(), waiting.len), (6, 2));
        assert!(waiting.take(Pfn(9)) && !waiting.take(Pfn(9)));
        assert_eq!((waiting.blocks(), waiting.first(), waiting.len), (5, Some(Pfn(0)), 3));
        assert!(waiting.take(Pfn(0)) && waiting.take(Pfn(4)));
        assert_eq!(waiting.first(), Some(Pfn(12)));
        assert_eq!(waiting.meets(Pfn(0), Pfn(14)), Some(Pfn(12)));
    }
}
