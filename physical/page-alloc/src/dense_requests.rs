//! Requests under dense placement: the CPU's own frames, then the field of a zone, without a lock.
//!
//! Here: which types a request takes from and in which order, and what is told of frames that come back. Not here: which
//! zone is asked in which pass (`allocator`), how frames are found (`dense`).
//!
//! # Invariants
//! 1. A word or block that is hot was chosen for a request of the same [`key`], so another of that key may have from it.
//!
//! Source: Linux 6.1 mm/page_alloc.c `rmqueue`, `__rmqueue_fallback`, as far as types are chosen.

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::allocator::Wish;
use crate::dense::{At, Doubled, Want};
use crate::fallback::{fallbacks, own_kinds};
use crate::fielded::{Fielded, Grounds};
use crate::pcp::CpuPages;
use crate::store::Store;
use crate::watermark::{self, Pass};
use crate::zone::{Placed, Zone};
use crate::{FreeError, Gfp, PageAllocator, Placement};

/// What decides where a request is served: zones, mobility, and whether other nodes may help.
const DECIDES: u32 = 0x1f | Gfp::THISNODE.0;

/// Frames that a CPU keeps of a zone at most, besides what is open for the next requests.
const MOST_KEPT: u64 = 1024;

/// Where the node stands in a [`key`]: 33 bits, since any number may be asked for.
const NODE_SHIFT: u32 = 31;

const _: () = assert!(DECIDES < 1 << NODE_SHIFT, "a node's number covers no flag");

/// The name of all requests that are served from the same place.
#[inline]
pub(crate) fn key(nid: Option<u32>, gfp: Gfp) -> u64 {
    u64::from(gfp.0 & DECIDES) | nid.map_or(0, |nid| (u64::from(nid) + 1) << NODE_SHIFT)
}

impl<'z, S: Store> Fielded<'z, S> {
    /// Whether most of what is free is CMA.
    fn cma_leads(self) -> bool {
        2 * self.zone.free_cma() > self.zone.free()
    }

    fn at(self) -> At<'z, S::Field, Grounds<S>> {
        At { zone: self.zone.index, field: &self.body.field, kinds: &self.body.grounds }
    }
}

/// Where requests of one key are served first, as the last walk over the zones found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    zone: usize,
    wish: Wish,
    pass: Pass,
}

impl<S: Store> CpuPages<S> {
    /// Takes a block from the CPU's frames or a zone's field, from blocks of type `kind`.
    #[inline]
    fn take_dense(&mut self, zone: Fielded<'_, S>, wish: Wish, kind: MigrateType) -> Option<Pfn> {
        let Wish { key, order, kind: column, .. } = wish;
        self.frames.alloc(zone.at(), Want { key, column, kind, order })
    }

    /// Has the CPU keep as much of a zone as its limits say.
    fn limit_dense(&mut self, zone: Fielded<'_, S>) {
        if let Some(set) = self.frames.set_mut(zone.zone.index) {
            set.set_limit(zone.zone.pcp().high_max.min(MOST_KEPT) as u32);
        }
    }

    /// Gives all that the CPU keeps of a zone back to its field.
    pub(crate) fn drain_dense(&mut self, zone: Fielded<'_, S>) {
        if let Err(doubled) = self.frames.drain(zone.at()) {
            self.doubled = Some(doubled);
        }
    }

    /// Makes ready for frames to go straight to their field.
    pub(crate) fn close_dense(&mut self, zone: Fielded<'_, S>, start: Pfn, end: Pfn) -> Result<(), FreeError> {
        self.frames.close(zone.at(), start, end).map_err(double_free)
    }

    /// A frame of which it was found only now that it came back twice; told once.
    #[inline]
    fn tell_doubled(&mut self, zone: Fielded<'_, S>) -> Result<(), FreeError> {
        let found = self.frames.take_doubled(zone.zone.index).or(self.doubled.take());
        found.map_or(Ok(()), |doubled| Err(double_free(doubled)))
    }
}

pub(crate) fn double_free(doubled: Doubled) -> FreeError {
    FreeError::DoubleFree { pfn: doubled.pfn }
}

impl<S: Store> PageAllocator<S> {
    /// Keeps in mind which zone a request looks at first, for those that follow.
    pub(crate) fn remember(&self, cpu: &mut CpuPages<S>, wish: Wish, pass: Pass) {
        let is_dense = self.facts.placement == Placement::Dense;
        let first = if is_dense { self.zonelist(wish).next() } else { None };
        cpu.served = first.map(|zone| Served { zone: zone.index, wish, pass });
    }

    /// Takes a block as the last request of this key would be served in its first pass from its first zone: the watermark
    /// is looked at, and only blocks of the request's own types are taken.
    #[inline]
    pub(crate) fn alloc_again(&self, cpu: &mut CpuPages<S>, key: u64, order: Order) -> Option<Pfn> {
        let Served { zone, wish, pass } = *cpu.served.as_ref().filter(|served| served.wish.key == key)?;
        let Placed::Dense(zone) = self.zone_at(zone)?.placed() else { return None };
        if order > self.facts.max_order {
            return None;
        }
        self.answer_requests(cpu);
        if !watermark::is_ok(zone.zone, &cpu.held, order.0, 0, wish.highest, pass) {
            return None;
        }
        let wish = Wish { order: order.0, ..wish };
        if !pass.cma {
            return cpu.take_dense(zone, wish, wish.kind);
        }
        own_kinds(wish.kind, pass, || zone.cma_leads()).find_map(|kind| cpu.take_dense(zone, wish, kind))
    }

    /// Takes a block for a wish from one zone.
    pub(crate) fn take_dense(
        &self,
        cpu: &mut CpuPages<S>,
        zone: Fielded<'_, S>,
        wish: Wish,
        pass: Pass,
    ) -> Option<Pfn> {
        self.answer_requests(cpu);
        cpu.limit_dense(zone);
        let urgent = if pass.highatomic { cpu.take_dense(zone, wish, MigrateType::HighAtomic) } else { None };
        let taken = urgent.or_else(|| self.take_by_kind(cpu, zone, wish, pass));
        let taken = match self.facts.has_last_reserve(pass) {
            true => taken.or_else(|| cpu.take_dense(zone, wish, MigrateType::HighAtomic)),
            false => taken,
        }?;
        if pass.highatomic {
            zone.reserve_highatomic(&cpu.held, taken);
        }
        Some(taken)
    }

    /// Takes a block of the wish's own type, of CMA where that may serve, then of other types.
    fn take_by_kind(&self, cpu: &mut CpuPages<S>, zone: Fielded<'_, S>, wish: Wish, pass: Pass) -> Option<Pfn> {
        let mut own = own_kinds(wish.kind, pass, || zone.cma_leads());
        let taken = own.find_map(|kind| cpu.take_dense(zone, wish, kind));
        taken.or_else(|| self.claim_dense(cpu, zone, wish)).or_else(|| {
            let others = if pass.nofragment { &[] } else { fallbacks(wish.kind) };
            let taken = others.iter().find_map(|&kind| cpu.take_dense(zone, wish, kind))?;
            zone.zone.boost_watermark();
            Some(taken)
        })
    }

    /// Takes over a whole free block of another type, at least a pageblock, and serves the wish from it.
    fn claim_dense(&self, cpu: &mut CpuPages<S>, zone: Fielded<'_, S>, wish: Wish) -> Option<Pfn> {
        let order = wish.order.max(self.facts.pageblock_order.0);
        let (field, grounds) = (&zone.body.field, &zone.body.grounds);
        let block = fallbacks(wish.kind).iter().find_map(|&kind| field.take_run(grounds, kind, order))?;
        for part in (block.0..block.0 + (1 << order)).step_by(1 << self.facts.pageblock_order.0) {
            zone.retype(Some(&cpu.held), Pfn(part), wish.kind);
        }
        if wish.order == order {
            return Some(block);
        }
        let given = field.give_run(grounds, block, order);
        debug_assert!(given.is_ok(), "the block was just taken");
        cpu.take_dense(zone, wish, wish.kind)
    }

    /// Takes single frames from one zone into `out`; how many came without a fallback.
    pub(crate) fn bulk_dense(
        &self,
        cpu: &mut CpuPages<S>,
        zone: Fielded<'_, S>,
        wish: Wish,
        pass: Pass,
        out: &mut [Pfn],
    ) -> usize {
        self.answer_requests(cpu);
        let mut done = 0;
        for kind in own_kinds(wish.kind, pass, || zone.cma_leads()) {
            let want = Want { key: wish.key, column: wish.kind, kind, order: 0 };
            done += cpu.frames.alloc_bulk(zone.at(), want, &mut out[done..]);
        }
        done
    }

    /// The dense zone that a frame was handed over to; the CPU's last one is looked at first.
    #[inline(always)]
    fn dense_zone_of(&self, cpu: &mut CpuPages<S>, pfn: Pfn) -> Option<Fielded<'_, S>> {
        match self.zone_at(cpu.here).map(Zone::placed) {
            Some(Placed::Dense(zone)) if zone.manages(pfn) => Some(zone),
            _ => self.other_zone_of(cpu, pfn),
        }
    }

    #[cold]
    fn other_zone_of(&self, cpu: &mut CpuPages<S>, pfn: Pfn) -> Option<Fielded<'_, S>> {
        let zone = self.zone_of(pfn)?;
        cpu.here = zone.index;
        match zone.placed() {
            Placed::Dense(zone) if zone.manages(pfn) => {
                cpu.limit_dense(zone);
                Some(zone)
            }
            Placed::Dense(_) | Placed::Linux(_) => None,
        }
    }

    /// Gives a block back that is in none of the CPU's hot words.
    #[inline(always)]
    pub(crate) fn free_dense(&self, cpu: &mut CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let Some(zone) = self.dense_zone_of(cpu, pfn) else { return Err(FreeError::Foreign { pfn }) };
        if order.0 > 0 {
            self.check_block(zone, pfn, order)?;
        }
        self.answer_requests(cpu);
        match cpu.frames.free(zone.at(), pfn, order.0) {
            Ok(()) => cpu.tell_doubled(zone),
            Err(doubled) => Err(double_free(doubled)),
        }
    }

    /// Looks at what came back to the CPU's frames of one zone.
    pub(crate) fn check_dense(&self, cpu: &mut CpuPages<S>, zone: Fielded<'_, S>) -> Result<(), FreeError> {
        let found = cpu.frames.check(zone.at()).err().or(cpu.doubled.take());
        found.map_or(Ok(()), |doubled| Err(double_free(doubled)))
    }

    /// Whether a range may be somebody's block.
    #[inline(never)]
    fn check_block(&self, zone: Fielded<'_, S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        if order > self.facts.max_order || !pfn.0.is_multiple_of(1 << order.0) {
            return Err(zone.misuse(pfn, order));
        }
        zone.all_managed(pfn, Pfn(pfn.0 + (1 << order.0)))
    }

    /// Gives single frames back, straight to their fields.
    pub(crate) fn free_bulk_dense(&self, cpu: &mut CpuPages<S>, frames: &[Pfn]) -> Result<(), FreeError> {
        let mut left = frames;
        while let Some(&first) = left.first() {
            let zone = self.dense_zone_of(cpu, first).ok_or(FreeError::Foreign { pfn: first })?;
            let (own, rest) = left.split_at(zone.count_managed(left));
            cpu.frames.free_bulk(zone.at(), own).map_err(double_free)?;
            left = rest;
        }
        Ok(())
    }
}
