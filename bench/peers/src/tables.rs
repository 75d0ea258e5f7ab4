//! Page tables of the registry, each used as its documentation shows, with its fastest public call.
//!
//! All of them see the arena through the identity: physical and virtual addresses of frames are the same.

pub mod aarch64;
pub mod generic;
pub mod multiarch;
pub mod x86;

/// A frame that must be there.
pub(crate) fn frame() -> u64 {
    kernmem_bench::arena::take().expect("a frame for a table")
}
