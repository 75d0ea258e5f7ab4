//! Size classes: which sizes `kmalloc` has, how their caches are called, and in which order they are made.
//!
//! # Invariants
//! 1. Indices are Linux's: 1 is 96 bytes, 2 is 192, `n` from 3 on is `2^n`.
//! 2. A class that is an alias under a coarser alignment has no cache of its own.
//!
//! Source: Linux 5.10–7.2 mm/slab_common.c `create_kmalloc_caches`, `__kmalloc_index`; include/linux/slab.h.

use core::fmt;

use kernmem_base::{Era, Granule};
use kernmem_page_alloc::Gfp;

use crate::Name;

/// Indices of size classes that exist at most: the last is 128 KiB, two pages of 64 KiB.
pub const CLASSES: usize = 18;

/// What a request may live in: one family of caches for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// `kmalloc-N`.
    Normal,
    /// `kmalloc-cg-N`: charged to a group.
    Cg,
    /// `kmalloc-rcl-N`: reclaimable.
    Rcl,
    /// `dma-kmalloc-N`: memory of the DMA zone.
    Dma,
}

impl Family {
    /// All families, in the order in which Linux makes them.
    pub const ALL: [Self; 4] = [Self::Normal, Self::Cg, Self::Rcl, Self::Dma];

    /// The beginning of its caches' names.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Normal => "kmalloc",
            Self::Cg => "kmalloc-cg",
            Self::Rcl => "kmalloc-rcl",
            Self::Dma => "dma-kmalloc",
        }
    }
}

/// Which families a kernel has beside the normal one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Families {
    /// There is a DMA zone.
    pub dma: bool,
    /// Reclaimable memory is kept apart: all but the tiny configuration.
    pub rcl: bool,
    /// Charged memory is kept apart: 6.1 and later with memory groups.
    pub cg: bool,
}

impl Families {
    /// Whether the family exists.
    #[must_use]
    pub const fn has(self, family: Family) -> bool {
        match family {
            Family::Normal => true,
            Family::Cg => self.cg,
            Family::Rcl => self.rcl,
            Family::Dma => self.dma,
        }
    }

    /// The family of a request: DMA before reclaimable before charged; a family that is missing is the normal one.
    #[must_use]
    pub const fn of(self, gfp: Gfp) -> Family {
        if self.dma && gfp.contains(Gfp::DMA) {
            return Family::Dma;
        }
        if self.rcl && gfp.contains(Gfp::RECLAIMABLE) {
            return Family::Rcl;
        }
        if self.cg && gfp.contains(Gfp::ACCOUNT) {
            return Family::Cg;
        }
        Family::Normal
    }
}

/// What a kernel's smallest size and alignment depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KmallocArch {
    /// x86: no rule.
    X86,
    /// arm64: DMA must not share a cache line with anything else.
    Arm64 {
        /// Unaligned buffers are bounced (SWIOTLB is there), so that small sizes are safe: what 6.12 and later have
        /// unless it is switched off.
        bounce: bool,
        /// Cache writeback granule of the CPU, in bytes; 128 if the CPU does not say.
        writeback: u32,
    },
}

/// The size classes of one kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Classes {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// Smallest size that the build knows.
    minimum: u32,
    /// Every size is rounded up to a multiple of this.
    rounding: u32,
}

impl Classes {
    /// The classes of a kernel.
    ///
    /// | era | smallest size on arm64 | on x86 |
    /// |---|---|---|
    /// | 4.14 | 128 (UNVERIFIED) | 8 |
    /// | 5.10, 6.1 | 128 | 8 |
    /// | 6.12, 7.2 | 8; without bouncing every size is a multiple of the writeback granule | 8 |
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/include/asm/cache.h, mm/slab_common.c `__kmalloc_minalign`.
    #[must_use]
    pub const fn new(era: Era, granule: Granule, arch: KmallocArch) -> Self {
        let (minimum, rounding) = match (arch, era) {
            (KmallocArch::X86, _) => (8, 8),
            (KmallocArch::Arm64 { .. }, Era::V4_14 | Era::V5_10 | Era::V6_1) => (128, 128),
            (KmallocArch::Arm64 { bounce: true, .. }, Era::V6_12 | Era::V7_2) => (8, 8),
            (KmallocArch::Arm64 { bounce: false, writeback }, Era::V6_12 | Era::V7_2) => (8, writeback),
        };
        Self { era, granule, minimum, rounding }
    }

    /// Largest size that has a cache: two pages.
    #[must_use]
    pub const fn largest(self) -> u64 {
        2 * self.granule.bytes()
    }

    /// Bytes of a class; 0 if there is no such class.
    #[must_use]
    pub const fn bytes(index: usize) -> u32 {
        match index {
            0 => 0,
            1 => 96,
            2 => 192,
            3..CLASSES => 1 << index,
            _ => 0,
        }
    }

    /// The class that serves `size` bytes; `None` for 0 and for what goes to the page allocator.
    ///
    /// Source: Linux 5.10–7.2 mm/slab_common.c `setup_kmalloc_cache_index_table`, `new_kmalloc_cache`.
    #[must_use]
    pub const fn index(self, size: u64) -> Option<usize> {
        if size == 0 || size > self.largest() {
            return None;
        }
        let index = self.plain_index(size);
        let bytes = Self::bytes(index);
        let rounded = bytes.next_multiple_of(self.rounding);
        if rounded == bytes { Some(index) } else { Some(self.plain_index(rounded as u64)) }
    }

    /// The class by the build's table alone.
    const fn plain_index(self, size: u64) -> usize {
        if size <= self.minimum as u64 {
            return self.minimum.ilog2() as usize;
        }
        match size {
            65..=96 if self.minimum <= 32 => 1,
            129..=192 if self.minimum <= 64 => 2,
            _ => (size - 1).ilog2() as usize + 1,
        }
    }

    /// Whether the class has caches of its own.
    #[must_use]
    pub const fn exists(self, index: usize) -> bool {
        let bytes = Self::bytes(index) as u64;
        match self.index(bytes) {
            Some(own) => own == index,
            None => false,
        }
    }

    /// Alignment of the objects of a class: a power of two is aligned to itself.
    #[must_use]
    pub const fn align(self, index: usize) -> u32 {
        let bytes = Self::bytes(index);
        // A rounding beyond the minimum is an alignment of the sizes, which 96 and 192 keep too.
        let least = if self.rounding > self.minimum { self.rounding } else { self.minimum };
        if bytes.is_power_of_two() && bytes > least { bytes } else { least }
    }

    /// The `step`th class that a family makes, from 0; `None` when all are made.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 | as 5.10 (UNVERIFIED) |
    /// | 5.10 | ascending, but the DMA family in the order of the indices |
    /// | 6.1 | ascending |
    /// | 6.12, 7.2 | 96, 192, then ascending |
    ///
    /// Source: Linux 5.10–7.2 mm/slab_common.c `create_kmalloc_caches`.
    #[must_use]
    pub fn nth_made(self, family: Family, step: usize) -> Option<usize> {
        const ASCENDING: [usize; CLASSES - 1] = [3, 4, 5, 6, 1, 7, 2, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
        const BY_INDEX: [usize; CLASSES - 1] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
        let order = match (self.era, family) {
            (Era::V4_14 | Era::V5_10, Family::Dma) => BY_INDEX,
            (Era::V4_14 | Era::V5_10, Family::Normal | Family::Cg | Family::Rcl) | (Era::V6_1, _) => ASCENDING,
            (Era::V6_12 | Era::V7_2, _) => BY_INDEX,
        };
        order.into_iter().filter(|&index| self.exists(index)).nth(step)
    }

    /// The name of the cache of a class.
    #[must_use]
    pub fn name(family: Family, index: usize) -> Option<Name> {
        Name::of(format_args!("{}-{}", family.prefix(), Short(Self::bytes(index))))
    }
}

/// A size as the names have it: whole KiB as `1k`.
struct Short(u32);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1024 { write!(f, "{}k", self.0 >> 10) } else { write!(f, "{}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm64(era: Era, bounce: bool, writeback: u32) -> Classes {
        Classes::new(era, Granule::K4, KmallocArch::Arm64 { bounce, writeback })
    }

    #[track_caller]
    fn check(classes: Classes, pairs: &[(u64, u32)]) {
        for &(size, bytes) in pairs {
            assert_eq!(classes.index(size).map(Classes::bytes), Some(bytes), "{size}");
        }
    }

    #[test]
    fn x86_has_all_sizes() {
        let x86 = Classes::new(Era::V6_1, Granule::K4, KmallocArch::X86);
        check(x86, &[(1, 8), (8, 8), (9, 16), (64, 64), (65, 96), (96, 96), (97, 128), (129, 192), (193, 256)]);
        check(x86, &[(1025, 2048), (8192, 8192)]);
        assert_eq!((x86.index(0), x86.index(8193)), (None, None));
    }

    #[test]
    fn arm64_begins_at_128_before_bouncing() {
        check(arm64(Era::V6_1, true, 64), &[(1, 128), (96, 128), (128, 128), (129, 256), (192, 256)]);
        check(arm64(Era::V7_2, true, 64), &[(1, 8), (96, 96), (130, 192)]);
    }

    #[test]
    fn without_bouncing_sizes_are_rounded_to_the_writeback_granule() {
        check(arm64(Era::V6_12, false, 64), &[(1, 64), (32, 64), (96, 128), (192, 192), (200, 256)]);
        check(arm64(Era::V6_12, false, 128), &[(1, 128), (64, 128), (96, 128), (192, 256)]);
        assert!(!arm64(Era::V6_12, false, 128).exists(2) && arm64(Era::V6_12, false, 64).exists(2));
    }

    #[test]
    fn powers_of_two_are_aligned_to_themselves() {
        let x86 = Classes::new(Era::V6_1, Granule::K4, KmallocArch::X86);
        assert_eq!([3, 1, 2, 9, 13].map(|index| x86.align(index)), [8, 8, 8, 512, 8192]);
    }

    #[test]
    fn the_largest_class_is_two_pages() {
        for (granule, last) in [(Granule::K4, 13), (Granule::K16, 15), (Granule::K64, 17)] {
            let classes = Classes::new(Era::V6_1, granule, KmallocArch::X86);
            assert!(classes.exists(last) && !classes.exists(last + 1));
            assert_eq!(classes.index(classes.largest()), Some(last));
        }
    }

    #[test]
    fn the_dma_family_of_5_10_is_made_by_index() {
        let classes = Classes::new(Era::V5_10, Granule::K4, KmallocArch::X86);
        let made = |family| [0, 1, 2, 4, 6].map(|step| classes.nth_made(family, step).map(Classes::bytes));
        assert_eq!(made(Family::Dma), [96, 192, 8, 32, 128].map(Some));
        assert_eq!(made(Family::Normal), [8, 16, 32, 96, 192].map(Some));
    }
}
