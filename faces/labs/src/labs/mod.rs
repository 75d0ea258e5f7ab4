//! A file for each lab.

pub(crate) mod block;
pub(crate) mod boot_tables;
pub(crate) mod flip;
pub(crate) mod hvo;
pub(crate) mod linear_map;
pub(crate) mod sparsemem;
pub(crate) mod ttbr;
pub(crate) mod vmalloc;
pub(crate) mod vmemmap_size;
pub(crate) mod walk;
