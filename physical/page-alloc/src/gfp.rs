//! What an allocation may do: the GFP word.
//!
//! Here: its bits, the words that Linux composes of them, the zone and the migrate type that they ask for.
//! Not here: how far below a watermark a request may go (`watermark`).
//!
//! Source: Linux 5.10–7.2 include/linux/gfp.h, include/linux/gfp_types.h.

use core::ops::BitOr;

use kernmem_base::Era;
use kernmem_sparse::MigrateType;

use crate::{ZoneKind, ZoneKinds};

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
    /// Both kinds of reclaim.
    pub const RECLAIM: Self = Self(0xc00);
    /// The page will be written to.
    pub const WRITE: Self = Self(0x1000);
    /// No warning on failure.
    pub const NOWARN: Self = Self(0x2000);
    /// Tries hard, and may fail.
    pub const RETRY_MAYFAIL: Self = Self(0x4000);
    /// Must not fail.
    pub const NOFAIL: Self = Self(0x8000);
    /// Fails rather than try again.
    pub const NORETRY: Self = Self(0x1_0000);
    /// May take everything: the request will free more than it takes.
    pub const MEMALLOC: Self = Self(0x2_0000);
    /// The block is one compound page.
    pub const COMP: Self = Self(0x4_0000);
    /// Keeps away from the reserves whatever else is said.
    pub const NOMEMALLOC: Self = Self(0x8_0000);
    /// Keeps to the CPU set's nodes.
    pub const HARDWALL: Self = Self(0x10_0000);
    /// From the named node alone.
    pub const THISNODE: Self = Self(0x20_0000);
    /// Charged to a group.
    pub const ACCOUNT: Self = Self(0x40_0000);
    /// The kernel's usual request.
    pub const KERNEL: Self = Self(0xcc0);
    /// The same, charged.
    pub const KERNEL_ACCOUNT: Self = Self(0x40_0cc0);
    /// No I/O.
    pub const NOIO: Self = Self(0xc00);
    /// No file systems.
    pub const NOFS: Self = Self(0xc40);
    /// For a program, reached by the kernel too.
    pub const USER: Self = Self(0x10_0cc0);
    /// For a program, out of the kernel's reach if need be.
    pub const HIGHUSER: Self = Self(0x10_0cc2);
    /// For a program, movable; KASAN with hardware tags adds bits, see [`Gfp::highuser_movable`].
    pub const HIGHUSER_MOVABLE: Self = Self(0x10_0cca);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// A request that must not sleep.
    ///
    /// | era | bits |
    /// |---|---|
    /// | 4.14 | as 5.10 (UNVERIFIED) |
    /// | 5.10, 6.1 | high, atomic, wakes the reclaimer |
    /// | 6.12, 7.2 | high, wakes the reclaimer |
    ///
    /// Source: Linux 5.10–7.2 include/linux/gfp_types.h `GFP_ATOMIC`.
    #[must_use]
    pub const fn atomic(era: Era) -> Self {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => Self(0xa20),
            Era::V6_12 | Era::V7_2 => Self(0x820),
        }
    }

    /// A request that must not sleep and may well fail.
    ///
    /// | era | bits |
    /// |---|---|
    /// | 4.14 | as 5.10 (UNVERIFIED) |
    /// | 5.10, 6.1 | wakes the reclaimer |
    /// | 6.12, 7.2 | the same, without a warning |
    ///
    /// Source: Linux 5.10–7.2 include/linux/gfp_types.h `GFP_NOWAIT`.
    #[must_use]
    pub const fn nowait(era: Era) -> Self {
        match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => Self(0x800),
            Era::V6_12 | Era::V7_2 => Self(0x2800),
        }
    }

    /// [`Gfp::HIGHUSER_MOVABLE`] with what KASAN adds.
    #[must_use]
    pub const fn highuser_movable(era: Era, facts: GfpFacts) -> Self {
        Self(Self::HIGHUSER_MOVABLE.0 | skip_kasan(era, facts))
    }

    /// For a huge page of a program, without reclaim.
    #[must_use]
    pub const fn transhuge_light(era: Era, facts: GfpFacts) -> Self {
        Self(0x1c_20ca | skip_kasan(era, facts))
    }

    /// For a huge page of a program.
    #[must_use]
    pub const fn transhuge(era: Era, facts: GfpFacts) -> Self {
        Self(0x1c_24ca | skip_kasan(era, facts))
    }

    /// The highest zone that the request may use, of those that the kernel has.
    ///
    /// # Errors
    /// [`BadGfp`]: two of DMA, DMA32 and high memory are asked for.
    ///
    /// Source: Linux 6.1 include/linux/gfp.h `gfp_zone`, `GFP_ZONE_TABLE`, `GFP_ZONE_BAD`.
    pub fn zone(self, kinds: ZoneKinds) -> Result<ZoneKind, BadGfp> {
        let or_normal = |kind| if kinds.contains(kind) { kind } else { ZoneKind::Normal };
        let movable = self.contains(Self::MOVABLE);
        match (self.contains(Self::DMA), self.contains(Self::HIGHMEM), self.contains(Self::DMA32)) {
            (false, false, false) => Ok(ZoneKind::Normal),
            (true, false, false) => Ok(or_normal(ZoneKind::Dma)),
            (false, false, true) => Ok(or_normal(ZoneKind::Dma32)),
            (false, true, false) if movable => Ok(ZoneKind::Movable),
            (false, true, false) => Ok(or_normal(ZoneKind::HighMem)),
            (true, true, _) | (true, _, true) | (_, true, true) => Err(BadGfp::Zones(self)),
        }
    }

    /// The kind of pageblock that the request belongs to.
    ///
    /// # Errors
    /// [`BadGfp`]: movable and reclaimable at once.
    ///
    /// Source: Linux 6.1 include/linux/gfp.h `gfp_migratetype`.
    pub const fn migrate_type(self) -> Result<MigrateType, BadGfp> {
        match (self.contains(Self::MOVABLE), self.contains(Self::RECLAIMABLE)) {
            (false, false) => Ok(MigrateType::Unmovable),
            (true, false) => Ok(MigrateType::Movable),
            (false, true) => Ok(MigrateType::Reclaimable),
            (true, true) => Err(BadGfp::Mobility(self)),
        }
    }
}

impl BitOr for Gfp {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Why a request contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadGfp {
    /// It names zones that exclude each other.
    Zones(Gfp),
    /// It is movable and reclaimable.
    Mobility(Gfp),
}

impl BadGfp {
    /// The request.
    #[must_use]
    pub const fn gfp(self) -> Gfp {
        match self {
            Self::Zones(gfp) | Self::Mobility(gfp) => gfp,
        }
    }
}

impl core::fmt::Display for BadGfp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Zones(gfp) => write!(f, "gfp {:#x} names zones that exclude each other", gfp.0),
            Self::Mobility(gfp) => write!(f, "gfp {:#x} is movable and reclaimable at once", gfp.0),
        }
    }
}

impl core::error::Error for BadGfp {}

/// What a kernel's configuration adds to the GFP word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GfpFacts {
    /// KASAN with hardware tags.
    pub kasan_hw_tags: bool,
    /// Lock debugging.
    pub lockdep: bool,
    /// Extensions of slab objects (6.12 and later).
    pub slab_obj_ext: bool,
}

/// Bits whose place or presence differs by era and configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LateBit {
    /// The request is atomic, in so many words.
    Atomic,
    /// Memory tags are cleared with the page.
    ZeroTags,
    /// The page is not cleared.
    SkipZero,
    /// KASAN leaves the page alone; in 6.1 on allocation.
    SkipKasan,
    /// KASAN leaves the page alone when it is freed (6.1).
    SkipKasanPoison,
    /// Lock debugging does not look at the request.
    NoLockdep,
    /// The slab object has no extension.
    NoObjExt,
}

impl LateBit {
    /// The bit; `None` where the kernel has none.
    ///
    /// | era | bits |
    /// |---|---|
    /// | 4.14 | as 5.10 (UNVERIFIED) |
    /// | 5.10 | atomic 0x200, no-lockdep 0x80_0000 |
    /// | 6.1 | atomic 0x200, zero-tags 0x80_0000, then three bits for hardware tags, no-lockdep 0x800_0000 |
    /// | 6.12, 7.2 | zero-tags 0x80_0000, then those that are configured, without gaps |
    ///
    /// Source: Linux 5.10–7.2 include/linux/gfp_types.h.
    #[must_use]
    pub const fn bit(self, era: Era, facts: GfpFacts) -> Option<Gfp> {
        let (tags, lockdep) = (facts.kasan_hw_tags, facts.lockdep);
        match era {
            Era::V4_14 | Era::V5_10 => match self {
                Self::Atomic => Some(Gfp(0x200)),
                Self::NoLockdep if lockdep => Some(Gfp(0x80_0000)),
                _ => None,
            },
            Era::V6_1 => match self {
                Self::Atomic => Some(Gfp(0x200)),
                Self::ZeroTags => Some(Gfp(0x80_0000)),
                Self::SkipZero if tags => Some(Gfp(0x100_0000)),
                Self::SkipKasan if tags => Some(Gfp(0x200_0000)),
                Self::SkipKasanPoison if tags => Some(Gfp(0x400_0000)),
                Self::NoLockdep if lockdep => Some(Gfp(0x800_0000)),
                _ => None,
            },
            Era::V6_12 | Era::V7_2 => {
                let after_tags = 24 + 2 * tags as u32;
                match self {
                    Self::ZeroTags => Some(Gfp(0x80_0000)),
                    Self::SkipZero if tags => Some(Gfp(1 << 24)),
                    Self::SkipKasan if tags => Some(Gfp(1 << 25)),
                    Self::NoLockdep if lockdep => Some(Gfp(1 << after_tags)),
                    Self::NoObjExt if facts.slab_obj_ext => Some(Gfp(1 << (after_tags + lockdep as u32))),
                    _ => None,
                }
            }
        }
    }
}

const fn skip_kasan(era: Era, facts: GfpFacts) -> u32 {
    let mut bits = 0;
    if let Some(bit) = LateBit::SkipKasan.bit(era, facts) {
        bits |= bit.0;
    }
    if let Some(bit) = LateBit::SkipKasanPoison.bit(era, facts) {
        bits |= bit.0;
    }
    bits
}
