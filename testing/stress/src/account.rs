//! The pause: all lists are empty, nobody takes or gives, and every frame is accounted for.
//!
//! # What is checked, zone by zone
//! 1. Free frames and owned frames, by our books, are the frames that were handed over.
//! 2. The zone's counters say the same, with isolated pageblocks apart.
//! 3. Free blocks of each order below a pageblock are those that the free frames must be kept in; above, their frames are.
//!    Where no pageblock changed its type, blocks above are the largest too.
//! 4. Where lists follow pageblocks, 3. holds for each type.
//! 5. A free frame that is given back is told to be free, and a frame in a hole none of the allocator's.
//!
//! 6. Tables and pages are those of the book (`tables`).
//!
//! Node by node the same follows, since no zone is in two nodes; the sums over all zones are compared as well.

use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::{FreeError, Gfp, Placement, ZoneSpan};
use kernmem_sparse::MigrateType;

use crate::broken::{Account, What};
use crate::naive;
use crate::op::Mix;
use crate::owners::{AWAY, FREE};
use crate::subject::{Cpu, Figures, Subject};
use crate::worker::{Shared, figure};

/// Of so many free frames one is given back again at each pause.
const SAMPLE: u64 = 16;

/// Of the free frames of dense placement so many are.
const TOLD: u64 = 8;

/// Accounts for every frame. `turn` chooses which frames are given back wrongly.
pub(crate) fn check<S: Subject>(shared: &Shared<'_, S>, cpu: &mut Cpu, mix: Mix, turn: u64) -> Result<(), What> {
    let allocator = shared.subject.allocator();
    for zone in allocator.zones() {
        let figures = shared.subject.figures(zone);
        let books = Books::of(shared, figures.span, |pfn| zone.migrate_type(Pfn(pfn)).unwrap_or(MigrateType::Movable));
        books.compare(shared, &figures, mix)?;
    }
    shared.tree.check(&shared.owners)?;
    refused(shared, cpu, turn)
}

/// What our books say of one zone.
struct Books {
    span: ZoneSpan,
    managed: u64,
    is_free: Vec<bool>,
    /// Types of pageblocks, by the frames of the zone.
    kinds: Vec<MigrateType>,
}

impl Books {
    fn of<S: Subject>(shared: &Shared<'_, S>, span: ZoneSpan, kind_of: impl Fn(u64) -> MigrateType) -> Self {
        let owners: Vec<u32> = (span.start.0..span.end.0).map(|pfn| shared.owners.of(Pfn(pfn))).collect();
        Self {
            span,
            managed: owners.iter().filter(|&&owner| owner != AWAY).count() as u64,
            is_free: owners.iter().map(|&owner| owner == FREE).collect(),
            kinds: (span.start.0..span.end.0).map(kind_of).collect(),
        }
    }

    fn kind(&self, pfn: u64) -> MigrateType {
        let at = pfn.saturating_sub(self.span.start.0) as usize;
        self.kinds.get(at).copied().unwrap_or(MigrateType::Movable)
    }

    fn compare<S: Subject>(&self, shared: &Shared<'_, S>, figures: &Figures, mix: Mix) -> Result<(), What> {
        let facts = shared.machine.facts;
        let same = |account, ours: u64, theirs: u64| {
            if ours == theirs { Ok(()) } else { Err(figure(self.span, account, ours, theirs)) }
        };
        let free = self.is_free.iter().filter(|&&free| free).count() as u64;
        same(Account::Managed, self.managed, figures.managed)?;
        let in_blocks = (0..naive::ORDERS).map(|order| figures.nr_free(order) << order).sum();
        same(Account::InBlocks, free, in_blocks)?;
        let by_type = naive::by_type(self.span.start.0, &self.is_free, |pfn| self.kind(pfn));
        same(Account::Free, free - by_type[MigrateType::Isolate as usize], figures.free)?;
        self.compare_blocks(shared, figures, mix, &same)?;
        if !lists_follow(facts.era, facts.placement) {
            return Ok(());
        }
        same(Account::FreeCma, by_type[MigrateType::Cma as usize], figures.free_cma)?;
        same(Account::FreeHighAtomic, by_type[MigrateType::HighAtomic as usize], figures.free_highatomic)?;
        MigrateType::ALL.into_iter().try_for_each(|kind| self.compare_type(shared, figures, kind, &same))
    }

    fn compare_blocks<S: Subject>(
        &self,
        shared: &Shared<'_, S>,
        figures: &Figures,
        mix: Mix,
        same: &impl Fn(Account, u64, u64) -> Result<(), What>,
    ) -> Result<(), What> {
        let facts = shared.machine.facts;
        let ours = naive::blocks(self.span.start.0, &self.is_free, facts.max_order.0, |_, _| false);
        let pageblock = usize::from(facts.pageblock_order.0);
        for (order, &blocks) in ours.iter().enumerate().take(pageblock) {
            same(Account::Blocks(Order(order as u8)), blocks, figures.nr_free(order))?;
        }
        let large = |count: &dyn Fn(usize) -> u64| (pageblock..naive::ORDERS).map(|order| count(order) << order).sum();
        same(Account::InLargeBlocks, large(&|order| ours[order]), large(&|order| figures.nr_free(order)))?;
        let kept_whole = mix == Mix::Typed && figures.free_highatomic == 0;
        for (order, &blocks) in ours.iter().enumerate().skip(pageblock).filter(|_| kept_whole) {
            same(Account::Blocks(Order(order as u8)), blocks, figures.nr_free(order))?;
        }
        Ok(())
    }

    /// Blocks below a pageblock's size, of one type.
    fn compare_type<S: Subject>(
        &self,
        shared: &Shared<'_, S>,
        figures: &Figures,
        kind: MigrateType,
        same: &impl Fn(Account, u64, u64) -> Result<(), What>,
    ) -> Result<(), What> {
        let facts = shared.machine.facts;
        let of_kind: Vec<bool> =
            self.is_free.iter().zip(&self.kinds).map(|(&free, &own)| free && own == kind).collect();
        let ours = naive::blocks(self.span.start.0, &of_kind, facts.max_order.0, |_, _| false);
        for (order, &blocks) in ours.iter().enumerate().take(usize::from(facts.pageblock_order.0)) {
            same(Account::BlocksOf(Order(order as u8), kind), blocks, figures.blocks[order][kind as usize])?;
        }
        Ok(())
    }
}

/// Whether each free block is listed under the type of its pageblock.
const fn lists_follow(era: Era, placement: Placement) -> bool {
    match (era, placement) {
        (_, Placement::Dense) | (Era::V6_12 | Era::V7_2, Placement::Linux) => true,
        (Era::V4_14 | Era::V5_10 | Era::V6_1, Placement::Linux) => false,
    }
}

/// Frames that nobody has are refused, each with its reason.
fn refused<S: Subject>(shared: &Shared<'_, S>, cpu: &mut Cpu, turn: u64) -> Result<(), What> {
    let mut told = 0;
    for pfn in (turn % SAMPLE..shared.machine.frames() as u64).step_by(SAMPLE as usize).map(Pfn) {
        let expected = match (shared.owners.of(pfn), shared.machine.facts.placement) {
            (FREE, Placement::Linux) => FreeError::DoubleFree { pfn },
            (FREE, Placement::Dense) if told < TOLD && pfn.0 % TOLD == turn % TOLD => {
                told += 1;
                told_later(shared, cpu, pfn)?;
                continue;
            }
            (AWAY, _) => FreeError::Foreign { pfn },
            _ => continue,
        };
        let answer = shared.subject.free(cpu, pfn, Order(0));
        if answer != Err(expected) {
            return Err(What::Accepted { pfn, order: Order(0), answer });
        }
    }
    Ok(())
}

/// A free frame comes back once more: refused at once, or, where a CPU puts aside what came back, told when it looks.
fn told_later<S: Subject>(shared: &Shared<'_, S>, cpu: &mut Cpu, pfn: Pfn) -> Result<(), What> {
    let answer = shared.subject.free(cpu, pfn, Order(0)).and_then(|()| shared.subject.allocator().check_frees(cpu));
    match answer {
        Err(FreeError::DoubleFree { pfn: told }) if told == pfn => Ok(()),
        answer => Err(What::Accepted { pfn, order: Order(0), answer }),
    }
}

/// After everything came back: each range of memory is taken in one piece and given back, and blocks are as they were in
/// the beginning.
pub(crate) fn whole<S: Subject>(shared: &Shared<'_, S>, cpu: &mut Cpu, beginning: &[Figures]) -> Result<(), What> {
    let allocator = shared.subject.allocator();
    for span in shared.machine.spans() {
        for (start, end) in shared.machine.ranges(span) {
            let changed = allocator.set_migrate_type(start, end, MigrateType::Movable);
            changed.map_err(|_| What::Retype { pfn: start })?;
        }
    }
    for span in shared.machine.spans() {
        let ranges: Vec<(Pfn, Pfn)> = shared.machine.ranges(span).collect();
        for &(start, end) in &ranges {
            let taken = allocator.alloc_contig_range(cpu, Gfp::KERNEL, start, end);
            taken.map_err(|_| What::NotWhole { pfn: start })?;
        }
        for (start, end) in ranges {
            allocator.free_contig(cpu, start, end.0 - start.0).map_err(What::Free)?;
        }
    }
    for (zone, before) in allocator.zones().zip(beginning) {
        let after = shared.subject.figures(zone);
        for order in 0..naive::ORDERS {
            let (ours, theirs) = (before.nr_free(order), after.nr_free(order));
            if ours != theirs {
                return Err(figure(before.span, Account::Blocks(Order(order as u8)), ours, theirs));
            }
        }
    }
    Ok(())
}
