//! The paths that need the whole cache: new slabs, lists of nodes, slabs that change their owner.
//!
//! # Invariants
//! 1. The caller holds the slab allocator exclusively: nobody else gives a slab an owner, takes one away, or changes a
//!    node's lists.
//! 2. A slab without an owner is on its node's partial list if an object of it is free, else on none (or on the full
//!    list of a checked cache).
//!
//! Source: Linux 6.1 mm/slub.c `___slab_alloc`, `__slab_free`, `put_cpu_partial`, `discard_slab`.

use core::ptr::NonNull;

use kernmem_base::{LinearMem, Order, Pfn};
use kernmem_page_alloc::{AllocError, Gfp, PageSource};

use crate::cache::Cache;
use crate::cpu::{Active, CpuSlabs, Freed};
use crate::env::{Env, SlabPlace, node_of, slab_place, va};
use crate::list::record_of;
use crate::record::{self, Ident, OnList, Remote, SlabPages, State};
use crate::{CacheFlags, SlabError};

impl<const NODES: usize> Cache<NODES> {
    const fn slot_of(&self) -> usize {
        self.id.index() as usize
    }

    /// Gives the CPU an active slab with a free object, or leaves it the one that it has if others freed into it.
    pub(crate) fn refill<P, M, R, const C: usize>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<C>,
        gfp: Gfp,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let (owner, node) = (cpu.owner(), usize::from(cpu.node));
        let own = &mut cpu.caches[self.slot_of()];
        own.shape = Some(self.shape);
        if let Some(active) = own.active {
            let record = record_of(env.records, active.place.pfn)?;
            if active.head != 0 || Remote::owned_by(owner).exchange(Remote::UNOWNED, record).is_err() {
                return Ok(());
            }
            own.active = None;
        }
        if let Some(pfn) = own.partial {
            let record = record_of(env.records, pfn)?;
            own.partial = record::next(record);
            own.partial_slabs -= 1;
            record::set_next(record, None);
            own.active = Some(self.activate(env, pfn, owner)?);
            return Ok(());
        }
        let pfn = self.slab_for(env, node, gfp)?;
        own.active = Some(self.activate(env, pfn, owner)?);
        Ok(())
    }

    /// A slab with a free object that nobody has: of the node, a new one, or in need of another node.
    fn slab_for<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, node: usize, gfp: Gfp) -> Result<Pfn, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        if let Some(pfn) = self.take_partial(env.records, node)? {
            return Ok(pfn);
        }
        let failure = match self.new_slab(env, node, gfp) {
            Ok(place) => return Ok(place.pfn),
            Err(failure) => failure,
        };
        for other in (0..NODES).filter(|&other| other != node) {
            if let Some(pfn) = self.take_partial(env.records, other)? {
                return Ok(pfn);
            }
        }
        Err(failure)
    }

    /// Takes the first partial slab of a node off its list.
    fn take_partial<R: SlabPages>(&mut self, records: &R, node: usize) -> Result<Option<Pfn>, SlabError> {
        let Some(pfn) = self.nodes[node].partial.first() else { return Ok(None) };
        self.nodes[node].partial.remove(records, pfn)?;
        Ok(Some(pfn))
    }

    /// Makes a slab, with all objects free, the active one of `owner`: its chain becomes the CPU's.
    fn activate<P, M, R>(&mut self, env: &Env<'_, P, M, R>, pfn: Pfn, owner: u16) -> Result<Active, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let place = slab_place(env.records, self.granule, pfn)?;
        let record = record_of(env.records, pfn)?;
        let slab = place.lent(env.mem)?;
        let remote = Remote::owned_by(owner).swap(record);
        let state = State::load(record);
        let objects = self.objects(place.order);
        State { head: 0, inuse: objects, list: OnList::None, ..state }.store(record);
        let Ok(head) = self.shape.splice(&slab, remote.head, state.head) else {
            // Nothing is handed out of it any more; what is in use may still come back.
            Remote::UNOWNED.swap(record);
            return Err(place.broken());
        };
        Ok(Active { place, head, free: objects.saturating_sub(state.inuse) + remote.count })
    }

    /// Makes a slab that nobody owns and that is on no list.
    pub(crate) fn new_slab<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        node: usize,
        gfp: Gfp,
    ) -> Result<SlabPlace, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let (pfn, order) = self.take_pages(env, node, gfp)?;
        let node = node_of::<NODES>(env.pages, pfn, node);
        let made = self.prepare(env, pfn, order, node as u8);
        match made {
            Ok(place) => {
                self.nodes[node].slabs += 1;
                self.nodes[node].objects += u64::from(self.objects(order));
                self.nodes[node].pages += 1 << order.0;
                Ok(place)
            }
            Err(why) => {
                clear_frames(env.records, pfn, order);
                env.pages.free(pfn, order).map_err(SlabError::Refused)?;
                Err(why)
            }
        }
    }

    fn take_pages<P, M, R>(&self, env: &mut Env<'_, P, M, R>, node: usize, gfp: Gfp) -> Result<(Pfn, Order), SlabError>
    where
        P: PageSource,
    {
        let gfp = Gfp(gfp.0 & !Gfp::ZERO.0) | self.gfp;
        let mut take = |order: Order| {
            let gfp = if order.0 > 0 { gfp | Gfp::COMP } else { gfp };
            env.pages.alloc_on(Some(node as u32), gfp, order).map(|pfn| (pfn, order))
        };
        match take(self.order) {
            Err(AllocError::NoMemory { .. } | AllocError::TooLarge { .. }) if self.least < self.order => {
                take(self.least)
            }
            taken => taken,
        }
        .map_err(SlabError::NoPages)
    }

    /// Writes records and contents of a new slab.
    fn prepare<P, M, R>(&self, env: &Env<'_, P, M, R>, pfn: Pfn, order: Order, node: u8) -> Result<SlabPlace, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        for back in 0..1u16 << order.0 {
            let ident = match back {
                0 => Ident::Head { cache: self.id.index(), generation: self.id.generation(), order },
                back => Ident::Tail { back },
            };
            let record = record_of(env.records, Pfn(pfn.0 + u64::from(back)))?;
            record::clear(record);
            ident.store(record);
        }
        let place = slab_place(env.records, self.granule, pfn)?;
        let slab = place.lent(env.mem)?;
        if self.shape.checked {
            self.fill_new(&slab);
        }
        let head = self.shape.thread(&slab).map_err(|_| place.broken())?;
        State { head, inuse: 0, node, list: OnList::None }.store(record_of(env.records, pfn)?);
        Ok(place)
    }

    /// Frees an object of a cache that is not checked, of a slab that no CPU can take meanwhile (invariant 1).
    pub(crate) fn free_slow<P, M, R, const C: usize>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<C>,
        place: SlabPlace,
        ptr: NonNull<u8>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        cpu.caches[self.slot_of()].shape = Some(self.shape);
        // The owner may have changed since the first look; from here on it cannot become a CPU.
        if cpu.try_free(env.mem, env.records, ptr)? {
            return Ok(());
        }
        if !self.shape.is_object(place.at, place.bytes) {
            return Err(SlabError::NotAnObject { va: va(ptr) });
        }
        let record = record_of(env.records, place.pfn)?;
        let slab = place.lent(env.mem)?;
        Freed { shape: self.shape, place, at: place.at }.to_own_partial(&slab, record)?;
        let state = State::load(record);
        let partial = &mut self.nodes[usize::from(state.node)].partial;
        let is_spare = state.inuse == 0 && partial.len() >= self.min_partial;
        match state.list {
            OnList::Partial if is_spare => {
                partial.remove(env.records, place.pfn)?;
                self.discard(env, place)
            }
            OnList::Partial | OnList::Full => Ok(()),
            OnList::None if !is_spare && self.cpu_partial > 0 => self.keep_on_cpu(env, cpu, place),
            OnList::None => self.put(env, place),
        }
    }

    /// Puts a slab, of which an object has just been freed, on the CPU's partial list.
    fn keep_on_cpu<P, M, R, const C: usize>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<C>,
        place: SlabPlace,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        if cpu.caches[self.slot_of()].partial_slabs >= self.cpu_partial {
            self.drain_partial(env, cpu)?;
        }
        let owner = cpu.owner();
        let own = &mut cpu.caches[self.slot_of()];
        let record = record_of(env.records, place.pfn)?;
        record::set_next(record, own.partial);
        own.partial = Some(place.pfn);
        own.partial_slabs += 1;
        Remote::owned_by(owner).swap(record);
        Ok(())
    }

    /// Gives the CPU's partial slabs to their nodes.
    fn drain_partial<P, M, R, const C: usize>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<C>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let own = &mut cpu.caches[self.slot_of()];
        while let Some(pfn) = own.partial {
            let record = record_of(env.records, pfn)?;
            own.partial = record::next(record);
            own.partial_slabs -= 1;
            record::set_next(record, None);
            self.release(env, pfn)?;
        }
        Ok(())
    }

    /// Takes a slab, whose state word is up to date, from the CPU that owns it.
    fn release<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, pfn: Pfn) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let place = slab_place(env.records, self.granule, pfn)?;
        let record = record_of(env.records, pfn)?;
        let slab = place.lent(env.mem)?;
        let remote = Remote::UNOWNED.swap(record);
        let state = State::load(record);
        let Ok(head) = self.shape.splice(&slab, remote.head, state.head) else {
            State { head: 0, inuse: self.objects(place.order), ..state }.store(record);
            return Err(place.broken());
        };
        State { head, inuse: state.inuse.saturating_sub(remote.count), ..state }.store(record);
        self.put(env, place)
    }

    /// Lists a slab that nobody owns and that is on no list, or gives it back if it is empty and not needed.
    pub(crate) fn put<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, place: SlabPlace) -> Result<(), SlabError>
    where
        P: PageSource,
        R: SlabPages,
    {
        let record = record_of(env.records, place.pfn)?;
        let state = State::load(record);
        let node = &mut self.nodes[usize::from(state.node)];
        if state.inuse == 0 && node.partial.len() >= self.min_partial {
            return self.discard(env, place);
        }
        let list = match (state.head, self.shape.checked) {
            (0, true) => {
                node.full.push(env.records, place.pfn)?;
                OnList::Full
            }
            (0, false) => OnList::None,
            _ => {
                node.partial.push(env.records, place.pfn)?;
                OnList::Partial
            }
        };
        State { list, ..state }.store(record);
        Ok(())
    }

    /// Gives the pages of an empty slab back, which nobody owns and which is on no list.
    pub(crate) fn discard<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, place: SlabPlace) -> Result<(), SlabError>
    where
        P: PageSource,
        R: SlabPages,
    {
        let node = State::load(record_of(env.records, place.pfn)?).node;
        let objects = u64::from(self.objects(place.order));
        let node = &mut self.nodes[usize::from(node)];
        (node.slabs, node.objects) = (node.slabs - 1, node.objects - objects);
        node.pages -= 1 << place.order.0;
        clear_frames(env.records, place.pfn, place.order);
        env.pages.free(place.pfn, place.order).map_err(SlabError::Refused)
    }

    /// Takes all slabs from a CPU; the CPU forgets the cache.
    pub(crate) fn flush<P, M, R, const C: usize>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<C>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        self.drain_partial(env, cpu)?;
        let own = &mut cpu.caches[self.slot_of()];
        own.shape = None;
        let Some(active) = own.active.take() else { return Ok(()) };
        let record = record_of(env.records, active.place.pfn)?;
        let inuse = self.objects(active.place.order).saturating_sub(active.free);
        State { head: active.head, inuse, ..State::load(record) }.store(record);
        self.release(env, active.place.pfn)
    }

    /// Gives all empty slabs of the nodes' lists back; returns how many pages that were.
    pub(crate) fn discard_empty<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>) -> Result<u64, SlabError>
    where
        P: PageSource,
        R: SlabPages,
    {
        let mut pages = 0;
        for node in 0..NODES {
            let mut at = self.nodes[node].partial.first();
            while let Some(pfn) = at {
                let record = record_of(env.records, pfn)?;
                at = record::next(record);
                if State::load(record).inuse > 0 {
                    continue;
                }
                let place = slab_place(env.records, self.granule, pfn)?;
                self.nodes[node].partial.remove(env.records, pfn)?;
                self.discard(env, place)?;
                pages += 1 << place.order.0;
            }
        }
        Ok(pages)
    }

    /// Free objects on the nodes' lists.
    pub(crate) fn free_listed<R: SlabPages>(&self, records: &R) -> Result<u64, SlabError> {
        let mut free = 0;
        for node in &self.nodes {
            let mut at = node.partial.first();
            while let Some(pfn) = at {
                let record = record_of(records, pfn)?;
                let objects = self.objects(slab_place(records, self.granule, pfn)?.order);
                free += u64::from(objects.saturating_sub(State::load(record).inuse));
                at = record::next(record);
            }
        }
        Ok(free)
    }

    /// Whether what a user may write is limited to the object.
    pub(crate) const fn usable(&self) -> u32 {
        self.layout.usable(self.flags)
    }

    /// Whether requests check what they touch.
    pub(crate) const fn is_consistent(&self) -> bool {
        self.flags.contains(CacheFlags::CONSISTENCY)
    }
}

/// Forgets a slab's frames.
pub(crate) fn clear_frames<R: SlabPages>(records: &R, pfn: Pfn, order: Order) {
    (pfn.0..pfn.0 + (1 << order.0)).filter_map(|frame| records.record(Pfn(frame))).for_each(record::clear);
}
