//! One CPU's own frames: reached through `&mut`, so nothing here is atomic and nothing waits.
//!
//! ```text
//! hot      one open word for single frames, one for small blocks, a stack of pageblock-sized blocks,
//!          of the zone and column that the last request beyond them was for
//! set      of each zone: the same for each column, and the magazine of frames that came back
//! ```
//! Single frames are taken from an open word until it is empty; then from a near word of the magazine, one at or below
//! the block that was last taken from, since the field would be asked for just these frames next; then from the field.
//!
//! Not here: which zone and column a request is served from, and when it may be; what the field does.
//!
//! # Invariants
//! 1. A frame is in at most one of: the field, an open word, a stack, a magazine of any CPU, somebody's hands.
//! 2. While a zone and column are hot, their places in the zone's set are empty.
//! 3. The hot words hold frames of one zone alone: a word that a zone shares with another, or with nobody, is never kept
//!    open.

use core::fmt;

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::field::{Field, Kinds};
use super::give::{Batch, Doubled};
use super::magazine::{COLUMNS, Magazine, Put};
use super::mem::Mem;
use super::word::{Word, block_mask, runs};

/// The largest order that an open word serves.
const OPEN_ORDER: u8 = 5;

/// The order of blocks that are kept on a stack.
const STACK_ORDER: u8 = 9;

/// Blocks of a stack.
const STACK: usize = 2;

/// Frames that are asked of the field at once: less than a word's may be scattered over many words.
const REFILL: u32 = 32;

/// Frames that a magazine may hold unless the caller says otherwise.
const LIMIT: u32 = 1024;

/// Frames that come to or leave the field before its level is told.
const OWED: u32 = 64;

/// No word: no frame has this number.
const NONE: u64 = u64::MAX;

/// What a column of a zone keeps open.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// For single frames.
    single: Word,
    /// For blocks of orders 1 to 5.
    small: Word,
    /// Blocks of order 9, as first frames.
    stack: [u64; STACK],
    height: usize,
}

impl Open {
    const EMPTY: Self = Self {
        single: Word { number: NONE, mask: 0 },
        small: Word { number: NONE, mask: 0 },
        stack: [0; STACK],
        height: 0,
    };

    fn frames(&self) -> u64 {
        u64::from(self.single.frames()) + u64::from(self.small.frames()) + ((self.height as u64) << STACK_ORDER)
    }

    #[inline]
    fn take_single(&mut self) -> Option<Pfn> {
        let mask = self.single.mask;
        if mask == 0 {
            return None;
        }
        self.single.mask = mask & (mask - 1);
        Some(Word { mask, ..self.single }.first())
    }

    #[inline]
    fn take_small(&mut self, order: u8) -> Option<Pfn> {
        let found = runs(self.small.mask, order);
        if found == 0 {
            return None;
        }
        let taken = Word { mask: found, ..self.small }.first();
        self.small.mask &= !(block_mask(order) << (taken.0 % 64));
        Some(taken)
    }

    #[inline]
    fn take_stacked(&mut self) -> Option<Pfn> {
        self.height = self.height.checked_sub(1)?;
        Some(Pfn(self.stack[self.height % STACK]))
    }

    #[inline]
    fn take(&mut self, order: u8) -> Option<Pfn> {
        match order {
            0 => self.take_single(),
            1..=OPEN_ORDER => self.take_small(order),
            STACK_ORDER => self.take_stacked(),
            _ => None,
        }
    }
}

/// What a CPU keeps of one zone.
#[derive(Clone, Debug)]
pub struct CpuSet {
    open: [Open; COLUMNS],
    magazine: Magazine,
    /// For each column the last word of the block that was last taken from: what lies at or below it is near.
    frontier: [u64; COLUMNS],
    limit: u32,
    /// Frames that the field has and its level does not count yet.
    owed: u32,
    doubled: Option<Doubled>,
}

impl Default for CpuSet {
    fn default() -> Self {
        Self {
            open: [Open::EMPTY; COLUMNS],
            magazine: Magazine::new(),
            frontier: [0; COLUMNS],
            limit: LIMIT,
            owed: 0,
            doubled: None,
        }
    }
}

/// The column of a type; `None` for types whose frames a CPU does not serve requests from.
const fn column_of(kind: MigrateType) -> Option<usize> {
    match kind {
        MigrateType::Unmovable => Some(0),
        MigrateType::Movable => Some(1),
        MigrateType::Reclaimable => Some(2),
        MigrateType::HighAtomic | MigrateType::Cma | MigrateType::Isolate => None,
    }
}

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
#[derive(Clone)]
pub struct CpuFrames<S> {
    key: u64,
    hot: Open,
    /// Set and column that are hot.
    zone: usize,
    column: usize,
    /// The block that was last taken from the hot stack.
    last: u64,
    sets: S,
}

impl<S> fmt::Debug for CpuFrames<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuFrames").field("hot", &self.hot).finish_non_exhaustive()
    }
}

/// Whether a word lies in a zone as a whole.
fn is_inner<M: Mem>(field: &Field<M>, number: u64) -> bool {
    let shape = field.shape();
    number * 64 >= shape.start.0 && number * 64 + 64 <= shape.end.0
}

/// Whether a word may be kept open: all its frames were handed over to the zone.
fn may_open<M: Mem>(at: At<'_, M, impl Kinds>, number: u64) -> bool {
    is_inner(at.field, number) && !at.kinds.has_strangers(number)
}

impl CpuSet {
    /// Sets how many frames the magazine may hold before all of it goes to the field.
    pub fn set_limit(&mut self, frames: u32) {
        self.limit = frames;
    }

    /// A frame that turned out to have come back twice, on its way to the field; told once.
    pub fn take_doubled(&mut self) -> Option<Doubled> {
        self.doubled.take()
    }

    /// Frames here, those that are hot not counted.
    fn frames(&self) -> u64 {
        u64::from(self.magazine.frames()) + self.open.iter().map(Open::frames).sum::<u64>()
    }

    fn near<M: Mem>(&self, at: At<'_, M, impl Kinds>, word: Word) -> Option<usize> {
        let column = column_of(at.kinds.kind(word.first()))?;
        (word.number <= self.frontier[column] && is_inner(at.field, word.number)).then_some(column)
    }

    /// Takes frames that came back.
    ///
    /// # Errors
    /// Those of them that were here already; nothing was changed.
    #[inline]
    fn keep<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) -> Result<(), u64> {
        let near = self.near(at, word);
        match self.magazine.put(word, near) {
            Put::Kept => {}
            Put::Out(out, was_near) => {
                if was_near {
                    self.draw_back(out.number);
                }
                self.give(at, [out]);
            }
            Put::Doubled(mask) => return Err(mask),
        }
        if self.magazine.frames() > self.limit {
            self.spill(at);
        }
        Ok(())
    }

    /// The field has free frames at `number` now.
    fn draw_back(&mut self, number: u64) {
        for frontier in &mut self.frontier {
            *frontier = number.min(*frontier);
        }
    }

    /// Gives words to the field.
    #[inline]
    fn give<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, words: impl IntoIterator<Item = Word>) {
        let mut batch = Batch::new();
        for word in words {
            let doubled = batch.give(at.field, at.kinds, word);
            if doubled != 0 {
                self.doubled = Some(Doubled { pfn: Word { mask: doubled, ..word }.first() });
            }
        }
        self.owed += batch.end(at.field, at.kinds);
        if self.owed >= OWED {
            self.settle(at);
        }
    }

    fn settle<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        at.field.raise_level(core::mem::take(&mut self.owed));
    }

    /// Gives all of the magazine to the field.
    fn spill<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        let mut magazine = core::mem::replace(&mut self.magazine, Magazine::new());
        let mut lowest = NONE;
        let words = core::iter::from_fn(|| magazine.take_any()).inspect(|word| lowest = lowest.min(word.number));
        self.give(at, words);
        self.draw_back(lowest);
        self.settle(at);
    }

    /// Gives all that a column keeps open to the field.
    fn close<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, open: &Open) {
        let words = [open.single, open.small];
        self.give(at, words.into_iter().filter(|word| word.mask != 0));
        for &first in open.stack.iter().take(open.height) {
            let numbers = first / 64..(first >> 6) + (1 << (STACK_ORDER - 6));
            self.give(at, numbers.map(|number| Word { number, mask: !0 }));
        }
        let lowest = words.iter().filter(|word| word.mask != 0).map(|word| word.number).min();
        lowest.into_iter().for_each(|number| self.draw_back(number));
    }

    /// Words for single frames from the field: the lowest is opened, the others wait in the magazine.
    fn refill<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, column: usize, kind: MigrateType) -> Option<Word> {
        let mut opened: Option<Word> = None;
        let mut words = [Word::default(); REFILL as usize];
        let mut len = 0;
        at.field.take_words(at.kinds, kind, REFILL, &mut |word| {
            words[len % REFILL as usize] = word;
            len += 1;
        });
        for &word in words[..len].iter().rev() {
            if let Some(later) = opened.replace(word) {
                self.wait(at, column, later);
            }
        }
        let last = *words[..len].last()?;
        let block = (1 << (at.field.shape().block_order() - 6)) - 1;
        self.frontier[column] = last.number | block;
        opened
    }

    /// Keeps a word that was taken from the field for the next requests of a column.
    fn wait<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, column: usize, word: Word) {
        match self.magazine.put(word, Some(column)) {
            Put::Kept => {}
            Put::Out(out, was_near) => {
                if was_near {
                    self.draw_back(out.number);
                }
                self.give(at, [out]);
            }
            Put::Doubled(mask) => self.doubled = Some(Doubled { pfn: Word { mask, ..word }.first() }),
        }
    }
}

impl<S: AsRef<[CpuSet]> + AsMut<[CpuSet]>> CpuFrames<S> {
    /// No frames; `sets` are empty sets, one for each zone.
    #[must_use]
    pub const fn new(sets: S) -> Self {
        Self { key: NONE, hot: Open::EMPTY, zone: 0, column: 0, last: NONE, sets }
    }

    /// Takes a block from what is hot, if `key` is that of the last request that went beyond it: `None` says that
    /// [`CpuFrames::alloc`] must be asked.
    #[inline]
    pub fn alloc_hot(&mut self, key: u64, order: u8) -> Option<Pfn> {
        if key != self.key {
            return None;
        }
        if order == 0 {
            return self.hot.take_single();
        }
        let taken = self.hot.take(order)?;
        if order == STACK_ORDER {
            self.last = taken.0;
        }
        Some(taken)
    }

    /// Gives a block back to what is hot; `None` says that it belongs elsewhere, and [`CpuFrames::free`] must be asked.
    ///
    /// # Errors
    /// The first frame that is free already; nothing was changed.
    #[inline]
    pub fn free_hot(&mut self, pfn: Pfn, order: u8) -> Option<Result<(), Doubled>> {
        let number = pfn.0 / 64;
        if order == 0 {
            if number != self.hot.single.number {
                return None;
            }
            let bit = 1 << (pfn.0 % 64);
            if self.hot.single.mask & bit != 0 {
                return Some(Err(Doubled { pfn }));
            }
            self.hot.single.mask |= bit;
            return Some(Ok(()));
        }
        if order <= OPEN_ORDER && number == self.hot.small.number {
            return Some(put_back(&mut self.hot.small, Word::of(pfn, order)));
        }
        if order == STACK_ORDER && pfn.0 == self.last && self.hot.height < STACK {
            self.last = NONE;
            self.hot.stack[self.hot.height % STACK] = pfn.0;
            self.hot.height += 1;
            return Some(Ok(()));
        }
        None
    }

    /// Makes a zone and a column hot.
    fn warm(&mut self, zone: usize, column: usize) {
        if (self.zone, self.column) == (zone, column) {
            return;
        }
        self.cool();
        self.zone = zone;
        self.column = column;
        if let Some(open) = self.sets.as_mut().get_mut(zone).and_then(|set| set.open.get_mut(column)) {
            self.hot = core::mem::replace(open, Open::EMPTY);
        }
    }

    /// Puts what is hot back into its set.
    fn cool(&mut self) {
        self.key = NONE;
        self.last = NONE;
        let hot = core::mem::replace(&mut self.hot, Open::EMPTY);
        let set = self.sets.as_mut().get_mut(self.zone);
        if let Some(open) = set.and_then(|set| set.open.get_mut(self.column)) {
            *open = hot;
        }
    }

    /// Takes a block of a zone: from the CPU's own frames, else from the field. Makes the zone and the column hot.
    /// `None` if neither has one.
    pub fn alloc<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want) -> Option<Pfn> {
        let Want { key, column, kind, order } = want;
        let Some(column) = column_of(column) else { return at.field.take_run(at.kinds, kind, order) };
        if at.zone >= self.sets.as_ref().len() || self.sets.as_ref().len() <= self.zone {
            return at.field.take_run(at.kinds, kind, order);
        }
        self.warm(at.zone, column);
        self.key = key;
        let taken = match order {
            0 => self.single(at, kind),
            1..=OPEN_ORDER => self.small(at, kind, order),
            _ => self.hot.take(order).or_else(|| at.field.take_run(at.kinds, kind, order)),
        };
        let taken = taken.or_else(|| self.last_resort(at, kind, order))?;
        if order == STACK_ORDER {
            self.last = taken.0;
        }
        Some(taken)
    }

    fn single<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType) -> Option<Pfn> {
        if let Some(pfn) = self.hot.take_single() {
            return Some(pfn);
        }
        let set = self.sets.as_mut().get_mut(at.zone)?;
        let near = set.magazine.take_near(self.column);
        self.hot.single = near.or_else(|| set.refill(at, self.column, kind))?;
        let taken = self.hot.take_single();
        if !may_open(at, self.hot.single.number) {
            let rest = core::mem::replace(&mut self.hot.single, Open::EMPTY.single);
            if rest.mask != 0 {
                set.give(at, [rest]);
                set.draw_back(rest.number);
            }
        }
        taken
    }

    fn small<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType, order: u8) -> Option<Pfn> {
        if let Some(pfn) = self.hot.take_small(order) {
            return Some(pfn);
        }
        let set = self.sets.as_mut().get_mut(at.zone)?;
        let near = set.magazine.take_fitting(self.column, |mask| runs(mask, order) != 0);
        let word = near.or_else(|| at.field.take_word_with(at.kinds, kind, order))?;
        let old = core::mem::replace(&mut self.hot.small, word);
        if old.mask != 0 {
            set.wait(at, self.column, old);
        }
        let taken = self.hot.take_small(order);
        if !may_open(at, word.number) {
            let rest = core::mem::replace(&mut self.hot.small, Open::EMPTY.small);
            set.give(at, [rest].into_iter().filter(|word| word.mask != 0));
        }
        taken
    }

    /// Gives everything of the zone back to the field, if that may help, and asks it once more.
    fn last_resort<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType, order: u8) -> Option<Pfn> {
        let key = self.key;
        let set = self.sets.as_mut().get_mut(at.zone)?;
        if set.magazine.frames() == 0 {
            return None;
        }
        set.spill(at);
        self.key = key;
        at.field.take_run(at.kinds, kind, order)
    }

    /// Gives a block back to the zone that it is of.
    ///
    /// # Errors
    /// The first frame that is free already, in the field or here; nothing was changed.
    pub fn free<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        if pfn.0 >> STACK_ORDER == self.last >> STACK_ORDER {
            self.last = NONE;
        }
        if order > OPEN_ORDER {
            return self.free_large(at, pfn, order);
        }
        let word = Word::of(pfn, order);
        let free = at.field.free_mask(word.number) & word.mask;
        if free != 0 {
            return Err(Doubled { pfn: Word { mask: free, ..word }.first() });
        }
        let kind = at.kinds.kind(pfn);
        if let Some(open) = self.open_of(at.zone, kind) {
            if open.single.number == word.number {
                return put_back(&mut open.single, word);
            }
            if open.small.number == word.number {
                return put_back(&mut open.small, word);
            }
        }
        match self.sets.as_mut().get_mut(at.zone) {
            Some(set) if kind != MigrateType::Isolate => {
                set.keep(at, word).map_err(|mask| Doubled { pfn: Word { mask, ..word }.first() })
            }
            _ => at.field.give_run(at.kinds, pfn, order),
        }
    }

    /// What the column of a type keeps open in a zone.
    #[inline]
    fn open_of(&mut self, zone: usize, kind: MigrateType) -> Option<&mut Open> {
        let column = column_of(kind)?;
        if (zone, column) == (self.zone, self.column) {
            return Some(&mut self.hot);
        }
        self.sets.as_mut().get_mut(zone)?.open.get_mut(column)
    }

    fn free_large<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        let shape = *at.field.shape();
        let fits = order == STACK_ORDER && shape.block_order() == STACK_ORDER;
        let Some(open) = (if fits { self.open_of(at.zone, at.kinds.kind(pfn)) } else { None }) else {
            return at.field.give_run(at.kinds, pfn, order);
        };
        if open.stack.iter().take(open.height).any(|&first| first == pfn.0) || at.field.is_free(pfn) {
            return Err(Doubled { pfn });
        }
        if open.height == STACK {
            return at.field.give_run(at.kinds, pfn, order);
        }
        open.stack[open.height % STACK] = pfn.0;
        open.height += 1;
        Ok(())
    }

    /// Takes single frames of a zone into `out` until it is full or neither the CPU nor the field has more; how many came.
    pub fn alloc_bulk<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want, out: &mut [Pfn]) -> usize {
        let mut done = 0;
        let block = 1_usize << at.field.shape().block_order();
        while done < out.len() {
            let left = &mut out[done..];
            let is_large = left.len() >= block && !self.has_near(at.zone, want.column);
            if let Some(first) = if is_large { at.field.take_next_block(at.kinds, want.kind) } else { None } {
                for (place, pfn) in left[..block].iter_mut().zip(first.0..) {
                    *place = Pfn(pfn);
                }
                done += block;
                continue;
            }
            let Some(pfn) = self.alloc(at, Want { order: 0, ..want }) else { break };
            left[0] = pfn;
            done += 1;
            done += self.empty_hot(&mut out[done..]);
        }
        done
    }

    fn has_near(&self, zone: usize, column: MigrateType) -> bool {
        let Some(column) = column_of(column) else { return false };
        let is_hot = (self.zone, self.column) == (zone, column) && self.hot.single.mask != 0;
        is_hot || self.sets.as_ref().get(zone).is_some_and(|set| set.magazine.has_near(column))
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
        let Some(set) = self.sets.as_mut().get_mut(at.zone) else { return give_all(at, frames) };
        let mut lowest = NONE;
        let mut found = None;
        set.give(at, Gathered { frames, doubled: &mut found }.inspect(|word| lowest = lowest.min(word.number)));
        set.draw_back(lowest);
        set.settle(at);
        found.or(set.doubled.take()).map_or(Ok(()), Err)
    }

    /// Gives all that the CPU keeps of a zone back to the field.
    ///
    /// # Errors
    /// A frame that came back twice; everything was given back.
    pub fn drain<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        if self.zone == at.zone {
            self.cool();
        }
        let Some(set) = self.sets.as_mut().get_mut(at.zone) else { return Ok(()) };
        for column in 0..COLUMNS {
            let open = core::mem::replace(&mut set.open[column], Open::EMPTY);
            set.close(at, &open);
        }
        set.spill(at);
        set.doubled.take().map_or(Ok(()), Err)
    }

    /// Frames that the CPU keeps of a zone.
    #[must_use]
    pub fn count(&self, zone: usize) -> u64 {
        let hot = if zone == self.zone { self.hot.frames() } else { 0 };
        hot + self.sets.as_ref().get(zone).map_or(0, CpuSet::frames)
    }

    /// The sets, for the limits of their magazines.
    pub fn sets(&mut self) -> &mut [CpuSet] {
        self.sets.as_mut()
    }
}

/// Puts frames back into an open word.
#[inline]
fn put_back(open: &mut Word, word: Word) -> Result<(), Doubled> {
    let doubled = open.mask & word.mask;
    if doubled != 0 {
        return Err(Doubled { pfn: Word { mask: doubled, ..word }.first() });
    }
    open.mask |= word.mask;
    Ok(())
}

fn give_all<M: Mem>(at: At<'_, M, impl Kinds>, frames: &[Pfn]) -> Result<(), Doubled> {
    frames.iter().try_for_each(|&pfn| at.field.give_run(at.kinds, pfn, 0))
}

/// Single frames gathered to words as long as they lie in one; ends before a frame that comes a second time.
struct Gathered<'a> {
    frames: &'a [Pfn],
    doubled: &'a mut Option<Doubled>,
}

impl Iterator for Gathered<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let (&first, rest) = self.frames.split_first()?;
        let mut word = Word::of(first, 0);
        let mut left = rest;
        while let Some((&next, rest)) = left.split_first() {
            let bit = 1 << (next.0 % 64);
            if next.0 / 64 != word.number {
                break;
            }
            if word.mask & bit != 0 {
                *self.doubled = Some(Doubled { pfn: next });
                left = &[];
                break;
            }
            word.mask |= bit;
            left = rest;
        }
        self.frames = left;
        Some(word)
    }
}
