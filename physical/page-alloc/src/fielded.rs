//! A zone under dense placement: the field of its frames, and what is known of them beside it.
//!
//! Here: what is done rarely, under the set-up lock or for reports: hand-over, types of pageblocks, ranges, memory that goes
//! and comes. Not here: requests (`dense_requests`), the field itself (`dense`).
//!
//! # Invariants
//! 1. A frame of a pageblock that is not known, and a hole, is neither free nor anybody's.
//! 2. Whatever changes what is known changes it under the set-up lock; taking and giving back need no lock.
//!
//! Locks: the set-up lock has the rank of a zone lock, 30.

use core::ops::Deref;

use kernmem_base::sync::atomic::{AtomicU64, Ordering};
use kernmem_base::sync::{Held, Ranked, RankedGuard};
use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::dense::mem::{self, Mem};
use crate::dense::{Field, Kinds, Shape};
use crate::handover::Records;
use crate::highatomic;
use crate::holes::{self, Holes};
use crate::pageblocks::{self, Pageblocks};
use crate::store::{CHUNK_SHIFT, Needs, Store, ZoneNeeds};
use crate::zone::{RANK, Zone};
use crate::{AddError, AllocError, Facts, FreeError, ZoneSpan};

/// What a dense zone consists of.
pub(crate) struct DenseBody<S: Store> {
    /// A — which frames are free.
    pub field: Field<S::Field>,
    /// Z A — what is known beside that.
    pub grounds: Grounds<S>,
    setup: Ranked<RANK, ()>,
}

/// What is known of frames whether they are free or not.
pub(crate) struct Grounds<S: Store> {
    /// What pageblocks are meant for, and which were handed over.
    pub blocks: Pageblocks<S::Pageblocks>,
    /// Frames of known pageblocks that are nobody's.
    pub holes: Holes<S::States>,
    /// Frames of the zone that were not handed over, or went.
    missing: AtomicU64,
}

impl<S: Store> Kinds for Grounds<S> {
    #[inline]
    fn kind(&self, pfn: Pfn) -> MigrateType {
        self.blocks.kind(pfn)
    }

    fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        self.blocks.alike(start, end)
    }

    #[inline]
    fn strangers(&self, number: u64) -> u64 {
        self.holes.word(number)
    }

    #[inline]
    fn is_plain(&self) -> bool {
        // Relaxed: a frame of somebody's was handed over before it was given, whatever is read here.
        self.blocks.is_plain() && self.missing.load(Ordering::Relaxed) == 0
    }
}

fn shape(span: &ZoneSpan, facts: &Facts) -> Shape {
    let (max_order, pageblock_order) = (facts.max_order.0, facts.pageblock_order.0);
    Shape { start: span.start, end: span.end, max_order, pageblock_order }
}

/// Memory for the bits of holes.
fn holes_need(span: &ZoneSpan, facts: &Facts) -> ZoneNeeds {
    ZoneNeeds { chunks: shape(span, facts).chunks() as u64, state_bytes: holes::BYTES, words: 0 }
}

impl<S: Store> DenseBody<S> {
    /// Adds what a zone needs to what others do.
    pub fn add_needs(needs: &mut Needs, span: &ZoneSpan, facts: &Facts) {
        let field = mem::Needs::of(&shape(span, facts));
        needs.field.lines += field.lines;
        needs.field.entries += field.entries;
        needs.field.index += field.index;
        let holes = holes_need(span, facts);
        needs.hole_bytes += holes.chunks * holes.state_bytes as u64;
        let pageblocks = pageblocks::count(span.start, span.end, facts.pageblock_order.0);
        needs.pageblocks += pageblocks + pageblocks::known_bytes(pageblocks);
    }

    pub fn new(span: &ZoneSpan, facts: &Facts, store: &mut S) -> Option<Self> {
        let pageblocks = pageblocks::count(span.start, span.end, facts.pageblock_order.0);
        let shape = shape(span, facts);
        // What hand-over writes is asked for first, so that it may lie together.
        let known = store.pageblocks(pageblocks::known_bytes(pageblocks))?;
        let field = Field::new(store.field(&shape)?, shape)?;
        let kinds = store.pageblocks(pageblocks)?;
        let holes = Holes::new(store.states(holes_need(span, facts))?, span.start);
        let missing = AtomicU64::new(span.end.0 - span.start.0);
        Some(Self {
            field,
            grounds: Grounds {
                blocks: Pageblocks::new(kinds, known, span.start, shape.pageblock_order),
                holes,
                missing,
            },
            setup: Ranked::new("dense zone", ()),
        })
    }
}

/// A zone under dense placement.
pub(crate) struct Fielded<'z, S: Store> {
    pub zone: &'z Zone<S>,
    pub body: &'z DenseBody<S>,
}

impl<S: Store> Clone for Fielded<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Store> Copy for Fielded<'_, S> {}

impl<S: Store> Deref for Fielded<'_, S> {
    type Target = DenseBody<S>;

    fn deref(&self) -> &DenseBody<S> {
        self.body
    }
}

impl<'z, S: Store> Fielded<'z, S> {
    /// Free frames, those in isolated pageblocks not counted.
    #[inline]
    pub fn free(self) -> u64 {
        let level = self.field.level();
        if self.grounds.blocks.is_plain() { level } else { level.saturating_sub(self.free_of(MigrateType::Isolate)) }
    }

    /// Free frames in pageblocks of a type of which there are few.
    pub fn free_of(self, kind: MigrateType) -> u64 {
        if self.grounds.blocks.of(kind) != 0 { self.field.free_of(&self.grounds, kind) } else { 0 }
    }

    /// Whether a frame was handed over.
    #[inline]
    pub fn manages(self, pfn: Pfn) -> bool {
        self.zone.contains(pfn) && self.grounds.blocks.is_known(pfn) && !self.grounds.holes.has(pfn)
    }

    /// How many frames at the beginning of a slice were handed over. Where 64 in a row lie in one word without holes, the
    /// word is looked at once.
    pub fn count_managed(self, frames: &[Pfn]) -> usize {
        let mut done = 0;
        for few in frames.chunks(64) {
            let first = few.first().map_or(0, |pfn| pfn.0 & !63);
            let apart = few.iter().fold(0, |apart, pfn| apart | (pfn.0 ^ first));
            let is_word = apart < 64 && self.manages(Pfn(first)) && self.zone.contains(Pfn(first + 63));
            let is_whole = is_word && self.grounds.strangers(first / 64) == 0;
            let strange = if is_whole { None } else { few.iter().position(|&pfn| !self.manages(pfn)) };
            if let Some(nth) = strange {
                return done + nth;
            }
            done += few.len();
        }
        done
    }

    /// Whether all of `[start, end)` was handed over.
    ///
    /// # Errors
    /// The first frame that was not.
    pub fn all_managed(self, start: Pfn, end: Pfn) -> Result<(), FreeError> {
        let mut at = start;
        while at < end {
            let next = self.grounds.blocks.next(at).min(end);
            let known = self.zone.contains(at) && self.grounds.blocks.is_known(at);
            let strange = if known { self.first_hole(at, next) } else { Some(at) };
            if let Some(pfn) = strange {
                return Err(FreeError::Foreign { pfn });
            }
            at = next;
        }
        Ok(())
    }

    /// The first frame of a part of a pageblock that is a hole, or behind the zone.
    fn first_hole(self, start: Pfn, end: Pfn) -> Option<Pfn> {
        let stop = end.min(self.zone.span().end);
        let hole = self.grounds.holes.first(start, stop);
        hole.or((stop < end).then_some(stop))
    }

    /// Makes single frames of a block that somebody owns: dense placement knows no blocks, so nothing is to be done.
    ///
    /// # Errors
    /// A frame is free, or nobody's.
    pub fn split(self, pfn: Pfn, order: Order) -> Result<(), FreeError> {
        let end = 1_u64.checked_shl(order.0.into()).and_then(|frames| pfn.0.checked_add(frames));
        let end =
            Pfn(end.filter(|_| order <= self.zone.facts.max_order).ok_or(FreeError::WrongOrder { pfn, order })?);
        self.all_managed(pfn, end)?;
        let free = (pfn.0..end.0).map(Pfn).find(|&pfn| self.field.is_free(pfn));
        free.map_or(Ok(()), |pfn| Err(FreeError::DoubleFree { pfn }))
    }

    fn set_up(self, held: &'z Held) -> SetUp<'z, S> {
        SetUp { zone: self, _guard: self.body.setup.lock(held) }
    }

    fn set_up_alone(self) -> SetUp<'z, S> {
        SetUp { zone: self, _guard: self.body.setup.lock_alone() }
    }

    pub fn add_free(self, start: Pfn, end: Pfn, records: Records) -> Result<(), AddError> {
        self.set_up_alone().add(start, end, Some(records))
    }

    /// Takes `[start, end)` over as frames that somebody owns.
    pub fn adopt(self, held: &'z Held, start: Pfn, end: Pfn) -> Result<(), AddError> {
        self.open_bits(start, end)?;
        self.set_up(held).add(start, end, None)
    }

    /// Opens the bits of frames that will come back.
    fn open_bits(self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let (base, mem) = (self.zone.span().start.0 >> CHUNK_SHIFT, self.field.mem());
        let mut chunks = start.0 >> CHUNK_SHIFT..end.0.div_ceil(1 << CHUNK_SHIFT);
        let closed = chunks.find(|chunk| !mem.open((chunk - base) as usize));
        let first = closed.map(|chunk| Pfn(chunk << CHUNK_SHIFT).max(start));
        first.map_or(Ok(()), |pfn| Err(AddError::NoRecords { pfn }))
    }

    /// What is wrong with giving back `pfn` as a block of `order`, which nobody can have.
    pub fn misuse(self, pfn: Pfn, order: Order) -> FreeError {
        if self.field.is_free(pfn) { FreeError::DoubleFree { pfn } } else { FreeError::WrongOrder { pfn, order } }
    }

    /// Says what a pageblock is meant for.
    pub fn retype(self, held: Option<&'z Held>, pfn: Pfn, to: MigrateType) {
        match held {
            Some(held) => self.set_up(held).retype(pfn, to),
            None => self.set_up_alone().retype(pfn, to),
        }
    }

    /// Takes the free frames `[start, end)`.
    pub fn take_range(self, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        self.field.take_range(&self.grounds, start, end).map_err(|pfn| AllocError::Busy { pfn })
    }

    /// Takes the lowest free range of `frames` frames that starts at a multiple of `align`.
    pub fn take_piece(self, frames: u64, align: u64) -> Option<Pfn> {
        let span = self.zone.span();
        let mut at = span.start.0.checked_next_multiple_of(align)?;
        while at.checked_add(frames)? <= span.end.0 {
            let (start, end) = (Pfn(at), Pfn(at + frames));
            // No range that begins before the last busy frame of this one is free.
            let busy = match self.field.last_busy(start, end) {
                Some(busy) => busy,
                None => match self.field.take_range(&self.grounds, start, end) {
                    Ok(()) => return Some(start),
                    Err(busy) => busy,
                },
            };
            at = busy.0.checked_add(1)?.checked_next_multiple_of(align)?;
        }
        None
    }

    /// Gives back frames in one piece that somebody owns, straight to the field.
    pub fn free_range(self, start: Pfn, end: Pfn) -> Result<(), FreeError> {
        self.all_managed(start, end)?;
        let given = self.field.give_range(&self.grounds, start, end);
        given.map_err(|doubled| FreeError::DoubleFree { pfn: doubled.pfn })
    }

    pub fn offline(self, held: &'z Held, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        self.set_up(held).offline(start, end)
    }

    pub fn online(self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        self.set_up_alone().online(start, end)
    }

    /// Keeps the pageblock that an urgent request was just served from.
    pub fn reserve_highatomic(self, held: &'z Held, pfn: Pfn) {
        let set_up = self.set_up(held);
        let limit = highatomic::limit(self.zone.facts.era, self.zone.managed(), self.grounds.blocks.frames());
        if self.grounds.blocks.kind(pfn) < MigrateType::HighAtomic && self.zone.reserved_highatomic() < limit {
            set_up.retype(pfn, MigrateType::HighAtomic);
        }
    }

    /// Gives one kept pageblock that has free frames to the type of a request that found nothing.
    pub fn unreserve_highatomic(self, held: &'z Held, kind: MigrateType) -> bool {
        let set_up = self.set_up(held);
        let found = self.field.frontier(&self.grounds, MigrateType::HighAtomic);
        if let Some(pfn) = found {
            set_up.retype(pfn.max(self.zone.span().start), kind);
        }
        found.is_some()
    }

    /// Frames of pageblocks that are kept for urgent requests.
    pub fn reserved_highatomic(self) -> u64 {
        self.grounds.blocks.of(MigrateType::HighAtomic) * self.grounds.blocks.frames()
    }
}

/// A zone whose set-up lock is held.
struct SetUp<'z, S: Store> {
    zone: Fielded<'z, S>,
    _guard: RankedGuard<'z, RANK, ()>,
}

impl<S: Store> SetUp<'_, S> {
    fn retype(&self, pfn: Pfn, to: MigrateType) {
        let Fielded { body, .. } = self.zone;
        let from = body.grounds.blocks.set_kind(pfn, to);
        if from != to {
            body.field.retyped(&body.grounds, pfn, from);
        }
    }

    /// Takes `[start, end)` over, in use or, where `free` says how, free.
    fn add(&self, start: Pfn, end: Pfn, free: Option<Records>) -> Result<(), AddError> {
        let mut at = start;
        while at < end {
            let (stop, is_new) = self.alike(at, end);
            let known = if is_new { None } else { (at.0..stop.0).find(|&pfn| !self.zone.grounds.holes.has(Pfn(pfn))) };
            let stop = known.map_or(stop, Pfn);
            self.add_alike(at, stop, is_new, free)?;
            if let Some(pfn) = known {
                return Err(AddError::Known { pfn: Pfn(pfn) });
            }
            at = stop;
        }
        Ok(())
    }

    /// Up to where `[at, end)` lies in pageblocks of which nothing is known, whole ones, or in one pageblock; and whether
    /// nothing is known of them.
    fn alike(&self, at: Pfn, end: Pfn) -> (Pfn, bool) {
        let blocks = &self.zone.grounds.blocks;
        let is_new = !blocks.is_known(at);
        let whole_end = blocks.start(end);
        if is_new && blocks.start(at) == at && at < whole_end {
            return (blocks.first_known(at, whole_end), true);
        }
        (blocks.next(at).min(end), is_new)
    }

    /// Takes over what [`SetUp::alike`] found alike.
    fn add_alike(&self, start: Pfn, end: Pfn, is_new: bool, free: Option<Records>) -> Result<(), AddError> {
        let Fielded { zone, body } = self.zone;
        let is_whole = is_new && body.grounds.blocks.start(start) == start && body.grounds.blocks.start(end) == end;
        if is_new && !is_whole {
            let (first, last) = self.pageblock(start);
            if !body.grounds.holes.make(first, last) {
                return Err(AddError::NoRecords { pfn: start });
            }
        }
        body.grounds.holes.fill(start, end);
        if is_new {
            body.grounds.blocks.set_known(start, end, true);
        }
        let added = free.map(|records| body.field.add_free(&body.grounds, start, end, records == Records::Now));
        let reached = added.and_then(Result::err).unwrap_or(end);
        zone.add_managed(reached.0 - start.0);
        body.grounds.missing.fetch_sub(reached.0 - start.0, Ordering::Relaxed);
        if reached == end {
            return Ok(());
        }
        // There is no memory for the bits of the chunk that begins here, or of the one pageblock that is handed over in part:
        // that one's holes were open from the start.
        if is_whole {
            body.grounds.blocks.set_known(reached, end, false);
        } else {
            let made = body.grounds.holes.make(reached, end);
            debug_assert!(made, "holes of the pageblock are open");
        }
        Err(AddError::NoRecords { pfn: reached })
    }

    /// The pageblock of a frame, as far as it lies in the zone.
    fn pageblock(&self, pfn: Pfn) -> (Pfn, Pfn) {
        let (blocks, span) = (&self.zone.grounds.blocks, self.zone.zone.span());
        (blocks.start(pfn).max(span.start), blocks.next(pfn).min(span.end))
    }

    /// The parts of `[start, end)` in pageblocks that it covers in part, then what it covers whole.
    fn parts(&self, start: Pfn, end: Pfn) -> ([(Pfn, Pfn); 2], (Pfn, Pfn)) {
        let ((first, first_end), (last, last_end)) = (self.pageblock(start), self.pageblock(Pfn(end.0 - 1)));
        let from = if start == first { start } else { first_end.min(end) };
        let to = if end == last_end { end } else { last.max(from) };
        ([(start, from), (to, end)], (from, to))
    }

    fn offline(&self, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        if start >= end {
            return Ok(());
        }
        let Fielded { zone, body } = self.zone;
        let (edges, (from, to)) = self.parts(start, end);
        if let Some((pfn, _)) = edges.into_iter().find(|&(start, end)| !body.grounds.holes.open(start, end)) {
            return Err(AllocError::Busy { pfn });
        }
        self.zone.take_range(start, end)?;
        for (start, end) in edges {
            let made = body.grounds.holes.make(start, end);
            debug_assert!(made, "the bits are open");
        }
        if from < to {
            body.grounds.blocks.set_known(from, to, false);
        }
        zone.sub_managed(end.0 - start.0);
        body.grounds.missing.fetch_add(end.0 - start.0, Ordering::Relaxed);
        Ok(())
    }

    /// Pageblocks that lie in the range whole become movable, as those of new memory are.
    fn online(&self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let blocks = &self.zone.grounds.blocks;
        let first = start.0.checked_next_multiple_of(blocks.frames()).unwrap_or(end.0);
        for block in (first..end.0).step_by(blocks.frames() as usize).filter(|at| at + blocks.frames() <= end.0) {
            if !blocks.is_known(Pfn(block)) {
                blocks.set_kind(Pfn(block), MigrateType::Movable);
            }
        }
        self.add(start, end, Some(Records::Later))
    }
}
