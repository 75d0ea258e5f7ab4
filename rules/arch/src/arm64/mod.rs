//! arm64: formats, layout, kernel protections and boot decisions.
//!
//! * [`Arm64`]: the entry format by page size and bits; [`Geometry`]: the same as a value; [`bit`]: its bits; [`fields`]:
//!   their names by era.
//! * [`prot`]: the kernel's protections.
//! * [`Layout`]: the regions of the kernel's half by era; [`Fixmap`]: its fixed slots.
//! * [`kaslr`]: what a seed does to the image and the linear map.
//! * [`linear`]: the grain of the linear map and why.
//! * [`ttbr`]: which root table an address is looked up in; [`mmu`]: the rules of a walk; [`esr`]: how it tells a fault.
//! * `user`: pages and tables of user mode ([`crate::UserFormat`]).

pub mod esr;
mod fields;
mod fixmap;
mod format;
mod geometry;
pub mod kaslr;
mod layout;
pub mod linear;
pub mod mmu;
pub mod prot;
pub mod ttbr;
mod user;

pub use fields::fields;
pub use fixmap::{Fixmap, FixmapFacts};
pub use format::{Arm64, Arm64Attrs, Arm64Granule4K, Output, bit};
pub use geometry::{Arm64Format, Geometry, WithArm64};
pub use layout::{Kasan, Layout, LayoutFacts, va_bits_choices, va_bits_min};
