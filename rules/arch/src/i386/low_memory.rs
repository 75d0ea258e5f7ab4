//! How much of memory is low, so that the kernel maps it all the time, and how much is high.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init_32.c `find_low_pfn_range`, `lowmem_pfn_init`, `highmem_pfn_init`.

use kernmem_base::{Era, Pfn};

const PAGE_SHIFT: u32 = 12;
/// `highmem=` must leave so much low memory.
const LEAST_LOW: Pfn = Pfn(64 << (20 - PAGE_SHIFT));
/// One past the last frame below 4 GiB.
const MAX_NONPAE_PFN: Pfn = Pfn(1 << (32 - PAGE_SHIFT));

/// What decides the split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowFacts {
    /// The branch.
    pub era: Era,
    /// One past the last frame of memory.
    pub max_pfn: Pfn,
    /// One past the last frame that low memory may have.
    pub most_low: Pfn,
    /// `CONFIG_HIGHMEM`.
    pub highmem: bool,
    /// `CONFIG_HIGHMEM64G`: high memory may lie above 4 GiB. No kernel of 7.2 has it.
    pub highmem_64g: bool,
    /// Pages that `highmem=` asks for, if it does.
    pub asked: Option<u64>,
}

/// What the boot log says of an answer that differs from what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LowWarning {
    /// `highmem=` asks for more than there is.
    BiggerThanMemory,
    /// `highmem=` would leave less than 64 MiB of low memory.
    TooLittleLeft,
    /// `highmem=` asks for more than lies above low memory.
    BiggerThanAvailable,
    /// The kernel has no high memory: memory above low memory is not used, or `highmem=` means nothing.
    NotBuilt,
    /// Memory above 4 GiB is not used.
    Above4G,
}

/// The split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LowMemory {
    /// One past the last frame of low memory.
    pub max_low: Pfn,
    /// One past the last frame that is used.
    pub max: Pfn,
    /// Pages of high memory.
    pub high_pages: u64,
    /// What the log says besides.
    pub warning: Option<LowWarning>,
}

/// Splits memory into low and high.
///
/// | memory | `highmem=` | low memory ends at |
/// |---|---|---|
/// | fits | not given, or refused | the end of memory |
/// | fits | H pages | H below the end of memory, which leaves at least 64 MiB |
/// | does not fit | any | the most that low memory may have |
///
/// Memory that does not fit is high; `highmem=` cuts it from above. Frames from 4 GiB on are used only if the kernel was
/// built for them:
///
/// | era | frames above 4 GiB |
/// |---|---|
/// | to 6.12 | where 64 GiB of high memory are built (4.14 UNVERIFIED) |
/// | 7.2 | never |
#[must_use]
pub const fn split(facts: &LowFacts) -> LowMemory {
    if facts.max_pfn.0 <= facts.most_low.0 { all_fits(facts) } else { some_is_high(facts) }
}

const fn all_fits(facts: &LowFacts) -> LowMemory {
    let max = facts.max_pfn;
    let asked = match facts.asked {
        None | Some(0) => return LowMemory { max_low: max, max, high_pages: 0, warning: None },
        Some(asked) => asked,
    };
    let warning = match () {
        () if !facts.highmem => LowWarning::NotBuilt,
        () if asked >= max.0 => LowWarning::BiggerThanMemory,
        () if max.0 - asked < LEAST_LOW.0 => LowWarning::TooLittleLeft,
        () => return LowMemory { max_low: Pfn(max.0 - asked), max, high_pages: asked, warning: None },
    };
    LowMemory { max_low: max, max, high_pages: 0, warning: Some(warning) }
}

const fn some_is_high(facts: &LowFacts) -> LowMemory {
    let low = facts.most_low;
    if !facts.highmem {
        return LowMemory { max_low: low, max: low, high_pages: 0, warning: Some(LowWarning::NotBuilt) };
    }
    let above = facts.max_pfn.0 - low.0;
    let (high, warning) = match facts.asked {
        None => (above, None),
        Some(asked) if asked > above => (0, Some(LowWarning::BiggerThanAvailable)),
        Some(asked) => (asked, None),
    };
    // Too large a wish makes no high memory, and does not shorten memory.
    let max = if warning.is_some() { facts.max_pfn } else { Pfn(low.0 + high) };
    let reaches = match facts.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => facts.highmem_64g,
        Era::V7_2 => false,
    };
    if !reaches && max.0 > MAX_NONPAE_PFN.0 {
        return LowMemory { max_low: low, max: MAX_NONPAE_PFN, high_pages: high, warning: Some(LowWarning::Above4G) };
    }
    LowMemory { max_low: low, max, high_pages: high, warning }
}
