//! Objects smaller than a page: the slab allocator on the running kernel.
//!
//! Here: each operation with pages of the CPU that asks and records in the page descriptors. Pointers are those of the
//! machine's linear map, which is lent to each call.
//!
//! Source: Linux 6.1 mm/slub.c `kmem_cache_init`.

use alloc::boxed::Box;
use core::ptr::NonNull;

use kernmem_base::{CpuId, LinearMem, PhysMem};
use kernmem_page_alloc::{Gfp, HeapStore, Pages};
use kernmem_slab::{
    CacheId, CacheInfo, CacheSpec, CpuSlabs, DescriptorPages, Env, NodePages, Slab, SlabError, SlabRules,
};

use super::facts::{Facts, failed};
use super::memmap::LiveMap;
use super::{CACHES, NODES, Running, lists};
use crate::{BootError, BootPages, Witness};

/// The allocator with the caches of all size classes.
pub(super) fn start(facts: &Facts) -> Result<Box<Slab<CACHES, NODES>>, BootError> {
    let mut slab = Box::new(Slab::new(SlabRules::new(facts.classes, facts.cpus)));
    slab.create_kmalloc_caches().map_err(|error| failed(&error))?;
    Ok(slab)
}

type Records<'a, 'm, M> = DescriptorPages<'a, LiveMap<'m, M>>;

impl<'m, M: PhysMem, W: Witness> Running<'m, M, W> {
    /// Takes `bytes` bytes.
    ///
    /// # Errors
    /// As [`Slab::kmalloc`].
    pub fn kmalloc(
        &mut self,
        linear: &impl LinearMem,
        cpu: CpuId,
        bytes: u64,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError> {
        self.with_slab(linear, cpu, |slab, env, cpu| slab.kmalloc(env, cpu, bytes, gfp))
    }

    /// Frees what [`Running::kmalloc`] or a cache gave.
    ///
    /// # Errors
    /// As [`Slab::kfree`].
    pub fn kfree(&mut self, linear: &impl LinearMem, cpu: CpuId, object: NonNull<u8>) -> Result<(), SlabError> {
        self.with_slab(linear, cpu, |slab, env, cpu| slab.kfree(env, cpu, object))
    }

    /// Makes an object cache.
    ///
    /// # Errors
    /// As [`Slab::create`].
    pub fn create_cache(&mut self, spec: &CacheSpec<'_>) -> Result<CacheId, SlabError> {
        self.objects.create(spec)
    }

    /// Takes an object of a cache.
    ///
    /// # Errors
    /// As [`Slab::alloc`].
    pub fn cache_alloc(
        &mut self,
        linear: &impl LinearMem,
        cpu: CpuId,
        cache: CacheId,
    ) -> Result<NonNull<u8>, SlabError> {
        self.with_slab(linear, cpu, |slab, env, cpu| slab.alloc(env, cpu, cache, Gfp::KERNEL))
    }

    /// Gives slabs without objects back to the page allocator, as far as `cpu` and the nodes have some; returns how many.
    ///
    /// # Errors
    /// As [`Slab::shrink`].
    pub fn shrink_cache(&mut self, linear: &impl LinearMem, cpu: CpuId, cache: CacheId) -> Result<u64, SlabError> {
        self.with_slab(linear, cpu, |slab, env, cpu| slab.shrink(env, cpu, cache))
    }

    /// The cache that serves requests of `bytes` bytes.
    #[must_use]
    pub fn kmalloc_cache(&self, bytes: u64) -> Option<CacheId> {
        self.objects.kmalloc_cache(bytes, Gfp::KERNEL)
    }

    /// Runs `work` with the allocator, what it needs, and the slabs of `cpu`.
    ///
    /// # Errors
    /// There is no such CPU, or what `work` says.
    pub fn with_slab<L: LinearMem, R>(
        &mut self,
        linear: &L,
        cpu: CpuId,
        work: impl FnOnce(
            &mut Slab<CACHES, NODES>,
            &mut Env<'_, Pages<'_, HeapStore>, L, Records<'_, 'm, M>>,
            &mut CpuSlabs<CACHES>,
        ) -> Result<R, SlabError>,
    ) -> Result<R, SlabError> {
        let Self { kernel, objects, cpus, map, .. } = self;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let (lists, slabs) = lists(boot, cpus, cpu).ok_or(SlabError::BadCpu(cpu))?;
        let mut pages = Pages { allocator, cpu: lists };
        let records = DescriptorPages(&*map);
        let mut env = Env { pages: &mut pages, mem: linear, records: &records };
        work(objects, &mut env, slabs)
    }

    /// Pages that objects have on a node.
    #[must_use]
    pub fn slab_pages(&self, nid: u32) -> NodePages {
        self.objects.pages_on(nid)
    }

    /// The caches, newest first, as `/proc/slabinfo` lists them.
    ///
    /// # Errors
    /// A record of a slab is missing.
    pub fn slabinfo(&self) -> Result<alloc::vec::Vec<CacheInfo>, SlabError> {
        self.objects.slabinfo(&DescriptorPages(&self.map)).collect()
    }
}
