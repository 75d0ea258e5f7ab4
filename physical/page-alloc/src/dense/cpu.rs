//! One CPU's own frames: reached through `&mut`, so nothing here is atomic and nothing waits.
//!
//! ```text
//! hot      of the zone and column that the last request beyond it was for: one open word for single frames, one for
//!          small blocks, a stack of blocks of order 9; and the word that frames came back to last
//! set      of each zone: the same for each column, and the magazine of frames that came back
//! ```
//! Single frames are taken from an open word until it is empty; then from a near word that came back, one at or below
//! the block that was last taken from, since the field would be asked for just these frames next; then from the field.
//!
//! Not here: which zone and column a request is served from, and when it may be; what the field does.
//!
//! # Invariants
//! 1. A frame is in at most one of: the field, an open word, a stack, a magazine of any CPU, somebody's hands.
//! 2. While a zone and column are hot, their places in the zone's set are empty.
//! 3. Words that are hot hold frames of one zone alone: a word at a zone's edge is neither left open nor comes back here,
//!    and one with frames that are nobody's is not left open.

use core::fmt;

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::field::{Field, Kinds};
use super::give::Doubled;
use super::mem::Mem;
use super::open::{NO_WORD, NONE, OPEN_ORDER, Open, STACK_ORDER, put_back};
use super::set::{CpuSet, Gathered, column_of, doubled};
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

/// Whether a word may be kept open: all its frames were handed over to the zone.
#[inline]
fn may_open<M: Mem>(at: At<'_, M, impl Kinds>, number: u64) -> bool {
    at.field.is_inner(number) && at.kinds.strangers(number) == 0
}

/// One CPU's frames, a set for each zone.
#[derive(Clone)]
pub struct CpuFrames<S> {
    key: u64,
    hot: Open,
    /// The word that frames of the hot zone came back to last.
    back: Word,
    /// Which of that word's frames were free or nobody's when it became so.
    known: u64,
    /// The block that was last taken from the hot stack.
    last: u64,
    /// Set and column that are hot.
    zone: usize,
    column: usize,
    sets: S,
}

impl<S> fmt::Debug for CpuFrames<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuFrames").field("hot", &self.hot).field("back", &self.back).finish_non_exhaustive()
    }
}

impl<S: AsRef<[CpuSet]> + AsMut<[CpuSet]>> CpuFrames<S> {
    /// No frames; `sets` are empty sets, one for each zone.
    #[must_use]
    pub const fn new(sets: S) -> Self {
        Self { key: NONE, hot: Open::EMPTY, back: NO_WORD, known: 0, last: NONE, zone: 0, column: 0, sets }
    }

    /// Takes a block from what is hot, if `key` is that of the last request that went beyond it: `None` says that
    /// [`CpuFrames::alloc`] must be asked.
    #[inline]
    pub fn alloc_hot(&mut self, key: u64, order: u8) -> Option<Pfn> {
        if key != self.key {
            return None;
        }
        match order {
            0 => self.hot.take_single(),
            1..=OPEN_ORDER => self.hot.take_small(order),
            STACK_ORDER => {
                let taken = self.hot.take_stacked()?;
                self.last = taken.0;
                Some(taken)
            }
            _ => None,
        }
    }

    /// Gives a block back to what is hot; `None` says that it belongs elsewhere, and [`CpuFrames::free`] must be asked.
    ///
    /// # Errors
    /// The first frame that is free already; nothing was changed.
    #[inline]
    pub fn free_hot(&mut self, pfn: Pfn, order: u8) -> Option<Result<(), Doubled>> {
        let number = pfn.0 / WORD_FRAMES;
        if order == 0 {
            let bit = 1 << (pfn.0 % WORD_FRAMES);
            if number == self.hot.single.number {
                if self.hot.single.mask & bit != 0 {
                    return Some(Err(Doubled { pfn }));
                }
                self.hot.single.mask |= bit;
                return Some(Ok(()));
            }
            if number == self.back.number && (self.back.mask | self.known) & bit == 0 {
                self.back.mask |= bit;
                return Some(Ok(()));
            }
            return None;
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

    /// Makes a zone and a column hot.
    #[inline]
    fn warm(&mut self, zone: usize, column: usize) {
        if (self.zone, self.column) != (zone, column) {
            self.change(zone, column);
        }
    }

    fn change(&mut self, zone: usize, column: usize) {
        self.cool();
        self.zone = zone;
        self.column = column;
        let Some(set) = self.sets.as_mut().get_mut(zone) else { return };
        self.back = core::mem::replace(&mut set.back, NO_WORD);
        // What was known of it may be so no longer: nobody comes back to it unlooked at.
        self.known = !0;
        if let Some(open) = set.open.get_mut(column) {
            self.hot = core::mem::replace(open, Open::EMPTY);
        }
    }

    /// Puts what is hot back into its set.
    fn cool(&mut self) {
        self.key = NONE;
        self.last = NONE;
        let hot = core::mem::replace(&mut self.hot, Open::EMPTY);
        let back = core::mem::replace(&mut self.back, NO_WORD);
        let Some(set) = self.sets.as_mut().get_mut(self.zone) else { return };
        set.back = back;
        if let Some(open) = set.open.get_mut(self.column) {
            *open = hot;
        }
    }

    /// Takes a block of a zone: from the CPU's own frames, else from the field. Makes the zone and the column hot.
    /// `None` if neither has one; for larger blocks, frames that the CPU keeps are not joined to find one.
    #[inline]
    pub fn alloc<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want) -> Option<Pfn> {
        let Want { key, column, kind, order } = want;
        let column = column_of(column).filter(|_| at.zone < self.sets.as_ref().len());
        let Some(column) = column else { return at.field.take_run(at.kinds, kind, order) };
        self.warm(at.zone, column);
        self.key = key;
        match order {
            0 => self.single(at, kind),
            1..=OPEN_ORDER => self.small(at, kind, order),
            STACK_ORDER => {
                let taken = self.hot.take_stacked().or_else(|| at.field.take_run(at.kinds, kind, order))?;
                self.last = taken.0;
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
            let set = self.sets.as_mut().get_mut(at.zone)?;
            set.release(at, Some(rest).filter(|word| word.mask != 0));
        }
        taken
    }

    /// Opens a word for single frames.
    #[inline]
    fn open_single<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, kind: MigrateType) -> Option<()> {
        let set = self.sets.as_mut().get_mut(at.zone)?;
        if self.back.mask != 0 && set.near(at, self.back) == Some(self.column) {
            self.hot.single = core::mem::replace(&mut self.back, NO_WORD);
            return Some(());
        }
        let near = set.magazine.take_near(self.column);
        if let Some(word) = near.or_else(|| set.refill(at, self.column, kind)) {
            self.hot.single = word;
            return Some(());
        }
        // Frames that came back and are not near: the field must have them before they are found by type.
        if set.magazine.frames() + self.back.frames() == 0 {
            return None;
        }
        set.release(at, Some(core::mem::replace(&mut self.back, NO_WORD)).filter(|word| word.mask != 0));
        set.spill(at);
        self.hot.single = set.refill(at, self.column, kind)?;
        Some(())
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
            let rest = core::mem::replace(&mut self.hot.small, NO_WORD);
            set.release(at, Some(rest).filter(|word| word.mask != 0));
        }
        taken
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
        let is_hot = at.zone == self.zone;
        if is_hot && let Some(open) = self.hot.word(word.number) {
            return put_back(open, word);
        }
        if !at.field.is_inner(word.number) || at.kinds.kind(pfn) == MigrateType::Isolate {
            return at.field.give_run(at.kinds, pfn, order);
        }
        let Some(set) = self.sets.as_mut().get_mut(at.zone) else { return at.field.give_run(at.kinds, pfn, order) };
        let known = set.known(at, word.number) | at.kinds.strangers(word.number);
        doubled(known, word)?;
        if is_hot && self.back.number == word.number {
            self.known = known;
            return put_back(&mut self.back, word);
        }
        // A word is in one place: what the magazine has of it comes along.
        let mut whole = Word { mask: set.magazine.take_out(word.number), ..word };
        let put = put_back(&mut whole, word);
        if !is_hot || put.is_err() {
            set.keep(at, whole);
            return put;
        }
        self.known = known;
        let old = core::mem::replace(&mut self.back, whole);
        if old.mask != 0 {
            set.keep(at, old);
        }
        Ok(())
    }

    fn free_large<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, pfn: Pfn, order: u8) -> Result<(), Doubled> {
        let kind = at.kinds.kind(pfn);
        let fits = order == STACK_ORDER && at.field.shape().block_order() == STACK_ORDER;
        let column = column_of(kind).filter(|_| fits);
        let is_hot = at.zone == self.zone && column == Some(self.column);
        let set = self.sets.as_mut().get_mut(at.zone);
        let open =
            if is_hot { Some(&mut self.hot) } else { column.zip(set).map(|(column, set)| &mut set.open[column]) };
        let Some(open) = open else { return at.field.give_run(at.kinds, pfn, order) };
        if open.is_stacked(pfn) || at.field.is_free(pfn) {
            return Err(Doubled { pfn });
        }
        if open.stack(pfn) { Ok(()) } else { at.field.give_run(at.kinds, pfn, order) }
    }

    /// Takes single frames of a zone into `out` until it is full or neither the CPU nor the field has more; how many came.
    pub fn alloc_bulk<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, want: Want, out: &mut [Pfn]) -> usize {
        let mut done = 0;
        let block = 1_usize << at.field.shape().block_order();
        while done < out.len() {
            let left = &mut out[done..];
            let is_large = left.len() >= block && !self.has_near(at.zone, want.column);
            if let Some(first) = if is_large { at.field.take_next_block(at.kinds, want.kind) } else { None } {
                left[..block].iter_mut().zip(first.0..).for_each(|(place, pfn)| *place = Pfn(pfn));
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
        let Some(set) = self.sets.as_mut().get_mut(at.zone) else {
            return frames.iter().try_for_each(|&pfn| at.field.give_run(at.kinds, pfn, 0));
        };
        let mut found = None;
        set.release(at, Gathered { frames, doubled: &mut found });
        found.or(set.take_doubled()).map_or(Ok(()), Err)
    }

    /// Gives all that the CPU keeps of a zone back to the field.
    ///
    /// # Errors
    /// A frame that came back twice; everything was given back.
    pub fn drain<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        if self.zone == at.zone {
            self.cool();
        }
        self.sets.as_mut().get_mut(at.zone).map_or(Ok(()), |set| set.drain(at))
    }

    /// Frames that the CPU keeps of a zone.
    #[must_use]
    pub fn count(&self, zone: usize) -> u64 {
        let hot = if zone == self.zone { self.hot.frames() + u64::from(self.back.frames()) } else { 0 };
        hot + self.sets.as_ref().get(zone).map_or(0, CpuSet::frames)
    }

    /// The sets, for the limits of their magazines.
    pub fn sets(&mut self) -> &mut [CpuSet] {
        self.sets.as_mut()
    }
}
