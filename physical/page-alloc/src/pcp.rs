//! Per-CPU lists: blocks that one CPU keeps for itself, taken and given back without a lock.
//!
//! Here: [`CpuPages`], the lists of one CPU with a set for every zone; how many blocks move at once.
//! Not here: whether a zone may serve a request at all (`watermark`).
//!
//! # Invariants
//! 1. A block is in a list exactly while its state is `Cached`.
//! 2. `count` of a set is the number of frames in its lists.
//!
//! Locks: none; the lists are reached through `&mut`. A refill and a spill take the zone lock (30).
//! Source: Linux 5.10–7.2 mm/page_alloc.c `rmqueue_pcplist`, `free_unref_page_commit`, `free_pcppages_bulk`,
//! `nr_pcp_free`, `nr_pcp_alloc`.

use core::fmt;

use kernmem_base::sync::Held;
use kernmem_base::{CpuId, Era, Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::Facts;
use crate::dense::{CpuFrames, Doubled};
use crate::dense_requests::Served;
use crate::ground::State;
use crate::store::Store;
use crate::watermark::Pass;
use crate::zone::{Listed, Locked, PcpLimits, Zone};

/// Lists of a set: three types for each of four orders, two for huge pages.
pub(crate) const LISTS: usize = 14;

/// The list of the largest order that every kernel but the oldest keeps.
const COSTLY_ORDER: u8 = 3;

/// How often a factor may double what moves at once.
const SCALE_MAX: u32 = 5;

/// An entry of a list; links are places + 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct PcpSlot {
    pfn: u64,
    prev: u32,
    next: u32,
    kind: u8,
}

/// The lists of one zone.
#[derive(Clone, Copy, Debug, Default)]
pub struct PcpSet {
    /// First and last entry of each list.
    ends: [(u32, u32); LISTS],
    count: u64,
    /// Doublings of what is given back at once (6.1) or of what is taken at once (6.12 and later).
    factor: u32,
    /// What `high` has grown to (6.12 and later).
    high: u64,
    /// Frames that were given back in a row (6.12 and later).
    freed: u64,
}

/// The per-CPU lists of one CPU.
pub struct CpuPages<S: Store> {
    pub(crate) cpu: CpuId,
    pub(crate) nid: u32,
    pub(crate) held: Held,
    /// Linux's lists.
    pub(crate) lists: Lists<S>,
    /// Dense placement's frames.
    pub(crate) frames: CpuFrames<S::Caches>,
    /// Where the requests of the last key are served first.
    pub(crate) served: Option<Served>,
    /// The zone that a frame came back to last.
    pub(crate) here: usize,
    /// Zones with a dense cache.
    caches: usize,
    /// A frame that came back twice and that nobody was told of yet.
    pub(crate) doubled: Option<Doubled>,
}

impl<S: Store> fmt::Debug for CpuPages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuPages").field("cpu", &self.cpu).field("nid", &self.nid).finish_non_exhaustive()
    }
}

impl<S: Store> CpuPages<S> {
    /// Empty lists for CPU `cpu` of node `nid`: for [`crate::Placement::Linux`] at most `slots` blocks, a set for each zone
    /// of the allocator and no caches; for [`crate::Placement::Dense`] a cache for each zone and neither slots nor sets.
    #[must_use]
    pub fn new(cpu: CpuId, nid: u32, slots: S::Slots, sets: S::Sets, caches: S::Caches) -> Self {
        let lists = Lists { sets, slots, spare: 0, fresh: 0 };
        let count = caches.as_ref().len();
        let frames = CpuFrames::new(caches);
        Self { cpu, nid, held: Held::default(), lists, frames, served: None, here: 0, caches: count, doubled: None }
    }

    /// The CPU.
    #[must_use]
    pub fn cpu(&self) -> CpuId {
        self.cpu
    }

    /// Its node.
    #[must_use]
    pub fn nid(&self) -> u32 {
        self.nid
    }

    /// Frames in the lists of a zone, as Linux's listing of zones counts them.
    #[must_use]
    pub fn count(&self, zone: &Zone<S>) -> u64 {
        self.lists.sets.as_ref().get(zone.index).map_or(0, |set| set.count) + self.frames.count(zone.index)
    }

    /// The figure `high` of the lists of a zone, as it stands now.
    ///
    /// | era | figure |
    /// |---|---|
    /// | 4.14, 5.10, 6.1 | the limit (4.14 UNVERIFIED) |
    /// | 6.12, 7.2 | what it has grown to: 0 until the lists are used, then between the two limits |
    #[must_use]
    pub fn high(&self, zone: &Zone<S>) -> u64 {
        match zone.facts.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => zone.pcp().high_min,
            Era::V6_12 | Era::V7_2 => self.lists.sets.as_ref().get(zone.index).map_or(0, |set| set.high),
        }
    }

    /// Frames in all lists.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lists.sets.as_ref().iter().map(|set| set.count).sum::<u64>()
            + (0..self.caches).map(|zone| self.frames.count(zone)).sum::<u64>()
    }
}

/// The list for blocks of an order and a type; `None` if such blocks go straight to the zone.
///
/// | era | orders with lists |
/// |---|---|
/// | 4.14, 5.10 | 0 (4.14 UNVERIFIED) |
/// | 6.1, 6.12, 7.2 | 0 to 3, and that of a huge page where these are configured |
pub(crate) fn list_of(facts: &Facts, order: u8, kind: MigrateType) -> Option<usize> {
    // Urgent and CMA blocks are kept with the movable ones.
    let column = match kind {
        MigrateType::Unmovable => 0,
        MigrateType::Movable | MigrateType::HighAtomic | MigrateType::Cma => 1,
        MigrateType::Reclaimable => 2,
        MigrateType::Isolate => return None,
    };
    match facts.era {
        Era::V4_14 | Era::V5_10 => (order == 0).then_some(column),
        Era::V6_1 | Era::V6_12 | Era::V7_2 if order <= COSTLY_ORDER => Some(usize::from(order) * 3 + column),
        Era::V6_1 | Era::V6_12 | Era::V7_2 => {
            (facts.thp && order == facts.pmd_order.0).then_some(12 + usize::from(column == 1))
        }
    }
}

fn order_of(facts: &Facts, list: usize) -> u8 {
    match facts.era {
        Era::V4_14 | Era::V5_10 => 0,
        Era::V6_1 | Era::V6_12 | Era::V7_2 if list >= 12 => facts.pmd_order.0,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => (list / 3) as u8,
    }
}

/// The count at which frames are given back.
///
/// | era | figure |
/// |---|---|
/// | 4.14, 5.10, 6.1 | the limit (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | what it has grown to, between its two limits |
fn high(era: Era, set: &PcpSet, limits: PcpLimits) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => limits.high_min,
        Era::V6_12 | Era::V7_2 => set.high.clamp(limits.high_min, limits.high_max.max(limits.high_min)),
    }
}

/// How many blocks a refill takes.
///
/// | era | order 0 | above |
/// |---|---|---|
/// | 4.14, 5.10 | the batch (4.14 UNVERIFIED) | – |
/// | 6.1 | the batch | the batch by frames, at least 2 |
/// | 6.12, 7.2 | the batch, doubled up to five times by refills in a row, within `high` | as 6.1 |
fn refill_blocks(era: Era, set: &mut PcpSet, order: u8, limits: PcpLimits) -> u64 {
    set.high = high(era, set, limits);
    if order > 0 {
        return if limits.batch > 1 { (limits.batch >> order).max(2) } else { 1 };
    }
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => limits.batch,
        Era::V6_12 | Era::V7_2 => {
            let most = limits.high_max.max(limits.high_min);
            if most > limits.high_min {
                set.high = (set.high + limits.batch).min(most);
            }
            let room = set.high.saturating_sub(set.count + limits.batch).max(limits.batch);
            let wanted = limits.batch << set.factor;
            if wanted <= room && set.factor < SCALE_MAX {
                set.factor += 1;
            }
            wanted.min(room)
        }
    }
}

/// How many frames are given back after a free of `order`; 0 while the count is below `high`.
///
/// | era | frames |
/// |---|---|
/// | 4.14, 5.10 | the batch (4.14 UNVERIFIED) |
/// | 6.1 | all after a larger block that follows others; else the batch, doubled by each time in a row |
/// | 6.12, 7.2 | what was freed in a row, between the batch and `high` less the batch |
fn spill_frames(era: Era, set: &mut PcpSet, order: u8, limits: PcpLimits) -> u64 {
    set.high = high(era, set, limits);
    let (batch, high) = (limits.batch, set.high);
    let most = high.saturating_sub(batch).max(batch);
    match era {
        Era::V4_14 | Era::V5_10 => {
            if set.count >= high {
                batch
            } else {
                0
            }
        }
        Era::V6_1 => {
            if set.factor > 0 && (1..=COSTLY_ORDER).contains(&order) {
                return set.count;
            }
            if set.count < high {
                return 0;
            }
            if high < batch {
                return 1;
            }
            let wanted = batch << set.factor;
            if wanted < high - batch {
                set.factor += 1;
            }
            wanted.clamp(batch, most)
        }
        Era::V6_12 | Era::V7_2 => {
            set.factor /= 2;
            set.freed += 1 << order;
            if set.count < high {
                return 0;
            }
            if high < batch {
                return 1;
            }
            core::mem::take(&mut set.freed).clamp(batch, most)
        }
    }
}

/// The sets and entries.
#[derive(Debug)]
pub(crate) struct Lists<S: Store> {
    sets: S::Sets,
    slots: S::Slots,
    /// Entries that were given up, as a chain of places + 1.
    spare: u32,
    /// Entries from here on were never used.
    fresh: u32,
}

impl<S: Store> Lists<S> {
    fn set(&mut self, zone: Listed<'_, S>) -> Option<&mut PcpSet> {
        self.sets.as_mut().get_mut(zone.index)
    }

    fn count(&self, zone: Listed<'_, S>) -> u64 {
        self.sets.as_ref().get(zone.index).map_or(0, |set| set.count)
    }

    fn slot(&mut self, link: u32) -> &mut PcpSlot {
        &mut self.slots.as_mut()[link as usize - 1]
    }

    /// An entry for a new block; `None` if all are in use.
    fn new_slot(&mut self) -> Option<u32> {
        if self.spare != 0 {
            let link = self.spare;
            self.spare = self.slot(link).next;
            return Some(link);
        }
        if self.fresh as usize >= self.slots.as_ref().len() {
            return None;
        }
        self.fresh += 1;
        Some(self.fresh)
    }

    /// Adds a block to a list; false if there is no entry for it, or no set for the zone.
    fn push(&mut self, zone: Listed<'_, S>, list: usize, pfn: Pfn, kind: MigrateType, at_head: bool) -> bool {
        let Some(ends) = self.set(zone).map(|set| set.ends[list]) else { return false };
        let Some(link) = self.new_slot() else { return false };
        let (prev, next) = if at_head { (0, ends.0) } else { (ends.1, 0) };
        *self.slot(link) = PcpSlot { pfn: pfn.0, prev, next, kind: kind as u8 };
        let mut ends = ends;
        match prev {
            0 => ends.0 = link,
            _ => self.slot(prev).next = link,
        }
        match next {
            0 => ends.1 = link,
            _ => self.slot(next).prev = link,
        }
        let frames = 1 << order_of(&zone.facts, list);
        if let Some(set) = self.set(zone) {
            set.ends[list] = ends;
            set.count += frames;
        }
        true
    }

    /// Takes the first or the last block of a list.
    fn pop(&mut self, zone: Listed<'_, S>, list: usize, from_head: bool) -> Option<(Pfn, MigrateType)> {
        let mut ends = self.set(zone)?.ends[list];
        let link = if from_head { ends.0 } else { ends.1 };
        if link == 0 {
            return None;
        }
        let slot = *self.slot(link);
        match slot.prev {
            0 => ends.0 = slot.next,
            prev => self.slot(prev).next = slot.next,
        }
        match slot.next {
            0 => ends.1 = slot.prev,
            next => self.slot(next).prev = slot.prev,
        }
        *self.slot(link) = PcpSlot { next: self.spare, ..PcpSlot::default() };
        self.spare = link;
        let frames = 1 << order_of(&zone.facts, list);
        let set = self.set(zone)?;
        set.ends[list] = ends;
        set.count -= frames;
        Some((Pfn(slot.pfn), MigrateType::ALL[usize::from(slot.kind)]))
    }

    /// Takes a block out of a list that has one.
    pub fn take(&mut self, zone: Listed<'_, S>, list: usize) -> Option<Pfn> {
        let (pfn, _) = self.pop(zone, list, true)?;
        if let Some(set) = self.set(zone) {
            match zone.facts.era {
                Era::V4_14 | Era::V5_10 => {}
                Era::V6_1 => set.factor /= 2,
                Era::V6_12 | Era::V7_2 => set.freed /= 2,
            }
        }
        Some(pfn)
    }

    /// Whether a list has no block.
    pub fn is_empty(&self, zone: Listed<'_, S>, list: usize) -> bool {
        self.sets.as_ref().get(zone.index).is_none_or(|set| set.ends[list].0 == 0)
    }

    /// Brings blocks of an order and a type from the zone; how many came.
    pub fn refill(&mut self, zone: Listed<'_, S>, held: &Held, order: u8, kind: MigrateType, pass: Pass) -> u64 {
        let Some(list) = list_of(&zone.facts, order, kind) else { return 0 };
        let Some(set) = self.set(zone) else { return 0 };
        let wanted = refill_blocks(zone.facts.era, set, order, zone.pcp());
        let mut locked = zone.lock(held);
        for done in 0..wanted {
            let Some(pfn) = locked.rmqueue(order, kind, pass) else { return done };
            if !self.push(zone, list, pfn, kind, false) {
                let own = zone.ground.kind(pfn);
                locked.give(pfn, order, own, None);
                return done;
            }
            zone.ground.set(pfn, State::Cached(Order(order)));
        }
        wanted
    }

    /// Keeps a block that came back, and gives frames to the zone if there are too many. The block's state is `Cached`.
    pub fn keep(&mut self, zone: Listed<'_, S>, held: &Held, list: usize, pfn: Pfn, kind: MigrateType) {
        let order = order_of(&zone.facts, list);
        if !self.push(zone, list, pfn, kind, true) {
            let mut locked = zone.lock(held);
            self.spill(&mut locked, zone.pcp().batch, list);
            if !self.push(zone, list, pfn, kind, true) {
                zone.ground.set(pfn, State::Nothing);
                locked.give(pfn, order, kind, None);
            }
            return;
        }
        let Some(set) = self.set(zone) else { return };
        let frames = spill_frames(zone.facts.era, set, order, zone.pcp());
        if frames != 0 {
            self.spill(&mut zone.lock(held), frames, list);
        }
    }

    /// Gives all blocks of a zone back to it.
    pub fn drain(&mut self, zone: Listed<'_, S>, held: &Held) {
        let frames = self.count(zone);
        if frames != 0 {
            self.spill(&mut zone.lock(held), frames, 0);
        }
    }

    /// Gives blocks of at least `frames` frames back, oldest first, beginning with one list.
    ///
    /// | era | order of lists |
    /// |---|---|
    /// | 4.14, 5.10 | one after another from the second, one block more from each that follows empty ones (4.14 UNVERIFIED) |
    /// | 6.1, 6.12, 7.2 | the named list until it is empty, then the next |
    fn spill(&mut self, locked: &mut Locked<'_, S>, frames: u64, first: usize) {
        let zone = locked.zone;
        let lists = match zone.facts.era {
            Era::V4_14 | Era::V5_10 => 3,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => LISTS,
        };
        let mut left = frames.min(self.count(zone));
        let mut list = match zone.facts.era {
            Era::V4_14 | Era::V5_10 => 0,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => first + lists - 1,
        };
        let mut turns = 0;
        while left > 0 && self.count(zone) > 0 {
            list = (list + 1) % lists;
            turns += 1;
            while self.is_empty(zone, list) {
                list = (list + 1) % lists;
                turns += 1;
            }
            let mut blocks = match zone.facts.era {
                Era::V4_14 | Era::V5_10 if turns < 3 => turns,
                Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => u64::MAX,
            };
            while blocks > 0 && left > 0 {
                let Some((pfn, kind)) = self.pop(zone, list, false) else { break };
                let order = order_of(&zone.facts, list);
                zone.ground.set(pfn, State::Nothing);
                locked.give(pfn, order, kind, None);
                left = left.saturating_sub(1 << order);
                blocks -= 1;
            }
            turns = if blocks > 2 { 0 } else { blocks };
        }
    }
}
