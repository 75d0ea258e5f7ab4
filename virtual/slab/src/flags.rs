//! Flags of a cache.
//!
//! The numbers are ours: Linux numbers them anew with each era, and nothing prints the numbers.
//!
//! Source: Linux 5.10–7.2 include/linux/slab.h.

use core::ops::BitOr;

/// What a cache is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CacheFlags(u32);

impl CacheFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `F`: objects, chains and counts are checked at each request.
    pub const CONSISTENCY: Self = Self(1 << 0);
    /// `Z`: words around each object whose change is noticed.
    pub const RED_ZONE: Self = Self(1 << 1);
    /// `P`: free objects have a pattern.
    pub const POISON: Self = Self(1 << 2);
    /// `U`: who took and who freed an object.
    pub const STORE_USER: Self = Self(1 << 3);
    /// Objects begin at a cache line, small ones at a part of it.
    pub const HWCACHE_ALIGN: Self = Self(1 << 4);
    /// Memory from the DMA zone.
    pub const DMA: Self = Self(1 << 5);
    /// Memory from the DMA32 zone.
    pub const DMA32: Self = Self(1 << 6);
    /// Memory that can be given back on request.
    pub const RECLAIM_ACCOUNT: Self = Self(1 << 7);
    /// Charged to a group.
    pub const ACCOUNT: Self = Self(1 << 8);
    /// A freed object keeps its type until a grace period ends: nothing may be written into it.
    pub const TYPESAFE_BY_RCU: Self = Self(1 << 9);
    /// Never an alias, never aliased.
    pub const NO_MERGE: Self = Self(1 << 10);
    /// One of the size classes: the size that was asked for is remembered under [`Self::STORE_USER`].
    pub const KMALLOC: Self = Self(1 << 11);
    /// What makes a cache a checked one.
    pub const CHECKED: Self = Self(0b1111);
    /// What must be equal for two caches to merge.
    pub const SAME: Self = Self(Self::RECLAIM_ACCOUNT.0 | Self::DMA.0 | Self::DMA32.0 | Self::ACCOUNT.0);

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a flag of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags that are set in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for CacheFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
