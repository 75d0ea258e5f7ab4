//! Blocks in and out of a zone whose lock is held: cutting, giving back, opening what boot deferred.
//!
//! Here: what needs no choice between migrate types. Not here: that choice (`fallback`).
//!
//! Source: Linux 6.1 mm/page_alloc.c `__rmqueue_smallest`, `expand`, `__free_one_page`.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use crate::free_area::{Block, End, LinuxLists, lists_follow_pageblocks};
use crate::ground::Ground;
use crate::store::Store;
use crate::watermark::Pass;
use crate::zone::Locked;

/// The type that every pageblock begins with, and so the type of blocks that were not opened yet.
pub(crate) const FIRST_KIND: MigrateType = MigrateType::Movable;

impl<S: Store> Locked<'_, S> {
    pub fn ground(&self) -> &Ground<S::States> {
        self.zone.ground
    }

    pub fn area(&self) -> &LinuxLists<S::Words> {
        &self.inner.lists
    }

    pub fn area_mut(&mut self) -> (&mut LinuxLists<S::Words>, &Ground<S::States>) {
        self.changed = true;
        (&mut self.inner.lists, self.zone.ground)
    }

    pub fn max_order(&self) -> u8 {
        self.zone.facts.max_order.0
    }

    pub fn pageblock_order(&self) -> u8 {
        self.zone.facts.pageblock_order.0
    }

    /// Blocks of exactly this order and type, those that were not opened yet among them.
    pub fn count(&self, order: u8, kind: MigrateType) -> u64 {
        let waits = order == self.max_order() && kind == FIRST_KIND;
        self.area().count(order, kind) + if waits { self.inner.deferred.blocks() } else { 0 }
    }

    /// Whether a pass may take a block of `order` or larger.
    pub fn has_block(&self, order: u8, pass: Pass) -> bool {
        let is_allowed = |kind: MigrateType| match kind {
            MigrateType::Unmovable | MigrateType::Movable | MigrateType::Reclaimable => true,
            MigrateType::Cma => pass.cma,
            MigrateType::HighAtomic => pass.highatomic,
            MigrateType::Isolate => false,
        };
        let mut kinds = MigrateType::ALL.into_iter().filter(|&kind| is_allowed(kind));
        kinds.any(|kind| (order..=self.max_order()).any(|order| self.count(order, kind) != 0))
    }

    /// Opens the next block that boot deferred; false if there is none, or no memory for its records.
    fn open_next(&mut self) -> bool {
        self.inner.deferred.first().is_some_and(|pfn| self.open_block(pfn))
    }

    /// Moves the deferred block of a frame to the end of its list.
    fn open_block(&mut self, pfn: Pfn) -> bool {
        let order = self.max_order();
        let head = Pfn(pfn.0 >> order << order);
        let (area, ground) = self.area_mut();
        if !area.open(ground, head) || !self.inner.deferred.take(head) {
            return false;
        }
        let (area, ground) = self.area_mut();
        area.insert(ground, Block { pfn: head, order, kind: FIRST_KIND }, End::Tail);
        true
    }

    /// Opens the deferred block of a frame wherever it is in the list; where spans have no room for a gap, all of them.
    fn open_at(&mut self, pfn: Pfn) -> bool {
        if self.open_block(pfn) {
            return true;
        }
        while self.inner.deferred.contains(pfn) {
            if !self.open_next() {
                return false;
            }
        }
        true
    }

    /// The free block that a frame lies in; opens it if it was deferred and there is memory for its records.
    pub fn find(&mut self, pfn: Pfn) -> Option<Block> {
        if self.inner.deferred.contains(pfn) && !self.open_at(pfn) {
            return None;
        }
        self.area().find(self.ground(), pfn)
    }

    /// Whether a frame is free.
    pub fn is_free(&self, pfn: Pfn) -> bool {
        self.inner.deferred.contains(pfn) || self.area().find(self.ground(), pfn).is_some()
    }

    /// The block of exactly this order and type that is taken next.
    pub fn first(&mut self, order: u8, kind: MigrateType) -> Option<Block> {
        let is_deferred = order == self.max_order() && kind == FIRST_KIND && self.area().count(order, kind) == 0;
        if is_deferred && !self.open_next() {
            return None;
        }
        let pfn = self.area().first(order, kind)?;
        Some(Block { pfn, order, kind })
    }

    /// Takes a block of `2^order` frames of this type, cut from what the placement chooses.
    pub fn take(&mut self, order: u8, kind: MigrateType) -> Option<Pfn> {
        let chosen = match self.area().choose(self.ground(), order, kind) {
            Some(block) => block,
            None if kind == FIRST_KIND && self.open_next() => self.area().choose(self.ground(), order, kind)?,
            None => return None,
        };
        Some(self.cut(chosen, order, kind))
    }

    /// Takes the lower end of a free block; the rest goes to the lists of `rest`.
    pub fn cut(&mut self, block: Block, order: u8, rest: MigrateType) -> Pfn {
        let (area, ground) = self.area_mut();
        area.remove(ground, block);
        self.expand(block, order, rest);
        block.pfn
    }

    /// Puts back all but the lowest `2^order` frames of a block, upper halves first.
    pub fn expand(&mut self, block: Block, order: u8, rest: MigrateType) {
        let (area, ground) = self.area_mut();
        for half in (order..block.order).rev() {
            let pfn = Pfn(block.pfn.0 + (1 << half));
            area.insert(ground, Block { pfn, order: half, kind: rest }, End::Head);
        }
    }

    /// Puts a block back. `cached` is its pageblock's type as it was read when the block was freed.
    pub fn give(&mut self, pfn: Pfn, order: u8, cached: MigrateType, end: Option<End>) {
        let pageblock = self.pageblock_order();
        if order > pageblock && lists_follow_pageblocks(self.zone.facts.era) {
            for part in (pfn.0..pfn.0 + (1 << order)).step_by(1 << pageblock) {
                self.give(Pfn(part), pageblock, cached, end);
            }
            return;
        }
        let now = self.ground().kind(pfn);
        // Whoever frees reads the type before the lock: a pageblock may have been set apart, or be so no more, since then.
        let is_isolated = now == MigrateType::Isolate || cached == MigrateType::Isolate;
        let follows = is_isolated || lists_follow_pageblocks(self.zone.facts.era);
        let kind = if follows { now } else { cached };
        let (area, ground) = self.area_mut();
        let merged = area.give(ground, Block { pfn, order, kind }, end);
        if end == Some(End::Tail) {
            self.behind_the_deferred(merged);
        }
    }

    /// A block that boot appends to the list whose tail is deferred becomes part of that tail.
    fn behind_the_deferred(&mut self, block: Block) {
        let is_of_list = block.order == self.max_order() && block.kind == FIRST_KIND;
        let end = Pfn(block.pfn.0 + (1 << block.order));
        let is_plain = (block.pfn.0..end.0)
            .step_by(1 << self.pageblock_order())
            .all(|pageblock| self.ground().kind(Pfn(pageblock)) == FIRST_KIND);
        if !is_of_list || !is_plain || self.inner.deferred.first().is_none() {
            return;
        }
        if self.inner.deferred.push(block.pfn, end) {
            let (area, ground) = self.area_mut();
            area.remove(ground, block);
            return;
        }
        // No room for another span: the list is opened up to its end, and the block goes behind.
        let (area, ground) = self.area_mut();
        area.remove(ground, block);
        while self.open_next() {}
        let (area, ground) = self.area_mut();
        area.insert(ground, block, End::Tail);
    }

    /// Says what a pageblock is meant for, and moves what is free in it. A deferred pageblock is opened; false if there is
    /// no memory for its records.
    pub fn retype(&mut self, pfn: Pfn, to: MigrateType) -> bool {
        let start = self.ground().block_start(pfn);
        let inside = start.max(self.ground().start);
        if self.inner.deferred.contains(inside) && !self.open_at(inside) {
            return false;
        }
        let (area, ground) = self.area_mut();
        if !area.open(ground, inside) {
            return false;
        }
        self.split_to_pageblock(inside);
        let (area, ground) = self.area_mut();
        area.move_free(ground, start, to);
        area.retype(ground, start, to);
        true
    }

    /// Cuts a free block larger than a pageblock around `pfn` into pageblocks, so that one can change its type.
    fn split_to_pageblock(&mut self, pfn: Pfn) {
        let pageblock = self.pageblock_order();
        let Some(block) = self.area().find(self.ground(), pfn).filter(|block| block.order > pageblock) else { return };
        let (area, ground) = self.area_mut();
        area.remove(ground, block);
        for part in (block.pfn.0..block.pfn.0 + (1 << block.order)).step_by(1 << pageblock) {
            area.insert(ground, Block { pfn: Pfn(part), order: pageblock, kind: block.kind }, End::Head);
        }
    }
}
