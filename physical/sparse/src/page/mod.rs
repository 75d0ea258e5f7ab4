//! The page descriptor itself: what its words say.
//!
//! * [`FlagsLayout`]: the fields of the flags word.
//! * [`PageFlag`]: flag bits by era.
//! * [`fresh`], [`compose`], [`dissolve`], [`resolve`]: one descriptor, or those of a compound page.
//!
//! Not here: where descriptors lie ([`crate::Memmap`]) and what maps them.

mod compound;
mod flags;

pub use compound::{CompoundKind, Link, Resolved, compose, dissolve, fresh, resolve};
pub use flags::{Field, FlagOptions, FlagsFacts, FlagsLayout, PageFlag, nr_pageflags};
