//! Page descriptors as memory: `struct page`, eight words of 64 bits.
//!
//! Here: how a subsystem reaches the descriptor of a frame. Not here: where descriptors lie ([`crate::Memmap`]), which
//! page tables map them.

use core::sync::atomic::AtomicU64;

use kernmem_base::{BusError, Pfn};

/// Words of a descriptor.
pub const DESCRIPTOR_WORDS: usize = 8;

/// The descriptors of a kernel as memory.
///
/// After a huge page gave the memory of its tail descriptors back, several frames have the same words.
pub trait Descriptors {
    /// The words of the descriptor of `pfn`, as the kernel's own tables map them now.
    ///
    /// # Errors
    /// The frame has no descriptor, or its memory does not answer.
    fn words(&self, pfn: Pfn) -> Result<&[AtomicU64], BusError>;
}
