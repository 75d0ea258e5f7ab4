//! Zones: the free pages of one range of frames, and the figures that decide who may have them.
//!
//! Here: the figures, readable without a lock, and [`Locked`], the zone while its lock is held.
//! Not here: what is done under the lock (`buddy`, `fallback`, `highatomic`, `contig`), and what without (`fielded`).
//!
//! # Invariants
//! 1. On lists, whenever the lock is free, `free`, `free_cma` and `free_highatomic` are what the free area counts.
//!
//! Locks: the zone lock has rank 30; CPU lists have none, they are `&mut`.
//! Source: Linux 6.1 include/linux/mmzone.h `struct zone`.

use core::fmt;
use core::ops::Deref;

use kernmem_base::Pfn;
use kernmem_base::sync::atomic::{AtomicU64, Ordering};
use kernmem_base::sync::{Held, Ranked, RankedGuard};
use kernmem_sparse::MigrateType;

use crate::deferred::Deferred;
use crate::fielded::{DenseBody, Fielded};
use crate::free_area::LinuxLists;
use crate::ground::Ground;
use crate::store::{Needs, Store};
use crate::watermark::{Mark, Watermarks};
use crate::{Facts, MAX_ZONES, Placement, ZoneKind, ZoneSpan};

/// The rank of the zone lock.
pub(crate) const RANK: u8 = 30;

/// What the zone lock guards.
#[derive(Debug)]
pub(crate) struct Inner<W> {
    pub lists: LinuxLists<W>,
    pub deferred: Deferred,
    /// Frames that are set aside for urgent requests, whole pageblocks.
    pub reserved_highatomic: u64,
}

/// How large the lists of a CPU for one zone may grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpLimits {
    /// Frames that go to and come from the zone at once, at least 1.
    pub batch: u64,
    /// Frames above which some are given back; from 6.12 on the least value of a limit that moves.
    pub high_min: u64,
    /// The most that the moving limit reaches; before 6.12 equal to `high_min`.
    pub high_max: u64,
}

impl PcpLimits {
    /// The limits that boot begins with: nothing is kept.
    pub const BOOT: Self = Self { batch: 1, high_min: 0, high_max: 0 };
}

/// How a zone keeps its frames.
// One value a zone, and nowhere to box it: the difference of sizes costs nothing.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Body<S: Store> {
    /// Linux's lists, behind the zone lock.
    Lists {
        /// A — states of frames, Z A — states of free ones and types of pageblocks.
        ground: Ground<S::States>,
        /// Z — free blocks.
        inner: Ranked<RANK, Inner<S::Words>>,
    },
    /// A field of bits, without a lock.
    Field(DenseBody<S>),
}

/// Keys: `C` constant after construction; `Z` the zone lock; `A` atomic.
/// Two keys: either suffices to read, both are needed to write.
pub struct Zone<S: Store> {
    /// C — what it was told.
    pub(crate) span: ZoneSpan,
    /// C — its number among all zones of all nodes.
    pub(crate) index: usize,
    /// C — the configuration.
    pub(crate) facts: Facts,
    pub(crate) body: Body<S>,
    /// Z A — on lists: free frames. All readers of these counters tolerate stale values.
    free: AtomicU64,
    free_cma: AtomicU64,
    free_highatomic: AtomicU64,
    reserved_highatomic: AtomicU64,
    /// A — frames that were handed over.
    managed: AtomicU64,
    /// A — min, low, high, promo.
    marks: [AtomicU64; 4],
    /// A — what a fallback between types adds to each watermark for a while.
    pub(crate) boost: AtomicU64,
    /// A — frames kept from requests that could do with a higher zone, by the index of that zone.
    reserve: [AtomicU64; MAX_ZONES],
    /// A — batch, high_min, high_max.
    pcp: [AtomicU64; 3],
}

impl<S: Store> Body<S> {
    /// Adds what a zone needs to what others do.
    pub fn add_needs(needs: &mut Needs, span: &ZoneSpan, facts: &Facts) {
        if facts.placement == Placement::Dense {
            return DenseBody::<S>::add_needs(needs, span, facts);
        }
        let zone = Ground::<S::States>::needs(span.start, span.end, facts);
        needs.state_bytes += zone.chunks * zone.state_bytes as u64;
        needs.words += zone.chunks * zone.words as u64;
    }

    fn new(span: &ZoneSpan, facts: &Facts, store: &mut S) -> Option<Self> {
        if facts.placement == Placement::Dense {
            return DenseBody::new(span, facts, store).map(Self::Field);
        }
        let needs = Ground::<S::States>::needs(span.start, span.end, facts);
        let (states, words) = (store.states(needs)?, store.words(needs)?);
        let inner =
            Inner { lists: LinuxLists::new(words), deferred: Deferred::new(facts.max_order.0), reserved_highatomic: 0 };
        let ground = Ground::new(states, span.start, span.end, facts);
        Some(Self::Lists { ground, inner: Ranked::new("zone", inner) })
    }
}

impl<S: Store> fmt::Debug for Zone<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zone").field("span", &self.span).field("free", &self.free()).finish_non_exhaustive()
    }
}

/// A counter that nothing else is published by: Relaxed throughout.
#[inline]
pub(crate) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(crate) fn write(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

impl<S: Store> Zone<S> {
    pub(crate) fn new(span: ZoneSpan, index: usize, facts: Facts, store: &mut S) -> Option<Self> {
        Some(Self {
            body: Body::new(&span, &facts, store)?,
            span,
            index,
            facts,
            free: AtomicU64::new(0),
            free_cma: AtomicU64::new(0),
            free_highatomic: AtomicU64::new(0),
            reserved_highatomic: AtomicU64::new(0),
            managed: AtomicU64::new(0),
            marks: core::array::from_fn(|_| AtomicU64::new(0)),
            boost: AtomicU64::new(0),
            reserve: core::array::from_fn(|_| AtomicU64::new(0)),
            pcp: [PcpLimits::BOOT.batch, PcpLimits::BOOT.high_min, PcpLimits::BOOT.high_max].map(AtomicU64::new),
        })
    }

    /// The node, kind and range.
    #[must_use]
    pub fn span(&self) -> ZoneSpan {
        self.span
    }

    /// Whether any of it is memory.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        self.span.present != 0
    }

    /// Free frames, those in CPU lists and in isolated pageblocks not counted.
    #[must_use]
    #[inline]
    pub fn free(&self) -> u64 {
        match self.placed() {
            Placed::Linux(_) => read(&self.free),
            Placed::Dense(zone) => zone.free(),
        }
    }

    /// Free frames in CMA pageblocks.
    #[must_use]
    pub fn free_cma(&self) -> u64 {
        match self.placed() {
            Placed::Linux(_) => read(&self.free_cma),
            Placed::Dense(zone) => zone.free_of(MigrateType::Cma),
        }
    }

    /// Free frames in pageblocks that are kept for urgent requests.
    #[must_use]
    pub fn free_highatomic(&self) -> u64 {
        match self.placed() {
            Placed::Linux(_) => read(&self.free_highatomic),
            Placed::Dense(zone) => zone.free_of(MigrateType::HighAtomic),
        }
    }

    /// Frames of pageblocks that are kept for urgent requests.
    #[must_use]
    pub fn reserved_highatomic(&self) -> u64 {
        match self.placed() {
            Placed::Linux(_) => read(&self.reserved_highatomic),
            Placed::Dense(zone) => zone.reserved_highatomic(),
        }
    }

    /// Frames that were handed over to the allocator.
    #[must_use]
    pub fn managed(&self) -> u64 {
        read(&self.managed)
    }

    pub(crate) fn add_managed(&self, frames: u64) {
        // Relaxed: a figure for reports and rules that bear a stale value.
        self.managed.fetch_add(frames, Ordering::Relaxed);
    }

    pub(crate) fn sub_managed(&self, frames: u64) {
        // Relaxed: as in `add_managed`.
        self.managed.fetch_sub(frames, Ordering::Relaxed);
    }

    /// The watermarks without the boost.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        let [min, low, high, promo] = [0, 1, 2, 3].map(|at: usize| read(&self.marks[at]));
        Watermarks { min, low, high, promo }
    }

    /// The level that a pass asks for; `None` if it asks for none.
    #[inline]
    pub(crate) fn mark(&self, mark: Mark) -> Option<u64> {
        match mark {
            Mark::None => None,
            Mark::Min => Some(read(&self.marks[0])),
            Mark::Low => Some(read(&self.marks[1])),
        }
    }

    /// Sets the watermarks, and ends a boost.
    pub fn set_watermarks(&self, marks: Watermarks) {
        let values = [marks.min, marks.low, marks.high, marks.promo];
        for (place, value) in self.marks.iter().zip(values) {
            write(place, value);
        }
        write(&self.boost, 0);
    }

    /// What is added to each watermark for a while.
    #[must_use]
    #[inline]
    pub fn boost(&self) -> u64 {
        read(&self.boost)
    }

    /// Ends a boost, as the reclaimer does when it is done.
    pub fn clear_boost(&self) {
        write(&self.boost, 0);
    }

    /// Frames kept from requests whose highest zone is `kind`.
    #[must_use]
    #[inline]
    pub fn reserve(&self, kind: ZoneKind) -> u64 {
        self.facts.kinds.index(kind).map_or(0, |index| read(&self.reserve[index]))
    }

    /// Sets the frames kept from requests whose highest zone is `kind`; false if no such zone is configured.
    pub fn set_reserve(&self, kind: ZoneKind, frames: u64) -> bool {
        let Some(index) = self.facts.kinds.index(kind) else { return false };
        write(&self.reserve[index], frames);
        true
    }

    /// The limits of CPU lists.
    #[must_use]
    pub fn pcp(&self) -> PcpLimits {
        let [batch, high_min, high_max] = [0, 1, 2].map(|at: usize| read(&self.pcp[at]));
        PcpLimits { batch, high_min, high_max }
    }

    /// Sets the limits of CPU lists; a batch of 0 counts as 1.
    pub fn set_pcp(&self, limits: PcpLimits) {
        let values = [limits.batch.max(1), limits.high_min, limits.high_max];
        for (place, value) in self.pcp.iter().zip(values) {
            write(place, value);
        }
    }

    #[inline]
    pub(crate) fn contains(&self, pfn: Pfn) -> bool {
        self.span.start <= pfn && pfn < self.span.end
    }

    /// The zone as its placement keeps it.
    #[inline]
    pub(crate) fn placed(&self) -> Placed<'_, S> {
        match &self.body {
            Body::Lists { ground, inner } => Placed::Linux(Listed { zone: self, ground, inner }),
            Body::Field(body) => Placed::Dense(Fielded { zone: self, body }),
        }
    }
}

/// A zone by its placement.
pub(crate) enum Placed<'z, S: Store> {
    /// [`Placement::Linux`].
    Linux(Listed<'z, S>),
    /// [`Placement::Dense`].
    Dense(Fielded<'z, S>),
}

/// A zone that keeps its frames on lists.
pub(crate) struct Listed<'z, S: Store> {
    pub zone: &'z Zone<S>,
    pub ground: &'z Ground<S::States>,
    inner: &'z Ranked<RANK, Inner<S::Words>>,
}

impl<S: Store> Clone for Listed<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Store> Copy for Listed<'_, S> {}

impl<S: Store> Deref for Listed<'_, S> {
    type Target = Zone<S>;

    fn deref(&self) -> &Zone<S> {
        self.zone
    }
}

impl<'z, S: Store> Listed<'z, S> {
    pub fn lock(self, held: &'z Held) -> Locked<'z, S> {
        Locked { zone: self, inner: self.inner.lock(held), changed: false }
    }

    pub fn lock_alone(self) -> Locked<'z, S> {
        Locked { zone: self, inner: self.inner.lock_alone(), changed: false }
    }
}

/// A zone whose lock is held.
pub(crate) struct Locked<'z, S: Store> {
    pub zone: Listed<'z, S>,
    pub inner: RankedGuard<'z, RANK, Inner<S::Words>>,
    /// Whether the counters must be brought up to date.
    pub changed: bool,
}

impl<S: Store> Drop for Locked<'_, S> {
    fn drop(&mut self) {
        if !self.changed {
            return;
        }
        let of = |kind| (0..=self.zone.facts.max_order.0).map(|order| self.count(order, kind) << order).sum::<u64>();
        let frames = MigrateType::ALL.map(of);
        let isolated = frames[MigrateType::Isolate as usize];
        write(&self.zone.free, frames.iter().sum::<u64>() - isolated);
        write(&self.zone.free_cma, frames[MigrateType::Cma as usize]);
        write(&self.zone.free_highatomic, frames[MigrateType::HighAtomic as usize]);
        write(&self.zone.reserved_highatomic, self.inner.reserved_highatomic);
    }
}
