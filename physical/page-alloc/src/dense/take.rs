//! Taking frames from the field: who clears a bit has the frame.

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, Ordering};
use kernmem_sparse::MigrateType;

use super::entry::Class;
use super::field::{Field, Kinds};
use super::give::words_of;
use super::index::Bitmap;
use super::mem::LINE_WORDS;
use super::mem::Mem;
use super::word::{Word, block_mask, ones, runs};

/// What is wanted of each word of a block.
type Plan = [u64; LINE_WORDS];

impl<M: Mem> Field<M> {
    /// Takes whole words of the lowest blocks of a type, partly used blocks first, until `want` frames are there or none
    /// is left; how many were taken, up to 63 more than wanted.
    pub fn take_words(&self, kinds: &impl Kinds, kind: MigrateType, want: u32, put: &mut impl FnMut(Word)) -> u32 {
        let (mut taken, mut whole_from) = (0, 0);
        while taken < want {
            let Some(block) = self.lowest(kinds, kind, whole_from) else { break };
            match self.take_from(kinds, block, want - taken, put) {
                Some(frames) => taken += frames,
                None => whole_from = block + 1,
            }
        }
        if taken != 0 {
            self.lower_level(taken);
        }
        taken
    }

    /// Takes the word of a block of a type where an aligned run of `2^order` frames lies, with all that is free in it;
    /// `order` is at most 5.
    pub fn take_word_with(&self, kinds: &impl Kinds, kind: MigrateType, order: u8) -> Option<Word> {
        let word = self.seek_run(kinds, kind, order, &mut |block, place| {
            if !self.write_out(kinds, block) {
                return None;
            }
            let was = self.class(block);
            let word = Word { number: self.cut.number(place), mask: self.claim(place, !0) };
            self.settle(kinds, block, was);
            if runs(word.mask, order) == 0 {
                // Somebody took a part of it first.
                self.give_back(kinds, word);
                return None;
            }
            Some(word)
        })?;
        self.lower_level(word.frames());
        Some(word)
    }

    fn give_back(&self, kinds: &impl Kinds, word: Word) {
        if word.mask != 0 {
            let given = self.give_word(kinds, word);
            debug_assert!(given.is_ok(), "the frames were just taken");
            self.lower_level(word.frames());
        }
    }

    /// Takes an aligned block of `2^order` frames from blocks of a type; `None` if there is none.
    pub fn take_run(&self, kinds: &impl Kinds, kind: MigrateType, order: u8) -> Option<Pfn> {
        if order > self.shape.max_order {
            return None;
        }
        let taken = if order >= self.shape.block_order() {
            let blocks = 1 << (order - self.shape.block_order());
            self.seek_group(kinds, kind, order, &mut |first| self.take_group(kinds, first, blocks))
        } else if order == 0 {
            self.take_one(kinds, kind)
        } else {
            self.seek_run(kinds, kind, order, &mut |block, place| self.take_run_of(kinds, block, place, order))
        }?;
        self.lower_level(1 << order);
        Some(taken)
    }

    /// Takes the lowest whole block of a type if no block is partly used.
    pub fn take_next_block(&self, kinds: &impl Kinds, kind: MigrateType) -> Option<Pfn> {
        if self.first_in(kinds, kind, Bitmap::Part, 0).is_some() {
            return None;
        }
        self.take_run(kinds, kind, self.shape.block_order())
    }

    fn take_one(&self, kinds: &impl Kinds, kind: MigrateType) -> Option<Pfn> {
        let mut whole_from = 0;
        loop {
            let block = self.lowest(kinds, kind, whole_from)?;
            if !self.write_out(kinds, block) {
                whole_from = block + 1;
                continue;
            }
            let Some(place) = self.run_in(block, 0) else { continue };
            if let Some(pfn) = self.take_run_of(kinds, block, place, 0) {
                return Some(pfn);
            }
        }
    }

    /// Takes the lowest run that begins in the word at a place; `None` if it is there no longer.
    fn take_run_of(&self, kinds: &impl Kinds, block: usize, place: usize, order: u8) -> Option<Pfn> {
        if !self.write_out(kinds, block) {
            return None;
        }
        let found = runs(self.look(place), order.min(6));
        if found == 0 {
            return None;
        }
        let mut plan: Plan = [0; LINE_WORDS];
        let words = 1 << order.saturating_sub(6);
        for mask in plan.iter_mut().skip(place - self.cut.first_place(block)).take(words) {
            *mask = block_mask(order.min(6)) << found.trailing_zeros();
        }
        self.take_exactly(kinds, block, &plan)?;
        Some(Word { number: self.cut.number(place), mask: found }.first())
    }

    /// Takes all of a plan or nothing.
    fn take_exactly(&self, kinds: &impl Kinds, block: usize, plan: &Plan) -> Option<()> {
        let was = self.class(block);
        for (nth, (place, &mask)) in self.cut.places(block).zip(plan).enumerate() {
            let got = if mask == 0 { 0 } else { self.claim(place, mask) };
            if got != mask {
                self.give_back(kinds, Word { number: self.cut.number(place), mask: got });
                self.undo_plan(kinds, block, &plan[..nth]);
                self.settle(kinds, block, was);
                return None;
            }
        }
        self.settle(kinds, block, was);
        Some(())
    }

    /// Gives back what was taken of the first words of a block.
    fn undo_plan(&self, kinds: &impl Kinds, block: usize, taken: &[u64]) {
        let taken = self.cut.places(block).zip(taken);
        taken.for_each(|(place, &mask)| self.give_back(kinds, Word { number: self.cut.number(place), mask }));
    }

    /// Takes words of a block until `want` frames are there; how many were. `None` if there is no memory for its bits.
    #[inline]
    fn take_from(&self, kinds: &impl Kinds, block: usize, want: u32, put: &mut impl FnMut(Word)) -> Option<u32> {
        if !self.write_out(kinds, block) {
            return None;
        }
        let was = self.class(block);
        let mut taken = 0;
        for (bits, place) in self.line_of(block).iter().zip(self.cut.places(block)) {
            // Relaxed: a guess. AcqRel: as `claim`.
            let mask = if bits.load(Ordering::Relaxed) == 0 { 0 } else { bits.fetch_and(0, Ordering::AcqRel) };
            if mask != 0 {
                taken += ones(mask);
                put(Word { number: self.cut.number(place), mask });
                if taken >= want {
                    break;
                }
            }
        }
        self.settle(kinds, block, was);
        Some(taken)
    }

    /// Clears bits; answers those that were set: these frames are the caller's now.
    #[inline]
    fn claim(&self, place: usize, mask: u64) -> u64 {
        // AcqRel: Acquire pairs with the giver's `fetch_or`: what it did with the frames is seen.
        self.bits(place).map_or(0, |bits| bits.fetch_and(!mask, Ordering::AcqRel) & mask)
    }

    /// Writes the bits of a lazy block; false if there is no memory for them.
    #[inline]
    pub(super) fn write_out(&self, kinds: &impl Kinds, block: usize) -> bool {
        !self.is_lazy(block) || self.write_lazy(kinds, block)
    }

    #[cold]
    fn write_lazy(&self, kinds: &impl Kinds, block: usize) -> bool {
        if !self.open_line(block) {
            return false;
        }
        if self.unlazy(block) {
            for bits in self.cut.places(block).filter_map(|place| self.bits(place)) {
                // AcqRel: as of a giver.
                bits.fetch_or(!0, Ordering::AcqRel);
            }
            self.mark(kinds, block, Bitmap::Whole);
        }
        true
    }

    /// Takes `blocks` whole blocks; `None`, and nothing is changed, if one of them is whole no longer or there is no memory
    /// for its bits.
    fn take_group(&self, kinds: &impl Kinds, first: usize, blocks: usize) -> Option<Pfn> {
        for block in first..first + blocks {
            if !self.take_whole(kinds, block) {
                (first..block).for_each(|taken| self.credit_whole(kinds, taken));
                return None;
            }
        }
        for block in first..first + blocks {
            self.unmark(kinds, self.kind_of(kinds, block), block, Bitmap::Whole);
        }
        Some(self.cut.block_start(first))
    }

    /// Takes a whole block; false, and nothing is changed, if it is whole no longer or there is no memory for its bits.
    fn take_whole(&self, kinds: &impl Kinds, block: usize) -> bool {
        if self.class(block) != Class::Whole || !self.open_line(block) {
            return false;
        }
        if self.is_lazy(block) {
            return self.unlazy(block);
        }
        for (nth, place) in self.cut.places(block).enumerate() {
            // AcqRel: as `claim`. A failure publishes nothing.
            let is_taken = |bits: &AtomicU64| bits.compare_exchange(!0, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if !self.bits(place).is_some_and(is_taken) {
                self.undo_plan(kinds, block, &[!0; LINE_WORDS][..nth]);
                return false;
            }
        }
        true
    }

    /// Gives a whole block back that was just taken.
    fn credit_whole(&self, kinds: &impl Kinds, block: usize) {
        let words = self.cut.places(block).map(|place| Word { number: self.cut.number(place), mask: !0 });
        let given = self.give_words(kinds, words);
        debug_assert!(given.is_ok(), "the block was just taken");
        self.lower_level(self.cut.whole());
    }

    /// Takes the frames `[start, end)`, whatever their types.
    ///
    /// # Errors
    /// The first frame that is not free, or about which another CPU is at work, or that has no memory for its bits;
    /// nothing was taken.
    pub fn take_range(&self, kinds: &impl Kinds, start: Pfn, end: Pfn) -> Result<(), Pfn> {
        let mut at = start;
        while at < end {
            if !self.shape.contains(at) {
                return Err(self.undo(kinds, start, at));
            }
            let block = self.cut.block_of(at);
            let next = Pfn(self.cut.block_start(block).0 + u64::from(self.cut.whole())).min(end);
            if next.0 - at.0 == u64::from(self.cut.whole()) && self.take_whole(kinds, block) {
                self.unmark(kinds, self.kind_of(kinds, block), block, Bitmap::Whole);
            } else if let Err(busy) = self.take_part(kinds, block, at, next) {
                self.undo(kinds, start, at);
                return Err(busy);
            }
            at = next;
        }
        self.level_of_range(start, end);
        Ok(())
    }

    fn level_of_range(&self, start: Pfn, end: Pfn) {
        let mut left = end.0.saturating_sub(start.0);
        while left != 0 {
            let part = left.min(u64::from(u32::MAX));
            self.lower_level(part as u32);
            left -= part;
        }
    }

    /// Gives back what was taken of a range up to `at`; answers `at`.
    fn undo(&self, kinds: &impl Kinds, start: Pfn, at: Pfn) -> Pfn {
        let given = self.give_words(kinds, words_of(start, at));
        debug_assert!(given.is_ok(), "the frames were just taken");
        self.level_of_range(start, at);
        at
    }

    /// Takes frames of one block.
    fn take_part(&self, kinds: &impl Kinds, block: usize, start: Pfn, end: Pfn) -> Result<(), Pfn> {
        let mut plan: Plan = [0; LINE_WORDS];
        if !self.write_out(kinds, block) {
            return Err(start);
        }
        for word in words_of(start, end) {
            let place = self.cut.place(word.number);
            let busy = word.mask & !self.look(place);
            if busy != 0 {
                return Err(Word { mask: busy, ..word }.first());
            }
            plan[place - self.cut.first_place(block)] = word.mask;
        }
        self.take_exactly(kinds, block, &plan).ok_or(start)
    }
}
