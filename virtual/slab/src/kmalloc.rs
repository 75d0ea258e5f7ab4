//! Requests by size: the size classes, and whole blocks for what is larger.
//!
//! # Invariants
//! 1. A request of no bytes has the address [`ZERO_SIZE`], which is no memory.
//! 2. A block of the page allocator that holds a large request says so in the record of its first frame.
//!
//! Source: Linux 6.1 mm/slab_common.c `kmalloc_large_node`, `kfree`, `ksize`, `__do_krealloc`.

use core::ptr::{self, NonNull};

use kernmem_base::{Lent, LinearMem, Order, Pfn};
use kernmem_page_alloc::{Gfp, PageSource};

use crate::cache::Cache;
use crate::env::{Env, Place, SlabPlace, locate, node_of, va};
use crate::list::record_of;
use crate::order::order_for;
use crate::record::{self, Ident, OnList, SlabPages, State};
use crate::slab::object_pa;
use crate::{CacheFlags, CacheId, CacheSpec, Classes, CpuSlabs, Families, Family, Slab, SlabError};

/// The address of nothing: what a request of no bytes gets.
pub const ZERO_SIZE: usize = 16;
/// The largest order of a large request.
const MAX_PAGE_ORDER: u8 = 10;

fn zero_size_ptr() -> NonNull<u8> {
    NonNull::new(ptr::without_provenance_mut(ZERO_SIZE)).unwrap_or(NonNull::dangling())
}

fn is_zero_size(ptr: NonNull<u8>) -> bool {
    ptr.addr().get() == ZERO_SIZE
}

const fn flags_of(family: Family, families: Families, classes: Classes) -> CacheFlags {
    use kernmem_base::Era;
    // From 6.12 on, charged memory must not get into the normal classes through an alias.
    let apart = match classes.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => families.cg,
    };
    match family {
        Family::Normal if apart => CacheFlags::NO_MERGE,
        Family::Normal => CacheFlags::NONE,
        Family::Cg => CacheFlags::ACCOUNT,
        Family::Rcl => CacheFlags::RECLAIM_ACCOUNT,
        Family::Dma => CacheFlags::DMA,
    }
}

/// What a pointer is of.
enum Piece<'s, const NODES: usize> {
    /// A block of so many bytes.
    Large(u64),
    /// An object.
    Object(&'s Cache<NODES>, SlabPlace),
}

impl<const CACHES: usize, const NODES: usize> Slab<CACHES, NODES> {
    /// Makes the caches of all size classes that do not exist yet, in Linux's order.
    ///
    /// # Errors
    /// As [`Slab::create`]; the classes before the one that failed exist.
    pub fn create_kmalloc_caches(&mut self) -> Result<(), SlabError> {
        let (classes, families) = (self.rules.classes, self.rules.families);
        for family in Family::ALL.into_iter().filter(|&family| families.has(family)) {
            let mut step = 0;
            while let Some(index) = classes.nth_made(family, step) {
                step += 1;
                if self.kmalloc[family as usize][index] == 0 {
                    let id = self.create_class(family, index, flags_of(family, families, classes))?;
                    self.kmalloc[family as usize][index] = id.index() + 1;
                }
            }
        }
        Ok(())
    }

    fn create_class(&mut self, family: Family, index: usize, flags: CacheFlags) -> Result<CacheId, SlabError> {
        let name = Classes::name(family, index).ok_or(SlabError::BadName)?;
        let (object, align) = (Classes::bytes(index), self.rules.classes.align(index));
        let flags = flags | CacheFlags::KMALLOC;
        let merge = core::mem::replace(&mut self.rules.merge, false);
        let made = self.create(&CacheSpec { name: name.as_str(), object, align, flags });
        self.rules.merge = merge;
        made
    }

    /// The cache that serves requests of `bytes` bytes; `None` for 0 bytes, for large requests, and before
    /// [`Slab::create_kmalloc_caches`].
    #[must_use]
    pub fn kmalloc_cache(&self, bytes: u64, gfp: Gfp) -> Option<CacheId> {
        let index = self.rules.classes.index(bytes)?;
        let family = self.rules.families.of(gfp);
        let at = usize::from(self.kmalloc[family as usize][index].checked_sub(1)?);
        self.caches[at].as_ref().map(|cache| cache.id)
    }

    /// Takes `bytes` bytes; a size that is a power of two is aligned to itself. A request of no bytes gets the address
    /// [`ZERO_SIZE`].
    ///
    /// # Errors
    /// [`SlabError::TooLarge`], and those of [`Slab::alloc`].
    pub fn kmalloc<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        bytes: u64,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        if bytes == 0 {
            return Ok(zero_size_ptr());
        }
        if bytes > self.rules.classes.largest() {
            return self.kmalloc_large(env, usize::from(cpu.node), bytes, gfp);
        }
        let Some(cache) = self.kmalloc_cache(bytes, gfp) else { return Err(SlabError::TooLarge { bytes }) };
        self.alloc_sized(env, cpu, cache, Some(bytes as u32), gfp)
    }

    /// As [`Slab::kmalloc`], cleared.
    ///
    /// # Errors
    /// As [`Slab::kmalloc`].
    pub fn kzalloc<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        bytes: u64,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        self.kmalloc(env, cpu, bytes, gfp | Gfp::ZERO)
    }

    /// Takes a block of pages for a request that no class serves.
    fn kmalloc_large<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        node: usize,
        bytes: u64,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let granule = self.rules.granule();
        if bytes > granule.bytes() << MAX_PAGE_ORDER {
            return Err(SlabError::TooLarge { bytes });
        }
        let order = order_for(granule, bytes);
        let pfn = env.pages.alloc_on(Some(node as u32), gfp | Gfp::COMP, order).map_err(SlabError::NoPages)?;
        let node = node_of::<NODES>(env.pages, pfn, node);
        let made = self.prepare_large(env, pfn, order, node as u8, gfp.contains(Gfp::ZERO));
        if made.is_err() {
            env.pages.free(pfn, order).map_err(SlabError::Refused)?;
            return made;
        }
        self.large[node] += 1 << order.0;
        made
    }

    fn prepare_large<P, M, R>(
        &self,
        env: &Env<'_, P, M, R>,
        pfn: Pfn,
        order: Order,
        node: u8,
        is_zero: bool,
    ) -> Result<NonNull<u8>, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let granule = self.rules.granule();
        let pa = pfn.to_phys(granule).ok_or(SlabError::NoRecord { pfn })?;
        let block = Lent::new(env.mem, pa, granule.bytes() << order.0).ok_or(SlabError::NoMemory { pa })?;
        let record = record_of(env.records, pfn)?;
        if is_zero {
            block.fill(0, block.bytes(), 0);
        }
        record::clear(record);
        Ident::Large { order }.store(record);
        State { head: 0, inuse: 0, node, list: OnList::None }.store(record);
        Ok(block.base())
    }

    /// Frees what [`Slab::kmalloc`] or [`Slab::alloc`] gave.
    ///
    /// # Errors
    /// [`SlabError::NotOurs`], [`SlabError::NotAnObject`], [`SlabError::DoubleFree`], [`SlabError::Corrupt`]: nothing
    /// was freed. [`SlabError::Refused`]: the pages were not taken back.
    pub fn kfree<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        ptr: NonNull<u8>,
    ) -> Result<(), SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        if is_zero_size(ptr) || cpu.try_free(env.mem, env.records, ptr)? {
            return Ok(());
        }
        match locate(env.mem, env.records, self.rules.granule(), ptr)? {
            Place::Slab(place) => self.free_object(env, cpu, place, ptr),
            Place::Large { pfn, order } => {
                let record = record_of(env.records, pfn)?;
                let node = usize::from(State::load(record).node);
                record::clear(record);
                if let Some(pages) = self.large.get_mut(node) {
                    *pages = pages.saturating_sub(1 << order.0);
                }
                env.pages.free(pfn, order).map_err(SlabError::Refused)
            }
        }
    }

    /// Bytes that may be used behind a pointer.
    ///
    /// # Errors
    /// [`SlabError::NotOurs`], [`SlabError::NotAnObject`].
    pub fn ksize<P, M, R>(&self, env: &Env<'_, P, M, R>, ptr: NonNull<u8>) -> Result<u64, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        if is_zero_size(ptr) {
            return Ok(0);
        }
        Ok(match self.piece(env, ptr)? {
            Piece::Large(bytes) => bytes,
            Piece::Object(cache, _) => u64::from(cache.usable()),
        })
    }

    /// What a pointer is of.
    fn piece<P, M, R>(&self, env: &Env<'_, P, M, R>, ptr: NonNull<u8>) -> Result<Piece<'_, NODES>, SlabError>
    where
        M: LinearMem,
        R: SlabPages,
    {
        let granule = self.rules.granule();
        match locate(env.mem, env.records, granule, ptr)? {
            Place::Large { order, .. } => Ok(Piece::Large(granule.bytes() << order.0)),
            Place::Slab(place) => {
                let cache = self.caches.get(usize::from(place.cache)).and_then(Option::as_ref);
                let cache = cache.filter(|cache| cache.id.generation() == place.generation);
                let cache = cache.ok_or(SlabError::NotOurs { va: va(ptr) })?;
                if !cache.shape.is_object(place.at, place.bytes) {
                    return Err(SlabError::NotAnObject { va: va(ptr) });
                }
                Ok(Piece::Object(cache, place))
            }
        }
    }

    /// Makes a piece of memory at least `bytes` bytes long: the same pointer if it is, else a new one with the old
    /// contents. No bytes frees it. `None` as the pointer is [`Slab::kmalloc`].
    ///
    /// # Errors
    /// As [`Slab::kmalloc`] and [`Slab::kfree`]; the old memory is still in use, and nothing new is.
    pub fn krealloc<P, M, R>(
        &mut self,
        env: &mut Env<'_, P, M, R>,
        cpu: &mut CpuSlabs<CACHES>,
        old: Option<NonNull<u8>>,
        bytes: u64,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, SlabError>
    where
        P: PageSource,
        M: LinearMem,
        R: SlabPages,
    {
        let Some(old) = old else { return self.kmalloc(env, cpu, bytes, gfp) };
        if bytes == 0 {
            self.kfree(env, cpu, old)?;
            return Ok(zero_size_ptr());
        }
        if is_zero_size(old) {
            return self.kmalloc(env, cpu, bytes, gfp);
        }
        let kept = match self.piece(env, old)? {
            Piece::Large(usable) if usable >= bytes => return Ok(old),
            Piece::Large(usable) => usable,
            Piece::Object(cache, place) if u64::from(cache.usable()) >= bytes => {
                cache.resize(env.mem, &place, bytes as u32, gfp.contains(Gfp::ZERO))?;
                return Ok(old);
            }
            // Behind what was asked for stands no content but a red zone.
            Piece::Object(cache, place) => u64::from(cache.requested(env.mem, &place)?.unwrap_or(cache.usable())),
        };
        let new = self.kmalloc(env, cpu, bytes, gfp)?;
        let moved = copy(env.mem, old, new, kept).and_then(|()| self.kfree(env, cpu, old));
        if let Err(why) = moved {
            self.kfree(env, cpu, new)?;
            return Err(why);
        }
        Ok(new)
    }
}

fn copy<M: LinearMem>(mem: &M, from: NonNull<u8>, to: NonNull<u8>, bytes: u64) -> Result<(), SlabError> {
    if bytes == 0 {
        return Ok(());
    }
    let lend = |ptr| {
        let pa = object_pa(mem, ptr)?;
        Lent::new(mem, pa, bytes).ok_or(SlabError::NoMemory { pa })
    };
    let (from, to) = (lend(from)?, lend(to)?);
    to.copy_from(from, bytes as usize).ok_or(SlabError::NotOurs { va: va(to.base()) })
}
