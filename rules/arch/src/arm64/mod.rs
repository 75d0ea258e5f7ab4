//! arm64: formats, layout, kernel protections and boot decisions.
//!
//! * [`Arm64`]: the entry format by page size and bits; [`Geometry`]: the same as a value; [`levels`]: Linux's names and
//!   folded levels; [`address`]: Linux's masks of an address; [`bit`]: an entry's bits; [`fields`]: their names by era.
//! * [`prot`]: protections of kernel and user pages; [`MemoryType`]: indices into MAIR_EL1; [`soft`]: software's bits.
//! * [`limits`]: sizes that follow from page size and era; [`carve_out`]: room in the image for boot tables.
//! * [`Layout`]: the regions of the kernel's half by era; [`Fixmap`]: its fixed slots.
//! * [`kaslr`]: what a seed does to the image and the linear map.
//! * [`linear`]: the grain of the linear map and why.
//! * [`ttbr`]: which root table an address is looked up in; [`mmu`]: the rules of a walk; [`esr`]: how it tells a fault.
//! * `user`: pages and tables of user mode ([`crate::UserFormat`]).

pub mod address;
pub mod carve_out;
mod change;
pub mod esr;
mod fields;
mod fixmap;
mod format;
mod geometry;
pub mod kaslr;
mod layout;
pub mod levels;
pub mod limits;
pub mod linear;
mod memory_type;
pub mod mmu;
pub mod prot;
pub mod soft;
pub mod ttbr;
mod user;

pub use crate::kasan::Kasan;
pub use change::change_is_safe;
pub use fields::fields;
pub use fixmap::{BTMAP_SLOTS, FixSlot, Fixmap, FixmapFacts, btmap_pages};
pub use format::{Arm64, Arm64Attrs, Arm64Granule4K, Output, bit};
pub use geometry::{Arm64Format, Geometry, WithArm64};
pub use layout::{
    Layout, LayoutFacts, STRUCT_PAGE_SHIFT, has_kasan, kasan_shadow_offset, va_bits_choices, va_bits_min,
};
pub use memory_type::{MemoryType, mair};
