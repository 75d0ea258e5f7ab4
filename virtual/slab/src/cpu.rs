//! One CPU's slabs: where most requests end, without a lock.
//!
//! Here: the paths that need nothing but the CPU's own handle, memory and records. Not here: what needs the allocator
//! itself (`slow`, `slab`).
//!
//! # Invariants
//! 1. A slab whose remote word names this CPU is its active slab or on its partial list, and nobody else touches the
//!    slab's state word and its own chain.
//! 2. Of the active slab the handle has the chain; its state word says that no object is free.
//! 3. Whoever frees into a slab of another CPU puts the object on the slab's remote chain by one exchange that fails if
//!    the owner has changed.
//!
//! Source: Linux 6.1 mm/slub.c `slab_alloc_node`, `do_slab_free`; the remote chain is ours.

use core::ptr::NonNull;

use kernmem_base::{CpuId, Granule, Lent, LinearMem, Pfn, VirtAddr};

use crate::chain::Shape;
use crate::env::{Place, SlabPlace, locate, va};
use crate::list::record_of;
use crate::record::{Record, Remote, SlabPages, State};
use crate::{CacheId, SlabError};

/// The slab that a CPU allocates from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    pub(crate) place: SlabPlace,
    /// Offset of the first free object plus 1; 0 if none is free.
    pub(crate) head: u32,
    /// Objects on the chain.
    pub(crate) free: u16,
}

/// What a CPU has of one cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuCache {
    /// Known since the CPU met the cache first.
    pub(crate) shape: Option<Shape>,
    pub(crate) active: Option<Active>,
    /// First of the CPU's partial slabs.
    pub(crate) partial: Option<Pfn>,
    pub(crate) partial_slabs: u32,
}

impl CpuCache {
    const EMPTY: Self = Self { shape: None, active: None, partial: None, partial_slabs: 0 };
}

/// The slabs of one CPU. It comes from [`crate::Slab::cpu`], once for each CPU, and goes back to
/// [`crate::Slab::retire`].
#[derive(Debug)]
pub struct CpuSlabs<const CACHES: usize> {
    pub(crate) id: CpuId,
    pub(crate) node: u8,
    pub(crate) granule: Granule,
    pub(crate) caches: [CpuCache; CACHES],
}

impl<const CACHES: usize> CpuSlabs<CACHES> {
    pub(crate) const fn new(id: CpuId, node: u8, granule: Granule) -> Self {
        Self { id, node, granule, caches: [CpuCache::EMPTY; CACHES] }
    }

    /// The CPU that this is the handle of.
    #[must_use]
    pub const fn id(&self) -> CpuId {
        self.id
    }

    /// The owner as the remote word has it.
    pub(crate) const fn owner(&self) -> u16 {
        self.id.0 as u16 + 1
    }

    /// Takes an object from the CPU's active slab, or from what others freed into it; `None` if it has none, and the
    /// allocator itself must be asked. The object's bytes are as they were left.
    ///
    /// # Errors
    /// [`SlabError::BrokenChain`]; [`SlabError::NoMemory`] or [`SlabError::NoRecord`] if the machine that is passed is
    /// another one than before.
    pub fn try_alloc<M, R>(&mut self, mem: &M, records: &R, cache: CacheId) -> Result<Option<NonNull<u8>>, SlabError>
    where
        M: LinearMem + ?Sized,
        R: SlabPages + ?Sized,
    {
        let owner = self.owner();
        let Some(own) = self.caches.get_mut(usize::from(cache.index())) else { return Ok(None) };
        let (Some(shape), Some(active)) = (own.shape, &mut own.active) else { return Ok(None) };
        if shape.generation != cache.generation() {
            return Ok(None);
        }
        if active.head == 0 {
            take_remote(active, record_of(records, active.place.pfn)?, owner);
        }
        let Some(at) = active.head.checked_sub(1) else { return Ok(None) };
        let slab = active.place.lent(mem)?;
        let broken = active.place.broken();
        match shape.next(&slab, at) {
            Ok(next) => (active.head, active.free) = (next, active.free.saturating_sub(1)),
            Err(_) => {
                (active.head, active.free) = (0, 0);
                return Err(broken);
            }
        }
        slab.ptr(at as usize).ok_or(broken).map(Some)
    }

    /// Frees an object of a slab that a CPU owns, this one or another; `false` if the allocator itself must be asked:
    /// nobody owns the slab, its cache is checked, or the pointer is of a large request.
    ///
    /// # Errors
    /// The pointer is none that can be freed: [`SlabError::NotOurs`], [`SlabError::NotAnObject`],
    /// [`SlabError::DoubleFree`] as far as a look at the last freed object tells.
    pub fn try_free<M, R>(&mut self, mem: &M, records: &R, ptr: NonNull<u8>) -> Result<bool, SlabError>
    where
        M: LinearMem + ?Sized,
        R: SlabPages + ?Sized,
    {
        let Place::Slab(place) = locate(mem, records, self.granule, ptr)? else { return Ok(false) };
        let owner = self.owner();
        let Some(own) = self.caches.get_mut(usize::from(place.cache)) else { return Ok(false) };
        let Some(shape) = own.shape.filter(|shape| shape.generation == place.generation && !shape.checked) else {
            return Ok(false);
        };
        if !shape.is_object(place.at, place.bytes) {
            return Err(SlabError::NotAnObject { va: va(ptr) });
        }
        let record = record_of(records, place.pfn)?;
        let remote = Remote::load(record);
        if remote.owner == 0 {
            return Ok(false);
        }
        let slab = place.lent(mem)?;
        let freed = Freed { shape, place, at: place.at };
        if remote.owner != owner {
            return freed.to_remote(&slab, record, remote, owner);
        }
        match &mut own.active {
            Some(active) if active.place.pfn == place.pfn => {
                freed.push(&slab, &mut active.head, &mut active.free)?;
            }
            _ => freed.to_own_partial(&slab, record)?,
        }
        Ok(true)
    }
}

/// Takes over what others freed into the active slab.
pub(crate) fn take_remote(active: &mut Active, record: &Record, owner: u16) {
    if Remote::load(record).count == 0 {
        return;
    }
    let remote = Remote::owned_by(owner).swap(record);
    (active.head, active.free) = (remote.head, remote.count);
}

/// An object on its way back.
#[derive(Clone, Copy)]
pub(crate) struct Freed {
    pub(crate) shape: Shape,
    pub(crate) place: SlabPlace,
    pub(crate) at: u32,
}

impl Freed {
    fn double(&self, slab: &Lent<'_>) -> SlabError {
        let base = slab.base().addr().get() as u64;
        SlabError::DoubleFree { va: VirtAddr(base + u64::from(self.at)) }
    }

    /// Puts the object on a chain of `free` objects.
    pub(crate) fn push(self, slab: &Lent<'_>, head: &mut u32, free: &mut u16) -> Result<(), SlabError> {
        if *head == self.at + 1 || *free >= self.shape.objects(self.place.bytes) {
            return Err(self.double(slab));
        }
        self.shape.set_next(slab, self.at, *head).map_err(|_| self.place.broken())?;
        (*head, *free) = (self.at + 1, *free + 1);
        Ok(())
    }

    /// Puts the object on the slab's own chain, which is the caller's (invariant 1).
    pub(crate) fn to_own_partial(self, slab: &Lent<'_>, record: &Record) -> Result<(), SlabError> {
        let mut state = State::load(record);
        let objects = self.shape.objects(self.place.bytes);
        let mut free = objects.saturating_sub(state.inuse);
        self.push(slab, &mut state.head, &mut free)?;
        state.inuse = objects - free;
        state.store(record);
        Ok(())
    }

    /// Puts the object on the remote chain while `remote` names another CPU than `me`; `false` if it no longer does.
    pub(crate) fn to_remote(
        self,
        slab: &Lent<'_>,
        record: &Record,
        mut remote: Remote,
        me: u16,
    ) -> Result<bool, SlabError> {
        while remote.owner != 0 && remote.owner != me {
            let mut new = remote;
            self.push(slab, &mut new.head, &mut new.count)?;
            match remote.exchange(new, record) {
                Ok(()) => return Ok(true),
                Err(now) => remote = now,
            }
        }
        Ok(false)
    }
}
