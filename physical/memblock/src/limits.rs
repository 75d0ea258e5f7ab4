//! What a machine and a configuration fix before the first region is added.
//!
//! Here: [`Limits`], and the upper bound of a request, [`UpTo`].
//! Not here: what changes during boot (`memblock`).
//!
//! Source: Linux 5.10–7.2 include/linux/memblock.h, mm/memblock.c.

use kernmem_base::{Granule, PhysAddr};

/// The constants of one kernel on one machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The page size.
    pub granule: Granule,
    /// The alignment of a request that names none, in bytes; a power of two.
    pub smp_cache_bytes: u64,
    /// How many nodes the kernel was built for; a greater number counts as no node.
    pub max_nodes: u32,
    /// Whether the kernel knows nodes at all; without them regions have none, and every region counts as node 0.
    pub numa: bool,
    /// The largest value of a physical address: all ones, 2^64 - 1 or 2^32 - 1.
    pub address_max: u64,
    /// The upper bound of `alloc_low`.
    pub low_address_limit: u64,
    /// Bytes of one region in the list's storage, which decides where a grown list lies.
    pub region_bytes: u64,
    /// `kernelcore=mirror` was given.
    pub kernelcore_mirror: bool,
    /// `movable_node` was given.
    pub movable_node: bool,
}

impl Limits {
    /// A 64-bit kernel with nodes: 64-byte cache lines, 16 nodes, 24 bytes a region, no special options.
    #[must_use]
    pub const fn new_64bit(granule: Granule) -> Self {
        Self {
            granule,
            smp_cache_bytes: 64,
            max_nodes: 16,
            numa: true,
            address_max: u64::MAX,
            low_address_limit: 0xffff_ffff,
            region_bytes: 24,
            kernelcore_mirror: false,
            movable_node: false,
        }
    }

    /// Bytes of `size` that fit below the end of the address space from `base`: invariant 2.
    pub(crate) const fn cap_size(&self, base: PhysAddr, size: u64) -> u64 {
        let room = self.address_max.saturating_sub(base.0);
        if size < room { size } else { room }
    }
}

/// The exclusive upper bound of a request, with the three values that mean something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpTo(pub u64);

impl UpTo {
    /// The current limit: what the kernel can reach through its linear map.
    pub const ACCESSIBLE: Self = Self(0);
    /// The current limit, for memory that the leak checker is not told of (5.10: named for KASAN).
    pub const NOLEAKTRACE: Self = Self(1);
    /// The end of the address space.
    pub const ANYWHERE: Self = Self(u64::MAX);

    /// The bound that the value stands for.
    #[must_use]
    pub fn resolve(self, current_limit: PhysAddr) -> PhysAddr {
        match self {
            Self::ACCESSIBLE | Self::NOLEAKTRACE => current_limit,
            Self(limit) => PhysAddr(limit),
        }
    }
}

impl From<PhysAddr> for UpTo {
    fn from(limit: PhysAddr) -> Self {
        Self(limit.0)
    }
}
