//! One object cache: its shape, its slabs by node, and what was asked when it was made.
//!
//! # Invariants
//! 1. `slabs`, `objects` and `pages` of a node count all slabs that were made for the node and not given back, whoever has them.
//! 2. Every slab on a partial list has a free object; every slab on a full list has none.
//!
//! Source: Linux 5.10–7.2 mm/slub.c `struct kmem_cache`, `struct kmem_cache_node`.

use kernmem_base::{Era, Granule, Order};
use kernmem_page_alloc::Gfp;

use crate::chain::Shape;
use crate::layout::{SlotFacts, slot_align};
use crate::list::SlabList;
use crate::order::{order_for, slab_order};
use crate::{CacheFlags, Name, SlabError, SlotLayout};

/// A cache of one slab allocator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CacheId {
    index: u16,
    generation: u16,
}

impl CacheId {
    pub(crate) const fn new(index: u16, generation: u16) -> Self {
        Self { index, generation }
    }

    /// Its place among the allocator's caches.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.index
    }

    /// Which of the caches that were at this place it is.
    #[must_use]
    pub const fn generation(self) -> u16 {
        self.generation
    }
}

/// What a cache is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheSpec<'n> {
    /// Its name.
    pub name: &'n str,
    /// Bytes of an object.
    pub object: u32,
    /// Alignment of objects, a power of two or 0.
    pub align: u32,
    /// Flags.
    pub flags: CacheFlags,
}

impl<'n> CacheSpec<'n> {
    /// A cache of objects of `object` bytes without further wishes.
    #[must_use]
    pub const fn new(name: &'n str, object: u32) -> Self {
        Self { name, object, align: 0, flags: CacheFlags::NONE }
    }
}

/// The slabs of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    pub(crate) partial: SlabList,
    /// Full slabs, of checked caches alone.
    pub(crate) full: SlabList,
    pub(crate) slabs: u64,
    pub(crate) objects: u64,
    /// Pages of the slabs, whichever order each was made with.
    pub(crate) pages: u64,
}

impl Node {
    pub(crate) const EMPTY: Self =
        Self { partial: SlabList::EMPTY, full: SlabList::EMPTY, slabs: 0, objects: 0, pages: 0 };
}

/// What the shape of a cache follows from, beside its specification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Making {
    pub(crate) era: Era,
    pub(crate) granule: Granule,
    pub(crate) cpus: u32,
    pub(crate) cache_line: u32,
    pub(crate) secret: Option<u64>,
}

/// One object cache.
#[derive(Debug)]
pub(crate) struct Cache<const NODES: usize> {
    pub(crate) id: CacheId,
    pub(crate) name: Name,
    pub(crate) flags: CacheFlags,
    pub(crate) layout: SlotLayout,
    pub(crate) shape: Shape,
    pub(crate) era: Era,
    pub(crate) granule: Granule,
    pub(crate) order: Order,
    /// The order that is tried when `order` is not to be had.
    pub(crate) least: Order,
    pub(crate) min_partial: u64,
    /// Partial slabs that a CPU keeps.
    pub(crate) cpu_partial: u32,
    /// What its pages are asked with besides.
    pub(crate) gfp: Gfp,
    /// Names that it has: its own and its aliases.
    pub(crate) refs: u32,
    /// Grows with each cache that is made.
    pub(crate) born: u64,
    pub(crate) nodes: [Node; NODES],
}

/// Partial slabs that a node keeps even if they are empty.
///
/// Source: Linux 5.10–7.2 mm/slub.c `set_min_partial`.
#[must_use]
pub const fn min_partial(slot: u32) -> u64 {
    let half = slot.ilog2() as u64 / 2;
    if half < 5 {
        return 5;
    }
    if half > 10 { 10 } else { half }
}

/// Partial slabs that a CPU keeps of a cache with `objects` objects a slab.
///
/// | era | by slot: a page or more, 1024, 256, fewer bytes |
/// |---|---|
/// | 4.14, 5.10 | 2, 6, 13, 30 free objects: a slab comes with one |
/// | 6.1, 6.12 | slabs that hold twice 6, 24, 52, 120 objects |
/// | 7.2 | none: arrays of objects take their place |
///
/// Source: Linux 5.10–6.12 mm/slub.c `set_cpu_partial`, `slub_set_cpu_partial`.
#[must_use]
pub fn cpu_partial_slabs(era: Era, granule: Granule, slot: u32, objects: u32) -> u32 {
    let by_size = |large: [u32; 4]| match slot {
        slot if u64::from(slot) >= granule.bytes() => large[0],
        1024.. => large[1],
        256.. => large[2],
        _ => large[3],
    };
    match era {
        Era::V4_14 | Era::V5_10 => by_size([2, 6, 13, 30]),
        Era::V6_1 | Era::V6_12 => (2 * by_size([6, 24, 52, 120])).div_ceil(objects.max(1)),
        Era::V7_2 => 0,
    }
}

const fn facts(making: &Making, spec: &CacheSpec<'_>) -> SlotFacts {
    let &Making { era, cache_line, .. } = making;
    SlotFacts { era, object: spec.object, align: spec.align, flags: spec.flags, cache_line }
}

impl<const NODES: usize> Cache<NODES> {
    /// An empty cache.
    pub(crate) fn new(making: &Making, spec: &CacheSpec<'_>, id: CacheId, born: u64) -> Result<Self, SlabError> {
        let bad = SlabError::BadShape { object: spec.object, align: spec.align };
        if spec.align != 0 && !spec.align.is_power_of_two() {
            return Err(bad);
        }
        let &Making { era, granule, cpus, secret, .. } = making;
        let name = Name::new(spec.name).ok_or(SlabError::BadName)?;
        let layout = SlotLayout::new(&facts(making, spec)).ok_or(bad)?;
        let order = slab_order(era, granule, u64::from(layout.slot), cpus).ok_or(bad)?;
        let checked = spec.flags.intersects(CacheFlags::CHECKED);
        let shape = Shape::new(&layout, id.generation, checked, secret);
        let objects = u32::from(shape.objects(granule.bytes() << order.0));
        let cpu_partial = if checked { 0 } else { cpu_partial_slabs(era, granule, layout.slot, objects) };
        let least = order_for(granule, u64::from(layout.slot));
        let (flags, min_partial) = (spec.flags, min_partial(layout.slot));
        let gfp = gfp_of(flags);
        let nodes = [Node::EMPTY; NODES];
        Ok(Self {
            id,
            name,
            flags,
            layout,
            shape,
            era,
            granule,
            order,
            least,
            min_partial,
            cpu_partial,
            gfp,
            born,
            nodes,
            refs: 1,
        })
    }

    /// Whether a cache of this specification may be an alias of this one.
    ///
    /// Source: Linux 5.10–7.2 mm/slab_common.c `find_mergeable`, `slab_unmergeable`.
    pub(crate) fn takes(&self, making: &Making, spec: &CacheSpec<'_>) -> bool {
        if never_merges(self.flags) || never_merges(spec.flags) {
            return false;
        }
        if self.flags.and(CacheFlags::SAME) != spec.flags.and(CacheFlags::SAME) {
            return false;
        }
        let align = slot_align(&facts(making, spec));
        let size = spec.object.next_multiple_of(crate::layout::WORD).next_multiple_of(align);
        let slot = self.layout.slot;
        size <= slot && slot.is_multiple_of(align) && slot - size < crate::layout::WORD
    }

    /// Becomes the cache of one more name.
    pub(crate) fn adopt(&mut self, spec: &CacheSpec<'_>) {
        self.refs += 1;
        self.layout.object = self.layout.object.max(spec.object);
        self.layout.inuse = self.layout.inuse.max(spec.object.next_multiple_of(crate::layout::WORD));
    }

    /// Bytes of a slab of `order`.
    pub(crate) const fn slab_bytes(&self, order: Order) -> u64 {
        self.granule.bytes() << order.0
    }

    /// Objects of a slab of `order`.
    pub(crate) const fn objects(&self, order: Order) -> u16 {
        self.shape.objects(self.slab_bytes(order))
    }
}

/// What the flags mean for the pages.
const fn gfp_of(flags: CacheFlags) -> Gfp {
    let mut gfp = 0;
    if flags.contains(CacheFlags::DMA) {
        gfp |= Gfp::DMA.0;
    }
    if flags.contains(CacheFlags::DMA32) {
        gfp |= Gfp::DMA32.0;
    }
    if flags.contains(CacheFlags::RECLAIM_ACCOUNT) {
        gfp |= Gfp::RECLAIMABLE.0;
    }
    Gfp(gfp)
}

/// Whether caches with these flags are never merged. `F` alone does not prevent it.
const fn never_merges(flags: CacheFlags) -> bool {
    flags.intersects(CacheFlags::RED_ZONE)
        || flags.intersects(CacheFlags::POISON)
        || flags.intersects(CacheFlags::STORE_USER)
        || flags.intersects(CacheFlags::TYPESAFE_BY_RCU)
        || flags.intersects(CacheFlags::NO_MERGE)
}
