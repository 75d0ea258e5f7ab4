//! The page allocator: nodes and zones as one value that all CPUs share.
//!
//! Here: construction, hand-over from boot, who looks at which zone in which pass, giving back.
//! Not here: what happens inside a zone (`buddy`, `fallback`), inside a CPU's lists (`pcp`), contiguous ranges (`contig`).
//!
//! # Invariants
//! 1. A frame that somebody was given lies in exactly one block whose first frame is in a state of ownership.
//! 2. A call that fails has changed nothing that its caller could see, but for blocks that moved from CPU lists to zones.
//!
//! Locks: zone locks, rank 30, one at a time.
//! Source: Linux 6.1 mm/page_alloc.c `__alloc_pages`, `get_page_from_freelist`, `__free_pages`.

use core::fmt;

use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::facts::BuildError;
use crate::ground::State;
use crate::pcp::{self, CpuPages};
use crate::store::{Needs, Store};
use crate::watermark::{self, Pass};
use crate::zone::Zone;
use crate::zonelist::FallbackOrders;
use crate::{AllocError, Facts, FreeError, Gfp, Pages, Topology, ZoneKind, ZoneSpan};

/// The page allocator of one kernel.
pub struct PageAllocator<S: Store> {
    pub(crate) facts: Facts,
    nodes: u32,
    /// By node, then by kind.
    zones: S::Zones,
    /// The nodes as each node asks them.
    orders: FallbackOrders<S::Numbers>,
    requests: S::Requests,
}

impl<S: Store> fmt::Debug for PageAllocator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageAllocator").field("facts", &self.facts).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// What a request wants, once its words are understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub gfp: Gfp,
    pub order: u8,
    pub kind: MigrateType,
    pub highest: ZoneKind,
    pub nid: u32,
}

/// How much memory an allocator would need if every frame were touched.
#[must_use]
pub fn needs<S: Store>(facts: &Facts, topology: &Topology<'_>, spans: &[ZoneSpan]) -> Needs {
    let nodes = topology.nodes as usize;
    let mut needs = Needs {
        zones: nodes * facts.kinds.count(),
        numbers: FallbackOrders::<S::Numbers>::numbers(nodes),
        requests: topology.cpus as usize,
        ..Needs::default()
    };
    for span in spans {
        let zone = Zone::<S>::needs(span, facts);
        needs.state_bytes += zone.chunks * zone.state_bytes as u64;
        needs.words += zone.chunks * zone.words as u64;
    }
    needs
}

impl<S: Store> PageAllocator<S> {
    /// An allocator with these zones and no memory yet.
    ///
    /// # Errors
    /// [`BuildError`]; nothing was made.
    pub fn new(store: &mut S, facts: Facts, topology: &Topology<'_>, spans: &[ZoneSpan]) -> Result<Self, BuildError> {
        facts.check()?;
        let (nodes, kinds) = (topology.nodes as usize, facts.kinds.count());
        let mut zones = store.zones(nodes * kinds).ok_or(BuildError::Store)?;
        for &span in spans {
            let kind = facts.kinds.index(span.kind).filter(|_| span.nid < topology.nodes && span.start <= span.end);
            let index = span.nid as usize * kinds + kind.ok_or(BuildError::Span(span))?;
            let place = zones.as_mut().get_mut(index).ok_or(BuildError::Store)?;
            if place.is_some() {
                return Err(BuildError::Span(span));
            }
            *place = Some(Zone::new(span, index, facts, store).ok_or(BuildError::Store)?);
        }
        let numbers = store.numbers(FallbackOrders::<S::Numbers>::numbers(nodes)).ok_or(BuildError::Store)?;
        let requests = store.requests(topology.cpus as usize).ok_or(BuildError::Store)?;
        let has_memory = |nid: u32| {
            let first = nid as usize * kinds;
            zones.as_ref()[first..first + kinds].iter().flatten().any(Zone::is_populated)
        };
        let orders = FallbackOrders::new(facts.era, topology, has_memory, numbers).ok_or(BuildError::Store)?;
        Ok(Self { facts, nodes: topology.nodes, zones, orders, requests })
    }

    /// What it was told.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Nodes, numbered from 0.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// The allocator as a CPU passes it to the layers above.
    pub fn pages<'a>(&'a self, cpu: &'a mut CpuPages<S>) -> Pages<'a, S> {
        Pages { allocator: self, cpu }
    }

    /// Sets that the lists of a CPU need: one for each node and kind of zone.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.zones.as_ref().len()
    }

    /// All zones that were named at construction, by node and kind, unpopulated ones too.
    pub fn zones(&self) -> impl Iterator<Item = &Zone<S>> {
        self.zones.as_ref().iter().flatten()
    }

    /// The zone of a node and a kind.
    #[must_use]
    pub fn zone(&self, nid: u32, kind: ZoneKind) -> Option<&Zone<S>> {
        let index = nid as usize * self.facts.kinds.count() + self.facts.kinds.index(kind)?;
        self.zones.as_ref().get(index)?.as_ref().filter(|_| nid < self.nodes)
    }

    /// The nodes in the order in which a request of `nid` looks at them.
    pub fn fallback_order(&self, nid: u32) -> impl Iterator<Item = u32> {
        self.orders.of(nid)
    }

    /// The zones that a request may be served from, first choice first.
    pub(crate) fn zonelist(&self, wish: Wish) -> impl Iterator<Item = &Zone<S>> {
        let alone = wish.gfp.contains(Gfp::THISNODE);
        let nodes = self.fallback_order(wish.nid).filter(move |&nid| !alone || nid == wish.nid);
        nodes.flat_map(move |nid| {
            let kinds = self.facts.kinds.iter().rev().filter(move |&kind| kind <= wish.highest);
            kinds.filter_map(move |kind| self.zone(nid, kind)).filter(|zone| zone.is_populated())
        })
    }

    /// The zone that knows a frame; where spans overlap, the one that has a record of it.
    pub(crate) fn zone_of(&self, pfn: Pfn) -> Option<&Zone<S>> {
        let mut around = self.zones().filter(|zone| zone.contains(pfn));
        let first = around.next()?;
        let knows = |zone: &&Zone<S>| zone.ground.state(pfn) != State::Nothing;
        if knows(&first) {
            return Some(first);
        }
        Some(around.find(knows).unwrap_or(first))
    }

    /// Whether a frame is the allocator's to give: free, in a CPU's list, or given to somebody. Boot's own frames are not.
    #[must_use]
    pub fn manages(&self, pfn: Pfn) -> bool {
        self.zone_of(pfn).is_some_and(|zone| zone.lock_alone().is_free(pfn) || zone.ground.taken_block(pfn).is_some())
    }

    /// The node of a frame; `None` if no zone has it.
    #[must_use]
    pub fn nid_of(&self, pfn: Pfn) -> Option<u32> {
        self.zone_of(pfn).map(|zone| zone.span().nid)
    }

    /// Free frames of all zones; those in CPU lists are not among them.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.zones().map(Zone::free).sum()
    }

    /// Frames that were handed over to all zones.
    #[must_use]
    pub fn managed(&self) -> u64 {
        self.zones().map(Zone::managed).sum()
    }

    pub(crate) fn wish(&self, cpu: &CpuPages<S>, nid: Option<u32>, gfp: Gfp, order: u8) -> Result<Wish, AllocError> {
        let highest = gfp.zone(self.facts.kinds).map_err(|bad| AllocError::BadGfp(bad.gfp()))?;
        let kind = gfp.migrate_type().map_err(|bad| AllocError::BadGfp(bad.gfp()))?;
        let kind = if self.facts.grouping { kind } else { MigrateType::Unmovable };
        if order > self.facts.max_order.0 {
            return Err(AllocError::TooLarge { order: Order(order) });
        }
        let nid = nid.unwrap_or(cpu.nid);
        if nid >= self.nodes {
            return Err(AllocError::BadNode(nid));
        }
        Ok(Wish { gfp, order, kind, highest, nid })
    }

    /// Takes a block of `2^order` frames, near node `nid` or else near the CPU. Nothing is cleared, whatever `gfp` says:
    /// the allocator does not reach the frames.
    ///
    /// # Errors
    /// [`AllocError`]: nothing was taken. Before it says that there is no memory, the CPU's own lists were given back,
    /// the other CPUs were asked for theirs, and for a request that may reclaim one pageblock that was kept for urgent
    /// requests was released.
    pub fn alloc(&self, cpu: &mut CpuPages<S>, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        let wish = self.wish(cpu, nid, gfp, order.0)?;
        let fast = Pass::fast(self.facts.cma && wish.kind == MigrateType::Movable, self.keeps_types_apart(wish));
        if let Some(pfn) = self.walk(cpu, wish, fast) {
            return Ok(pfn);
        }
        self.alloc_slowly(cpu, wish)
    }

    /// Whether the first pass leaves pageblocks of other types alone: the request would like Normal, and the zone below
    /// can help.
    fn keeps_types_apart(&self, wish: Wish) -> bool {
        let Some(preferred) = self.zonelist(wish).next().map(Zone::span) else { return false };
        let is_populated = |nid| self.zone(nid, ZoneKind::Dma32).is_some_and(Zone::is_populated);
        preferred.kind == ZoneKind::Normal
            && self.facts.kinds.contains(ZoneKind::Dma32)
            && (self.nodes == 1 || is_populated(preferred.nid))
    }

    fn alloc_slowly(&self, cpu: &mut CpuPages<S>, wish: Wish) -> Result<Pfn, AllocError> {
        self.answer_requests(cpu);
        let pass = watermark::slow_pass(&self.facts, wish.gfp, wish.order, wish.kind);
        if let Some(pfn) = self.walk(cpu, wish, pass) {
            return Ok(pfn);
        }
        self.drain(cpu);
        self.ask_others(cpu);
        if wish.gfp.contains(Gfp::DIRECT_RECLAIM) {
            self.release_highatomic(cpu, wish);
        }
        let last = self.walk(cpu, wish, pass);
        last.ok_or(AllocError::NoMemory { gfp: wish.gfp, order: Order(wish.order) })
    }

    /// One pass over the zones; one that kept types apart is repeated without that.
    fn walk(&self, cpu: &mut CpuPages<S>, wish: Wish, pass: Pass) -> Option<Pfn> {
        let mut local = None;
        for zone in self.zonelist(wish) {
            let nid = zone.span().nid;
            if pass.nofragment && *local.get_or_insert(nid) != nid {
                break;
            }
            if !watermark::is_ok(zone, &cpu.held, wish.order, 0, wish.highest, pass) {
                continue;
            }
            if let Some(pfn) = self.take_from(cpu, zone, wish, pass) {
                return Some(pfn);
            }
        }
        if !pass.nofragment {
            return None;
        }
        self.walk(cpu, wish, Pass { nofragment: false, ..pass })
    }

    fn take_from(&self, cpu: &mut CpuPages<S>, zone: &Zone<S>, wish: Wish, pass: Pass) -> Option<Pfn> {
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
        let pfn = pfn.or_else(|| self.take_from_lists(cpu, zone, wish, pass))?;
        zone.ground.set(pfn, State::owned(order, kind == MigrateType::Movable));
        Some(pfn)
    }

    /// Takes from the zone itself: what no CPU list holds, and what only urgent requests may have.
    fn take_from_lists(&self, cpu: &CpuPages<S>, zone: &Zone<S>, wish: Wish, pass: Pass) -> Option<Pfn> {
        let Wish { order, kind, .. } = wish;
        let mut locked = zone.lock(&cpu.held);
        let kept = MigrateType::HighAtomic;
        let first = if pass.highatomic { locked.take(order, kept) } else { None };
        let taken = first.or_else(|| locked.rmqueue(order, kind, pass));
        let taken = match self.facts.era {
            Era::V4_14 | Era::V5_10 => taken,
            // What cannot wait may have the reserve at last.
            Era::V6_1 | Era::V6_12 | Era::V7_2 if pass.non_block => taken.or_else(|| locked.take(order, kept)),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => taken,
        }?;
        if pass.highatomic {
            locked.reserve_highatomic(taken);
        }
        Some(taken)
    }

    fn release_highatomic(&self, cpu: &CpuPages<S>, wish: Wish) {
        for zone in self.zonelist(wish).filter(|zone| zone.reserved_highatomic() != 0) {
            if zone.lock(&cpu.held).unreserve_highatomic(wish.kind) {
                return;
            }
        }
    }

    /// Takes single frames into `out` until it is full or memory is short; returns how many.
    ///
    /// The first zone with enough above its low watermark gives all of them through one list; what is missing then is
    /// asked for one by one.
    pub fn alloc_bulk(&self, cpu: &mut CpuPages<S>, nid: Option<u32>, gfp: Gfp, out: &mut [Pfn]) -> usize {
        let Ok(wish) = self.wish(cpu, nid, gfp, 0) else { return 0 };
        let pass = Pass::fast(self.facts.cma && wish.kind == MigrateType::Movable, false);
        let wanted = out.len() as u64;
        let zone = self.zonelist(wish).find(|zone| watermark::is_ok(zone, &cpu.held, 0, wanted, wish.highest, pass));
        let mut done = 0;
        if let Some(zone) = zone {
            while done < out.len() {
                let Some(pfn) = self.take_from(cpu, zone, wish, pass) else { break };
                out[done] = pfn;
                done += 1;
            }
        }
        while done < out.len() {
            let Ok(pfn) = self.alloc(cpu, nid, gfp, Order(0)) else { break };
            out[done] = pfn;
            done += 1;
        }
        done
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`FreeError`]: the block was not the caller's; nothing was changed.
    pub fn free(&self, cpu: &mut CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let zone = self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?;
        let state = zone.ground.state(pfn);
        if state.owned_order() != Some(order) {
            return Err(self.misuse(cpu, zone, pfn, order));
        }
        let kind = zone.ground.kind(pfn);
        if let Some(list) = pcp::list_of(&self.facts, order.0, kind) {
            if !zone.ground.change(pfn, state, State::Cached(order)) {
                return Err(self.misuse(cpu, zone, pfn, order));
            }
            cpu.lists.keep(zone, &cpu.held, list, pfn, kind);
            return Ok(());
        }
        self.answer_requests(cpu);
        let mut locked = zone.lock(&cpu.held);
        if !zone.ground.change(pfn, state, State::Nothing) {
            drop(locked);
            return Err(self.misuse(cpu, zone, pfn, order));
        }
        locked.give(pfn, order.0, kind, None);
        Ok(())
    }

    /// What is wrong with giving back `pfn` as a block of `order`.
    pub(crate) fn misuse(&self, cpu: &CpuPages<S>, zone: &Zone<S>, pfn: Pfn, order: Order) -> FreeError {
        if zone.lock(&cpu.held).is_free(pfn) {
            return FreeError::DoubleFree { pfn };
        }
        match zone.ground.taken_block(pfn) {
            Some((_, State::Cached(_))) => FreeError::DoubleFree { pfn },
            Some(_) => FreeError::WrongOrder { pfn, order },
            None => FreeError::Foreign { pfn },
        }
    }

    /// Makes single frames of a block that somebody owns; each is then given back by itself.
    ///
    /// # Errors
    /// As [`PageAllocator::free`].
    pub fn split(&self, cpu: &CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let zone = self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?;
        let state = zone.ground.state(pfn);
        if state.owned_order() != Some(order) {
            return Err(self.misuse(cpu, zone, pfn, order));
        }
        let single = State::owned(0, matches!(state, State::OwnedMovable(_)));
        // The first frame changes hands first: who gives the block back meanwhile is told that its order is wrong.
        if !zone.ground.change(pfn, state, single) {
            return Err(self.misuse(cpu, zone, pfn, order));
        }
        for frame in pfn.0 + 1..pfn.0 + (1 << order.0) {
            zone.ground.set(Pfn(frame), single);
        }
        Ok(())
    }

    /// Gives back single frames; a frame that is part of a larger block of the caller's makes single frames of the block.
    ///
    /// # Errors
    /// The first frame that was not the caller's; those before it are given back.
    pub fn free_bulk(&self, cpu: &mut CpuPages<S>, frames: &[Pfn]) -> Result<(), FreeError> {
        for &pfn in frames {
            let zone = self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?;
            let block = zone.ground.taken_block(pfn).and_then(|(head, state)| Some((head, state.owned_order()?)));
            if let Some((head, order)) = block.filter(|(_, order)| order.0 > 0) {
                self.split(cpu, head, order)?;
            }
            self.free(cpu, pfn, Order(0))?;
        }
        Ok(())
    }

    /// Takes `bytes` bytes in one piece as single frames; what the block has beyond them goes back at once.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`]; no bytes at all are [`AllocError::TooLarge`] of order 0.
    pub fn alloc_exact(
        &self,
        cpu: &mut CpuPages<S>,
        nid: Option<u32>,
        gfp: Gfp,
        bytes: u64,
    ) -> Result<Pfn, AllocError> {
        let frames = bytes.div_ceil(self.facts.granule.bytes());
        let order = frames.checked_next_power_of_two().filter(|_| frames > 0).map(u64::ilog2);
        let order = Order(order.ok_or(AllocError::TooLarge { order: Order(0) })? as u8);
        let pfn = self.alloc(cpu, nid, gfp, order)?;
        let split = self.split(cpu, pfn, order);
        debug_assert!(split.is_ok(), "the block was just taken");
        for frame in pfn.0 + frames..pfn.0 + (1 << order.0) {
            let freed = self.free(cpu, Pfn(frame), Order(0));
            debug_assert!(freed.is_ok(), "the frame was just taken");
        }
        Ok(pfn)
    }

    /// Gives back what [`PageAllocator::alloc_exact`] took.
    ///
    /// # Errors
    /// As [`PageAllocator::free_bulk`].
    pub fn free_exact(&self, cpu: &mut CpuPages<S>, pfn: Pfn, bytes: u64) -> Result<(), FreeError> {
        let end = pfn.0.checked_add(bytes.div_ceil(self.facts.granule.bytes())).ok_or(FreeError::Foreign { pfn })?;
        (pfn.0..end).try_for_each(|frame| self.free(cpu, Pfn(frame), Order(0)))
    }

    /// Gives all blocks in the CPU's lists back to their zones.
    pub fn drain(&self, cpu: &mut CpuPages<S>) {
        for zone in self.zones() {
            cpu.lists.drain(zone, &cpu.held);
        }
    }

    /// Asks a CPU to drain its lists; it does so the next time it goes beyond them, or when it calls
    /// [`PageAllocator::answer_requests`]. False if there is no such CPU.
    pub fn request_drain(&self, cpu: CpuId) -> bool {
        let request = self.requests.as_ref().get(cpu.0 as usize);
        request.map(|request| request.ask()).is_some()
    }

    /// Drains the CPU's lists if somebody asked for it.
    pub fn answer_requests(&self, cpu: &mut CpuPages<S>) {
        let request = self.requests.as_ref().get(cpu.cpu.0 as usize);
        if request.is_some_and(|request| request.take()) {
            self.drain(cpu);
        }
    }

    pub(crate) fn ask_others(&self, cpu: &CpuPages<S>) {
        let requests = self.requests.as_ref().iter().enumerate();
        requests.filter(|&(other, _)| other != cpu.cpu.0 as usize).for_each(|(_, request)| request.ask());
    }

    /// Takes over the free frames `[start, end)` of a node from boot: cut into the largest blocks, each put at the tail of
    /// its list, counted as managed. Blocks of the largest order are only noted, and opened when they are needed.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn add_free(&self, nid: u32, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let mut at = start;
        while at < end {
            let zones = self.zones().filter(|zone| zone.span().nid == nid);
            let zone = { zones }.find(|zone| zone.contains(at)).ok_or(AddError::NoZone { pfn: at })?;
            let stop = end.min(zone.span().end);
            zone.lock_alone().add_free(at, stop)?;
            at = stop;
        }
        Ok(())
    }

    /// As [`PageAllocator::add_free`] for a range that lies in one zone, where zones of a node overlap.
    ///
    /// # Errors
    /// As [`PageAllocator::add_free`].
    pub fn add_free_to(&self, nid: u32, kind: ZoneKind, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let zone = self.zone(nid, kind).ok_or(AddError::NoZone { pfn: start })?;
        let span = zone.span();
        if start < span.start || end > span.end {
            return Err(AddError::NoZone { pfn: if start < span.start { start } else { span.end } });
        }
        zone.lock_alone().add_free(start, end)
    }

    /// Takes over frames that boot had in use and needs no more, `[start, end)`: counted as managed and freed one by one
    /// as a driver would.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn free_reserved(&self, cpu: &mut CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), AddError> {
        for pfn in (start.0..end.0).map(Pfn) {
            let zone = self.zone_of(pfn).ok_or(AddError::NoZone { pfn })?;
            zone.lock(&cpu.held).adopt(pfn)?;
            let freed = self.free(cpu, pfn, Order(0));
            debug_assert!(freed.is_ok(), "the frame was just adopted");
        }
        Ok(())
    }

    /// Takes over frames that boot had in use and that stay so, `[start, end)`: counted as managed, and single frames of the
    /// caller.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn adopt_taken(&self, cpu: &CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let mut at = start;
        while at < end {
            let zone = self.zone_of(at).ok_or(AddError::NoZone { pfn: at })?;
            let stop = end.min(zone.span().end);
            let mut locked = zone.lock(&cpu.held);
            (at.0..stop.0).try_for_each(|pfn| locked.adopt(Pfn(pfn)))?;
            at = stop;
        }
        Ok(())
    }

    /// Says for the pageblocks of `[start, end)` what they are meant for: CMA areas, isolation, tests. What is free in
    /// them moves along; how many pageblocks changed.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was changed.
    pub fn set_migrate_type(&self, start: Pfn, end: Pfn, kind: MigrateType) -> Result<u64, AddError> {
        let order = self.facts.pageblock_order.0;
        let (mut pfn, mut blocks) = (start, 0);
        while pfn < end {
            let zone = self.zone_of(pfn).ok_or(AddError::NoZone { pfn })?;
            if !zone.lock_alone().retype(pfn, kind) {
                return Err(AddError::NoRecords { pfn });
            }
            blocks += 1;
            pfn = Pfn(((pfn.0 >> order) + 1) << order);
        }
        Ok(blocks)
    }
}

/// Why frames were not taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The frame lies in no zone of the node.
    NoZone {
        /// The frame.
        pfn: Pfn,
    },
    /// The frame is free, or somebody has it.
    Known {
        /// The frame.
        pfn: Pfn,
    },
    /// The store has no memory for the frame's records.
    NoRecords {
        /// The frame.
        pfn: Pfn,
    },
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoZone { pfn } => write!(f, "frame {:#x} is in no zone", pfn.0),
            Self::Known { pfn } => write!(f, "frame {:#x} was handed over before", pfn.0),
            Self::NoRecords { pfn } => write!(f, "no memory for the records of frame {:#x}", pfn.0),
        }
    }
}

impl core::error::Error for AddError {}
