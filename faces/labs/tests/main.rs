//! The tests of the labs, one program: linked once, not once for each file.

mod all;
mod block_is_not_an_allocation;
mod boot_tables;
mod common;
mod fallback;
mod flip;
mod fork;
mod hvo;
mod linear_map;
mod memblock_to_zones;
mod memory_models;
mod pagedoc;
mod preallocate;
mod sparsemem;
mod tlb;
mod ttbr;
mod vmalloc;
mod vmalloc_sync;
mod vmalloc_sync_i386;
mod vmemmap_size;
mod walk;
