//! Fallback between migrate types: what happens when a request's own type has no block.
//!
//! Here: the order of types, when a pageblock changes its owner, the boost that follows.
//! Not here: fallback between zones and nodes (`zonelist`).
//!
//! # Invariants
//! 1. A fallback never takes from CMA, urgent or isolated pageblocks.
//!
//! Source: Linux 5.10–7.2 mm/page_alloc.c `__rmqueue_fallback`, `steal_suitable_fallback`, `__rmqueue_claim`,
//! `__rmqueue_steal`, `find_suitable_fallback`, `boost_watermark`.

use kernmem_base::{Era, Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::free_area::{Block, End};
use crate::ground::State;
use crate::store::Store;
use crate::watermark::Pass;
use crate::zone::{Locked, Zone, write};

/// The types that a request of a type falls back to, first choice first.
pub(crate) const fn fallbacks(kind: MigrateType) -> &'static [MigrateType] {
    match kind {
        MigrateType::Unmovable => &[MigrateType::Reclaimable, MigrateType::Movable],
        MigrateType::Movable => &[MigrateType::Reclaimable, MigrateType::Unmovable],
        MigrateType::Reclaimable => &[MigrateType::Unmovable, MigrateType::Movable],
        MigrateType::HighAtomic | MigrateType::Cma | MigrateType::Isolate => &[],
    }
}

/// Whether CMA pageblocks may serve a request of a type.
fn may_use_cma(kind: MigrateType, pass: Pass) -> bool {
    pass.cma && kind == MigrateType::Movable
}

/// The types that a request takes from before it falls back: its own; CMA after it where that may serve, before it too
/// while `cma_leads` says that most of what is free is CMA.
#[inline]
pub(crate) fn own_kinds(
    kind: MigrateType,
    pass: Pass,
    cma_leads: impl FnOnce() -> bool,
) -> impl Iterator<Item = MigrateType> {
    let cma = may_use_cma(kind, pass).then_some(MigrateType::Cma);
    let first = cma.filter(|_| cma_leads());
    first.into_iter().chain([kind]).chain(cma)
}

/// What a pageblock holds, in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Census {
    free: u64,
    movable: u64,
    other: u64,
}

impl<S: Store> Locked<'_, S> {
    /// Takes a block for a request: its own type, CMA where that may serve, then the other types.
    pub fn rmqueue(&mut self, order: u8, kind: MigrateType, pass: Pass) -> Option<Pfn> {
        let cma_leads = may_use_cma(kind, pass) && self.cma_is_more_than_half();
        let own = own_kinds(kind, pass, || cma_leads).find_map(|kind| self.take(order, kind));
        own.or_else(|| self.fallback(order, kind, pass.nofragment))
    }

    fn frames_of(&self, kind: MigrateType) -> u64 {
        (0..=self.max_order()).map(|order| self.count(order, kind) << order).sum()
    }

    fn cma_is_more_than_half(&self) -> bool {
        let all = MigrateType::ALL.into_iter().filter(|&kind| kind != MigrateType::Isolate);
        let free: u64 = all.map(|kind| self.frames_of(kind)).sum();
        self.frames_of(MigrateType::Cma) > free / 2
    }

    /// Takes from another type.
    ///
    /// | era | how |
    /// |---|---|
    /// | 4.14 | as 5.10 (UNVERIFIED) |
    /// | 5.10, 6.1 | one block is stolen, with its pageblock where that pays |
    /// | 6.12, 7.2 | whole pageblocks are claimed; only then a single block is stolen, and its rest stays with its type |
    fn fallback(&mut self, order: u8, kind: MigrateType, nofragment: bool) -> Option<Pfn> {
        match self.zone.facts.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => self.steal_suitable(order, kind, nofragment),
            Era::V6_12 | Era::V7_2 => {
                let claimed = self.claim(order, kind, nofragment);
                if claimed.is_some() || nofragment {
                    return claimed;
                }
                self.steal_single(order, kind)
            }
        }
    }

    /// Whether the pageblock of a block of this order may be taken over as a whole.
    fn is_claimable(&self, order: u8, kind: MigrateType) -> bool {
        let pageblock = self.pageblock_order();
        order >= pageblock
            || order >= pageblock / 2
            || matches!(kind, MigrateType::Reclaimable | MigrateType::Unmovable)
            || !self.zone.facts.grouping
    }

    fn least(&self, order: u8, nofragment: bool) -> u8 {
        if nofragment { order.max(self.pageblock_order()) } else { order }
    }

    /// The first block of exactly this order among the types that `kind` falls back to.
    fn foreign(&mut self, order: u8, kind: MigrateType) -> Option<Block> {
        fallbacks(kind).iter().find_map(|&other| self.first(order, other))
    }

    fn steal_suitable(&mut self, order: u8, kind: MigrateType, nofragment: bool) -> Option<Pfn> {
        let least = self.least(order, nofragment);
        let largest = (least..=self.max_order()).rev().find_map(|order| self.foreign(order, kind))?;
        let claimable = self.is_claimable(largest.order, kind);
        let block = if !claimable && kind == MigrateType::Movable && largest.order > order {
            (order..=self.max_order()).find_map(|order| self.foreign(order, kind))?
        } else {
            largest
        };
        self.steal(block, kind, claimable);
        // The block is on the lists of `kind` now; where there are no lists, it is cut where it is.
        Some(self.take(order, kind).unwrap_or_else(|| self.cut(block, order, block.kind)))
    }

    fn steal(&mut self, block: Block, kind: MigrateType, claimable: bool) {
        if self.ground().kind(block.pfn) == MigrateType::HighAtomic {
            return self.move_block(block, kind);
        }
        if block.order >= self.pageblock_order() {
            self.take_over(block, kind);
            return;
        }
        self.zone.boost_watermark();
        if !claimable {
            return self.move_block(block, kind);
        }
        let takes_over = self.pays(block, kind);
        let start = self.ground().block_start(block.pfn);
        let (area, ground) = self.area_mut();
        area.move_free(ground, start, kind);
        if takes_over {
            area.retype(ground, start, kind);
        }
    }

    fn move_block(&mut self, block: Block, to: MigrateType) {
        let (area, ground) = self.area_mut();
        area.remove(ground, block);
        area.insert(ground, Block { kind: to, ..block }, End::Tail);
    }

    /// Changes the type of all pageblocks of a free block, and its list.
    fn take_over(&mut self, block: Block, to: MigrateType) {
        let pageblock = self.pageblock_order();
        let (area, ground) = self.area_mut();
        area.remove(ground, block);
        for part in (block.pfn.0..block.pfn.0 + (1 << block.order)).step_by(1 << pageblock) {
            area.retype(ground, Pfn(part), to);
        }
        area.insert(ground, Block { kind: to, ..block }, End::Tail);
    }

    /// Whether enough of a pageblock is free, or used as the request would use it.
    fn pays(&self, block: Block, kind: MigrateType) -> bool {
        let census = self.census(block.pfn);
        let alike = match (kind, block.kind) {
            (MigrateType::Movable, _) => census.movable,
            (_, MigrateType::Movable) => census.other,
            _ => 0,
        };
        census.free + alike >= self.ground().block_frames() / 2 || !self.zone.facts.grouping
    }

    fn census(&self, pfn: Pfn) -> Census {
        let ground = self.ground();
        let start = ground.block_start(pfn);
        let end = start.0 + ground.block_frames();
        let mut census = Census::default();
        let mut pfn = start;
        while pfn.0 < end {
            // Blocks follow each other, so only the first may have begun before the pageblock.
            let (head, state) = match ground.state(pfn) {
                State::Nothing if pfn == start => self.around(pfn),
                state => (pfn, state),
            };
            let (order, place) = match state {
                State::Free(order) => (order.0, &mut census.free),
                State::OwnedMovable(order) => (order.0, &mut census.movable),
                State::Owned(order) | State::Cached(order) => (order.0, &mut census.other),
                State::Nothing => (0, &mut census.other),
            };
            let next = (head.0 + (1 << order)).min(end);
            *place += next - pfn.0;
            pfn = Pfn(next);
        }
        census
    }

    /// The block that a frame lies in, free or not.
    fn around(&self, pfn: Pfn) -> (Pfn, State) {
        let free = self.area().find(self.ground(), pfn).map(|block| (block.pfn, State::Free(Order(block.order))));
        free.or_else(|| self.ground().taken_block(pfn)).unwrap_or((pfn, State::Nothing))
    }

    /// Whether the search for a pageblock to claim ends at an order.
    ///
    /// | era | at the first order whose block is not claimable |
    /// |---|---|
    /// | 4.14, 5.10, 6.1 | these do not claim |
    /// | 6.12 | if it has one |
    /// | 7.2 | even if it has none |
    fn claim_ends(&self, claimable: bool, found: bool) -> bool {
        match self.zone.facts.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
            Era::V6_12 => found && !claimable,
            Era::V7_2 => !claimable,
        }
    }

    fn claim(&mut self, order: u8, kind: MigrateType, nofragment: bool) -> Option<Pfn> {
        for current in (self.least(order, nofragment)..=self.max_order()).rev() {
            let found = self.foreign(current, kind);
            if self.claim_ends(self.is_claimable(current, kind), found.is_some()) {
                return None;
            }
            let Some(block) = found else { continue };
            if current >= self.pageblock_order() {
                self.take_over(block, kind);
                return Some(self.cut(Block { kind, ..block }, order, kind));
            }
            self.zone.boost_watermark();
            if self.pays(block, kind) {
                self.retype(block.pfn, kind);
                return self.take(order, kind);
            }
        }
        None
    }

    fn steal_single(&mut self, order: u8, kind: MigrateType) -> Option<Pfn> {
        let block = (order..=self.max_order()).find_map(|order| self.foreign(order, kind))?;
        Some(self.cut(block, order, block.kind))
    }
}

impl<S: Store> Zone<S> {
    /// Raises the watermarks for a while: types were mixed.
    pub(crate) fn boost_watermark(&self) {
        let pageblock = 1 << self.facts.pageblock_order.0;
        let most = self.watermarks().high * self.facts.boost_factor / 10_000;
        if most == 0 || 4 * pageblock > self.managed() {
            return;
        }
        write(&self.boost, (self.boost() + pageblock).min(most.max(pageblock)));
    }
}
