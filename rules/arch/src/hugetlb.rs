//! Huge pages of hugetlbfs: their sizes, and what the optimization of their descriptors gives back (HVO).
//!
//! Here: which kernels optimize, how many pages of descriptors a huge page keeps and gives back.
//! Not here: pools, and how the descriptors are remapped.
//!
//! # Invariants
//! 1. No sizes make a function panic; what makes no sense saves nothing.
//!
//! Source: Linux 6.1–7.2 mm/hugetlb_vmemmap.c; 5.10–7.2 arch/arm64/mm/hugetlbpage.c, arch/x86/mm/hugetlbpage.c.

use kernmem_base::{Era, Granule};

/// Architectures with huge pages, as far as their sizes differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HugeArch {
    /// arm64.
    Arm64,
    /// x86-64.
    X86_64,
    /// i386 with three levels of tables.
    I386Pae,
    /// i386 with two levels.
    I386,
}

impl HugeArch {
    /// The sizes of huge pages in bytes, largest first; on x86-64 the largest only if the CPU has it.
    ///
    /// | machine | sizes |
    /// |---|---|
    /// | arm64, 4K pages | 1G, 32M, 2M, 64K |
    /// | arm64, 16K pages | 1G, 32M, 2M |
    /// | arm64, 64K pages | 16G, 512M, 2M |
    /// | x86-64 | 1G, 2M |
    /// | i386 with PAE, without | 2M, 4M |
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/mm/hugetlbpage.c `hugetlbpage_init`; arch/x86/mm/hugetlbpage.c
    /// `arch_hugetlb_valid_size`.
    #[must_use]
    pub const fn sizes(self, granule: Granule) -> &'static [u64] {
        match (self, granule) {
            (Self::Arm64, Granule::K4) => &[1 << 30, 32 << 20, 2 << 20, 64 << 10],
            (Self::Arm64, Granule::K16) => &[1 << 30, 32 << 20, 2 << 20],
            (Self::Arm64, Granule::K64) => &[16 << 30, 512 << 20, 2 << 20],
            (Self::X86_64, _) => &[1 << 30, 2 << 20],
            (Self::I386Pae, _) => &[2 << 20],
            (Self::I386, _) => &[4 << 20],
        }
    }
}

/// Pages of descriptors that an optimized huge page keeps; `None` where nothing is optimized.
///
/// | era | x86-64 | arm64, i386 |
/// |---|---|---|
/// | 4.14, 5.10 | none | none |
/// | 6.1, 6.12 | 1 | none |
/// | 7.2 | 1, and one more that all huge pages of a zone and a size share | none |
///
/// arm64 was left out because a live entry may not change its output address without a moment in which it maps
/// nothing.
///
/// Source: Linux 6.1–7.2 mm/hugetlb_vmemmap.h `HUGETLB_VMEMMAP_RESERVE_SIZE`; arch/x86/Kconfig, arch/arm64/Kconfig
/// `ARCH_WANT_OPTIMIZE_HUGETLB_VMEMMAP`.
#[must_use]
pub const fn hvo_kept_pages(era: Era, arch: HugeArch) -> Option<u64> {
    match (era, arch) {
        (Era::V4_14 | Era::V5_10, _) | (_, HugeArch::Arm64 | HugeArch::I386Pae | HugeArch::I386) => None,
        (Era::V6_1 | Era::V6_12 | Era::V7_2, HugeArch::X86_64) => Some(1),
    }
}

/// What the descriptors of one huge page take and give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HvoSaving {
    /// Bytes of all its descriptors.
    pub map_bytes: u64,
    /// Whole pages of them; 0 where they share a page with others'.
    pub map_pages: u64,
    /// Pages that are given back.
    pub freed_pages: u64,
}

/// The saving of one huge page of `huge_bytes` that keeps `kept_pages` pages of descriptors of `page_bytes` each.
///
/// Nothing is given back if the size of a descriptor is no power of two: then descriptors straddle pages, and no page
/// of them repeats another.
///
/// Source: Linux 6.1–7.2 mm/hugetlb_vmemmap.c `hugetlb_vmemmap_optimizable_size`, `hugetlb_vmemmap_init_one`.
#[must_use]
pub const fn hvo_saving_keeping(kept_pages: u64, granule: Granule, huge_bytes: u64, page_bytes: u64) -> HvoSaving {
    let map_bytes = (huge_bytes >> granule.shift()).saturating_mul(page_bytes);
    let map_pages = map_bytes >> granule.shift();
    let freed_pages = if page_bytes.is_power_of_two() { map_pages.saturating_sub(kept_pages) } else { 0 };
    HvoSaving { map_bytes, map_pages, freed_pages }
}

/// The saving of one huge page on a kernel that optimizes as [`hvo_kept_pages`] tells; nothing on others.
///
/// Source: Linux 6.1–7.2 mm/hugetlb_vmemmap.c.
#[must_use]
pub const fn hvo_saving(era: Era, arch: HugeArch, granule: Granule, huge_bytes: u64, page_bytes: u64) -> HvoSaving {
    match hvo_kept_pages(era, arch) {
        Some(kept) => hvo_saving_keeping(kept, granule, huge_bytes, page_bytes),
        None => hvo_saving_keeping(u64::MAX, granule, huge_bytes, page_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;

    /// Base page, huge page, bytes and pages of descriptors, freed when one or two pages are kept.
    const TABLE: [(Granule, u64, u64, u64, u64, u64); 10] = [
        (Granule::K4, 64 << 10, 1 << 10, 0, 0, 0),
        (Granule::K4, 2 * M, 32 << 10, 8, 7, 6),
        (Granule::K4, 32 * M, 512 << 10, 128, 127, 126),
        (Granule::K4, G, 16 * M, 4096, 4095, 4094),
        (Granule::K16, 2 * M, 8 << 10, 0, 0, 0),
        (Granule::K16, 32 * M, 128 << 10, 8, 7, 6),
        (Granule::K16, G, 4 * M, 256, 255, 254),
        (Granule::K64, 2 * M, 2 << 10, 0, 0, 0),
        (Granule::K64, 512 * M, 512 << 10, 8, 7, 6),
        (Granule::K64, 16 * G, 16 * M, 256, 255, 254),
    ];

    #[test]
    fn each_size_gives_back_all_but_what_it_keeps() {
        for (granule, huge, map_bytes, map_pages, one, two) in TABLE {
            let saving = |freed_pages| HvoSaving { map_bytes, map_pages, freed_pages };
            assert_eq!(hvo_saving_keeping(1, granule, huge, 64), saving(one), "{granule:?} {huge:#x}");
            assert_eq!(hvo_saving_keeping(2, granule, huge, 64), saving(two), "{granule:?} {huge:#x}");
        }
    }

    #[test]
    fn only_x86_64_optimizes_and_not_before_6_1() {
        let freed = |era, arch| hvo_saving(era, arch, Granule::K4, 2 * M, 64).freed_pages;
        assert_eq!(Era::ALL.map(|era| freed(era, HugeArch::X86_64)), [0, 0, 7, 7, 7]);
        for arch in [HugeArch::Arm64, HugeArch::I386, HugeArch::I386Pae] {
            assert_eq!(Era::ALL.map(|era| freed(era, arch)), [0; 5]);
        }
    }

    #[test]
    fn ten_gib_of_2m_pages_save_140_mib() {
        let saving = hvo_saving(Era::V6_1, HugeArch::X86_64, Granule::K4, 2 * M, 64);
        assert_eq!(5120 * saving.freed_pages * 4096, 140 * M);
    }

    #[test]
    fn descriptors_that_straddle_pages_are_not_optimized() {
        let saving = hvo_saving(Era::V6_1, HugeArch::X86_64, Granule::K4, 2 * M, 56);
        assert_eq!(saving, HvoSaving { map_bytes: 28 << 10, map_pages: 7, freed_pages: 0 });
        assert_eq!(hvo_saving(Era::V7_2, HugeArch::X86_64, Granule::K64, u64::MAX, u64::MAX).freed_pages, 0);
    }
}
