//! Which block a request is served from: the lowest that is partly used, then the lowest that is whole.
//!
//! What the index says is checked at the block; a bit that stands for nothing is cleared on the way.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use super::entry::Class;
use super::field::{Field, Kinds};
use super::give::RUN_ORDER;
use super::index::Bitmap;
use super::mem::Mem;
use super::word::runs;
use crate::free_area::{MERGES_AS, may_merge};

/// How many partly used blocks are looked through for a run that the index does not know of.
const LOOKED_THROUGH: usize = 16;

impl<M: Mem> Field<M> {
    /// The lowest block of a type from `from` on that is in the class of `bitmap`, which is not that of runs.
    #[inline]
    pub(super) fn first_in(&self, kinds: &impl Kinds, kind: MigrateType, bitmap: Bitmap, from: usize) -> Option<usize> {
        let tree = self.trees.tree(kind, bitmap)?;
        let class = if bitmap == Bitmap::Whole { Class::Whole } else { Class::Part };
        let mut from = from;
        loop {
            let block = self.trees.first(&self.mem, tree, from)?;
            if self.class(block) == class && self.kind_of(kinds, block) == kind {
                return Some(block);
            }
            self.unmark(kinds, kind, block, bitmap);
            from = block + usize::from(self.trees.has(&self.mem, tree, block) && self.class(block) != class);
        }
    }

    /// The place of the first word of a block where an aligned run of `2^order` frames begins; `order` is less than a
    /// block's.
    pub(super) fn run_in(&self, block: usize, order: u8) -> Option<usize> {
        let mut places = self.cut.places(block);
        if order < 6 {
            return places.find(|&place| runs(self.look(place), order) != 0);
        }
        let words = 1 << (order - 6);
        places.step_by(words).find(|&first| (first..first + words).all(|place| self.look(place) == !0))
    }

    /// Tries `take` on blocks of a type that have a run of `2^order` frames, with the place of the run's first word, until it answers.
    /// `order` is less than a block's.
    pub(super) fn seek_run<T>(
        &self,
        kinds: &impl Kinds,
        kind: MigrateType,
        order: u8,
        take: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let is_short = order < RUN_ORDER;
        let near = if is_short { self.seek_in_part(kinds, kind, order, LOOKED_THROUGH, take) } else { None };
        let known = near.or_else(|| self.seek_known_run(kinds, kind, order, take));
        let whole = known.or_else(|| self.seek_in_whole(kinds, kind, take));
        // The search for whole blocks may have moved some to those that are partly used.
        whole.or_else(|| match is_short {
            true => self.seek_in_part(kinds, kind, order, usize::MAX, take),
            false => self.seek_known_run(kinds, kind, order, take),
        })
    }

    /// Looks through the lowest partly used blocks, at most `most` of them.
    fn seek_in_part<T>(
        &self,
        kinds: &impl Kinds,
        kind: MigrateType,
        order: u8,
        most: usize,
        take: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let mut from = 0;
        for _ in 0..most {
            let block = self.first_in(kinds, kind, Bitmap::Part, from)?;
            if let Some(taken) = self.run_in(block, order).and_then(|at| take(block, at)) {
                return Some(taken);
            }
            from = block + 1;
        }
        None
    }

    /// Looks through the partly used blocks that the index says have a run.
    fn seek_known_run<T>(
        &self,
        kinds: &impl Kinds,
        kind: MigrateType,
        order: u8,
        take: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let tree = self.trees.tree(kind, Bitmap::Run)?;
        let mut from = 0;
        loop {
            let block = self.trees.first(&self.mem, tree, from)?;
            from = block + 1;
            if self.kind_of(kinds, block) != kind || !self.has_run(block, RUN_ORDER) {
                self.unmark_run(kinds, kind, block);
                continue;
            }
            let at = if self.class(block) == Class::Part { self.run_in(block, order) } else { None };
            if let Some(taken) = at.and_then(|at| take(block, at)) {
                return Some(taken);
            }
        }
    }

    fn seek_in_whole<T>(
        &self,
        kinds: &impl Kinds,
        kind: MigrateType,
        take: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let mut from = 0;
        loop {
            let block = self.first_in(kinds, kind, Bitmap::Whole, from)?;
            if let Some(taken) = take(block, self.cut.first_place(block)) {
                return Some(taken);
            }
            from = block + 1;
        }
    }

    /// Tries `take` on groups of whole blocks that make an aligned block of `2^order` frames, lowest first.
    pub(super) fn seek_group<T>(
        &self,
        kinds: &impl Kinds,
        kind: MigrateType,
        order: u8,
        take: &mut impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let blocks = 1 << (order - self.shape.block_order());
        let mut from = 0;
        loop {
            let block = self.first_in(kinds, kind, Bitmap::Whole, from)?;
            from = block + 1;
            let is_group = block.is_multiple_of(blocks) && self.is_one(kinds, block, blocks);
            if let Some(taken) = if is_group { take(block) } else { None } {
                return Some(taken);
            }
        }
    }

    /// Whether `blocks` blocks are whole and of types that make one block.
    pub(super) fn is_one(&self, kinds: &impl Kinds, first: usize, blocks: usize) -> bool {
        let kind = self.kind_of(kinds, first);
        (first..first + blocks)
            .all(|block| self.class(block) == Class::Whole && may_merge(MERGES_AS, kind, self.kind_of(kinds, block)))
    }

    /// Whether a block of at least `2^order` frames could be taken from blocks of a type.
    #[must_use]
    pub fn has(&self, kinds: &impl Kinds, kind: MigrateType, order: u8) -> bool {
        if order > self.shape.max_order {
            return false;
        }
        if order >= self.shape.block_order() {
            return self.seek_group(kinds, kind, order, &mut |_| Some(())).is_some();
        }
        if order == 0 {
            return self.lowest(kinds, kind, 0).is_some();
        }
        self.seek_run(kinds, kind, order, &mut |_, _| Some(())).is_some()
    }

    /// The lowest partly used block of a type, else its lowest whole one from `whole_from` on.
    #[inline]
    pub(super) fn lowest(&self, kinds: &impl Kinds, kind: MigrateType, whole_from: usize) -> Option<usize> {
        let part = || self.first_in(kinds, kind, Bitmap::Part, 0);
        // The search for whole blocks may have moved some to those that are partly used.
        part().or_else(|| self.first_in(kinds, kind, Bitmap::Whole, whole_from)).or_else(part)
    }

    /// The first frame of the lowest block that a request for one frame of a type would be served from.
    #[must_use]
    pub fn frontier(&self, kinds: &impl Kinds, kind: MigrateType) -> Option<Pfn> {
        self.lowest(kinds, kind, 0).map(|block| self.cut.block_start(block))
    }
}
