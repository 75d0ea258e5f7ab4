//! Taking frames from the field: entries first, then bits.

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::Ordering;
use kernmem_sparse::MigrateType;

use super::entry::Entry;
use super::field::{Field, Kinds};
use super::give::words_of;
use super::index::Bitmap;
use super::mem::Mem;
use super::word::{Word, block_mask, lowest, ones, runs};

/// What is wanted of each word of a block, and how many frames that is.
type Plan = ([u64; 8], u32);

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
            let mut plan: Plan = ([0; 8], 0);
            let bits = self.look(place);
            plan.0[place - self.cut.first_place(block)] = bits;
            plan.1 = bits.count_ones();
            let mut word = Word::default();
            if !self.take_planned(kinds, block, &plan, &mut |taken| word = taken) {
                return None;
            }
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
        let mut plan: Plan = ([0; 8], 1 << order);
        let found = runs(self.look(place), order.min(6));
        if found == 0 {
            return None;
        }
        let words = 1 << order.saturating_sub(6);
        for mask in plan.0.iter_mut().skip(place - self.cut.first_place(block)).take(words) {
            *mask = block_mask(order.min(6)) << found.trailing_zeros();
        }
        self.take_exactly(kinds, block, &plan)?;
        Some(Word { number: self.cut.number(place), mask: found }.first())
    }

    /// Takes all of a plan or nothing.
    fn take_exactly(&self, kinds: &impl Kinds, block: usize, plan: &Plan) -> Option<()> {
        let mut taken = ([Word::default(); 8], 0);
        if !self.take_planned(kinds, block, plan, &mut |word| {
            taken.0[taken.1 % 8] = word;
            taken.1 += 1;
        }) {
            return None;
        }
        let words = &taken.0[..taken.1];
        if words.iter().map(|word| word.frames()).sum::<u32>() == plan.1 {
            return Some(());
        }
        words.iter().for_each(|&word| self.give_back(kinds, word));
        None
    }

    /// Takes words of a block until `want` frames are there; how many were. `None` if there is no memory for its bits.
    #[inline]
    fn take_from(&self, kinds: &impl Kinds, block: usize, want: u32, put: &mut impl FnMut(Word)) -> Option<u32> {
        if !self.write_out(kinds, block) {
            return None;
        }
        let plan = self.plan(block, want);
        let mut taken = 0;
        self.take_planned(kinds, block, &plan, &mut |word| {
            taken += word.frames();
            put(word);
        });
        Some(taken)
    }

    /// The lowest words of a block that have `want` free frames, or all that is counted.
    #[inline]
    fn plan(&self, block: usize, want: u32) -> Plan {
        let mut plan: Plan = ([0; 8], 0);
        let counted = self.entry(block).count();
        for (place, kept) in self.cut.places(block).zip(&mut plan.0) {
            if plan.1 >= want.min(counted) {
                break;
            }
            let bits = self.look(place);
            let room = counted - plan.1;
            let mask = if bits.count_ones() > room { lowest(bits, room) } else { bits };
            *kept = mask;
            plan.1 += ones(mask);
        }
        plan
    }

    /// Has the frames of a plan promised and takes them; false, and nothing is changed, if the entry does not count so
    /// many. What somebody else took first is missing among the words that are put.
    #[inline]
    fn take_planned(&self, kinds: &impl Kinds, block: usize, plan: &Plan, put: &mut impl FnMut(Word)) -> bool {
        let (masks, frames) = plan;
        let seen = loop {
            let seen = self.entry(block);
            if seen.is_lazy() || seen.count() < *frames || *frames == 0 {
                return false;
            }
            if self.promise(block, seen, *frames) {
                break seen;
            }
        };
        let mut missing = *frames;
        for (place, &mask) in self.cut.places(block).zip(masks).filter(|(_, mask)| **mask != 0) {
            let got = self.claim(place, mask);
            if got != 0 {
                missing -= ones(got);
                put(Word { number: self.cut.number(place), mask: got });
            }
        }
        self.settle(kinds, block, seen, *frames);
        if missing != 0 {
            self.credit(kinds, block, missing);
        }
        true
    }

    /// Clears bits that were promised; answers those that were set.
    #[inline]
    fn claim(&self, place: usize, mask: u64) -> u64 {
        // AcqRel: Acquire pairs with the giver's `fetch_or`: what it did with the frames is seen.
        self.bits(place).map_or(0, |bits| bits.fetch_and(!mask, Ordering::AcqRel) & mask)
    }

    /// Writes the bits of a lazy block; false if there is no memory for them.
    #[inline]
    pub(super) fn write_out(&self, kinds: &impl Kinds, block: usize) -> bool {
        let seen = self.entry(block);
        !seen.is_lazy() || self.write_lazy(kinds, block, seen)
    }

    fn write_lazy(&self, kinds: &impl Kinds, block: usize, seen: Entry) -> bool {
        if !self.open_line(block) {
            return false;
        }
        let whole = self.cut.whole();
        if !self.promise(block, seen, whole) {
            return true;
        }
        let mut written = 0;
        for place in self.cut.places(block) {
            // AcqRel: as of a giver.
            let old = self.bits(place).map_or(!0, |bits| bits.fetch_or(!0, Ordering::AcqRel));
            written += old.count_zeros();
        }
        if let Some(entry) = self.mem.entry(block) {
            // AcqRel: as `credit`, from which it differs in that the block is in no class yet but the whole ones.
            entry.fetch_add(written as u16, Ordering::AcqRel);
        }
        self.mark(kinds, block, Bitmap::Whole);
        true
    }

    /// Takes `blocks` whole blocks; `None`, and nothing is changed, if one of them is whole no longer or there is no memory
    /// for its bits.
    fn take_group(&self, kinds: &impl Kinds, first: usize, blocks: usize) -> Option<Pfn> {
        for block in first..first + blocks {
            if !self.take_whole(block) {
                (first..block).for_each(|taken| self.credit_whole(kinds, taken));
                return None;
            }
        }
        for block in first..first + blocks {
            self.unmark(kinds, self.kind_of(kinds, block), block, Bitmap::Whole);
        }
        Some(self.cut.block_start(first))
    }

    /// Takes a whole block and clears its bits.
    fn take_whole(&self, block: usize) -> bool {
        let seen = self.entry(block);
        let whole = self.cut.whole();
        if seen.count() != whole || !self.open_line(block) || !self.promise(block, seen, whole) {
            return false;
        }
        if !seen.is_lazy() {
            for place in self.cut.places(block) {
                if let Some(bits) = self.bits(place) {
                    // Every frame of the block is the taker's, by the entry. Release pairs with `look`.
                    bits.store(0, Ordering::Release);
                }
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
            if next.0 - at.0 == u64::from(self.cut.whole()) && self.take_whole(block) {
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
        let mut plan: Plan = ([0; 8], 0);
        if !self.write_out(kinds, block) {
            return Err(start);
        }
        for word in words_of(start, end) {
            let place = self.cut.place(word.number);
            let busy = word.mask & !self.look(place);
            if busy != 0 {
                return Err(Word { mask: busy, ..word }.first());
            }
            plan.0[place - self.cut.first_place(block)] = word.mask;
            plan.1 += word.frames();
        }
        self.take_exactly(kinds, block, &plan).ok_or(start)
    }
}
