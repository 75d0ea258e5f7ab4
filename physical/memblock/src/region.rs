//! Regions: what one entry of a list says.
//!
//! Here: node numbers, flags, and the region itself.
//! Not here: the lists (`list`), and what an operation does with a flag (`mark`, `iter`).
//!
//! Source: Linux 5.10–7.2 include/linux/memblock.h `struct memblock_region`, `enum memblock_flags`.

use core::ops::{BitAnd, BitOr, Not};

use kernmem_base::{Era, PhysAddr, PhysRange};

/// The number of a NUMA node. "No node" is `None` of an `Option<Nid>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nid(pub u32);

/// What is special about a region; the values are Linux's, as listings print them.
///
/// | value | name | since | list |
/// |---|---|---|---|
/// | 0x1 | `HOTPLUG` | 5.10 | memory |
/// | 0x2 | `MIRROR` | 5.10 | memory |
/// | 0x4 | `NOMAP` | 5.10 | memory |
/// | 0x8 | `DRIVER_MANAGED` | 6.1 | memory |
/// | 0x10 | `RSRV_NOINIT` | 6.12 | reserved |
/// | 0x20 | `RSRV_KERN` | 7.2 | reserved |
/// | 0x40 | `KHO_SCRATCH` | 7.2 | memory |
///
/// Source: Linux 5.10–7.2 include/linux/memblock.h `enum memblock_flags`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Flags(u32);

impl Flags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// Memory that may be removed later; with `movable_node`, allocations keep away from it.
    pub const HOTPLUG: Self = Self(0x1);
    /// Mirrored memory.
    pub const MIRROR: Self = Self(0x2);
    /// Memory that stays out of the linear map.
    pub const NOMAP: Self = Self(0x4);
    /// Memory that a driver announces on every boot.
    pub const DRIVER_MANAGED: Self = Self(0x8);
    /// Taken memory whose page descriptors the taker initialises.
    pub const RSRV_NOINIT: Self = Self(0x10);
    /// Memory that the kernel took for itself, as opposed to firmware reservations.
    pub const RSRV_KERN: Self = Self(0x20);
    /// Scratch memory for kexec handover.
    pub const KHO_SCRATCH: Self = Self(0x40);

    /// The flags with these raw bits; unknown bits are kept.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The raw bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every flag of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// All flags that an era has; 4.14 is taken as 5.10 (UNVERIFIED).
    ///
    /// Source: Linux 5.10–7.2 include/linux/memblock.h `enum memblock_flags`.
    #[must_use]
    pub const fn known(era: Era) -> Self {
        match era {
            Era::V4_14 | Era::V5_10 => Self(0x07),
            Era::V6_1 => Self(0x0f),
            Era::V6_12 => Self(0x1f),
            Era::V7_2 => Self(0x7f),
        }
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// One entry of a list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Region {
    /// First byte.
    pub base: PhysAddr,
    /// Bytes.
    pub size: u64,
    /// The node, if one was given.
    pub nid: Option<Nid>,
    /// What is special about it.
    pub flags: Flags,
}

impl Region {
    /// One past the last byte; it exists by invariant 2.
    #[must_use]
    pub const fn end(&self) -> PhysAddr {
        PhysAddr(self.base.0.saturating_add(self.size))
    }

    /// The bytes of the region.
    #[must_use]
    pub const fn range(&self) -> PhysRange {
        PhysRange { start: self.base, end: self.end() }
    }

    /// Whether `next` is the rest of `self`: it touches and has equal node and flags.
    pub(crate) fn continues_in(&self, next: &Self) -> bool {
        self.end() == next.base && self.nid == next.nid && self.flags == next.flags
    }
}
