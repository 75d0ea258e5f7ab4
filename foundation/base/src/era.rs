//! The branches of Linux that rules distinguish.

use core::fmt;
use core::str::FromStr;

/// A branch of Linux, and in [`Era::release`] the point release whose source was read.
///
/// What a stable update changed inside a branch is a field of the configuration, never a new era.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Era {
    /// The layout before the halves of arm64's kernel address space were flipped.
    V4_14,
    /// 5.10.262.
    V5_10,
    /// 6.1.192.
    V6_1,
    /// 6.12.117.
    V6_12,
    /// 7.2.13.
    V7_2,
}

impl Era {
    /// All eras, oldest first.
    pub const ALL: [Self; 5] = [Self::V4_14, Self::V5_10, Self::V6_1, Self::V6_12, Self::V7_2];

    /// The branch as Linux writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4_14 => "4.14",
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    /// The point release that was read for this branch.
    #[must_use]
    pub const fn release(self) -> &'static str {
        match self {
            Self::V4_14 => "4.14",
            Self::V5_10 => "5.10.262",
            Self::V6_1 => "6.1.192",
            Self::V6_12 => "6.12.117",
            Self::V7_2 => "7.2.13",
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Era {
    type Err = UnknownEra;

    fn from_str(text: &str) -> Result<Self, UnknownEra> {
        Self::ALL.into_iter().find(|era| era.name() == text).ok_or(UnknownEra)
    }
}

/// The text names no branch that kernmem knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownEra;

impl fmt::Display for UnknownEra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown era: one of 4.14, 5.10, 6.1, 6.12, 7.2")
    }
}

impl core::error::Error for UnknownEra {}
