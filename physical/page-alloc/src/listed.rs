//! Requests served from Linux's lists: the lists of the CPU, then those of the zone behind its lock.
//!
//! Here: one zone at a time. Not here: which zone is asked in which pass (`allocator`), what happens under the lock
//! (`buddy`, `fallback`).
//!
//! # Invariants
//! 1. A frame that somebody was given lies in exactly one block whose first frame is in a state of ownership.
//!
//! Locks: zone locks, rank 30, one at a time.
//! Source: Linux 6.1 mm/page_alloc.c `rmqueue`, `__free_pages`.

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::allocator::Wish;
use crate::ground::State;
use crate::pcp::{self, CpuPages};
use crate::store::Store;
use crate::watermark::Pass;
use crate::zone::Listed;
use crate::{FreeError, PageAllocator};

impl<S: Store> PageAllocator<S> {
    /// Takes a block for a wish from one zone.
    pub(crate) fn take_listed(
        &self,
        cpu: &mut CpuPages<S>,
        zone: Listed<'_, S>,
        wish: Wish,
        pass: Pass,
    ) -> Option<Pfn> {
        let Wish { order, kind, .. } = wish;
        let pfn = match pcp::list_of(&self.facts, order, kind) {
            Some(list) => {
                if cpu.lists.is_empty(zone, list) {
                    self.answer_requests(cpu);
                    cpu.lists.refill(zone, &cpu.held, order, kind, pass);
                }
                cpu.lists.take(zone, list)
            }
            None => None,
        };
        let pfn = pfn.or_else(|| self.take_from_zone(cpu, zone, wish, pass))?;
        zone.ground.set(pfn, State::owned(order, kind == MigrateType::Movable));
        Some(pfn)
    }

    /// Takes from the zone itself: what no CPU list holds, and what only urgent requests may have.
    fn take_from_zone(&self, cpu: &CpuPages<S>, zone: Listed<'_, S>, wish: Wish, pass: Pass) -> Option<Pfn> {
        let Wish { order, kind, .. } = wish;
        let mut locked = zone.lock(&cpu.held);
        let kept = MigrateType::HighAtomic;
        let first = if pass.highatomic { locked.take(order, kept) } else { None };
        let taken = first.or_else(|| locked.rmqueue(order, kind, pass));
        let taken = match self.facts.has_last_reserve(pass) {
            true => taken.or_else(|| locked.take(order, kept)),
            false => taken,
        }?;
        if pass.highatomic {
            locked.reserve_highatomic(taken);
        }
        Some(taken)
    }

    pub(crate) fn free_listed(
        &self,
        cpu: &mut CpuPages<S>,
        zone: Listed<'_, S>,
        pfn: Pfn,
        order: Order,
    ) -> Result<(), FreeError> {
        let state = zone.ground.state(pfn);
        if state.owned_order() != Some(order) {
            return Err(zone.misuse(cpu, pfn, order));
        }
        let kind = zone.ground.kind(pfn);
        if let Some(list) = pcp::list_of(&self.facts, order.0, kind) {
            if !zone.ground.change(pfn, state, State::Cached(order)) {
                return Err(zone.misuse(cpu, pfn, order));
            }
            cpu.lists.keep(zone, &cpu.held, list, pfn, kind);
            return Ok(());
        }
        self.answer_requests(cpu);
        let mut locked = zone.lock(&cpu.held);
        if !zone.ground.change(pfn, state, State::Nothing) {
            drop(locked);
            return Err(zone.misuse(cpu, pfn, order));
        }
        locked.give(pfn, order.0, kind, None);
        Ok(())
    }

    /// Gives a single frame back; one that is part of a larger block of the caller's makes single frames of the block.
    pub(crate) fn free_part_listed(
        &self,
        cpu: &mut CpuPages<S>,
        zone: Listed<'_, S>,
        pfn: Pfn,
    ) -> Result<(), FreeError> {
        let block = zone.ground.taken_block(pfn).and_then(|(head, state)| Some((head, state.owned_order()?)));
        if let Some((head, order)) = block.filter(|(_, order)| order.0 > 0) {
            zone.split(cpu, head, order)?;
        }
        self.free_listed(cpu, zone, pfn, Order(0))
    }
}

impl<S: Store> Listed<'_, S> {
    /// What is wrong with giving back `pfn` as a block of `order`.
    pub(crate) fn misuse(self, cpu: &CpuPages<S>, pfn: Pfn, order: Order) -> FreeError {
        if self.lock(&cpu.held).is_free(pfn) {
            return FreeError::DoubleFree { pfn };
        }
        match self.ground.taken_block(pfn) {
            Some((_, State::Cached(_))) => FreeError::DoubleFree { pfn },
            Some(_) => FreeError::WrongOrder { pfn, order },
            None => FreeError::Foreign { pfn },
        }
    }

    /// Makes single frames of a block that somebody owns.
    pub(crate) fn split(self, cpu: &CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let state = self.ground.state(pfn);
        if state.owned_order() != Some(order) {
            return Err(self.misuse(cpu, pfn, order));
        }
        let single = State::owned(0, matches!(state, State::OwnedMovable(_)));
        // The first frame changes hands first: who gives the block back meanwhile is told that its order is wrong.
        if !self.ground.change(pfn, state, single) {
            return Err(self.misuse(cpu, pfn, order));
        }
        for frame in pfn.0 + 1..pfn.0 + (1 << order.0) {
            self.ground.set(Pfn(frame), single);
        }
        Ok(())
    }
}
