//! Memory models: how a kernel finds the page descriptor of a frame, and the frame of a page descriptor.
//!
//! * [`Geometry`]: the sizes of sections, roots and usage maps, by architecture, era and configuration.
//! * [`WordFormat`], [`Word`]: the word of a section descriptor, every bit kept.
//! * [`Sections`]: which sections exist, and the groups in which boot brings them up.
//! * [`Memmap`], [`FlatMap`], [`VirtualMap`]: which model a kernel has, and which frames are valid.
//! * [`Conversion`], [`ConversionJob`]: frame to descriptor and back in each model, chosen once and compiled for it.
//! * [`Words`], [`Tables`]: the words that a conversion reads.
//! * [`Descriptors`]: page descriptors as memory.
//! * [`page`]: what the words of a descriptor say.
//! * [`MigrateType`]: what pageblocks are meant for.
//! * [`Spending`]: what a model costs for given memory.
//! * [`Store`]: the memory for all this, lent by the caller ([`LentStore`]) or from the heap (`VecStore`).
//!
//! Not here: the page tables that map a vmemmap (`kernmem-pgtable`), the allocations of boot (`kernmem-memblock`),
//! what a page descriptor says.
//!
//! Features: `alloc` adds `VecStore` and changes nothing else.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h, mm/sparse.c, mm/sparse-vmemmap.c.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod bring_up;
mod convert;
mod descriptors;
mod facts;
mod geometry;
mod lookup;
mod memmap;
pub mod page;
mod pageblocks;
mod sections;
mod shape;
mod spending;
mod store;
mod subsections;
mod word;

pub use bring_up::{BringUpError, BroughtUp};
pub use convert::{Conversion, ConversionJob};
pub use descriptors::{DESCRIPTOR_WORDS, Descriptors};
pub use facts::{GeometryFacts, Model, SparseArch, can_be_built, max_physmem_bits, pageblock_bits, section_size_bits};
pub use geometry::{Geometry, GeometryError, SUBSECTION_SHIFT, SectionNr};
pub use lookup::{Tables, Words};
pub use memmap::{FlatMap, Memmap, References, ValidRule, VirtualMap};
pub use pageblocks::MigrateType;
pub use sections::{Group, Presence, Sections};
pub use spending::{Spending, VmemmapTables};
#[cfg(feature = "alloc")]
pub use store::VecStore;
pub use store::{LentStore, Needs, NewRoot, Root, Section, Store, StoreFull, Usage};
pub use subsections::{ActivateError, Activated, Deactivated, MapFate};
pub use word::{HAS_MAP, MapMisaligned, Nid, ONLINE, PRESENT, Word, WordFormat};
