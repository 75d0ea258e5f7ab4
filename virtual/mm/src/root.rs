//! The root table of one process.

use kernmem_base::PhysAddr;

/// A root table that belongs to one process: made by [`crate::KernelHalf::new_root`], and freed by
/// [`crate::KernelHalf::free_root`] alone. It is no copy: who holds it owns the table.
#[must_use = "a root that is not freed is lost"]
#[derive(PartialEq, Eq, Debug)]
pub struct UserRoot(PhysAddr);

impl UserRoot {
    pub(crate) const fn new(pa: PhysAddr) -> Self {
        Self(pa)
    }

    /// Its first byte.
    #[must_use]
    pub const fn pa(&self) -> PhysAddr {
        self.0
    }
}
