//! What one CPU keeps of one zone while it is not hot, and how it comes from the zone's field and goes back there.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::cpu::At;
use super::field::{Kinds, Look};
use super::give::{Batch, Doubled};
use super::inbox::{Inbox, LIMIT};
use super::magazine::Magazine;
use super::mem::Mem;
use super::open::{NO_WORD, NONE, Open};
use super::word::{WORD_FRAMES, Word, ones};
use crate::free_area::KINDS;

/// Kinds of requests that are served apart, the first migrate types: unmovable, movable, reclaimable.
const COLUMNS: usize = 3;

/// Frames that are asked of the field at once: less than a word's may be scattered over many words.
const REFILL: u32 = 32;

/// Words of the inbox that are looked at before the first of them goes to the field.
const GROUP: usize = 8;

/// What a CPU keeps of one zone.
#[derive(Clone, Debug)]
pub struct CpuSet {
    open: [Open; COLUMNS],
    pub(super) magazine: Magazine,
    pub(super) inbox: Inbox,
    /// For each type the word behind the block that its column last took from: what lies below would be asked of the field
    /// next, so it is near. None is for types without a column.
    near: [u64; KINDS],
    /// The highest of them: words from there on are near for nobody.
    bound: u64,
    limit: u32,
    /// At least as many frames as the magazine has.
    kept: u32,
    doubled: Option<Doubled>,
}

impl Default for CpuSet {
    fn default() -> Self {
        Self::new()
    }
}

/// The column of a type; `None` for types whose frames a CPU does not serve requests from.
#[inline]
pub(super) const fn column_of(kind: MigrateType) -> Option<usize> {
    let number = kind as usize;
    if number < COLUMNS { Some(number) } else { None }
}

impl CpuSet {
    pub(super) const fn new() -> Self {
        Self {
            open: [Open::EMPTY; COLUMNS],
            magazine: Magazine::new(),
            inbox: Inbox::new(),
            near: [0; KINDS],
            bound: 0,
            limit: LIMIT,
            kept: 0,
            doubled: None,
        }
    }

    /// Sets how many frames may wait, besides some that came back singly; all of them go to the field somewhat earlier.
    pub fn set_limit(&mut self, frames: u32) {
        self.limit = frames;
        self.inbox.set_limit(frames);
    }

    /// Whether a frame came back twice that nobody was told of yet.
    #[inline]
    pub(super) const fn is_misused(&self) -> bool {
        self.doubled.is_some()
    }

    /// A frame that turned out to have come back twice; told once.
    pub(super) fn take_doubled(&mut self) -> Option<Doubled> {
        self.doubled.take()
    }

    /// Frames here.
    pub(super) fn frames(&self) -> u64 {
        u64::from(self.magazine.frames() + self.inbox.frames()) + self.open.iter().map(Open::frames).sum::<u64>()
    }

    /// Puts a frame into the inbox whose word's class is not seen; there is room.
    #[inline(always)]
    pub(super) fn put_first(&mut self, pfn: Pfn) {
        let number = pfn.0 / WORD_FRAMES;
        self.magazine.see_first(number, number < self.bound);
        self.inbox.put(pfn);
    }

    /// Puts a word into the inbox that is not kept; there is room.
    pub(super) fn put(&mut self, word: Word) -> Result<(), Doubled> {
        if word.number < self.bound {
            self.magazine.see(word.number);
        }
        self.inbox.put(word.first());
        let others = Word { mask: word.others(), ..word };
        if others.mask == 0 { Ok(()) } else { self.inbox.join_all(others) }
    }

    /// Looks at all that came back: what is near waits to be opened, all else goes to the field.
    pub(super) fn sort<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        let near = self.inbox.part(self.bound);
        self.give_far(at, near);
        self.keep_near(at, near);
        self.inbox.forget();
    }

    /// Gives the words of the inbox behind the near ones to the field. The looks of a group come first, so that what they
    /// wait for overlaps.
    #[inline]
    fn give_far<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, near: usize) {
        let (frames, others) = self.inbox.parts(near);
        if frames.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        let mut looks = [Look { bits: None, now: 0 }; GROUP];
        for (frames, others) in frames.chunks(GROUP).zip(others.chunks(GROUP)) {
            for (&frame, look) in frames.iter().zip(&mut looks) {
                *look = at.field.glance(frame / WORD_FRAMES);
            }
            for ((&frame, &others), &look) in frames.iter().zip(others).zip(&looks) {
                batch.set_from(at.field, at.kinds, Pfn(frame), others, look);
            }
        }
        self.note(batch.end(at.field, at.kinds));
    }

    /// Has near words wait to be opened: all in one loop, unless there is something odd about some.
    #[inline]
    fn keep_near<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, near: usize) {
        let Some(places) = self.magazine.places(near).filter(|_| at.kinds.is_plain()) else {
            return self.take_odd(at, near);
        };
        let ((frames, others), mut is_odd) = (self.inbox.parts(0), false);
        for ((((&frame, &others), first), more), column) in
            frames.iter().zip(others).zip(places.0).zip(places.1).zip(places.2)
        {
            let word = Word::joined(frame, others);
            let kind = at.kinds.kind(Pfn(frame));
            let is_free = at.field.glance(word.number).now & word.mask != 0;
            is_odd |= is_free | (word.number >= self.near[kind as usize % KINDS]);
            (*first, *more, *column) = (frame, others, kind as u8);
        }
        if is_odd {
            return self.take_odd(at, near);
        }
        let is_joined = self.inbox.is_joined();
        let frames = if is_joined { self.inbox.words(0).take(near).map(Word::frames).sum() } else { near as u32 };
        self.magazine.grow(near);
        self.kept += frames;
        if self.kept > self.limit {
            self.relieve(at);
        }
    }

    /// Takes in near words one by one.
    #[inline(never)]
    fn take_odd<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, near: usize) {
        let mut batch = Batch::new();
        for nth in 0..near {
            let word = self.inbox.word(nth);
            self.magazine.unsee(word.number);
            let kind = at.kinds.kind(word.start());
            let Look { bits, now } = at.field.glance(word.number);
            if word.number >= self.near[kind as usize % KINDS] {
                batch.set(at.field, at.kinds, word, bits);
            } else if now & word.mask != 0
                || self.magazine.may_have(word.number)
                || at.kinds.strangers(word.number) != 0
            {
                self.take_near(at, word);
            } else {
                self.keep(at, word, kind as u8);
            }
        }
        self.note(batch.end(at.field, at.kinds));
    }

    /// Takes in a word that is near and that others of its frames may be free or here, or nobody's.
    #[cold]
    fn take_near<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) {
        let known = at.field.free_bits(word.number) | self.has(word.number);
        self.note(doubled(known, word));
        let mask = word.mask & !known;
        if mask != 0 {
            let taken = self.take_in(at, Word { mask, ..word });
            self.note(taken);
        }
    }

    /// Takes in frames of one word that came back and that are neither free nor here.
    ///
    /// # Errors
    /// The lowest of the frames that somebody gave to the field meanwhile.
    pub(super) fn take_in<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) -> Result<(), Doubled> {
        if self.magazine.may_have(word.number) && self.join(word) {
            self.kept += ones(word.mask);
            return Ok(());
        }
        let kind = at.kinds.kind(word.start());
        if word.number >= self.near[kind as usize % KINDS] || at.kinds.strangers(word.number) != 0 {
            return at.field.give_word(at.kinds, word).map_err(|mask| Doubled { pfn: Word { mask, ..word }.first() });
        }
        self.keep(at, word, kind as u8);
        Ok(())
    }

    /// Adds frames to their word, if it is here.
    fn join(&mut self, word: Word) -> bool {
        match self.open.iter_mut().find_map(|open| open.word(word.number)) {
            Some(open) => open.mask |= word.mask,
            None => return self.magazine.join(word),
        }
        true
    }

    /// Keeps a word that is near for a column.
    #[inline]
    pub(super) fn keep<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word, column: u8) {
        self.kept += ones(word.mask);
        self.magazine.put(word, column);
        if self.magazine.is_full() || self.kept > self.limit {
            self.relieve(at);
        }
    }

    /// Gives all words that wait to the field, if they are many.
    #[inline(never)]
    fn relieve<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        self.kept = self.magazine.frames();
        if self.magazine.is_full() || self.kept > self.limit / 2 {
            self.spill(at);
        }
    }

    /// Keeps in mind what the field said of frames that came back earlier.
    fn note(&mut self, given: Result<(), Doubled>) {
        self.doubled = self.doubled.or(given.err());
    }

    /// Takes note that the field was given frames at `number` and above, and what it said.
    pub(super) fn given(&mut self, lowest: u64, given: Result<(), Doubled>) {
        self.note(given);
        self.draw_back(lowest);
    }

    /// The field has free frames at `number` now.
    fn draw_back(&mut self, number: u64) {
        let end = number.saturating_add(1);
        self.near.iter_mut().for_each(|near| *near = end.min(*near));
        self.bound = end.min(self.bound);
    }

    /// Gives words to the field, which a later request may ask for.
    pub(super) fn release<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, words: impl IntoIterator<Item = Word>) {
        let mut lowest = NO_WORD.number;
        let words = words.into_iter().inspect(|word| lowest = lowest.min(word.number));
        let given = at.field.give_words(at.kinds, words);
        self.given(lowest, given);
    }

    /// Gives all words that wait to the field.
    pub(super) fn spill<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        self.kept = 0;
        let mut lowest = NO_WORD.number;
        let waiting = self.magazine.words().inspect(|word| lowest = lowest.min(word.number));
        let given = at.field.give_words(at.kinds, waiting);
        self.magazine.forget();
        self.given(lowest, given);
    }

    /// Gives everything to the field, once what came back was looked at.
    ///
    /// # Errors
    /// A frame that had come back twice.
    pub(super) fn drain<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        for column in 0..COLUMNS {
            let open = core::mem::replace(&mut self.open[column], Open::EMPTY);
            open.numbers().for_each(|number| self.magazine.unsee(number));
            open.stacked().for_each(|number| self.magazine.unsee_block(number));
            self.release(at, open.words());
        }
        self.spill(at);
        self.doubled.take().map_or(Ok(()), Err)
    }

    /// Takes words for single frames from the field: the lowest is answered, the others wait. What is open of one of them as
    /// `small` comes to it.
    pub(super) fn refill<M: Mem>(
        &mut self,
        at: At<'_, M, impl Kinds>,
        column: usize,
        kind: MigrateType,
        small: &mut Word,
    ) -> Option<Word> {
        let mut words = [NO_WORD; REFILL as usize];
        let mut len = 0;
        at.field.take_words(at.kinds, kind, REFILL, &mut |word| {
            let mut mask = word.mask | self.take(word.number);
            if word.number == small.number {
                mask |= core::mem::replace(small, NO_WORD).mask;
                self.magazine.unsee(word.number);
            }
            words[len % REFILL as usize] = Word { mask, ..word };
            len += 1;
        });
        let (&first, later) = words[..len].split_first()?;
        // The stack is taken from its top: the lowest is put last.
        for &word in later.iter().rev() {
            if may_open(at, word.number) {
                self.keep(at, word, column as u8);
            } else {
                self.release(at, [word]);
            }
        }
        self.near[column % KINDS] = at.field.last_number(later.last().unwrap_or(&first).number) + 1;
        self.bound = self.near.iter().fold(0, |bound, &near| near.max(bound));
        Some(first)
    }

    /// Takes the frames of a word that are kept for other columns.
    #[inline]
    pub(super) fn take(&mut self, number: u64) -> u64 {
        if self.magazine.may_have(number) { self.take_kept(number) } else { 0 }
    }

    #[cold]
    fn take_kept(&mut self, number: u64) -> u64 {
        let mut mask = self.magazine.take(number);
        for open in &mut self.open {
            if let Some(word) = open.word(number) {
                mask |= core::mem::replace(word, NO_WORD).mask;
                self.magazine.unsee(number);
            }
        }
        mask
    }

    /// Which frames of a word are here, the inbox aside.
    #[inline]
    pub(super) fn has(&self, number: u64) -> u64 {
        if self.magazine.may_have(number) { self.search(number) } else { 0 }
    }

    fn search(&self, number: u64) -> u64 {
        self.open.iter().fold(self.magazine.search(number), |mask, open| mask | open.has(number))
    }

    /// Puts a block of order 9 on the stack of a column; false if it is full.
    pub(super) fn stack(&mut self, column: usize, pfn: Pfn) -> bool {
        let is_stacked = self.open.get_mut(column).is_some_and(|open| open.stack(pfn));
        if is_stacked {
            self.magazine.see_block(pfn.0 / WORD_FRAMES);
        }
        is_stacked
    }

    /// Takes over what was hot.
    pub(super) fn put_away(&mut self, column: usize, hot: Open) {
        let Some(open) = self.open.get_mut(column) else { return };
        *open = hot;
        if hot.single.number != NONE {
            self.magazine.see(hot.single.number);
        }
    }

    /// What a column has open, to be hot.
    pub(super) fn bring(&mut self, column: usize) -> Open {
        let Some(open) = self.open.get_mut(column) else { return Open::EMPTY };
        if open.single.number != NONE {
            self.magazine.unsee(open.single.number);
        }
        core::mem::replace(open, Open::EMPTY)
    }
}

/// Whether a word may be kept open: all its frames were handed over to the zone.
#[inline]
pub(super) fn may_open<M: Mem>(at: At<'_, M, impl Kinds>, number: u64) -> bool {
    at.field.is_inner(number) && at.kinds.strangers(number) == 0
}

/// # Errors
/// The lowest of the frames of `word` that `known` has.
#[inline]
pub(super) fn doubled(known: u64, word: Word) -> Result<(), Doubled> {
    let mask = known & word.mask;
    if mask == 0 { Ok(()) } else { Err(Doubled { pfn: Word { mask, ..word }.first() }) }
}

/// Takes the frames off a slice that lie in the first one's word; stops for good before one that comes a second time.
#[inline]
pub(super) fn gather(frames: &mut &[Pfn], wrong: &mut Option<Doubled>) -> Option<Word> {
    let (&first, rest) = frames.split_first()?;
    let mut word = Word::single(first);
    if word.mask == 1
        && let Some((in_a_row, rest)) = frames.split_first_chunk::<64>()
    {
        let apart = in_a_row.iter().zip(first.0..).fold(0, |apart, (pfn, next)| apart | (pfn.0 ^ next));
        if apart == 0 {
            *frames = rest;
            return Some(Word { mask: !0, ..word });
        }
    }
    *frames = rest;
    while let Some((&next, rest)) = frames.split_first() {
        let single = Word::single(next);
        if single.number != word.number {
            break;
        }
        if word.mask & single.mask != 0 {
            *wrong = Some(Doubled { pfn: next });
            *frames = &[];
            break;
        }
        word.mask |= single.mask;
        *frames = rest;
    }
    Some(word)
}
