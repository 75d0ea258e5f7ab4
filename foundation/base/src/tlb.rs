//! How a flush is paid on a machine.

use crate::{Asid, VirtRange};

/// Invalidates what the CPUs' translation caches hold.
pub trait Tlb {
    /// Makes every CPU forget the translations of `range`, of every address space, and the walk caches too if `tables`
    /// were freed. Returns when no CPU can use them any more.
    fn flush(&mut self, range: VirtRange, tables: bool);

    /// Makes every CPU forget the translations of `range` that belong to `asid`; all of that space's if there is no
    /// range. A machine without such numbers forgets more.
    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        let _ = asid;
        self.flush(range.unwrap_or(VirtRange::ALL), tables);
    }
}

impl<T: Tlb + ?Sized> Tlb for &mut T {
    fn flush(&mut self, range: VirtRange, tables: bool) {
        (**self).flush(range, tables);
    }

    fn flush_space(&mut self, asid: Asid, range: Option<VirtRange>, tables: bool) {
        (**self).flush_space(asid, range, tables);
    }
}

/// A machine without translation caches, or one whose MMU is still off.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTlb;

impl Tlb for NoTlb {
    fn flush(&mut self, _range: VirtRange, _tables: bool) {}
}
