//! What `/proc/slabinfo` tells of each cache, newest first.
//!
//! Source: Linux 6.1 mm/slub.c `get_slabinfo`; mm/slab_common.c `cache_show`.

use crate::record::SlabPages;
use crate::{CacheFlags, CacheId, Name, Slab, SlabError};

/// Pages that the allocator has on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodePages {
    /// Of caches whose memory can be given back on request.
    pub reclaimable: u64,
    /// Of all other caches, and of requests that were too large for a cache.
    pub unreclaimable: u64,
}

/// One line of `/proc/slabinfo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheInfo {
    /// The cache.
    pub id: CacheId,
    /// Its first name.
    pub name: Name,
    /// Objects that are in use; free objects of slabs that CPUs have count as used, as in Linux.
    pub active: u64,
    /// All objects.
    pub objects: u64,
    /// Bytes of a slot.
    pub slot: u32,
    /// Objects of a slab of the usual order.
    pub per_slab: u32,
    /// Pages of a slab of the usual order.
    pub pages: u32,
    /// Slabs.
    pub slabs: u64,
}

impl<const CACHES: usize, const NODES: usize> Slab<CACHES, NODES> {
    /// The newest cache that is older than `before`; the newest of all for `None`.
    fn older(&self, before: Option<u64>) -> Option<&crate::cache::Cache<NODES>> {
        let caches = self.caches.iter().flatten();
        caches.filter(|cache| before.is_none_or(|born| cache.born < born)).max_by_key(|cache| cache.born)
    }

    /// All caches, newest first.
    ///
    /// # Errors
    /// The answer for a cache is an error if a record of its slabs is missing.
    pub fn slabinfo<'s, R: SlabPages>(
        &'s self,
        records: &'s R,
    ) -> impl Iterator<Item = Result<CacheInfo, SlabError>> + 's {
        let caches = core::iter::successors(self.older(None), |cache| self.older(Some(cache.born)));
        caches.map(|cache| {
            let objects: u64 = cache.nodes.iter().map(|node| node.objects).sum();
            Ok(CacheInfo {
                id: cache.id,
                name: cache.name,
                active: objects - cache.free_listed(records)?,
                objects,
                slot: cache.layout.slot,
                per_slab: u32::from(cache.objects(cache.order)),
                pages: 1 << cache.order.0,
                slabs: cache.nodes.iter().map(|node| node.slabs).sum(),
            })
        })
    }

    /// Pages that the allocator has on `node`: `nr_slab_reclaimable` and `nr_slab_unreclaimable`.
    ///
    /// Source: Linux 6.1 mm/slab.h `account_slab`, `cache_vmstat_idx`; mm/slab_common.c `__kmalloc_large_node`.
    #[must_use]
    pub fn pages_on(&self, node: u32) -> NodePages {
        let node = node as usize;
        let mut pages = NodePages { unreclaimable: self.large.get(node).copied().unwrap_or(0), ..NodePages::default() };
        for cache in self.caches.iter().flatten() {
            let own = cache.nodes.get(node).map_or(0, |node| node.pages);
            match cache.flags.contains(CacheFlags::RECLAIM_ACCOUNT) {
                true => pages.reclaimable += own,
                false => pages.unreclaimable += own,
            }
        }
        pages
    }
}
