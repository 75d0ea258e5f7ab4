//! Contiguous ranges that no single block may hold, taken from frames that are free: nothing is moved out of the way.
//!
//! # Invariants
//! 1. A range that was taken is single frames of its taker; one that was not is as free as before.
//!
//! Source: Linux 6.1 mm/page_alloc.c `alloc_contig_range`, `alloc_contig_pages`.

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::ground::State;
use crate::pcp::CpuPages;
use crate::store::Store;
use crate::zone::{Listed, Locked, Placed};
use crate::{AllocError, FreeError, Gfp, PageAllocator};

impl<S: Store> Locked<'_, S> {
    /// The first frame of `[start, end)` that is not free; opens what is deferred.
    fn first_busy(&mut self, start: Pfn, end: Pfn) -> Option<Pfn> {
        let mut at = start;
        while at < end {
            match self.find(at) {
                Some(block) => at = Pfn(block.pfn.0 + (1 << block.order)),
                None => return Some(at),
            }
        }
        None
    }

    /// Takes the free frames `[start, end)` as single frames.
    pub fn take_range(&mut self, start: Pfn, end: Pfn, movable: bool) -> Result<(), AllocError> {
        if let Some(pfn) = self.first_busy(start, end) {
            return Err(AllocError::Busy { pfn });
        }
        let mut at = start;
        while let Some(block) = self.find(at).filter(|_| at < end) {
            let (area, ground) = self.area_mut();
            area.remove(ground, block);
            at = Pfn(block.pfn.0 + (1 << block.order));
            self.give_range(block.pfn, start.min(at), block.kind);
            self.give_range(end.max(block.pfn), at, block.kind);
        }
        for pfn in (start.0..end.0).map(Pfn) {
            self.ground().set(pfn, State::owned(0, movable));
        }
        Ok(())
    }

    /// Gives `[start, end)` back, cut into the largest blocks.
    pub fn give_range(&mut self, start: Pfn, end: Pfn, cached: MigrateType) {
        let mut at = start.0;
        while at < end.0 {
            let aligned = (at.trailing_zeros() as u8).min(self.max_order());
            let order = (0..=aligned).rev().find(|order| at + (1 << order) <= end.0).unwrap_or(0);
            self.give(Pfn(at), order, cached, None);
            at += 1 << order;
        }
    }

    /// Takes the lowest free range of `frames` frames that starts at a multiple of `align`.
    pub fn take_piece(&mut self, frames: u64, align: u64, movable: bool) -> Option<Pfn> {
        let start = self.free_range(frames, align)?;
        self.take_range(start, Pfn(start.0 + frames), movable).ok()?;
        Some(start)
    }

    /// The lowest free range of `frames` frames that starts at a multiple of `align`.
    fn free_range(&mut self, frames: u64, align: u64) -> Option<Pfn> {
        let span = self.zone.span();
        let mut at = span.start.0.checked_next_multiple_of(align)?;
        while at.checked_add(frames)? <= span.end.0 {
            match self.first_busy(Pfn(at), Pfn(at + frames)) {
                None => return Some(Pfn(at)),
                Some(busy) => at = (busy.0 + 1).checked_next_multiple_of(align)?,
            }
        }
        None
    }
}

impl<S: Store> PageAllocator<S> {
    /// Takes the frames `[start, end)`, which lie in one zone, as single frames. The CPU's own lists of that zone are given
    /// back first, and the other CPUs are asked for theirs.
    ///
    /// # Errors
    /// [`AllocError::Busy`] with the first frame in the way; nothing was taken.
    pub fn alloc_contig_range(&self, cpu: &mut CpuPages<S>, gfp: Gfp, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        let kind = gfp.migrate_type().map_err(|bad| AllocError::BadGfp(bad.gfp()))?;
        let zone = self.zone_of(start).ok_or(AllocError::Busy { pfn: start })?;
        if end > zone.span().end {
            return Err(AllocError::Busy { pfn: zone.span().end });
        }
        self.drain_zone(cpu, zone);
        let taken = zone.take_range(&cpu.held, start, end, kind == MigrateType::Movable);
        if taken.is_err() {
            self.ask_others(cpu);
        }
        taken
    }

    /// Takes `frames` free frames in one piece that starts at a multiple of `align`, a power of two or not, as single
    /// frames: the lowest such range of the first zone of the zonelist that has one. Watermarks do not count.
    ///
    /// # Errors
    /// [`AllocError::NoMemory`]; nothing was taken.
    pub fn alloc_contig_pages(
        &self,
        cpu: &mut CpuPages<S>,
        nid: Option<u32>,
        gfp: Gfp,
        frames: u64,
        align: u64,
    ) -> Result<Pfn, AllocError> {
        let wish = self.wish(cpu, nid, gfp, 0)?;
        let no_memory = AllocError::NoMemory { gfp, order: Order(frames.max(1).ilog2() as u8) };
        if frames == 0 || align == 0 {
            return Err(no_memory);
        }
        self.drain(cpu);
        for zone in self.zonelist(wish) {
            if let Some(start) = zone.take_piece(&cpu.held, frames, align, wish.kind == MigrateType::Movable) {
                return Ok(start);
            }
        }
        self.ask_others(cpu);
        Err(no_memory)
    }

    /// Gives back single frames in one piece, straight to their zone.
    ///
    /// # Errors
    /// The first frame that was not the caller's; none was given back then.
    pub fn free_contig(&self, cpu: &mut CpuPages<S>, pfn: Pfn, frames: u64) -> Result<(), FreeError> {
        let zone = self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?;
        let end = Pfn(pfn.0.saturating_add(frames));
        match zone.placed() {
            Placed::Linux(zone) => zone.free_range(cpu, pfn, end),
            Placed::Dense(zone) => {
                cpu.close_dense(zone, pfn, end)?;
                zone.free_range(pfn, end)
            }
        }
    }
}

impl<S: Store> Listed<'_, S> {
    /// Gives back single frames in one piece.
    fn free_range(self, cpu: &CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), FreeError> {
        let owned = |frame: &u64| self.ground.state(Pfn(*frame)).owned_order() == Some(Order(0));
        if let Some(strange) = (start.0..end.0).find(|frame| !owned(frame)) {
            return Err(self.misuse(cpu, Pfn(strange), Order(0)));
        }
        let mut locked = self.lock(&cpu.held);
        for pfn in (start.0..end.0).map(Pfn) {
            let state = self.ground.state(pfn);
            let is_mine = state.owned_order() == Some(Order(0)) && self.ground.change(pfn, state, State::Nothing);
            if !is_mine {
                // Somebody gave it back between the check and now: what was cleared so far is free.
                locked.give_by_block(start, pfn);
                drop(locked);
                return Err(self.misuse(cpu, pfn, Order(0)));
            }
        }
        locked.give_by_block(start, end);
        Ok(())
    }
}

impl<S: Store> Locked<'_, S> {
    /// Gives `[start, end)` back pageblock by pageblock, each to its own type.
    fn give_by_block(&mut self, start: Pfn, end: Pfn) {
        let mut at = start;
        while at < end {
            let next = Pfn(self.ground().block_start(at).0 + self.ground().block_frames()).min(end);
            let kind = self.ground().kind(at);
            self.give_range(at, next, kind);
            at = next;
        }
    }
}
