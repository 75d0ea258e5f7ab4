//! The field of one zone: entries, and their moves between classes.
//!
//! Here: [`Field`] and what every taker and giver shares. Not here: hand-over (`handover`), giving (`give`), taking
//! (`take`), which block is taken from (`search`), what reports ask (`census`).

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use kernmem_sparse::MigrateType;

use super::entry::{Class, LAZY, WRITTEN};
use super::give::{FIRST, FULL, RUN, RUN_ORDER, words_of};
use super::index::{Bitmap, Trees};
use super::mem::{CHUNK_LINES, LINE_WORDS, Mem};
use super::shape::{Cut, Shape};
use super::word::{WORD_FRAMES, runs};

/// What pageblocks are meant for.
///
/// A type that changes is told to the field afterwards: [`Field::retyped`].
pub trait Kinds {
    /// The type of the pageblock of a frame of the zone.
    fn kind(&self, pfn: Pfn) -> MigrateType;

    /// Up to where the frames `[start, end)` are surely of the type that `start` is of, as far as that is known at a
    /// glance; `start` if it is not.
    fn alike(&self, start: Pfn, _end: Pfn) -> Pfn {
        start
    }

    /// Which of the 64 frames that begin at `64 * number` were never handed over: to give such a frame back is foreign,
    /// which the caller tells, and an open word could not.
    #[inline]
    fn strangers(&self, _number: u64) -> u64 {
        0
    }

    /// Whether every frame of the zone was handed over and none is of a type that requests may not have.
    #[inline]
    fn is_plain(&self) -> bool {
        false
    }
}

impl<K: Kinds + ?Sized> Kinds for &K {
    fn kind(&self, pfn: Pfn) -> MigrateType {
        (**self).kind(pfn)
    }

    fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        (**self).alike(start, end)
    }

    fn strangers(&self, number: u64) -> u64 {
        (**self).strangers(number)
    }

    fn is_plain(&self) -> bool {
        (**self).is_plain()
    }
}

/// Every pageblock of the same type.
impl Kinds for MigrateType {
    fn kind(&self, _pfn: Pfn) -> MigrateType {
        *self
    }

    fn is_plain(&self) -> bool {
        *self <= MigrateType::Reclaimable
    }

    fn alike(&self, _start: Pfn, end: Pfn) -> Pfn {
        end
    }
}

/// What a look at a word found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'f> {
    /// The word, if it was written.
    pub bits: Option<&'f AtomicU64>,
    /// Which frames were free: all if the word was not written.
    pub now: u64,
}

/// Which frames of one zone are free. All methods may be called by all CPUs at once.
#[derive(Debug)]
pub struct Field<M> {
    pub(super) mem: M,
    pub(super) shape: Shape,
    pub(super) cut: Cut,
    pub(super) trees: Trees,
    /// Free frames, as the ends of calls leave it.
    level: AtomicU64,
    /// Of the blocks from here on nothing was ever handed over.
    pub(super) fresh: AtomicUsize,
}

impl<M: Mem> Field<M> {
    /// A zone of that shape of which no frame is free; `mem` is all zero. `None` if the orders do not fit together, or if
    /// entries or index are missing.
    #[must_use]
    pub fn new(mem: M, shape: Shape) -> Option<Self> {
        let orders_fit = 6 <= shape.pageblock_order
            && shape.pageblock_order <= shape.max_order
            && u32::from(shape.max_order) <= crate::store::CHUNK_SHIFT;
        let trees = Trees::new(shape.blocks());
        let last = shape.blocks().checked_sub(1);
        let is_lent = last.is_none_or(|last| mem.entry(last).is_some() && mem.index(trees.words() - 1).is_some());
        let (level, fresh) = (AtomicU64::new(0), AtomicUsize::new(0));
        (orders_fit && is_lent).then(|| Self { mem, shape, cut: Cut::new(&shape), trees, level, fresh })
    }

    /// Span and orders.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The lender.
    #[must_use]
    pub fn mem(&self) -> &M {
        &self.mem
    }

    /// About how many frames are free: exact while nobody takes or gives. Those in caches of CPUs do not count.
    #[must_use]
    pub fn level(&self) -> u64 {
        // Relaxed: a figure; a taker's part may come in before the giver's, which reads as less than nothing.
        let level = self.level.load(Ordering::Relaxed);
        if level >> 63 == 0 { level } else { 0 }
    }

    pub(super) fn raise_level(&self, frames: impl Into<u64>) {
        // Relaxed: as `level`.
        self.level.fetch_add(frames.into(), Ordering::Relaxed);
    }

    pub(super) fn lower_level(&self, frames: u32) {
        // Relaxed: as `level`.
        self.level.fetch_sub(u64::from(frames), Ordering::Relaxed);
    }

    /// Whether all frames of a word are the zone's.
    #[inline]
    pub(super) const fn is_inner(&self, number: u64) -> bool {
        self.cut.is_inner(number)
    }

    /// The first of the words that lie in the zone as a whole, and how many they are.
    pub(super) const fn inner(&self) -> (u64, u64) {
        self.cut.inner()
    }

    /// The last word of the block that a word is of.
    pub(super) const fn last_number(&self, number: u64) -> u64 {
        self.cut.last_number(number)
    }

    /// Whether a block's frames are all free and its bits were not written.
    #[inline]
    pub(super) fn is_lazy(&self, block: usize) -> bool {
        // Acquire pairs with `unlazy`: who finds the bits written sees what they were before.
        self.mem.entry(block).is_some_and(|entry| entry.load(Ordering::Acquire) == LAZY)
    }

    /// Makes a lazy block one whose bits are written, all its frames being the caller's; false if it is none, or somebody
    /// was first.
    pub(super) fn unlazy(&self, block: usize) -> bool {
        let Some(entry) = self.mem.entry(block) else { return false };
        // AcqRel: Acquire pairs with the store of who handed the block over, Release with `is_lazy`. A failure publishes
        // nothing.
        entry.compare_exchange(LAZY, WRITTEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(super) fn class(&self, block: usize) -> Class {
        if self.is_lazy(block) { Class::Whole } else { Class::of(self.words(block)) }
    }

    /// The words of a block, for a look: none where its chunk is not open, as if no frame were free.
    #[inline]
    pub(super) fn words(&self, block: usize) -> impl Iterator<Item = u64> {
        // Acquire: as `look`.
        self.line_of(block).iter().map(|bits| bits.load(Ordering::Acquire))
    }

    /// The bits of a block, which lie in one line; none where its chunk is not open.
    #[inline]
    pub(super) fn line_of(&self, block: usize) -> &[AtomicU64] {
        let first = self.cut.first_place(block);
        let line = self.mem.line(first / LINE_WORDS);
        line.and_then(|line| line.0[first % LINE_WORDS..].get(..self.cut.words())).unwrap_or_default()
    }

    pub(super) fn kind_of(&self, kinds: &impl Kinds, block: usize) -> MigrateType {
        kinds.kind(self.cut.block_start(block).max(self.shape.start))
    }

    /// The word at a place; `None` where its chunk is not open.
    #[inline]
    pub(super) fn bits(&self, place: usize) -> Option<&AtomicU64> {
        self.mem.line(place / LINE_WORDS).map(|line| &line.0[place % LINE_WORDS])
    }

    /// The bits of a word that are set, for a look: 0 where the chunk is not open.
    #[inline]
    pub(super) fn look(&self, place: usize) -> u64 {
        // Acquire pairs with whoever changed the word: what a look leads to is decided by a read-modify-write.
        self.bits(place).map_or(0, |bits| bits.load(Ordering::Acquire))
    }

    /// The bits of a word that lies in the zone as a whole; `None` if they were not written.
    #[inline]
    pub(super) fn written(&self, number: u64) -> Option<&AtomicU64> {
        let place = self.cut.place(number);
        if self.is_lazy(self.cut.block(place)) { None } else { self.bits(place) }
    }

    /// A look at a word that lies in the zone as a whole.
    #[inline]
    pub(super) fn glance(&self, number: u64) -> Look<'_> {
        let place = self.cut.place(number);
        // Acquire: as `look`.
        let look = self.bits(place).map(|bits| Look { bits: Some(bits), now: bits.load(Ordering::Acquire) });
        // Of a block whose bits were not written all are clear.
        look.filter(|look| look.now != 0 || !self.is_lazy(self.cut.block(place)))
            .unwrap_or(Look { bits: None, now: !0 })
    }

    /// Opens the chunk of a block's bits.
    pub(super) fn open_line(&self, block: usize) -> bool {
        let line = self.cut.first_place(block) / LINE_WORDS;
        self.mem.line(line).is_some() || self.mem.open(line / CHUNK_LINES)
    }

    /// Sets a block's bit in the bitmap of its type; a type that changes meanwhile is followed.
    pub(super) fn mark(&self, kinds: &impl Kinds, block: usize, bitmap: Bitmap) {
        let mut kind = self.kind_of(kinds, block);
        loop {
            let tree = self.trees.tree(kind, bitmap);
            match tree {
                Some(tree) => self.trees.set(&self.mem, tree, block),
                // No word of the index is between the bits that were just given and the look at the type: with the fence of
                // `retyped` one of the two sees what the other did.
                None => fence(Ordering::SeqCst),
            }
            let now = self.kind_of(kinds, block);
            if now == kind {
                return;
            }
            if let Some(tree) = tree {
                self.trees.clear(&self.mem, tree, block);
            }
            kind = now;
        }
    }

    /// Clears a block's bit in the bitmap of a type, looks again and sets what the entry says.
    pub(super) fn unmark(&self, kinds: &impl Kinds, kind: MigrateType, block: usize, bitmap: Bitmap) {
        let Some(tree) = self.trees.tree(kind, bitmap) else { return };
        self.trees.clear(&self.mem, tree, block);
        self.remark(kinds, block);
    }

    /// Sets the bits of the class that a block is in.
    fn remark(&self, kinds: &impl Kinds, block: usize) {
        match self.class(block) {
            Class::Empty => {}
            Class::Part => {
                self.mark(kinds, block, Bitmap::Part);
                self.remark_run(kinds, block);
            }
            Class::Whole => self.mark(kinds, block, Bitmap::Whole),
        }
    }

    /// Clears a block's bit in the bitmap of runs of a type, and sets it again if there is a run.
    pub(super) fn unmark_run(&self, kinds: &impl Kinds, kind: MigrateType, block: usize) {
        if let Some(tree) = self.trees.tree(kind, Bitmap::Run) {
            self.trees.clear(&self.mem, tree, block);
            self.remark_run(kinds, block);
        }
    }

    fn remark_run(&self, kinds: &impl Kinds, block: usize) {
        if self.has_run(block, RUN_ORDER) {
            self.mark(kinds, block, Bitmap::Run);
        }
    }

    /// Whether a word of a block has an aligned run of `2^order` free frames; `order` is at most 6.
    pub(super) fn has_run(&self, block: usize, order: u8) -> bool {
        self.cut.places(block).any(|place| runs(self.look(place), order) != 0)
    }

    /// Moves a block in the index in whose words frames came: `turned` says what happened, as [`turn`] does.
    #[cold]
    pub(super) fn rise(&self, kinds: &impl Kinds, block: usize, turned: u32) {
        if turned & FULL != 0 {
            // Of two who fill the last words of a block, the later one sees that all are full.
            fence(Ordering::SeqCst);
            if self.class(block) == Class::Whole {
                self.mark(kinds, block, Bitmap::Whole);
                self.unmark(kinds, self.kind_of(kinds, block), block, Bitmap::Part);
                return;
            }
        }
        if turned & FIRST != 0 {
            self.mark(kinds, block, Bitmap::Part);
        }
        if turned & RUN != 0 {
            self.mark(kinds, block, Bitmap::Run);
        }
    }

    /// Moves a block in the index from which frames were taken, `was` being its class before.
    #[inline]
    pub(super) fn settle(&self, kinds: &impl Kinds, block: usize, was: Class) {
        let is_left = self.words(block).any(|bits| bits != 0);
        if was == Class::Whole {
            self.fall(kinds, block, is_left);
        } else if !is_left {
            self.unmark(kinds, self.kind_of(kinds, block), block, Bitmap::Part);
        }
    }

    /// Moves a block in the index that was whole.
    #[cold]
    fn fall(&self, kinds: &impl Kinds, block: usize, is_left: bool) {
        let kind = self.kind_of(kinds, block);
        if is_left {
            self.mark(kinds, block, Bitmap::Part);
            self.mark(kinds, block, Bitmap::Run);
        }
        self.unmark(kinds, kind, block, Bitmap::Whole);
    }

    /// Whether a frame of the zone is free and in no cache.
    #[must_use]
    #[inline]
    pub fn is_free(&self, pfn: Pfn) -> bool {
        if !self.shape.contains(pfn) {
            return false;
        }
        let place = self.cut.place(pfn.0 / WORD_FRAMES);
        self.look(place) >> (pfn.0 % WORD_FRAMES) & 1 != 0 || self.is_lazy(self.cut.block(place))
    }

    /// The last frame of `[start, end)` of the zone that is not free, or is in a cache.
    #[must_use]
    pub fn last_busy(&self, start: Pfn, end: Pfn) -> Option<Pfn> {
        words_of(start, end).rev().find_map(|word| {
            let busy = word.mask & !self.free_mask(word.number);
            Some(Pfn(word.number * WORD_FRAMES + u64::from(busy.checked_ilog2()?)))
        })
    }

    /// Takes note that the pageblock of `pfn` has become of another type than `from`: what is free in it is found under
    /// the new type. The caller's map says so already, and one pageblock is changed by one CPU at a time.
    pub fn retyped(&self, kinds: &impl Kinds, pfn: Pfn, from: MigrateType) {
        let blocks = 1_u64 << (self.shape.pageblock_order - self.shape.block_order());
        let start = Pfn(pfn.0 >> self.shape.pageblock_order << self.shape.pageblock_order);
        for nth in 0..blocks {
            let first = Pfn(start.0 + nth * u64::from(self.cut.whole()));
            let last = Pfn(first.0 + u64::from(self.cut.whole()) - 1);
            if last < self.shape.start || first >= self.shape.end {
                continue;
            }
            let block = self.cut.block_of(first.max(self.shape.start));
            for bitmap in [Bitmap::Part, Bitmap::Run, Bitmap::Whole] {
                if let Some(tree) = self.trees.tree(from, bitmap) {
                    self.trees.clear(&self.mem, tree, block);
                }
            }
            // `mark` has the other fence, for a type that no bitmap is of.
            fence(Ordering::SeqCst);
            self.remark(kinds, block);
            self.remark_run(kinds, block);
        }
    }
}
