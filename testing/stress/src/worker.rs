//! One CPU of the stress: what it has, and what it does in a step.
//!
//! # Invariants
//! 1. A frame is in the CPU's books before it is used and out of them before it is given back.

use std::sync::{Mutex, PoisonError};

use kernmem_base::{CpuId, Frame, FrameOrigin, FrameSource, Level, NoFrame, Order, Pfn, PhysAddr};
use kernmem_page_alloc::{AllocError, FreeError, Gfp, PcpLimits, Placement, ZoneKind, ZoneSpan};
use kernmem_sparse::MigrateType;

use crate::broken::{Account, What};
use crate::draw::Draw;
use crate::machine::Machine;
use crate::op::Sort;
use crate::owners::{self, AWAY, FREE, Owners};
use crate::payload::Payload;
use crate::subject::{Cpu, Subject};
use crate::tables::{self, CpuTree, Tree};
use crate::tally::{Outcome, Tally};

/// Something that a CPU has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    /// A block.
    Block(Pfn, Order),
    /// Single frames in a row.
    Singles(Pfn, u64),
}

impl Held {
    const fn frames(self) -> (Pfn, u64) {
        match self {
            Self::Block(pfn, order) => (pfn, 1 << order.0),
            Self::Singles(pfn, frames) => (pfn, frames),
        }
    }
}

/// What all CPUs share.
pub(crate) struct Shared<'s, S> {
    pub subject: &'s S,
    pub machine: Machine,
    pub owners: Owners,
    pub payload: Payload,
    pub tree: &'s dyn Tree,
    /// What was handed to each CPU.
    pub mail: Vec<Mutex<Vec<Held>>>,
}

impl<'s, S: Subject> Shared<'s, S> {
    pub fn new(subject: &'s S, machine: Machine, tree: &'s dyn Tree) -> Self {
        Self {
            subject,
            machine,
            owners: Owners::new(&machine),
            payload: Payload::new(machine.frames()),
            tree,
            mail: (0..machine.cpus).map(|_| Mutex::default()).collect(),
        }
    }
}

/// A word and the highest zone that it may be served from, by Linux's table of zone bits.
const REQUESTS: [(Gfp, ZoneKind); 8] = [
    (Gfp::KERNEL, ZoneKind::Normal),
    (Gfp::HIGHUSER_MOVABLE, ZoneKind::Movable),
    (Gfp::USER, ZoneKind::Normal),
    (Gfp::DMA, ZoneKind::Dma),
    (Gfp::DMA32, ZoneKind::Dma32),
    (Gfp(Gfp::KERNEL.0 | Gfp::RECLAIMABLE.0), ZoneKind::Normal),
    (Gfp(Gfp::HIGHUSER_MOVABLE.0 | Gfp::THISNODE.0), ZoneKind::Movable),
    (Gfp(Gfp::KERNEL.0 | Gfp::THISNODE.0), ZoneKind::Normal),
];

/// How often each of them comes, and an urgent one.
const WEIGHTS: [u32; 9] = [20, 30, 4, 1, 3, 10, 6, 6, 1];

/// One CPU.
pub(crate) struct Worker<'s, S> {
    shared: &'s Shared<'s, S>,
    number: u32,
    pub cpu: Cpu,
    /// `None` if somebody has the handle, which nobody should.
    tables: Option<Box<dyn CpuTree + 's>>,
    held: Vec<Held>,
    /// Memory that this CPU took out of the allocator.
    away: Vec<(Pfn, Pfn)>,
    pub tally: Tally,
}

type Step = Result<Outcome, What>;

impl<'s, S: Subject> Worker<'s, S> {
    pub fn new(shared: &'s Shared<'s, S>, number: u32) -> Self {
        let cpu = shared.subject.cpu(number, shared.machine.nid(number));
        let tables = shared.tree.cpu(number);
        Self { shared, number, cpu, tables, held: Vec::new(), away: Vec::new(), tally: Tally::default() }
    }

    pub fn shared(&self) -> &'s Shared<'s, S> {
        self.shared
    }

    fn owner(&self) -> u32 {
        owners::of_cpu(self.number)
    }

    /// Does one operation.
    pub fn step(&mut self, sort: Sort, draw: &mut Draw) -> Result<(), What> {
        let outcome = match sort {
            Sort::Small => {
                let order = draw.below(8) as u8 / 2;
                self.block(draw, Order(order))
            }
            Sort::Large => {
                let order = draw.below(u64::from(self.shared.machine.facts.max_order.0) + 1) as u8;
                self.block(draw, Order(order))
            }
            Sort::Bulk => self.bulk(draw),
            Sort::Exact => self.exact(draw),
            Sort::Contig => self.contig(draw),
            Sort::Range => self.range(draw),
            Sort::Free => self.free_one(draw),
            Sort::FreeMany => self.free_many(draw),
            Sort::Pass => self.pass(draw),
            Sort::Receive => self.receive(),
            Sort::Split => self.split(draw),
            Sort::Wrong => self.wrong(draw),
            Sort::Drain => {
                self.drain();
                Ok(Outcome::Done)
            }
            Sort::Ask => self.ask(draw),
            Sort::Retype => self.retype(draw),
            Sort::Isolate => self.isolate(draw),
            Sort::Plug => self.plug(draw),
            Sort::Limits => self.limits(draw),
            Sort::Look => self.look(draw),
            Sort::Map | Sort::Unmap | Sort::Protect | Sort::SplitBlock | Sort::Collapse | Sort::Walk => {
                self.with_tables(|tables, frames| tables.step(sort, draw, frames))
            }
        }?;
        self.tally.count(sort, outcome);
        Ok(())
    }

    /// Empties the CPU's own lists.
    fn drain(&mut self) {
        self.shared.subject.allocator().drain(&mut self.cpu);
    }

    /// Before an account, when nobody does anything else: gives back what waits, and empties the CPU's own lists.
    pub fn settle(&mut self) -> Result<(), What> {
        self.with_tables(|tables, frames| tables.settle(frames))?;
        self.drain();
        Ok(())
    }

    /// Does something with the shared tables, with frames from the allocator.
    fn with_tables<T>(
        &mut self,
        work: impl FnOnce(&mut dyn CpuTree, &mut dyn FrameSource) -> Result<T, What>,
    ) -> Result<T, What> {
        let mut frames = TableFrames { shared: self.shared, cpu: &mut self.cpu, wrong: None };
        let tables = self.tables.as_deref_mut().ok_or(What::Waits { subtrees: 0 })?;
        let done = work(tables, &mut frames);
        frames.wrong.map_or(done, Err)
    }

    /// Gives back all that it has.
    pub fn give_all(&mut self) -> Result<(), What> {
        self.receive()?;
        while let Some(held) = self.held.pop() {
            self.give(held, 0)?;
        }
        Ok(())
    }

    /// Gives everything back, what others handed over and what is out of the allocator too.
    pub fn finish(&mut self) -> Result<(), What> {
        self.give_all()?;
        while let Some((start, end)) = self.away.pop() {
            self.bring(start, end)?;
        }
        self.with_tables(|tables, frames| tables.clear(frames))?;
        Ok(())
    }

    /// A request: node, word, highest zone.
    fn request(&self, draw: &mut Draw) -> (Option<u32>, Gfp, ZoneKind) {
        let nid = draw.one_of([None, None, None, Some(0), Some(1)]);
        match REQUESTS.get(draw.weighed(&WEIGHTS)) {
            Some(&(gfp, highest)) => (nid, gfp, highest),
            None => (nid, Gfp::atomic(self.shared.machine.facts.era), ZoneKind::Normal),
        }
    }

    /// Notes what was given for a request, after a look at where it lies.
    fn taken(&mut self, held: Held, request: (Option<u32>, Gfp, ZoneKind)) -> Result<(), What> {
        let (pfn, frames) = held.frames();
        if let Held::Block(pfn, order) = held
            && pfn.0 % frames != 0
        {
            return Err(What::Misplaced { pfn, order });
        }
        let (nid, gfp, highest) = request;
        let machine = &self.shared.machine;
        let nid = nid.unwrap_or(machine.nid(self.number));
        let last = Pfn(pfn.0 + frames - 1);
        let is_in = |span: ZoneSpan| {
            last < span.end && span.kind <= highest && (span.nid == nid || !gfp.contains(Gfp::THISNODE))
        };
        if !machine.span_of(pfn).is_some_and(is_in) {
            return Err(What::WrongZone { pfn });
        }
        self.own(held)
    }

    fn own(&mut self, held: Held) -> Result<(), What> {
        let (pfn, frames) = held.frames();
        self.shared.owners.take(pfn, frames, self.owner())?;
        self.shared.payload.write(pfn, frames, self.owner());
        self.tally.frames += frames;
        self.held.push(held);
        Ok(())
    }

    fn block(&mut self, draw: &mut Draw, order: Order) -> Step {
        let request = self.request(draw);
        match self.shared.subject.alloc(&mut self.cpu, request.0, request.1, order) {
            Ok(pfn) => self.taken(Held::Block(pfn, order), request).map(|()| Outcome::Done),
            Err(error) => failed(error),
        }
    }

    fn bulk(&mut self, draw: &mut Draw) -> Step {
        let request = self.request(draw);
        let mut out = vec![Pfn(u64::MAX); draw.below(192) as usize + 1];
        let allocator = self.shared.subject.allocator();
        let done = allocator.alloc_bulk(&mut self.cpu, request.0, request.1, &mut out);
        for &pfn in &out[..done] {
            self.taken(Held::Block(pfn, Order(0)), request)?;
        }
        Ok(if done == out.len() { Outcome::Done } else { Outcome::Partly })
    }

    fn exact(&mut self, draw: &mut Draw) -> Step {
        let request = self.request(draw);
        let frames = draw.below(70) + 1;
        let allocator = self.shared.subject.allocator();
        let bytes = frames * self.shared.machine.facts.granule.bytes() - draw.below(4096);
        match allocator.alloc_exact(&mut self.cpu, request.0, request.1, bytes) {
            Ok(pfn) => self.taken(Held::Singles(pfn, frames), request).map(|()| Outcome::Done),
            Err(error) => failed(error),
        }
    }

    fn contig(&mut self, draw: &mut Draw) -> Step {
        let request = self.request(draw);
        let (frames, align) = (draw.below(1500) + 1, 1 << draw.below(11));
        let allocator = self.shared.subject.allocator();
        match allocator.alloc_contig_pages(&mut self.cpu, request.0, request.1, frames, align) {
            Ok(pfn) if pfn.0 % align != 0 => Err(What::Misplaced { pfn, order: Order(align.ilog2() as u8) }),
            Ok(pfn) => self.taken(Held::Singles(pfn, frames), request).map(|()| Outcome::Done),
            Err(error) => failed(error),
        }
    }

    fn range(&mut self, draw: &mut Draw) -> Step {
        let start = Pfn(draw.below(self.shared.machine.frames() as u64));
        let most = 1 << draw.below(11);
        let end = Pfn(start.0 + 1 + draw.below(most));
        self.take_range(start, end)
    }

    fn take_range(&mut self, start: Pfn, end: Pfn) -> Step {
        let allocator = self.shared.subject.allocator();
        match allocator.alloc_contig_range(&mut self.cpu, Gfp::KERNEL, start, end) {
            Ok(()) => self.own(Held::Singles(start, end.0 - start.0)).map(|()| Outcome::Done),
            Err(AllocError::Busy { pfn }) if start <= pfn && pfn <= end => Ok(Outcome::Busy),
            Err(error) => Err(What::Alloc(error)),
        }
    }

    /// Takes one of the things that the CPU has out of its hands.
    fn pick(&mut self, draw: &mut Draw) -> Option<Held> {
        let which = draw.below(self.held.len() as u64) as usize;
        (which < self.held.len()).then(|| self.held.swap_remove(which))
    }

    fn free_one(&mut self, draw: &mut Draw) -> Step {
        let Some(held) = self.pick(draw) else { return Ok(Outcome::Nothing) };
        self.give(held, draw.word())
    }

    fn free_many(&mut self, draw: &mut Draw) -> Step {
        for _ in 0..draw.below(64) {
            let Some(held) = self.pick(draw) else { return Ok(Outcome::Partly) };
            self.give(held, draw.word())?;
        }
        Ok(Outcome::Done)
    }

    /// Gives something back, in one of the ways in which it may come.
    fn give(&mut self, held: Held, how: u64) -> Step {
        let (pfn, frames) = held.frames();
        self.shared.payload.check(pfn, frames, self.owner())?;
        self.shared.owners.give(pfn, frames, self.owner(), FREE)?;
        let allocator = self.shared.subject.allocator();
        let given = match (held, how % 3) {
            (Held::Block(pfn, order), _) => self.shared.subject.free(&mut self.cpu, pfn, order),
            (Held::Singles(pfn, frames), 0) => allocator.free_contig(&mut self.cpu, pfn, frames),
            (Held::Singles(pfn, frames), 1) => {
                let all: Vec<Pfn> = (pfn.0..pfn.0 + frames).map(Pfn).collect();
                allocator.free_bulk(&mut self.cpu, &all)
            }
            (Held::Singles(pfn, frames), _) => {
                let mut single = (pfn.0..pfn.0 + frames).map(Pfn);
                single.try_for_each(|pfn| self.shared.subject.free(&mut self.cpu, pfn, Order(0)))
            }
        };
        given.map(|()| Outcome::Done).map_err(What::Free)
    }

    fn pass(&mut self, draw: &mut Draw) -> Step {
        let to = draw.below(u64::from(self.shared.machine.cpus)) as u32;
        let Some(held) = self.pick(draw) else { return Ok(Outcome::Nothing) };
        let (pfn, frames) = held.frames();
        self.shared.payload.check(pfn, frames, self.owner())?;
        self.shared.owners.give(pfn, frames, self.owner(), owners::of_cpu(to))?;
        self.shared.payload.write(pfn, frames, owners::of_cpu(to));
        let mut mail = self.shared.mail[to as usize].lock().unwrap_or_else(PoisonError::into_inner);
        mail.push(held);
        Ok(Outcome::Done)
    }

    fn receive(&mut self) -> Step {
        let mut mail = self.shared.mail[self.number as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let received = core::mem::take(&mut *mail);
        drop(mail);
        let outcome = if received.is_empty() { Outcome::Nothing } else { Outcome::Done };
        self.held.extend(received);
        Ok(outcome)
    }

    fn split(&mut self, draw: &mut Draw) -> Step {
        match self.pick(draw) {
            Some(Held::Block(pfn, order)) => {
                let allocator = self.shared.subject.allocator();
                allocator.split(&self.cpu, pfn, order).map_err(What::Free)?;
                self.held.push(Held::Singles(pfn, 1 << order.0));
                Ok(Outcome::Done)
            }
            Some(held) => {
                self.held.push(held);
                Ok(Outcome::Nothing)
            }
            None => Ok(Outcome::Nothing),
        }
    }

    /// Gives something of its own back in a size that it cannot have, or a frame of nobody's.
    fn wrong(&mut self, draw: &mut Draw) -> Step {
        let order = Order(draw.below(12) as u8);
        let own = self.held.get(draw.below(self.held.len() as u64) as usize).copied();
        let pfn = match own {
            Some(held) if !self.is_wrong(held, order) => return Ok(Outcome::Nothing),
            Some(held) => held.frames().0,
            None => Pfn(draw.one_of([0x9f, 0x8123, 0xbf3d, 0x1_c123, u64::MAX])),
        };
        let expected = match own {
            Some(_) => FreeError::WrongOrder { pfn, order },
            None => FreeError::Foreign { pfn },
        };
        match self.shared.subject.free(&mut self.cpu, pfn, order) {
            Err(error) if error == expected => Ok(Outcome::Refused),
            answer => Err(What::Accepted { pfn, order, answer }),
        }
    }

    /// Whether the allocator must refuse something as a block of `order`. Dense placement keeps no sizes: it sees only that
    /// no such block can begin there.
    fn is_wrong(&self, held: Held, order: Order) -> bool {
        let facts = self.shared.machine.facts;
        match (facts.placement, held) {
            (Placement::Dense, held) => order > facts.max_order || held.frames().0.0 % (1 << order.0) != 0,
            (Placement::Linux, Held::Block(_, own)) => own != order,
            (Placement::Linux, Held::Singles(..)) => order != Order(0),
        }
    }

    fn ask(&mut self, draw: &mut Draw) -> Step {
        let allocator = self.shared.subject.allocator();
        allocator.request_drain(CpuId(draw.below(u64::from(self.shared.machine.cpus)) as u32));
        allocator.answer_requests(&mut self.cpu);
        Ok(Outcome::Done)
    }

    /// Any pageblock: its frames that are memory, cut at the zone's edges.
    fn pageblock(&self, draw: &mut Draw) -> Option<(Pfn, Pfn)> {
        let pfn = Pfn(draw.below(self.shared.machine.frames() as u64));
        let order = self.shared.machine.facts.pageblock_order.0;
        let start = pfn.0 >> order << order;
        let span = self.shared.machine.span_of(pfn)?;
        let (from, to) = self.shared.machine.ranges(span).find(|&(from, to)| from <= pfn && pfn < to)?;
        Some((from.max(Pfn(start)), to.min(Pfn(start + (1 << order)))))
    }

    fn retype(&mut self, draw: &mut Draw) -> Step {
        let kinds = [MigrateType::Unmovable, MigrateType::Movable, MigrateType::Reclaimable, MigrateType::Cma];
        let kind = draw.one_of(kinds);
        let Some((start, end)) = self.pageblock(draw) else { return Ok(Outcome::Nothing) };
        self.set_type(start, end, kind).map(|()| Outcome::Done)
    }

    fn set_type(&self, start: Pfn, end: Pfn, kind: MigrateType) -> Result<(), What> {
        let changed = self.shared.subject.allocator().set_migrate_type(start, end, kind);
        if changed == Ok(1) { Ok(()) } else { Err(What::Retype { pfn: start }) }
    }

    fn isolate(&mut self, draw: &mut Draw) -> Step {
        let Some((start, end)) = self.pageblock(draw) else { return Ok(Outcome::Nothing) };
        self.set_type(start, end, MigrateType::Isolate)?;
        let taken = self.take_range(start, end);
        self.set_type(start, end, MigrateType::Movable)?;
        taken
    }

    /// Takes some pageblocks out of the allocator, if all of them is free; or brings some back.
    fn plug(&mut self, draw: &mut Draw) -> Step {
        if draw.below(3) != 0
            && let Some((start, end)) = self.away.pop()
        {
            return self.bring(start, end).map(|()| Outcome::Partly);
        }
        let Some((start, end)) = self.pageblock(draw) else { return Ok(Outcome::Nothing) };
        let span = self.shared.machine.span_of(start).ok_or(What::WrongZone { pfn: start })?;
        let more = draw.below(4) << self.shared.machine.facts.pageblock_order.0;
        let most = self.shared.machine.ranges(span).find(|&(from, to)| from <= start && start < to);
        let end = Pfn(end.0 + more).min(most.map_or(end, |(_, to)| to));
        match self.shared.subject.allocator().offline(&mut self.cpu, start, end) {
            Ok(()) => {
                self.shared.owners.take(start, end.0 - start.0, AWAY)?;
                self.away.push((start, end));
                Ok(Outcome::Done)
            }
            Err(AllocError::Busy { pfn }) if start <= pfn && pfn < end => Ok(Outcome::Busy),
            Err(error) => Err(What::Alloc(error)),
        }
    }

    fn bring(&self, start: Pfn, end: Pfn) -> Result<(), What> {
        self.shared.owners.give(start, end.0 - start.0, AWAY, FREE)?;
        self.shared.subject.allocator().online(start, end).map_err(What::Online)
    }

    fn limits(&mut self, draw: &mut Draw) -> Step {
        let zones = self.shared.machine.spans().count() as u64;
        let which = draw.below(zones) as usize;
        let batch = 1 + draw.below(63);
        let high_min = draw.below(400);
        let limits = PcpLimits { batch, high_min, high_max: high_min + draw.below(400) };
        if let Some(zone) = self.shared.subject.allocator().zones().nth(which) {
            zone.set_pcp(limits);
        }
        Ok(Outcome::Done)
    }

    /// Figures that are read beside the others' work may be old, but never more than there is.
    fn look(&mut self, draw: &mut Draw) -> Step {
        let allocator = self.shared.subject.allocator();
        for zone in allocator.zones() {
            // Not more than are managed: that figure changes beside this one while memory goes and comes.
            let (free, present) = (zone.free(), zone.span().present);
            if free > present {
                return Err(figure(zone.span(), Account::Free, present, free));
            }
        }
        let pfn = Pfn(draw.below(self.shared.machine.frames() as u64));
        let nid = self.shared.machine.span_of(pfn).map(|span| span.nid);
        if allocator.nid_of(pfn) == nid { Ok(Outcome::Done) } else { Err(What::WrongZone { pfn }) }
    }
}

/// Frames for tables, from the allocator, in the books as the tree's.
struct TableFrames<'w, 's, S> {
    shared: &'s Shared<'s, S>,
    cpu: &'w mut Cpu,
    /// What was off, first.
    wrong: Option<What>,
}

impl<S: Subject> FrameSource for TableFrames<'_, '_, S> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let pfn = self.shared.subject.alloc(self.cpu, Some(0), tables::GFP, Order(0)).map_err(|_| NoFrame { level })?;
        let taken = self.shared.owners.take(pfn, 1, owners::TABLES);
        let pa = pfn.to_phys(self.shared.machine.facts.granule).filter(|_| pfn.0 < tables::TABLE_FRAMES);
        match (taken, pa) {
            (Ok(()), Some(pa)) => return Ok(Frame { pa, origin: FrameOrigin::PageAllocator, zeroed: false }),
            (Ok(()), None) => self.wrong.get_or_insert(What::WrongZone { pfn }),
            (Err(what), _) => self.wrong.get_or_insert(what),
        };
        Err(NoFrame { level })
    }

    fn give_back(&mut self, frame: PhysAddr) {
        let pfn = frame.pfn(self.shared.machine.facts.granule);
        self.shared.tree.spoil(frame);
        let given = self.shared.owners.give(pfn, 1, owners::TABLES, FREE);
        let freed = given.and_then(|()| self.shared.subject.free(self.cpu, pfn, Order(0)).map_err(What::Free));
        if let Err(what) = freed {
            self.wrong.get_or_insert(what);
        }
    }
}

pub(crate) fn figure(span: ZoneSpan, account: Account, ours: u64, theirs: u64) -> What {
    What::Figures { nid: span.nid, zone: span.kind, account, ours, theirs }
}

/// What an error of a request counts as.
fn failed(error: AllocError) -> Step {
    match error {
        AllocError::NoMemory { .. } => Ok(Outcome::NoMemory),
        other => Err(What::Alloc(other)),
    }
}
