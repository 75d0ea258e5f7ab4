//! The slab allocator: its caches, and what is asked of them.
//!
//! # Invariants
//! 1. The allocator stores neither memory nor records nor a source of pages: a request brings them, and they are the
//!    same at each request.
//! 2. A handle of a CPU is out once at most, so that a slab's owner is one handle.
//!
//! Locks: none. A request takes the allocator as `&mut`; what needs only the CPU's own handle is
//! [`CpuSlabs::try_alloc`] and [`CpuSlabs::try_free`], which other CPUs may run meanwhile.
//! Source: Linux 6.1 mm/slub.c, mm/slab_common.c `kmem_cache_create_usercopy`, `kmem_cache_destroy`.

use core::ptr::NonNull;

use kernmem_base::{CpuId, Era, Granule, Lent, LinearMem, PhysAddr, Seed};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::cache::{Cache, Making};
use crate::class::CLASSES;
use crate::env::{Env, Place, SlabPlace, locate, va};
use crate::record::SlabPages;
use crate::{CacheFlags, CacheId, CacheSpec, Classes, CpuSlabs, Families, Finding, Name, SlabError};

/// CPUs that can have a handle.
pub const MAX_CPUS: u32 = 1024;

/// What a kernel decides about its slab allocator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabRules {
    /// Size classes, with the era and the page size.
    pub classes: Classes,
    /// Families of size classes.
    pub families: Families,
    /// CPUs that decide about the size of slabs: the possible ones up to 5.10, the present ones later.
    pub cpus: u32,
    /// Bytes of a cache line.
    pub cache_line: u32,
    /// Where the secrets of hardened free chains are drawn from; `None` leaves free pointers as they are.
    pub hardening: Option<Seed>,
    /// Whether caches of like shape share their slabs.
    pub merge: bool,
    /// Flags that every cache gets besides: a kernel that checks all of them.
    pub flags: CacheFlags,
}

impl SlabRules {
    /// The rules of a machine with one DMA zone, reclaimable memory apart, lines of 64 bytes, no hardening and no
    /// checks.
    #[must_use]
    pub const fn new(classes: Classes, cpus: u32) -> Self {
        let families = Families { dma: true, rcl: true, cg: false };
        Self { classes, families, cpus, cache_line: 64, hardening: None, merge: true, flags: CacheFlags::NONE }
    }

    /// The branch.
    #[must_use]
    pub const fn era(&self) -> Era {
        self.classes.era
    }

    /// The page size.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.classes.granule
    }
}

/// The slab allocator, with places for `CACHES` caches on `NODES` nodes.
#[derive(Debug)]
pub struct Slab<const CACHES: usize, const NODES: usize = 1> {
    pub(crate) rules: SlabRules,
    pub(crate) caches: [Option<Cache<NODES>>; CACHES],
    generations: [u16; CACHES],
    /// Place of the cache of each class by family, plus 1.
    pub(crate) kmalloc: [[u16; CLASSES]; 4],
    /// Pages of requests that were too large for a cache, by node.
    pub(crate) large: [u64; NODES],
    born: u64,
    handles: [u64; MAX_CPUS as usize / 64],
}

impl<const CACHES: usize, const NODES: usize> Slab<CACHES, NODES> {
    /// An allocator without caches.
    #[must_use]
    pub const fn new(rules: SlabRules) -> Self {
        const { assert!(CACHES < u16::MAX as usize && NODES > 0 && NODES <= 256, "numbers fit their words") };
        Self {
            rules,
            caches: [const { None }; CACHES],
            generations: [0; CACHES],
            kmalloc: [[0; CLASSES]; 4],
            large: [0; NODES],
            born: 0,
            handles: [0; MAX_CPUS as usize / 64],
        }
    }

    /// The rules that it was made with.
    #[must_use]
    pub const fn rules(&self) -> &SlabRules {
        &self.rules
    }

    /// The handle of a CPU of `node`: once for each CPU.
    ///
    /// # Errors
    /// [`SlabError::BadCpu`].
    pub fn cpu(&mut self, id: CpuId, node: u8) -> Result<CpuSlabs<CACHES>, SlabError> {
        let word = self.handles.get_mut(id.0 as usize / 64).ok_or(SlabError::BadCpu(id))?;
        if *word >> (id.0 % 64) & 1 == 1 || usize::from(node) >= NODES {
            return Err(SlabError::BadCpu(id));
        }
        *word |= 1 << (id.0 % 64);
        Ok(CpuSlabs::new(id, node, self.rules.granule()))
    }

    /// Takes a CPU's handle back, with all slabs that it has.
    ///
    /// # Errors
    /// Those of the machine; the handle is gone, and with it the slabs that could not be taken.
    pub fn retire<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, mut cpu: CpuSlabs<CACHES>) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        self.flush(env, &mut cpu)?;
        self.handles[cpu.id.0 as usize / 64] &= !(1 << (cpu.id.0 % 64));
        Ok(())
    }

    /// Takes all slabs from a CPU, so that other CPUs may use their free objects.
    ///
    /// # Errors
    /// Those of the machine; the CPU keeps what comes after the first.
    pub fn flush<P, M, R>(&mut self, env: &mut Env<'_, P, M, R>, cpu: &mut CpuSlabs<CACHES>) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        self.caches.iter_mut().flatten().try_for_each(|cache| cache.flush(env, cpu))
    }

    /// Makes a cache, or finds one that it can be an alias of.
    ///
    /// # Errors
    /// [`SlabError::BadShape`], [`SlabError::BadName`], [`SlabError::NoPlace`].
    pub fn create(&mut self, spec: &CacheSpec<'_>) -> Result<CacheId, SlabError> {
        let spec = CacheSpec { flags: spec.flags | self.rules.flags, ..*spec };
        let name = Name::new(spec.name).ok_or(SlabError::BadName)?;
        if self.caches.iter().flatten().any(|cache| cache.name == name) {
            return Err(SlabError::BadName);
        }
        let secret = self.rules.hardening.as_mut().map(Seed::draw);
        let SlabRules { cpus, cache_line, .. } = self.rules;
        let making = Making { era: self.rules.era(), granule: self.rules.granule(), cpus, cache_line, secret };
        if let Some(cache) = self.mergeable(&making, &spec) {
            cache.adopt(&spec);
            return Ok(cache.id);
        }
        // A place whose numbers are used up stays empty: an old handle could take a new cache for an old one.
        let is_open = |at: &usize| self.caches[*at].is_none() && self.generations[*at] < u16::MAX;
        let at = (0..CACHES).find(is_open).ok_or(SlabError::NoPlace)?;
        let id = CacheId::new(at as u16, self.generations[at]);
        self.caches[at] = Some(Cache::new(&making, &spec, id, self.born)?);
        self.born += 1;
        Ok(id)
    }

    /// The newest cache that may take the name.
    fn mergeable(&mut self, making: &Making, spec: &CacheSpec<'_>) -> Option<&mut Cache<NODES>> {
        if !self.rules.merge || spec.align != 0 && !spec.align.is_power_of_two() {
            return None;
        }
        let takers = self.caches.iter_mut().flatten().filter(|cache| cache.takes(making, spec));
        takers.max_by_key(|cache| cache.born)
    }

    /// The cache of an identity.
    pub(crate) fn cache(&mut self, id: CacheId) -> Result<&mut Cache<NODES>, SlabError> {
        let cache = self.caches.get_mut(usize::from(id.index())).and_then(Option::as_mut);
        cache.filter(|cache| cache.id == id).ok_or(SlabError::NoCache(id))
    }

    /// Takes an object of a cache. With [`Gfp::ZERO`] it is cleared; otherwise its bytes are anything.
    ///
    /// # Errors
    /// [`SlabError::NoCache`], [`SlabError::NoPages`]; [`SlabError::Corrupt`] and [`SlabError::BrokenChain`] set the
    /// damaged slab aside, and the next request takes another; those of the machine.
    pub fn alloc<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        cache: CacheId,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        self.alloc_sized(env, cpu, cache, None, gfp)
    }

    /// Takes an object of which `request` bytes are asked for; the whole object for `None`.
    pub(crate) fn alloc_sized<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        id: CacheId,
        request: Option<u32>,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let cache = self.cache(id)?;
        let (object, is_checked) = (cache.layout.object, cache.shape.checked);
        let ptr = if is_checked {
            let where_from = (cpu.id, usize::from(cpu.node));
            cache.alloc_checked(env, where_from, request.unwrap_or(object), gfp)?
        } else {
            loop {
                if let Some(ptr) = cpu.try_alloc(env.mem, env.records, id)? {
                    break ptr;
                }
                cache.refill(env, cpu, gfp)?;
            }
        };
        if gfp.contains(Gfp::ZERO) {
            let asked = if is_checked { request.unwrap_or(object) } else { object };
            zero(env.mem, ptr, asked)?;
        }
        Ok(ptr)
    }

    /// Takes objects into `out` until it is full; returns how many. Those that were taken are the caller's.
    ///
    /// # Errors
    /// As [`Slab::alloc`], if not even one was taken.
    pub fn alloc_bulk<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        cache: CacheId,
        gfp: Gfp,
        out: &mut [NonNull<u8>],
    ) -> Result<usize, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        for (done, slot) in out.iter_mut().enumerate() {
            match self.alloc(env, cpu, cache, gfp) {
                Ok(ptr) => *slot = ptr,
                Err(why) if done == 0 => return Err(why),
                Err(_) => return Ok(done),
            }
        }
        Ok(out.len())
    }

    /// Frees an object of a named cache.
    ///
    /// # Errors
    /// [`SlabError::WrongCache`] if it is of another one, and those of [`Slab::kfree`]; the object is still in use.
    pub fn free<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        cache: CacheId,
        ptr: NonNull<u8>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let granule = self.rules.granule();
        self.cache(cache)?;
        let Place::Slab(place) = locate(env.mem, env.records, granule, ptr)? else {
            return Err(SlabError::NotOurs { va: va(ptr) });
        };
        let owner = CacheId::new(place.cache, place.generation);
        if owner != cache {
            return Err(SlabError::WrongCache { va: va(ptr), named: cache, owner });
        }
        self.free_object(env, cpu, place, ptr)
    }

    pub(crate) fn free_object<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        place: SlabPlace,
        ptr: NonNull<u8>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let cache = self.cache(CacheId::new(place.cache, place.generation))?;
        match cache.shape.checked {
            true => cache.free_checked(env, cpu.id, place, ptr),
            false => cache.free_slow(env, cpu, place, ptr),
        }
    }

    /// Frees objects of any caches.
    ///
    /// # Errors
    /// The first that could not be freed, with its place; those before it are free, those after it are not.
    pub fn free_bulk<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        objects: &[NonNull<u8>],
    ) -> Result<(), (usize, SlabError)>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        for (at, &ptr) in objects.iter().enumerate() {
            self.kfree(env, cpu, ptr).map_err(|why| (at, why))?;
        }
        Ok(())
    }

    /// Gives the empty slabs of a cache back, those of the CPU too; returns how many pages of the nodes' lists were
    /// given back at the end.
    ///
    /// # Errors
    /// [`SlabError::NoCache`], [`SlabError::Refused`] and those of the machine.
    pub fn shrink<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        cache: CacheId,
    ) -> Result<u64, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let cache = self.cache(cache)?;
        cache.flush(env, cpu)?;
        cache.discard_empty(env)
    }

    /// Gives one name of a cache back, and with the last name the cache. Other CPUs' slabs must have been flushed.
    ///
    /// # Errors
    /// [`SlabError::ObjectsRemain`]: objects are in use or with other CPUs; the cache is as after [`Slab::shrink`].
    /// Those of `shrink`.
    pub fn destroy<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        id: CacheId,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let cache = self.cache(id)?;
        if cache.refs > 1 {
            cache.refs -= 1;
            return Ok(());
        }
        self.shrink(env, cpu, id)?;
        let cache = self.cache(id)?;
        let total: u64 = cache.nodes.iter().map(|node| node.objects).sum();
        let objects = total - cache.free_listed(env.records)?;
        if total > 0 {
            return Err(SlabError::ObjectsRemain { cache: id, objects });
        }
        let at = usize::from(id.index());
        self.caches[at] = None;
        self.generations[at] += 1;
        for place in self.kmalloc.iter_mut().flatten().filter(|place| usize::from(**place) == at + 1) {
            *place = 0;
        }
        Ok(())
    }

    /// Checks all slabs of a checked cache and repairs what it can; each finding is told, and counted as Linux counts
    /// reports and repairs. A cache that is not checked has no findings.
    ///
    /// # Errors
    /// [`SlabError::NoCache`] and those of the machine.
    pub fn validate<P, M, R>(
        &mut self,
        env: &Env<'_, P, M, R>,
        cache: CacheId,
        sink: &mut dyn FnMut(Finding),
    ) -> Result<u64, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let cache = self.cache(cache)?;
        if !cache.shape.checked {
            return Ok(0);
        }
        cache.validate(env, sink)
    }
}

/// The physical address of an object.
///
/// # Errors
/// [`SlabError::NotOurs`].
pub fn object_pa<M: LinearMem + ?Sized>(mem: &M, ptr: NonNull<u8>) -> Result<PhysAddr, SlabError> {
    mem.pa(ptr).ok_or(SlabError::NotOurs { va: va(ptr) })
}

/// Clears an object.
pub(crate) fn zero<M: LinearMem + ?Sized>(mem: &M, ptr: NonNull<u8>, bytes: u32) -> Result<(), SlabError> {
    let pa = object_pa(mem, ptr)?;
    let lent = Lent::new(mem, pa, u64::from(bytes)).ok_or(SlabError::NoMemory { pa })?;
    lent.fill(0, bytes as usize, 0).ok_or(SlabError::NoMemory { pa })
}
