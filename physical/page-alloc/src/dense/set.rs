//! What one CPU keeps of one zone while it is not hot, and how it comes from the zone's field and goes back there.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::cpu::At;
use super::field::Kinds;
use super::give::{Batch, Doubled};
use super::magazine::{COLUMNS, Magazine};
use super::mem::Mem;
use super::open::{NO_WORD, Open};
use super::word::Word;

/// Frames that are asked of the field at once: less than a word's may be scattered over many words.
const REFILL: u32 = 32;

/// Frames that a magazine may hold unless the caller says otherwise.
const LIMIT: u32 = 1024;

/// Frames that may come to the field before its level is told.
const OWED: u32 = 64;

/// What a CPU keeps of one zone.
#[derive(Clone, Debug)]
pub struct CpuSet {
    pub(super) open: [Open; COLUMNS],
    /// The word that frames came back to last.
    pub(super) back: Word,
    pub(super) magazine: Magazine,
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
            back: NO_WORD,
            magazine: Magazine::new(),
            frontier: [0; COLUMNS],
            limit: LIMIT,
            owed: 0,
            doubled: None,
        }
    }
}

/// The column of a type; `None` for types whose frames a CPU does not serve requests from.
#[inline]
pub(super) const fn column_of(kind: MigrateType) -> Option<usize> {
    match kind {
        MigrateType::Unmovable => Some(0),
        MigrateType::Movable => Some(1),
        MigrateType::Reclaimable => Some(2),
        MigrateType::HighAtomic | MigrateType::Cma | MigrateType::Isolate => None,
    }
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

    /// Frames here.
    pub(super) fn frames(&self) -> u64 {
        let words = u64::from(self.magazine.frames()) + u64::from(self.back.frames());
        words + self.open.iter().map(Open::frames).sum::<u64>()
    }

    /// The column whose next requests would get these frames from the field.
    #[inline]
    pub(super) fn near<M: Mem>(&self, at: At<'_, M, impl Kinds>, word: Word) -> Option<usize> {
        let column = column_of(at.kinds.kind(word.first()))?;
        (word.number <= self.frontier[column]).then_some(column)
    }

    /// Takes in a word that came back and is not here.
    #[inline]
    pub(super) fn keep<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) {
        let near = self.near(at, word);
        if let Some((out, was_near)) = self.magazine.put(word, near) {
            self.put_out(at, out, was_near);
        }
        if self.magazine.frames() > self.limit {
            self.spill(at);
        }
    }

    /// Keeps a word for the next requests of a column.
    pub(super) fn wait<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, column: usize, word: Word) {
        if let Some(out) = self.magazine.wait(word, column) {
            self.put_out(at, out, true);
        }
    }

    #[inline]
    fn put_out<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, out: Word, was_near: bool) {
        if was_near {
            self.draw_back(out.number);
        }
        self.give(at, [out]);
    }

    /// The field has free frames at `number` now.
    pub(super) fn draw_back(&mut self, number: u64) {
        for frontier in &mut self.frontier {
            *frontier = number.min(*frontier);
        }
    }

    /// Gives words to the field.
    #[inline]
    pub(super) fn give<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, words: impl IntoIterator<Item = Word>) {
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

    /// Tells the field's level what it was given.
    pub(super) fn settle<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        at.field.raise_level(core::mem::take(&mut self.owed));
    }

    /// Gives words to the field, which a later request may ask for.
    pub(super) fn release<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, words: impl IntoIterator<Item = Word>) {
        let mut lowest = NO_WORD.number;
        self.give(at, words.into_iter().inspect(|word| lowest = lowest.min(word.number)));
        self.draw_back(lowest);
        self.settle(at);
    }

    /// Gives all of the magazine to the field.
    pub(super) fn spill<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        let mut magazine = core::mem::replace(&mut self.magazine, Magazine::new());
        self.release(at, core::iter::from_fn(|| magazine.take_any()));
    }

    /// Gives everything to the field.
    ///
    /// # Errors
    /// A frame that had come back twice.
    pub(super) fn drain<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) -> Result<(), Doubled> {
        for column in 0..COLUMNS {
            let open = core::mem::replace(&mut self.open[column], Open::EMPTY);
            self.release(at, open.words());
        }
        let back = core::mem::replace(&mut self.back, NO_WORD);
        self.release(at, Some(back).filter(|word| word.mask != 0));
        self.spill(at);
        self.doubled.take().map_or(Ok(()), Err)
    }

    /// Takes words for single frames from the field: the lowest is answered, the others wait.
    pub(super) fn refill<M: Mem>(
        &mut self,
        at: At<'_, M, impl Kinds>,
        column: usize,
        kind: MigrateType,
    ) -> Option<Word> {
        let mut words = [NO_WORD; REFILL as usize];
        let mut len = 0;
        at.field.take_words(at.kinds, kind, REFILL, &mut |word| {
            words[len % REFILL as usize] = word;
            len += 1;
        });
        let (&first, later) = words[..len].split_first()?;
        // The stack is taken from its top: the lowest is put last.
        later.iter().rev().for_each(|&word| self.wait(at, column, word));
        self.frontier[column] = at.field.last_number(later.last().unwrap_or(&first).number);
        Some(first)
    }

    /// Which frames of a word are free already, or here, in the open words or waiting; those in the table of the magazine
    /// are not among them.
    #[inline]
    pub(super) fn known<M: Mem>(&self, at: At<'_, M, impl Kinds>, number: u64) -> u64 {
        let open = self.open.iter().flat_map(|open| [open.single, open.small]);
        let open = open.fold(0, |mask, word| if word.number == number { mask | word.mask } else { mask });
        let back = if self.back.number == number { self.back.mask } else { 0 };
        at.field.free_mask(number) | self.magazine.waiting(number) | open | back
    }
}

/// # Errors
/// The lowest of the frames of `word` that `known` has.
#[inline]
pub(super) fn doubled(known: u64, word: Word) -> Result<(), Doubled> {
    let mask = known & word.mask;
    if mask == 0 { Ok(()) } else { Err(Doubled { pfn: Word { mask, ..word }.first() }) }
}

/// The frames of a slice gathered to words, as long as they lie in one; ends before a frame that comes a second time.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub frames: &'a [Pfn],
    pub doubled: &'a mut Option<Doubled>,
}

impl Iterator for Gathered<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        let (&first, rest) = self.frames.split_first()?;
        let mut word = Word::of(first, 0);
        let mut left = rest;
        while let Some((&next, rest)) = left.split_first() {
            let single = Word::of(next, 0);
            if single.number != word.number {
                break;
            }
            if word.mask & single.mask != 0 {
                *self.doubled = Some(Doubled { pfn: next });
                left = &[];
                break;
            }
            word.mask |= single.mask;
            left = rest;
        }
        self.frames = left;
        Some(word)
    }
}
