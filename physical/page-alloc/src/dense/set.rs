//! What one CPU keeps of one zone while it is not hot, and how it comes from the zone's field and goes back there.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::cpu::At;
use super::field::Kinds;
use super::give::Doubled;
use super::magazine::{FAR, Magazine};
use super::mem::Mem;
use super::open::{NO_WORD, Open};
use super::word::{Word, ones};
use crate::free_area::KINDS;

/// Kinds of requests that are served apart, the first migrate types: unmovable, movable, reclaimable.
const COLUMNS: usize = 3;

/// Frames that are asked of the field at once: less than a word's may be scattered over many words.
const REFILL: u32 = 32;

/// Frames that a magazine may hold unless the caller says otherwise.
const LIMIT: u32 = 1024;

/// What a CPU keeps of one zone.
#[derive(Clone, Debug)]
pub struct CpuSet {
    open: [Open; COLUMNS],
    /// Whether `open` may have frames.
    is_open: bool,
    pub(super) magazine: Magazine,
    /// For each type the word behind the block that its column last took from: what lies below would be asked of the field
    /// next, so it is near. None is for types without a column.
    near: [u64; KINDS],
    limit: u32,
    /// At least as many frames as the magazine has.
    kept: u32,
    doubled: Option<Doubled>,
}

impl Default for CpuSet {
    fn default() -> Self {
        Self {
            open: [Open::EMPTY; COLUMNS],
            is_open: false,
            magazine: Magazine::new(),
            near: [0; KINDS],
            limit: LIMIT,
            kept: 0,
            doubled: None,
        }
    }
}

/// The column of a type; `None` for types whose frames a CPU does not serve requests from.
#[inline]
pub(super) const fn column_of(kind: MigrateType) -> Option<usize> {
    let number = kind as usize;
    if number < COLUMNS { Some(number) } else { None }
}

impl CpuSet {
    /// Sets how many frames the magazine may hold; all of it goes to the field somewhat earlier.
    pub fn set_limit(&mut self, frames: u32) {
        self.limit = frames;
    }

    /// A frame that turned out to have come back twice, on its way to the field; told once.
    pub fn take_doubled(&mut self) -> Option<Doubled> {
        self.doubled.take()
    }

    /// Frames here.
    pub(super) fn frames(&self) -> u64 {
        u64::from(self.magazine.frames()) + self.open.iter().map(Open::frames).sum::<u64>()
    }

    /// Takes in `frames` frames of one word that came back. Unless they lie with others of their word now, it answers which
    /// of the word's frames are free, here or nobody's, and the column that they are near for, or [`FAR`].
    ///
    /// # Errors
    /// The lowest of the frames that is free already, or here; nothing was changed.
    #[inline]
    pub(super) fn take_in<M: Mem>(
        &mut self,
        at: At<'_, M, impl Kinds>,
        word: Word,
        frames: u32,
    ) -> Result<Option<(u64, u8)>, Doubled> {
        let strangers = at.kinds.strangers(word.number);
        let mut known = at.field.free_bits(word.number) | strangers;
        if self.is_open || self.magazine.may_have(word.number) {
            known |= self.has(word.number);
            if known & word.mask == 0
                && let Some(kept) = self.magazine.find(word.number)
            {
                kept.mask |= word.mask;
                self.kept += frames;
                return Ok(None);
            }
        }
        doubled(known, word)?;
        let kind = at.kinds.kind(word.start());
        if kind == MigrateType::Isolate {
            self.give(at, word)?;
            return Ok(None);
        }
        let is_near = word.number < self.near[kind as usize % KINDS] && strangers == 0;
        Ok(Some((known, if is_near { kind as u8 } else { FAR })))
    }

    /// Gives a word to the field at once.
    #[cold]
    fn give<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word) -> Result<(), Doubled> {
        at.field.give_word(at.kinds, word).map_err(|mask| Doubled { pfn: Word { mask, ..word }.first() })
    }

    /// Keeps a word that is not here, for a column or [`FAR`].
    #[inline]
    pub(super) fn put<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, word: Word, column: u8) {
        self.kept += ones(word.mask);
        if self.magazine.put(word, column) | (self.kept > self.limit) {
            self.relieve(at);
        }
    }

    /// Makes room: gives the far words to the field if they are many, else everything; and everything if the frames are
    /// too many.
    #[inline(never)]
    fn relieve<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        if self.magazine.is_far() {
            self.flush(at);
        }
        self.kept = self.magazine.frames();
        if self.magazine.is_full() || self.kept > self.limit / 2 {
            self.spill(at);
        }
    }

    /// Gives the far words to the field.
    pub(super) fn flush<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        if let Some(words) = self.magazine.far_words() {
            let given = at.field.give_words(at.kinds, words.iter().copied());
            self.note(given);
            self.magazine.forget_far();
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
    }

    /// Gives words to the field, which a later request may ask for.
    pub(super) fn release<M: Mem>(&mut self, at: At<'_, M, impl Kinds>, words: impl IntoIterator<Item = Word>) {
        let mut lowest = NO_WORD.number;
        let words = words.into_iter().inspect(|word| lowest = lowest.min(word.number));
        let given = at.field.give_words(at.kinds, words);
        self.given(lowest, given);
    }

    /// Gives all of the magazine to the field.
    pub(super) fn spill<M: Mem>(&mut self, at: At<'_, M, impl Kinds>) {
        self.kept = 0;
        self.flush(at);
        let mut lowest = NO_WORD.number;
        let waiting = self.magazine.words().inspect(|word| lowest = lowest.min(word.number));
        let given = at.field.give_words(at.kinds, waiting);
        self.magazine.forget();
        self.given(lowest, given);
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
        self.is_open = false;
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
        let magazine = &mut self.magazine;
        at.field.take_words(at.kinds, kind, REFILL, &mut |word| {
            // Frames of it may wait for another column.
            words[len % REFILL as usize] = Word { mask: word.mask | magazine.take(word.number), ..word };
            len += 1;
        });
        let (&first, later) = words[..len].split_first()?;
        // The stack is taken from its top: the lowest is put last.
        for &word in later.iter().rev() {
            if may_open(at, word.number) {
                self.put(at, word, column as u8);
            } else {
                self.release(at, [word]);
            }
        }
        self.near[column % KINDS] = at.field.last_number(later.last().unwrap_or(&first).number) + 1;
        Some(first)
    }

    /// Which frames of a word are here.
    pub(super) fn has(&self, number: u64) -> u64 {
        self.magazine.has(number) | self.opened(number)
    }

    fn opened(&self, number: u64) -> u64 {
        if !self.is_open {
            return 0;
        }
        self.open.iter().fold(0, |mask, open| mask | open.has(number))
    }

    /// What a column has open.
    pub(super) fn column(&mut self, column: usize) -> Option<&mut Open> {
        self.is_open = true;
        self.open.get_mut(column)
    }

    /// Takes over what was hot.
    pub(super) fn put_away(&mut self, column: usize, hot: Open) {
        self.is_open |= hot.frames() != 0;
        if let Some(open) = self.open.get_mut(column) {
            *open = hot;
        }
    }

    /// What a column has open, to be hot.
    pub(super) fn bring(&mut self, column: usize) -> Open {
        let hot = self.open.get_mut(column).map_or(Open::EMPTY, |open| core::mem::replace(open, Open::EMPTY));
        self.is_open = self.open.iter().any(|open| open.frames() != 0);
        hot
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
