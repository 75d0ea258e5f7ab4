//! How a flush is paid on a machine.

use crate::VirtRange;

/// Invalidates what the CPUs' translation caches hold.
pub trait Tlb {
    /// Makes every CPU forget the translations of `range`, and the walk caches too if `tables` were freed.
    /// Returns when no CPU can use them any more.
    fn flush(&mut self, range: VirtRange, tables: bool);
}

/// A machine without translation caches, or one whose MMU is still off.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTlb;

impl Tlb for NoTlb {
    fn flush(&mut self, _range: VirtRange, _tables: bool) {}
}
