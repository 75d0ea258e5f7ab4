//! What an allocation may do: the GFP word.
//!
//! Source: Linux 5.10–7.2 include/linux/gfp.h, include/linux/gfp_types.h.

use core::ops::BitOr;

/// The word with which Linux asks for memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Gfp(pub u32);

impl Gfp {
    /// From the DMA zone.
    pub const DMA: Self = Self(0x1);
    /// High memory will do.
    pub const HIGHMEM: Self = Self(0x2);
    /// From the DMA32 zone.
    pub const DMA32: Self = Self(0x4);
    /// The pages can be moved.
    pub const MOVABLE: Self = Self(0x8);
    /// The pages can be given back on request.
    pub const RECLAIMABLE: Self = Self(0x10);
    /// Urgent: may go below the watermarks.
    pub const HIGH: Self = Self(0x20);
    /// May start I/O.
    pub const IO: Self = Self(0x40);
    /// May call file systems.
    pub const FS: Self = Self(0x80);
    /// The pages must be zero.
    pub const ZERO: Self = Self(0x100);
    /// May reclaim itself.
    pub const DIRECT_RECLAIM: Self = Self(0x400);
    /// May wake the reclaimer.
    pub const KSWAPD_RECLAIM: Self = Self(0x800);
    /// No warning on failure.
    pub const NOWARN: Self = Self(0x2000);
    /// Must not fail.
    pub const NOFAIL: Self = Self(0x8000);
    /// Fails rather than try again.
    pub const NORETRY: Self = Self(0x1_0000);
    /// The block is one compound page.
    pub const COMP: Self = Self(0x4_0000);
    /// Keeps to the CPU set's nodes.
    pub const HARDWALL: Self = Self(0x10_0000);
    /// From the named node alone.
    pub const THISNODE: Self = Self(0x20_0000);
    /// Charged to a group.
    pub const ACCOUNT: Self = Self(0x40_0000);
    /// The kernel's usual request.
    pub const KERNEL: Self = Self(0xcc0);
    /// For a program, reached by the kernel too.
    pub const USER: Self = Self(0x10_0cc0);
    /// For a program, movable.
    pub const HIGHUSER_MOVABLE: Self = Self(0x10_0cca);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Gfp {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
