//! Checked caches: patterns around and in objects, and what notices that they changed.
//!
//! Here: allocation and freeing of checked caches, and the check of a whole cache. Not here: what findings are called
//! (`report`).
//!
//! # Invariants
//! 1. No CPU owns a slab of a checked cache: all of them are on the lists of their nodes.
//! 2. A free object has the inactive red zones and the poison, an object in use the active red zones.
//!
//! Source: Linux 6.1 mm/slub.c `init_object`, `check_object`, `check_bytes_and_report`, `on_freelist`,
//! `alloc_debug_processing`, `free_debug_processing`, `validate_slab`.

use core::ptr::NonNull;

use kernmem_base::{CpuId, Era, Lent, LinearMem, Pfn, VirtAddr};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::cache::Cache;
use crate::env::{Env, SlabPlace, slab_place, va};
use crate::layout::request_bytes;
use crate::list::record_of;
use crate::record::{self, OnList, Record, SlabPages, State};
use crate::{Area, CacheFlags, Damage, Finding, Fix, Report, SlabError};

const RED_INACTIVE: u8 = 0xbb;
const RED_ACTIVE: u8 = 0xcc;
const POISON_INUSE: u8 = 0x5a;
const POISON_FREE: u8 = 0x6b;
const POISON_END: u8 = 0xa5;
/// Words of a bitmap of all objects that a slab can have.
const MAP_WORDS: usize = 32768 / 64;

/// One slab under check: its memory and its record.
struct Checked<'s> {
    place: SlabPlace,
    slab: Lent<'s>,
    record: &'s Record,
}

/// Bytes that must have one value.
struct Zone {
    area: Area,
    from: u32,
    to: u32,
    byte: u8,
}

impl<const NODES: usize> Cache<NODES> {
    const fn has(&self, flag: CacheFlags) -> bool {
        self.flags.contains(flag)
    }

    /// Writes the patterns of a new slab, in which all objects are free.
    pub(crate) fn fill_new(&self, slab: &Lent<'_>) {
        if self.has(CacheFlags::POISON) {
            slab.fill(0, slab.bytes(), POISON_INUSE);
        }
        for index in 0..self.shape.objects(slab.bytes() as u64) {
            self.init(slab, self.shape.at(index), RED_INACTIVE);
        }
    }

    /// Writes red zones and poison of one object.
    fn init(&self, slab: &Lent<'_>, at: u32, red: u8) {
        let layout = &self.layout;
        if self.has(CacheFlags::RED_ZONE) {
            slab.fill((at - layout.left) as usize, layout.left as usize, red);
            slab.fill((at + layout.object) as usize, (layout.inuse - layout.object) as usize, red);
        }
        if self.has(CacheFlags::POISON) {
            slab.fill(at as usize, layout.object as usize - 1, POISON_FREE);
            slab.fill((at + layout.object) as usize - 1, 1, POISON_END);
        }
    }

    /// The zones of the object at `at`, in the order in which they are checked.
    fn zones(&self, slab: &Lent<'_>, at: u32, active: bool) -> [Option<Zone>; 7] {
        let layout = &self.layout;
        let (red, poison) = (self.has(CacheFlags::RED_ZONE), self.has(CacheFlags::POISON));
        let byte = if active { RED_ACTIVE } else { RED_INACTIVE };
        let (object, end) = (at + layout.object, at + layout.inuse);
        let zone = |is_checked: bool, area, from, to, byte| is_checked.then_some(Zone { area, from, to, byte });
        let asked = at + self.request(slab, at).unwrap_or(layout.object);
        let slot_end = at - layout.left + layout.slot;
        [
            zone(red, Area::LeftRedZone, at - layout.left, at, byte),
            zone(red, Area::RightRedZone, object, end, byte),
            zone(red && active && asked < object, Area::KmallocRedZone, asked, object, RED_ACTIVE),
            zone(!red && poison && object < end, Area::AlignmentPadding, object, end, POISON_INUSE),
            zone(poison && !active, Area::Poison, at, object - 1, POISON_FREE),
            zone(poison && !active, Area::Poison, object - 1, object, POISON_END),
            zone(poison, Area::ObjectPadding, at + layout.padding, slot_end, POISON_INUSE),
        ]
    }

    /// The size that was asked for, where a red zone begins behind it.
    ///
    /// | era | the end that was not asked for is checked |
    /// |---|---|
    /// | 4.14, 5.10, 6.1 | no |
    /// | 6.12, 7.2 | yes |
    ///
    /// Source: Linux 6.12–7.2 mm/slub.c `check_object`.
    fn request(&self, slab: &Lent<'_>, at: u32) -> Option<u32> {
        let place = self.layout.request?;
        match self.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => None,
            Era::V6_12 | Era::V7_2 => {
                let low = core::array::from_fn(|byte| slab.byte((at + place) as usize + byte).unwrap_or(0));
                Some(u32::from_le_bytes(low).min(self.layout.object))
            }
        }
    }

    /// Remembers how much was asked for, and marks the rest.
    fn set_request(&self, slab: &Lent<'_>, at: u32, bytes: u32) {
        let Some(place) = self.layout.request else { return };
        let size = u64::from(bytes).to_le_bytes();
        slab.write((at + place) as usize, &size[..request_bytes(self.era) as usize]);
        if self.request(slab, at).is_some() && self.has(CacheFlags::RED_ZONE) {
            let rest = self.layout.object.saturating_sub(bytes);
            slab.fill((at + bytes) as usize, rest as usize, RED_ACTIVE);
        }
    }

    /// The size that was asked for last, if the object remembers it and is guarded behind it.
    pub(crate) fn requested<M: LinearMem>(&self, mem: &M, place: &SlabPlace) -> Result<Option<u32>, SlabError> {
        Ok(self.request(&place.lent(mem)?, place.at))
    }

    /// Changes the size that was asked for of an object in use; what is newly asked for is cleared if `is_zero`.
    pub(crate) fn resize<M: LinearMem>(
        &self,
        mem: &M,
        place: &SlabPlace,
        bytes: u32,
        is_zero: bool,
    ) -> Result<(), SlabError> {
        let slab = place.lent(mem)?;
        let Some(before) = self.request(&slab, place.at) else { return Ok(()) };
        self.set_request(&slab, place.at, bytes);
        if is_zero && bytes > before {
            slab.fill((place.at + before) as usize, (bytes - before) as usize, 0);
        }
        Ok(())
    }

    /// Remembers which CPU took (0) or freed (1) an object.
    fn set_track(&self, slab: &Lent<'_>, at: u32, which: u32, cpu: CpuId) {
        let Some(track) = self.layout.track else { return };
        let bytes = crate::layout::track_bytes(self.era);
        let from = (at + track + which * bytes) as usize;
        slab.fill(from, bytes as usize, 0);
        // The CPU's number stands before the process and the time, which end the record.
        slab.write(from + bytes as usize - 16 - (bytes == 32) as usize * 4, &cpu.0.to_le_bytes());
    }

    fn object_va(slab: &Lent<'_>, at: u32) -> VirtAddr {
        VirtAddr(slab.base().addr().get() as u64 + u64::from(at))
    }

    /// Checks one zone; what was overwritten has its pattern again afterwards.
    fn check_zone(&self, slab: &Lent<'_>, object: u32, zone: &Zone, sink: &mut dyn FnMut(Finding)) -> bool {
        let (from, len) = (zone.from as usize, zone.to.saturating_sub(zone.from) as usize);
        let Some((place, found)) = slab.first_other(from, len, zone.byte) else { return true };
        let offset = place as i64 - i64::from(object);
        let damage = Damage::Overwritten { area: zone.area, offset, expected: zone.byte, found };
        self.tell(slab, object, damage, Some(Fix::BytesRestored), sink);
        slab.fill(from, len, zone.byte);
        false
    }

    fn tell(&self, slab: &Lent<'_>, at: u32, damage: Damage, fix: Option<Fix>, sink: &mut dyn FnMut(Finding)) {
        let (cache, object) = (self.id, Self::object_va(slab, at));
        sink(Finding::Bug(Report { cache, object, damage }));
        if let Some(fix) = fix {
            sink(Finding::Fixed { cache, object, fix });
        }
    }

    /// Checks one object: `false` at the first damage, which is told and repaired.
    fn check_object(&self, slab: &Lent<'_>, at: u32, active: bool, sink: &mut dyn FnMut(Finding)) -> bool {
        for zone in self.zones(slab, at, active).into_iter().flatten() {
            if !self.check_zone(slab, at, &zone, sink) {
                return false;
            }
        }
        if (active && !self.layout.link_outside()) || self.next(slab, at).is_some() {
            return true;
        }
        self.tell(slab, at, Damage::Freepointer, None, sink);
        let cut = self.shape.set_next(slab, at, 0);
        debug_assert!(cut.is_ok(), "the object lies in the slab");
        false
    }

    /// The next object of a chain, exactly at the beginning of an object; `None` if the pointer leads nowhere.
    fn next(&self, slab: &Lent<'_>, at: u32) -> Option<u32> {
        let next = self.shape.next(slab, at).ok()?;
        (next == 0 || self.shape.is_object(next - 1, slab.bytes() as u64)).then_some(next)
    }

    /// Takes an object; `request` bytes of it were asked for.
    pub(crate) fn alloc_checked<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        (cpu, node): (CpuId, usize),
        request: u32,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let pfn = match self.nodes[node].partial.first() {
            Some(pfn) => pfn,
            None => {
                let place = self.new_slab(env, node, gfp)?;
                self.put(env, place)?;
                place.pfn
            }
        };
        let checked = self.checked(env, pfn)?;
        let slab = &checked.slab;
        let at = State::load(checked.record).head.saturating_sub(1);
        let mut bug = None;
        let is_sound = !self.is_consistent() || self.check_object(slab, at, false, &mut keep_first(&mut bug));
        let next = self.next(slab, at);
        let (Some(next), true) = (next, is_sound) else {
            self.set_aside(env.records, &checked)?;
            return Err(bug.map_or(checked.place.broken(), SlabError::Corrupt));
        };
        self.init(slab, at, RED_ACTIVE);
        self.set_track(slab, at, 0, cpu);
        self.set_request(slab, at, request);
        let ptr = slab.ptr(at as usize).ok_or(checked.place.broken())?;
        let state = State::load(checked.record);
        State { head: next, inuse: state.inuse + 1, ..state }.store(checked.record);
        if next == 0 {
            self.list_as_full(env.records, &checked)?;
        }
        Ok(ptr)
    }

    fn checked<'s, P, M, R>(&self, env: &Env<'s, P, M, R>, pfn: Pfn) -> Result<Checked<'s>, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let place = slab_place(env.records, self.granule, pfn)?;
        Ok(Checked { place, slab: place.lent(env.mem)?, record: record_of(env.records, pfn)? })
    }

    /// Moves a slab from the partial to the full list of its node.
    fn list_as_full<R: SlabPages>(&mut self, records: &R, checked: &Checked<'_>) -> Result<(), SlabError> {
        let state = State::load(checked.record);
        let node = &mut self.nodes[usize::from(state.node)];
        node.partial.remove(records, checked.place.pfn)?;
        node.full.push(records, checked.place.pfn)?;
        State { list: OnList::Full, ..state }.store(checked.record);
        Ok(())
    }

    /// Takes a damaged slab out of use: all its objects count as used.
    fn set_aside<R: SlabPages>(&mut self, records: &R, checked: &Checked<'_>) -> Result<(), SlabError> {
        let inuse = self.objects(checked.place.order);
        State { head: 0, inuse, ..State::load(checked.record) }.store(checked.record);
        self.list_as_full(records, checked)
    }

    /// Frees an object.
    pub(crate) fn free_checked<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: CpuId,
        place: SlabPlace,
        ptr: NonNull<u8>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        if !self.shape.is_object(place.at, place.bytes) {
            return Err(SlabError::NotAnObject { va: va(ptr) });
        }
        let checked = self.checked(env, place.pfn)?;
        let (slab, record) = (&checked.slab, checked.record);
        let state = State::load(record);
        if state.head == place.at + 1 || state.inuse == 0 {
            return Err(SlabError::DoubleFree { va: va(ptr) });
        }
        if self.is_consistent() {
            if self.is_on_chain(slab, state.head, place.at) {
                return Err(SlabError::DoubleFree { va: va(ptr) });
            }
            let mut bug = None;
            if !self.check_object(slab, place.at, true, &mut keep_first(&mut bug)) {
                return Err(bug.map_or(place.broken(), SlabError::Corrupt));
            }
        }
        self.set_track(slab, place.at, 1, cpu);
        self.init(slab, place.at, RED_INACTIVE);
        self.shape.set_next(slab, place.at, state.head).map_err(|_| place.broken())?;
        State { head: place.at + 1, inuse: state.inuse - 1, ..state }.store(record);
        self.relist(env, place, state)
    }

    /// Lists a slab anew after an object of it was freed; `was` is its state before.
    fn relist<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, place: SlabPlace, was: State) -> Result<(), SlabError>
    where
        P: PageSource,
        R: SlabPages,
    {
        let node = &mut self.nodes[usize::from(was.node)];
        match was.list {
            OnList::Full => {
                node.full.remove(env.records, place.pfn)?;
                self.put(env, place)
            }
            OnList::Partial if was.inuse == 1 && node.partial.len() >= self.min_partial => {
                node.partial.remove(env.records, place.pfn)?;
                self.discard(env, place)
            }
            OnList::Partial => Ok(()),
            OnList::None => self.put(env, place),
        }
    }

    fn is_on_chain(&self, slab: &Lent<'_>, head: u32, at: u32) -> bool {
        let mut next = head;
        for _ in 0..self.shape.objects(slab.bytes() as u64) {
            match next.checked_sub(1) {
                None => return false,
                Some(free) if free == at => return true,
                Some(free) => next = self.next(slab, free).unwrap_or(0),
            }
        }
        false
    }

    /// Checks all slabs of a checked cache; each finding is told. Returns how many findings there were.
    pub(crate) fn validate<P, M, R>(
        &mut self,
        env: &Env<'_, P, M, R>,
        sink: &mut dyn FnMut(Finding),
    ) -> Result<u64, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let mut findings = 0;
        let mut counting = |finding| {
            findings += 1;
            sink(finding);
        };
        for node in 0..NODES {
            for list in [self.nodes[node].partial, self.nodes[node].full] {
                let mut at = list.first();
                while let Some(pfn) = at {
                    let checked = self.checked(env, pfn)?;
                    self.validate_slab(&checked, &mut counting);
                    at = record::next(checked.record);
                }
            }
        }
        Ok(findings)
    }

    fn validate_slab(&self, checked: &Checked<'_>, sink: &mut dyn FnMut(Finding)) {
        let slab = &checked.slab;
        self.check_slab_padding(slab, sink);
        let mut free = [0u64; MAP_WORDS];
        if !self.check_chain(checked, &mut free, sink) {
            return;
        }
        for index in 0..self.shape.objects(slab.bytes() as u64) {
            let is_free = free[usize::from(index) / 64] >> (index % 64) & 1 == 1;
            if !self.check_object(slab, self.shape.at(index), !is_free, sink) {
                break;
            }
        }
    }

    /// The bytes behind the last object.
    fn check_slab_padding(&self, slab: &Lent<'_>, sink: &mut dyn FnMut(Finding)) {
        if !self.has(CacheFlags::POISON) {
            return;
        }
        let objects = self.shape.objects(slab.bytes() as u64);
        let (from, to) = (u32::from(objects) * self.layout.slot, slab.bytes() as u32);
        self.check_zone(slab, 0, &Zone { area: Area::SlabPadding, from, to, byte: POISON_INUSE }, sink);
    }

    /// Walks the chain and marks its objects; `false` if there is nothing left to compare with.
    fn check_chain(&self, checked: &Checked<'_>, free: &mut [u64; MAP_WORDS], sink: &mut dyn FnMut(Finding)) -> bool {
        let (slab, record) = (&checked.slab, checked.record);
        let state = State::load(record);
        let objects = self.shape.objects(slab.bytes() as u64);
        let (mut next, mut counted) = (state.head, 0);
        if next != 0 && !self.shape.is_object(next - 1, slab.bytes() as u64) {
            self.tell(slab, 0, Damage::Freechain, Some(Fix::ChainCleared), sink);
            State { head: 0, inuse: objects, ..state }.store(record);
            return false;
        }
        while let Some(at) = next.checked_sub(1) {
            let index = self.shape.index(at);
            let bit = &mut free[usize::from(index) / 64];
            let has_come_round = *bit >> (index % 64) & 1 == 1;
            if has_come_round {
                break;
            }
            *bit |= 1 << (index % 64);
            counted += 1;
            next = self.next(slab, at).unwrap_or_else(|| {
                self.tell(slab, at, Damage::Freechain, None, sink);
                let cut = self.shape.set_next(slab, at, 0);
                debug_assert!(cut.is_ok(), "the object lies in the slab");
                0
            });
        }
        if state.inuse != objects - counted {
            let damage = Damage::WrongCount { counter: state.inuse, counted: objects - counted };
            self.tell(slab, 0, damage, Some(Fix::CountAdjusted), sink);
            State { inuse: objects - counted, ..state }.store(record);
        }
        true
    }
}

/// A listener that keeps the first damage.
fn keep_first(bug: &mut Option<Report>) -> impl FnMut(Finding) {
    move |finding| {
        if let (Finding::Bug(report), None) = (finding, &bug) {
            *bug = Some(report);
        }
    }
}
