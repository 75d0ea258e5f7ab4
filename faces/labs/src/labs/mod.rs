//! A file for each lab.

pub(crate) mod boot_tables;
pub(crate) mod flip;
pub(crate) mod fork;
pub(crate) mod linear_map;
pub(crate) mod preallocate;
pub(crate) mod sparsemem;
pub(crate) mod ttbr;
pub(crate) mod vmalloc_sync;
pub(crate) mod vmemmap_size;
pub(crate) mod walk;
