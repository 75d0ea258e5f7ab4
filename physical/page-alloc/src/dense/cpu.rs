//! One CPU's own frames: reached through `&mut`, so nothing here is atomic and nothing waits.
//!
//! ```text
//! hot      of the zone and column that the last request beyond it was for: one open word for single frames, one for
//!          small blocks, a stack of blocks of order 9
//! set      of each zone: the same for each column; the inbox of frames that came back; the magazine of those of them
//!          that were looked at
//! ```
//! Single frames are taken from an open word until it is empty; then from a near word that came back, one at or below
//! the block that was last taken from, since the field would be asked for just these frames next; then from the field.
//!
//! A frame that comes back to no open word is put into the inbox, and not looked at until the inbox is full or a request
//! goes beyond what is hot. That it came back twice is told only then.
//!
//! Not here: which zone and column a request is served from, and when it may be; what the field does.
//!
//! # Invariants
//! 1. A frame is in at most one of: the field, an open word, a stack, a magazine of any CPU, somebody's hands. It is in an
//!    inbox besides only if it came back twice.
//! 2. While a zone and column are hot, their places in the zone's set are empty.
//! 3. Words that are hot hold frames of one zone alone: a word at a zone's edge is neither left open nor comes back here,
//!    and one with frames that are nobody's is not left open.
//! 4. While frames of a word are kept elsewhere here, none come into the inbox: its class is seen (`magazine`), or it is the
//!    open word for single frames. Of words that are near, each is in the inbox once, for the same reason. The field is asked
//!    only when the inbox is empty. So a frame that came back twice to one CPU is found before that CPU gives it to anybody.

use core::fmt;

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::field::{Field, Kinds};
use super::give::{Doubled, words_of};
use super::mem::Mem;
use super::open::{NO_WORD, NONE, OPEN_ORDER, Open, STACK_ORDER, put_back};
use super::set::{CpuSet, column_of, doubled, gather, may_open};
use super::word::{WORD_FRAMES, Word, runs};

/// A zone, as a CPU's calls are told of it.
#[derive(Debug)]
pub struct At<'f, M, K> {
    /// The zone's number among the sets.
    pub zone: usize,
    /// Its field.
    pub field: &'f Field<M>,
    /// Its pageblocks' types.
    pub kinds: &'f K,
}

impl<M, K> Clone for At<'_, M, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, K> Copy for At<'_, M, K> {}

/// What a request is for, beyond the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// The caller's name for all that decides where such a request is served: [`CpuFrames::alloc_hot`] compares it.
    pub key: u64,
    /// The type of the request: says which column's words are used.
    pub column: MigrateType,
    /// The type of the blocks that the field is asked for: another one than `column` in a fallback.
    pub kind: MigrateType,
    /// The order.
    pub order: u8,
}

/// One CPU's frames, a set for each zone.
pub struct CpuFrames<S> {
    key: u64,
    hot: Open,
    /// The first of the hot zone's words that may be put into the inbox as they come, and how many may: none unless the inbox
    /// has room.
    plain: (u64, u64),
    /// The block that was last taken from the hot stack, until something of it comes back: its words stay seen, so that the
    /// block may come back with a look at nothing else.
    last: u64,
    /// Set and column that are hot.
    zone: usize,
    column: usize,
    /// The set of the hot zone; its place among `sets` is empty.
    set: CpuSet,
    sets: S,
}

/// The set of a zone, the hot one's being `set`.
#[inline]
fn set_of<'s>(zone: usize, hot: usize, set: &'s mut CpuSet, sets: &'s mut [CpuSet]) -> Option<&'s mut CpuSet> {
    let other = sets.get_mut(zone)?;
    Some(if zone == hot { set } else { other })
}

impl<S> fmt::Debug for CpuFrames<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuFrames").field("hot", &self.hot).finish_non_exhaustive()
    }
}

impl<S: AsRef<[CpuSet]> + AsMut<[CpuSet]>> CpuFrames<S> {
    /// No frames; `sets` are empty sets, one for each zone.
    #[must_use]
    pub const fn new(sets: S) -> Self {
        Self { key: NONE, hot: Open::EMPTY, plain: (0, 0), last: NONE, zone: 0, column: 0, set: CpuSet::new(), sets }
    }

    /// Takes a block from what is hot, if `key` is that of the last request that went beyond it: `None` says that
    /// [`CpuFrames::alloc`] must be asked.
    #[inline(always)]
    pub fn alloc_hot(&mut self, key: u64, order: u8) -> Option<Pfn> {
        if key != self.key {
            return None;
        }
        match order {
            0 if self.hot.single.mask == 0 => self.take_near(),
            0 => self.hot.take_single(),
            1..=OPEN_ORDER => self.hot.take_small(order),
            STACK_ORDER => {
                let taken = self.hot.take_stacked()?;
                self.set_last(taken.0);
                Some(taken)
            }
            _ => None,
        }
    }

    /// Opens the next word that is at hand and takes a frame from it.
    #[inline]
    fn take_near(&mut self) -> Option<Pfn> {
        let (pfn, mask) = self.set.magazine.take_last(self.column)?;
        self.hot.single = Word { number: pfn.0 / WORD_FRAMES, mask };
        Some(pfn)
    }

    /// Keeps another block, seen, or none in mind as the last one.
    #[inline]
    fn set_last(&mut self, last: u64) {
        if self.last != NONE {
            self.set.magazine.unsee_block(self.last / WORD_FRAMES);
        }
        self.last = last;
    }

    /// Gives a block back to what is hot; `None` says that it belongs elsewhere, and [`CpuFrames::free`] must be asked.
    ///
    /// # Errors
    /// The first frame that is free already; nothing was changed.
    #[inline(always)]
    pub fn free_hot(&mut self, pfn: Pfn, order: u8) -> Option<Result<(), Doubled>> {
        let number = pfn.0 / WORD_FRAMES;
        if order == 0 {
            if number == self.hot.single.number {
                let bit = 1 << (pfn.0 % WORD_FRAMES);
                if self.hot.single.mask & bit != 0 {
                    return Some(Err(Doubled { pfn }));
                }
                self.hot.single.mask |= bit;
                return Some(Ok(()));
            }
            if self.set.inbox.is_last(number) {
                return Some(self.set.inbox.join(pfn));
            }
            return self.push_hot(pfn).then_some(Ok(()));
        }
        if order <= OPEN_ORDER && number == self.hot.small.number {
            return Some(put_back(&mut self.hot.small, Word::of(pfn, order)));
        }
        if order == STACK_ORDER && pfn.0 == self.last && self.hot.stack(pfn) {
            self.last = NONE;
            return Some(Ok(()));
        }
        None
    }

    /// Puts a frame of the hot zone into the inbox, which has room; false if it must be looked at, or if it is time to look at
    /// them all.
    #[inline(always)]
    fn push_hot(&mut self, pfn: Pfn) -> bool {
        let (number, (first, words)) = (pfn.0 / WORD_FRAMES, self.plain);
        if number.wrapping_sub(first) >= words || self.set.magazine.may_have(number) {
            return false;
        }
        self.set.put_first(pfn);
        if !self.set.inbox.has_room() {
            // The next to come back goes beyond what is hot, where these are looked at.
            self.plain = (0, 0);
        }
        true
    }

    /// Makes a zone and a column hot, and looks through what came back to it.
    #[inline]
    fn warm<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, column: usize) {
        if (self.zone, self.column) != (at.zone, column) {
            self.change(at.zone, column);
        }
        self.sort(at);
    }

    fn change(&mut self, zone: usize, column: usize) {
        self.cool();
        let sets = self.sets.as_mut();
        if zone != self.zone && zone < sets.len() {
            core::mem::swap(&mut self.set, &mut sets[self.zone]);
            core::mem::swap(&mut self.set, &mut sets[zone]);
            self.zone = zone;
        }
        self.column = column;
        self.hot = self.set.bring(column);
    }

    /// Puts what is hot back into its set.
    fn cool(&mut self) {
        self.key = NONE;
        self.set_last(NONE);
        self.plain = (0, 0);
        let hot = core::mem::replace(&mut self.hot, Open::EMPTY);
        self.set.put_away(self.column, hot);
    }

    /// Looks through what came back to a zone.
    #[inline]
    fn sort<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        if at.zone != self.zone {
            if let Some(set) = self.sets.as_mut().get_mut(at.zone) {
                set.sort(at);
            }
        } else if !self.set.inbox.is_empty() {
            self.sort_hot(at);
        }
    }

    #[inline(never)]
    fn sort_hot<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        self.set.sort(at);
        if self.set.is_misused() || !self.set.inbox.has_room() {
            // The next to come back goes beyond what is hot, where it is told; or the limit became one of no frames.
            self.plain = (0, 0);
        }
    }

    /// Takes a block of a zone: from the CPU's own frames, else from the field. Makes the zone and the column hot.
    /// `None` if neither has one; for larger blocks, frames that the CPU keeps are not joined to find one.
    #[inline]
    pub fn alloc<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want) -> Option<Pfn> {
        let Want { key, column, kind, order } = want;
        let column = column_of(column).filter(|_| at.zone < self.sets.as_ref().len());
        let Some(column) = column else { return at.field.take_run(at.kinds, kind, order) };
        self.warm(at, column);
        self.key = key;
        match order {
            0 => self.single(at, kind),
            1..=OPEN_ORDER => self.small(at, kind, order),
            STACK_ORDER => {
                let taken = self.hot.take_stacked().or_else(|| {
                    let taken = at.field.take_run(at.kinds, kind, order)?;
                    self.set.magazine.see_block(taken.0 / WORD_FRAMES);
                    Some(taken)
                })?;
                self.set_last(taken.0);
                Some(taken)
            }
            _ => at.field.take_run(at.kinds, kind, order),
        }
    }

    #[inline]
    fn single<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType) -> Option<Pfn> {
        if self.hot.single.mask == 0 {
            self.open_single(at, kind)?;
        }
        let taken = self.hot.take_single();
        if !may_open(at, self.hot.single.number) {
            let rest = core::mem::replace(&mut self.hot.single, NO_WORD);
            self.set.release(at, Some(rest).filter(|word| word.mask != 0));
        }
        taken
    }

    /// Opens a word for single frames.
    #[inline]
    fn open_single<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType) -> Option<()> {
        let column = self.column;
        let set = &mut self.set;
        let more = if set.magazine.is_low() { set.refill(at, column, kind, &mut self.hot.small) } else { None };
        let word = more.or_else(|| set.magazine.take_waiting(column, |_| true));
        if let Some(word) = word.or_else(|| set.refill(at, column, kind, &mut self.hot.small)) {
            self.hot.single = word;
            return Some(());
        }
        // Frames that wait for other columns: the field must have them before they are found by type.
        if set.magazine.is_empty() {
            return None;
        }
        set.spill(at);
        self.hot.single = set.refill(at, column, kind, &mut self.hot.small)?;
        Some(())
    }

    fn small<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType, order: u8) -> Option<Pfn> {
        if let Some(pfn) = self.hot.take_small(order) {
            return Some(pfn);
        }
        let near = self.set.magazine.take_waiting(self.column, |mask| runs(mask, order) != 0);
        let mut word = match near {
            Some(word) => word,
            None => {
                let word = at.field.take_word_with(at.kinds, kind, order)?;
                Word { mask: word.mask | self.set.take(word.number), ..word }
            }
        };
        word.mask |= self.take_open(word.number).mask;
        let old = core::mem::replace(&mut self.hot.small, word);
        let set = &mut self.set;
        set.magazine.see(word.number);
        if old.number != NONE {
            set.magazine.unsee(old.number);
        }
        if old.mask != 0 {
            set.keep(at, old, self.column as u8);
        }
        let taken = self.hot.take_small(order);
        if !may_open(at, word.number) {
            let rest = core::mem::replace(&mut self.hot.small, NO_WORD);
            set.magazine.unsee(word.number);
            set.release(at, Some(rest).filter(|word| word.mask != 0));
        }
        taken
    }

    /// Gives a block back to the zone that it is of.
    ///
    /// # Errors
    /// The first frame that is free already, in the field or here; nothing was changed. Frames that another CPU keeps are
    /// not seen.
    #[inline]
    pub fn free<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        if (pfn.0 ^ self.last) >> STACK_ORDER == 0 {
            self.set_last(NONE);
        }
        match order {
            0 => self.free_small(at, Word::single(pfn)),
            1..=OPEN_ORDER => self.free_small(at, Word::of(pfn, order)),
            _ => self.free_large(at, pfn, order),
        }
    }

    #[inline]
    fn free_small<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) -> Result<(), Doubled> {
        let is_hot = at.zone == self.zone;
        let Some(set) = set_of(at.zone, self.zone, &mut self.set, self.sets.as_mut()) else {
            return self.give(at, word.first(), u64::from(word.frames()));
        };
        let is_plain = at.kinds.is_plain();
        let is_isolated = !is_plain && at.kinds.kind(word.start()) == MigrateType::Isolate;
        let is_open = is_hot && self.hot.word(word.number).is_some();
        let is_last = set.inbox.is_last(word.number);
        let is_kept =
            !is_last && set.magazine.may_have(word.number) && set.has(word.number) | set.inbox.has(word.number) != 0;
        if is_open || is_isolated || is_kept || !at.field.is_inner(word.number) {
            return self.look_at(at, word);
        }
        if !word.mask.is_power_of_two() {
            // A block comes back as a whole or not at all.
            doubled(at.field.free_bits(word.number) | set.inbox.has(word.number), word)?;
        }
        if set.inbox.is_last(word.number) {
            return set.inbox.join_all(word);
        }
        if !set.inbox.has_room() {
            self.sort(at);
        }
        let Some(set) = self.own_set(at.zone).filter(|set| set.inbox.has_room()) else {
            return self.look_at(at, word);
        };
        set.put(word)?;
        // More frames of a word may come to it unseen only if all of them are the zone's.
        if at.kinds.strangers(word.number) != 0 {
            set.inbox.close();
        }
        if is_hot {
            let is_open = is_plain && self.set.inbox.has_room() && !self.set.is_misused();
            self.plain = if is_open { at.field.inner() } else { (0, 0) };
        }
        Ok(())
    }

    /// Takes a word in that is looked at at once.
    fn look_at<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) -> Result<(), Doubled> {
        self.sort(at);
        if !at.field.is_inner(word.number) {
            return self.give(at, word.first(), u64::from(word.frames()));
        }
        doubled(at.field.free_bits(word.number) | self.kept(at.zone, word.number), word)?;
        let hot = if at.zone == self.zone { self.hot.word(word.number) } else { None };
        if let Some(open) = hot {
            return put_back(open, word);
        }
        let set = set_of(at.zone, self.zone, &mut self.set, self.sets.as_mut());
        set.map_or(Ok(()), |set| set.take_in(at, word))
    }

    fn free_large<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        let end = Pfn(pfn.0.saturating_add(1 << order));
        self.close(at, pfn, end)?;
        let column = column_of(at.kinds.kind(pfn));
        let fits = order == STACK_ORDER && at.field.shape().block_order() == STACK_ORDER;
        if !fits {
            return at.field.give_range(at.kinds, pfn, end);
        }
        words_of(pfn, end).try_for_each(|word| doubled(at.field.free_mask(word.number), word))?;
        let set = set_of(at.zone, self.zone, &mut self.set, self.sets.as_mut());
        let is_stacked = set.zip(column).is_some_and(|(set, column)| {
            if (at.zone, column) == (self.zone, self.column) {
                let is_stacked = self.hot.stack(pfn);
                if is_stacked {
                    set.magazine.see_block(pfn.0 / WORD_FRAMES);
                }
                is_stacked
            } else {
                set.stack(column, pfn)
            }
        });
        if is_stacked { Ok(()) } else { at.field.give_run(at.kinds, pfn, order) }
    }

    /// Gives frames to the field.
    #[cold]
    fn give<M: Mem>(&self, at: At<'_, M, impl Kinds>, pfn: Pfn, frames: u64) -> Result<(), Doubled> {
        self.check_kept(at.zone, pfn, frames)?;
        at.field.give_range(at.kinds, pfn, Pfn(pfn.0.saturating_add(frames)))
    }

    /// Makes ready for the frames `[start, end)` of a zone to go elsewhere without a look at what is hot: none of their words
    /// is left open, and their block is not the last one.
    ///
    /// # Errors
    /// The lowest of them that the CPU keeps; nothing was changed.
    pub fn close<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, start: Pfn, end: Pfn) -> Result<(), Doubled> {
        self.sort(at);
        self.check_kept(at.zone, start, end.0.saturating_sub(start.0))?;
        if at.zone == self.zone {
            for number in [self.hot.single.number, self.hot.small.number] {
                if (start.0 / WORD_FRAMES..end.0.div_ceil(WORD_FRAMES)).contains(&number) {
                    let rest = self.take_open(number);
                    self.set.release(at, Some(rest).filter(|word| word.mask != 0));
                }
            }
            if (start.0 >> STACK_ORDER..=end.0 >> STACK_ORDER).contains(&(self.last >> STACK_ORDER)) {
                self.set_last(NONE);
            }
        }
        Ok(())
    }

    /// Closes the open words of a number; answers their frames.
    #[inline]
    fn take_open(&mut self, number: u64) -> Word {
        let mut mask = 0;
        if number == self.hot.single.number {
            mask |= core::mem::replace(&mut self.hot.single, NO_WORD).mask;
        }
        if number == self.hot.small.number && number != NONE {
            mask |= core::mem::replace(&mut self.hot.small, NO_WORD).mask;
            self.set.magazine.unsee(number);
        }
        Word { number, mask }
    }

    /// Which frames of a word the CPU keeps.
    fn kept(&self, zone: usize, number: u64) -> u64 {
        match self.set(zone) {
            Some(set) if zone == self.zone => self.hot.has(number) | set.has(number),
            set => set.map_or(0, |set| set.has(number)),
        }
    }

    /// # Errors
    /// The lowest of the frames that the CPU keeps.
    fn check_kept(&self, zone: usize, pfn: Pfn, frames: u64) -> Result<(), Doubled> {
        let mut words = words_of(pfn, Pfn(pfn.0.saturating_add(frames)));
        words.try_for_each(|word| doubled(self.kept(zone, word.number), word))
    }

    /// Takes single frames of a zone into `out` until it is full or neither the CPU nor the field has more; how many came.
    pub fn alloc_bulk<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want, out: &mut [Pfn]) -> usize {
        self.sort(at);
        let mut done = 0;
        let block = 1_usize << at.field.shape().block_order();
        while done < out.len() {
            let left = &mut out[done..];
            let is_large = left.len() >= block && !self.has_waiting(at.zone, want.column);
            if let Some(first) = if is_large { at.field.take_next_block(at.kinds, want.kind) } else { None } {
                left[..block].iter_mut().zip(first.0..).for_each(|(place, pfn)| *place = Pfn(pfn));
                done += block;
                continue;
            }
            let Some(pfn) = self.alloc(at, Want { order: 0, ..want }) else { break };
            left[0] = pfn;
            done += 1;
            if column_of(want.column) == Some(self.column) && at.zone == self.zone {
                done += self.empty_hot(&mut out[done..]);
            }
        }
        done
    }

    fn has_waiting(&self, zone: usize, column: MigrateType) -> bool {
        let Some(column) = column_of(column) else { return false };
        let is_hot = (self.zone, self.column) == (zone, column) && self.hot.single.mask != 0;
        is_hot || self.set(zone).is_some_and(|set| set.magazine.has_waiting(column))
    }

    /// Writes out what the hot word has, as far as there is room.
    fn empty_hot(&mut self, out: &mut [Pfn]) -> usize {
        let mut word = self.hot.single;
        let mut done = 0;
        for place in out.iter_mut() {
            if word.mask == 0 {
                break;
            }
            *place = word.first();
            word.mask &= word.mask - 1;
            done += 1;
        }
        self.hot.single.mask = word.mask;
        done
    }

    /// Gives single frames of a zone back, straight to the field: frames that are next to each other cost the least.
    ///
    /// # Errors
    /// The first frame that is free already; all before it in the slice were given back, and frames behind it that lie in
    /// the same word may have been.
    pub fn free_bulk<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, frames: &[Pfn]) -> Result<(), Doubled> {
        self.sort(at);
        let (mut lowest, mut wrong, mut left) = (NONE, None, frames);
        let words = core::iter::from_fn(|| {
            let mut word = gather(&mut left, &mut wrong)?;
            if let Err(doubled) = doubled(self.kept(at.zone, word.number), word) {
                wrong = Some(doubled);
                return None;
            }
            lowest = lowest.min(word.number);
            if at.zone == self.zone {
                // What is hot takes frames without a look at the field.
                if self.hot.word(word.number).is_some() {
                    word.mask |= self.take_open(word.number).mask;
                }
                if (word.first().0 ^ self.last) >> STACK_ORDER == 0 {
                    self.set_last(NONE);
                }
            }
            Some(word)
        });
        let given = at.field.give_words(at.kinds, words);
        if let Some(set) = self.own_set(at.zone) {
            set.given(lowest, Ok(()));
        }
        given.and(wrong.map_or(Ok(()), Err))
    }

    /// Gives all that the CPU keeps of a zone back to the field.
    ///
    /// # Errors
    /// A frame that came back twice; everything was given back.
    pub fn drain<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        self.sort(at);
        if self.zone == at.zone {
            self.cool();
        }
        self.own_set(at.zone).map_or(Ok(()), |set| set.drain(at))
    }

    /// Looks at all that came back to a zone, and tells what was found.
    ///
    /// # Errors
    /// A frame that came back twice and that nobody was told of yet.
    pub fn check<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        self.sort(at);
        self.take_doubled(at.zone).map_or(Ok(()), Err)
    }

    /// Frames that the CPU keeps of a zone.
    #[must_use]
    pub fn count(&self, zone: usize) -> u64 {
        let hot = if zone == self.zone { self.hot.frames() } else { 0 };
        hot + self.set(zone).map_or(0, CpuSet::frames)
    }

    fn set(&self, zone: usize) -> Option<&CpuSet> {
        let other = self.sets.as_ref().get(zone)?;
        Some(if zone == self.zone { &self.set } else { other })
    }

    /// What the CPU keeps of a zone, for its limit.
    pub fn set_mut(&mut self, zone: usize) -> Option<&mut CpuSet> {
        // There may be no room under another limit.
        self.plain = (0, 0);
        self.own_set(zone)
    }

    fn own_set(&mut self, zone: usize) -> Option<&mut CpuSet> {
        set_of(zone, self.zone, &mut self.set, self.sets.as_mut())
    }

    /// A frame of a zone that turned out to have come back twice; told once.
    #[inline]
    pub fn take_doubled(&mut self, zone: usize) -> Option<Doubled> {
        self.own_set(zone)?.take_doubled()
    }
}
