//! The largest block of the page allocator and the size of a pageblock, as a kernel was built.
//!
//! Source: Linux 5.10, 6.1 include/linux/mmzone.h `MAX_ORDER` (exclusive); 6.12, 7.2 the same `MAX_PAGE_ORDER`;
//! include/linux/pageblock-flags.h `pageblock_order`.

use kernmem_base::{Era, Granule};
use kernmem_config::Config;

/// Both orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orders {
    /// The largest block.
    pub largest: u8,
    /// A pageblock.
    pub pageblock: u8,
}

impl Orders {
    /// The orders of one kernel.
    ///
    /// | era | largest | pageblock |
    /// |---|---|---|
    /// | 4.14, 5.10 | FORCE_MAX_ZONEORDER less 1 | what a PMD entry maps, at most the largest |
    /// | 6.1 | ARCH_FORCE_MAX_ORDER less 1 | the same |
    /// | 6.12 | ARCH_FORCE_MAX_ORDER | the same |
    /// | 7.2 | the same | at most PAGE_BLOCK_MAX_ORDER as well |
    ///
    /// Without the option the largest order is 10. Without huge pages a pageblock is a largest block.
    #[must_use]
    pub fn of(config: &Config, granule: Granule) -> Self {
        let kconfig = &config.kconfig;
        let number = |name| kconfig.number(name).and_then(|number| u8::try_from(number).ok());
        let largest = match config.era {
            Era::V4_14 | Era::V5_10 => number("FORCE_MAX_ZONEORDER").map(|orders| orders.saturating_sub(1)),
            Era::V6_1 => number("ARCH_FORCE_MAX_ORDER").map(|orders| orders.saturating_sub(1)),
            Era::V6_12 | Era::V7_2 => number("ARCH_FORCE_MAX_ORDER"),
        };
        let largest = largest.unwrap_or(10);
        let most = match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => largest,
            Era::V7_2 => number("PAGE_BLOCK_MAX_ORDER").unwrap_or(largest).min(largest),
        };
        let huge = kconfig.is_set("HUGETLB_PAGE") || Self::follows_thp(config);
        let pageblock = if huge { Self::pmd(config, granule).min(most) } else { most };
        Self { largest, pageblock }
    }

    /// Whether transparent huge pages alone make pageblocks smaller.
    fn follows_thp(config: &Config) -> bool {
        match config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
            Era::V6_12 | Era::V7_2 => config.kconfig.is_set("TRANSPARENT_HUGEPAGE"),
        }
    }

    /// The order of what an entry of the second-lowest level maps: i386 without PAE has entries of half the size.
    fn pmd(config: &Config, granule: Granule) -> u8 {
        let narrow = config.kconfig.is_set("X86_32") && !config.kconfig.is_set("X86_PAE");
        (granule.shift() - if narrow { 2 } else { 3 }) as u8
    }

    /// Pages of the largest block.
    #[must_use]
    pub const fn largest_pages(self) -> u64 {
        1 << self.largest
    }

    /// Pages of a pageblock.
    #[must_use]
    pub const fn pageblock_pages(self) -> u64 {
        1 << self.pageblock
    }
}
