//! `/proc/slabinfo`.
//!
//! Source: Linux 5.10–7.2 mm/slab_common.c `cache_show`.

use alloc::string::String;
use alloc::vec::Vec;

/// `/proc/slabinfo`, newest cache first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlabInfo {
    /// The caches.
    pub caches: Vec<SlabRow>,
}

/// One cache.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlabRow {
    /// Its name.
    pub name: String,
    /// Objects in use.
    pub active_objs: u64,
    /// Objects in all slabs.
    pub num_objs: u64,
    /// Bytes of a slot.
    pub objsize: u64,
    /// Objects of a slab.
    pub objperslab: u64,
    /// Pages of a slab.
    pub pagesperslab: u64,
    /// Limit, batch and share of the per-CPU arrays; 0 in the allocator that is modelled.
    pub tunables: [u64; 3],
    /// Slabs with objects in use.
    pub active_slabs: u64,
    /// Slabs.
    pub num_slabs: u64,
    /// Objects in shared arrays; 0 in the allocator that is modelled.
    pub sharedavail: u64,
}
