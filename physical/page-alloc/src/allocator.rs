//! The page allocator: nodes and zones as one value that all CPUs share.
//!
//! Here: construction, who looks at which zone in which pass, giving back.
//! Not here: what is done in the one zone (`listed`), hand-over from boot (`handover`), contiguous ranges (`contig`).
//!
//! # Invariants
//! 1. A call that fails has changed nothing that its caller could see, but for blocks that moved from CPU lists to zones.
//!
//! Locks: zone locks, rank 30, one at a time.
//! Source: Linux 6.1 mm/page_alloc.c `__alloc_pages`, `get_page_from_freelist`, `__free_pages`.

use core::fmt;

use kernmem_base::{CpuId, Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::dense_requests;
use crate::facts::BuildError;
use crate::pcp::CpuPages;
use crate::store::{Needs, Store};
use crate::watermark::{self, Pass};
use crate::zone::{Body, Placed, Zone};
use crate::zonelist::FallbackOrders;
use crate::{AllocError, Facts, FreeError, Gfp, Pages, Placement, Topology, ZoneKind, ZoneSpan};

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
    /// The name under which a CPU keeps frames open for such requests.
    pub key: u64,
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
    spans.iter().for_each(|span| Body::<S>::add_needs(&mut needs, span, facts));
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

    /// The zone of a number.
    pub(crate) fn zone_at(&self, index: usize) -> Option<&Zone<S>> {
        self.zones.as_ref().get(index)?.as_ref()
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
        if first.knows(pfn) {
            return Some(first);
        }
        Some(around.find(|zone| zone.knows(pfn)).unwrap_or(first))
    }

    /// Whether a frame is the allocator's to give: free, in a CPU's list, or given to somebody. Boot's own frames are not.
    #[must_use]
    pub fn manages(&self, pfn: Pfn) -> bool {
        self.zone_of(pfn).is_some_and(|zone| zone.manages(pfn))
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
        let key = dense_requests::key(nid, gfp);
        let nid = nid.unwrap_or(cpu.nid);
        if nid >= self.nodes {
            return Err(AllocError::BadNode(nid));
        }
        Ok(Wish { gfp, order, kind, highest, nid, key })
    }

    /// Takes a block of `2^order` frames, near node `nid` or else near the CPU. Nothing is cleared, whatever `gfp` says:
    /// the allocator does not reach the frames.
    ///
    /// # Errors
    /// [`AllocError`]: nothing was taken. Before it says that there is no memory, the CPU's own lists were given back,
    /// the other CPUs were asked for theirs, and for a request that may reclaim one pageblock that was kept for urgent
    /// requests was released.
    #[inline(always)]
    pub fn alloc(&self, cpu: &mut CpuPages<S>, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        match cpu.frames.alloc_hot(dense_requests::key(nid, gfp), order.0) {
            Some(pfn) => Ok(pfn),
            None => self.alloc_beyond(cpu, nid, gfp, order),
        }
    }

    /// As [`PageAllocator::alloc`], beyond what the CPU keeps open.
    #[inline(never)]
    fn alloc_beyond(&self, cpu: &mut CpuPages<S>, nid: Option<u32>, gfp: Gfp, order: Order) -> Result<Pfn, AllocError> {
        if let Some(pfn) = self.alloc_again(cpu, dense_requests::key(nid, gfp), order) {
            return Ok(pfn);
        }
        let wish = self.wish(cpu, nid, gfp, order.0)?;
        let fast = Pass::fast(self.facts.cma && wish.kind == MigrateType::Movable, self.keeps_types_apart(wish));
        if let Some(pfn) = self.walk(cpu, wish, fast) {
            self.remember(cpu, wish, fast);
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

    /// Takes a block from one zone.
    fn take_from(&self, cpu: &mut CpuPages<S>, zone: &Zone<S>, wish: Wish, pass: Pass) -> Option<Pfn> {
        match zone.placed() {
            Placed::Linux(zone) => self.take_listed(cpu, zone, wish, pass),
            Placed::Dense(zone) => self.take_dense(cpu, zone, wish, pass),
        }
    }

    fn release_highatomic(&self, cpu: &CpuPages<S>, wish: Wish) {
        let mut zones = self.zonelist(wish).filter(|zone| zone.reserved_highatomic() != 0);
        zones.any(|zone| match zone.placed() {
            Placed::Linux(zone) => zone.lock(&cpu.held).unreserve_highatomic(wish.kind),
            Placed::Dense(zone) => zone.unreserve_highatomic(&cpu.held, wish.kind),
        });
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
        match zone.map(Zone::placed) {
            Some(Placed::Linux(zone)) => {
                while done < out.len() {
                    let Some(pfn) = self.take_listed(cpu, zone, wish, pass) else { break };
                    out[done] = pfn;
                    done += 1;
                }
            }
            Some(Placed::Dense(zone)) => done = self.bulk_dense(cpu, zone, wish, pass, out),
            None => {}
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
    /// [`FreeError`]: the block was not the caller's; nothing was changed. Under [`Placement::Dense`] a
    /// [`FreeError::DoubleFree`] of a frame outside the block tells of an earlier call, in which that frame came back once
    /// more; the block was given back then. [`PageAllocator::check_frees`] tells of all earlier calls.
    #[inline(always)]
    pub fn free(&self, cpu: &mut CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let is_aligned = order.0 == 0 || pfn.0.trailing_zeros() >= u32::from(order.0);
        match if is_aligned { cpu.frames.free_hot(pfn, order.0) } else { None } {
            Some(done) => done.map_err(dense_requests::double_free),
            None => self.free_beyond(cpu, pfn, order),
        }
    }

    /// Looks at the frames that came back to a CPU and that it put aside so far: under [`Placement::Dense`] a single frame is
    /// looked at together with those of up to 63 other words, about a thousand frames at most, that come back after it, and
    /// before the CPU takes more than it has at hand. A kernel that wants to know at once who gave back a frame twice calls
    /// this after each [`PageAllocator::free`].
    ///
    /// # Errors
    /// [`FreeError::DoubleFree`]: a frame that came back twice and that nobody was told of yet. It is free once.
    pub fn check_frees(&self, cpu: &mut CpuPages<S>) -> Result<(), FreeError> {
        self.zones().try_for_each(|zone| match zone.placed() {
            Placed::Linux(_) => Ok(()),
            Placed::Dense(zone) => self.check_dense(cpu, zone),
        })
    }

    /// As [`PageAllocator::free`], beyond what the CPU keeps open.
    #[inline(never)]
    fn free_beyond(&self, cpu: &mut CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        match self.facts.placement {
            Placement::Dense => self.free_dense(cpu, pfn, order),
            Placement::Linux => self.free_in_lists(cpu, pfn, order),
        }
    }

    #[inline(never)]
    fn free_in_lists(&self, cpu: &mut CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        match self.zone_of(pfn).map(Zone::placed) {
            Some(Placed::Linux(zone)) => self.free_listed(cpu, zone, pfn, order),
            Some(Placed::Dense(_)) | None => Err(FreeError::Foreign { pfn }),
        }
    }

    /// Makes single frames of a block that somebody owns; each is then given back by itself.
    ///
    /// # Errors
    /// As [`PageAllocator::free`].
    pub fn split(&self, cpu: &CpuPages<S>, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        match self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?.placed() {
            Placed::Linux(zone) => zone.split(cpu, pfn, order),
            Placed::Dense(zone) => zone.split(pfn, order),
        }
    }

    /// Gives back single frames; a frame that is part of a larger block of the caller's makes single frames of the block.
    ///
    /// # Errors
    /// The first frame that was not the caller's; those before it are given back.
    pub fn free_bulk(&self, cpu: &mut CpuPages<S>, frames: &[Pfn]) -> Result<(), FreeError> {
        if self.facts.placement == Placement::Dense {
            return self.free_bulk_dense(cpu, frames);
        }
        for &pfn in frames {
            match self.zone_of(pfn).ok_or(FreeError::Foreign { pfn })?.placed() {
                Placed::Linux(zone) => self.free_part_listed(cpu, zone, pfn)?,
                Placed::Dense(_) => self.free(cpu, pfn, Order(0))?,
            }
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
            self.drain_zone(cpu, zone);
        }
    }

    /// Takes a CPU's lists for good, as of one that was stopped, and gives back what they hold.
    pub fn retire(&self, mut cpu: CpuPages<S>) {
        self.drain(&mut cpu);
    }

    /// Gives all blocks of one zone in the CPU's lists back to it.
    pub(crate) fn drain_zone(&self, cpu: &mut CpuPages<S>, zone: &Zone<S>) {
        match zone.placed() {
            Placed::Linux(zone) => cpu.lists.drain(zone, &cpu.held),
            Placed::Dense(zone) => cpu.drain_dense(zone),
        }
    }

    /// Asks a CPU to drain its lists; it does so the next time it goes beyond them, or when it calls
    /// [`PageAllocator::answer_requests`]. False if there is no such CPU.
    pub fn request_drain(&self, cpu: CpuId) -> bool {
        let request = self.requests.as_ref().get(cpu.0 as usize);
        request.map(|request| request.ask()).is_some()
    }

    /// Drains the CPU's lists if somebody asked for it.
    #[inline]
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
}
