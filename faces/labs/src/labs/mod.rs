//! A file for each lab.

pub(crate) mod block;
pub(crate) mod boot_tables;
pub(crate) mod fallback;
pub(crate) mod flip;
pub(crate) mod fork;
pub(crate) mod hvo;
pub(crate) mod linear_map;
pub(crate) mod memblock_to_zones;
pub(crate) mod memory_models;
pub(crate) mod pagedoc;
pub(crate) mod preallocate;
pub(crate) mod sparsemem;
pub(crate) mod tlb;
pub(crate) mod ttbr;
pub(crate) mod vmalloc;
pub(crate) mod vmalloc_sync;
pub(crate) mod vmalloc_sync_i386;
pub(crate) mod vmemmap_size;
pub(crate) mod walk;
