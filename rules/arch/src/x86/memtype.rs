//! Memory types: how the three bits of an entry choose one, and what the PAT register holds.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/pat/memtype.c `pat_init`, arch/x86/mm/init.c `__cachemode2pte_tbl`.

use super::format::bit::{PAT, PCD, PWT};

/// A memory type, by Linux's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CacheMode {
    /// Write back.
    Wb,
    /// Write combining.
    Wc,
    /// Uncached, but a range register may make it write combining.
    UcMinus,
    /// Uncached.
    Uc,
    /// Write through.
    Wt,
    /// Write protected.
    Wp,
}

impl CacheMode {
    /// The name in the boot log, unpadded.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wb => "WB",
            Self::Wc => "WC",
            Self::UcMinus => "UC-",
            Self::Uc => "UC",
            Self::Wt => "WT",
            Self::Wp => "WP",
        }
    }
}

/// What the PAT register of this CPU holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PatKind {
    /// Before it is programmed: entries only tell cached from uncached.
    Unprogrammed,
    /// No such register, or `nopat`.
    None,
    /// Old Intel CPUs, whose third bit is broken: four types twice.
    Broken,
    /// Eight entries.
    Full,
}

impl PatKind {
    /// What Linux makes of a CPU.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/pat/memtype.c `init_cache_modes`, `pat_init`.
    #[must_use]
    pub const fn of(has_pat: bool, nopat: bool, intel: bool, family: u32, model: u32) -> Self {
        if !has_pat || nopat {
            Self::None
        } else if intel && ((family == 6 && model <= 0xd) || (family == 15 && model <= 6)) {
            Self::Broken
        } else {
            Self::Full
        }
    }

    /// The eight entries of the register, by index.
    #[must_use]
    pub const fn entries(self) -> [CacheMode; 8] {
        use CacheMode::{Uc, UcMinus, Wb, Wc, Wp, Wt};
        match self {
            Self::Unprogrammed | Self::None => [Wb, Wt, UcMinus, Uc, Wb, Wt, UcMinus, Uc],
            Self::Broken => [Wb, Wc, UcMinus, Uc, Wb, Wc, UcMinus, Uc],
            Self::Full => [Wb, Wc, UcMinus, Uc, Wb, Wp, UcMinus, Wt],
        }
    }

    /// The bits of a base page for `mode`: the lowest index that holds it, else uncached.
    ///
    /// | mode | full | broken | none | before programming |
    /// |---|---|---|---|---|
    /// | WB | 0 | 0 | 0 | 0 |
    /// | WC | PWT | PWT | PCD | PCD |
    /// | UC- | PCD | PCD | PCD | PCD |
    /// | UC | PWT PCD | PWT PCD | PWT PCD | PWT PCD |
    /// | WT | PAT PCD PWT | PCD | PWT | PCD |
    /// | WP | PAT PWT | PCD | PCD | PCD |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `update_cache_mode_entry`.
    #[must_use]
    pub const fn bits(self, mode: CacheMode) -> u64 {
        match (self, mode) {
            (_, CacheMode::Wb) => 0,
            (_, CacheMode::UcMinus) => PCD,
            (_, CacheMode::Uc) => PWT | PCD,
            (Self::Full | Self::Broken, CacheMode::Wc) | (Self::None, CacheMode::Wt) => PWT,
            (Self::Full, CacheMode::Wt) => PAT | PCD | PWT,
            (Self::Full, CacheMode::Wp) => PAT | PWT,
            (Self::Unprogrammed | Self::None, CacheMode::Wc)
            | (Self::Unprogrammed | Self::Broken, CacheMode::Wt)
            | (Self::Unprogrammed | Self::None | Self::Broken, CacheMode::Wp) => PCD,
        }
    }
}
