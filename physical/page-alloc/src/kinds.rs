//! Kinds of zones, and which of them a kernel has.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h `zone_type`; mm/page_alloc.c `zone_names`.

use core::fmt;

/// The most zones that a node can have.
pub const MAX_ZONES: usize = 6;

/// What a zone of a node is for. The order is that of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ZoneKind {
    /// For devices that reach few address bits.
    Dma,
    /// For devices that reach 32 address bits.
    Dma32,
    /// All else that the kernel reaches directly.
    Normal,
    /// What the kernel reaches only through windows (32-bit).
    HighMem,
    /// Movable pages alone.
    Movable,
    /// Pages of devices; never free.
    Device,
}

impl ZoneKind {
    /// All kinds, lowest first.
    pub const ALL: [Self; MAX_ZONES] =
        [Self::Dma, Self::Dma32, Self::Normal, Self::HighMem, Self::Movable, Self::Device];

    /// The name in Linux's listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::HighMem => "HighMem",
            Self::Movable => "Movable",
            Self::Device => "Device",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether an ordinary request of a program (`GFP_USER`) may be served from here.
    #[must_use]
    pub const fn serves_user(self) -> bool {
        matches!(self, Self::Dma | Self::Dma32 | Self::Normal)
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The kinds of zones that a kernel is configured with; they are numbered without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneKinds(u8);

impl ZoneKinds {
    /// No kind.
    pub const EMPTY: Self = Self(0);

    /// These and `kind`.
    #[must_use]
    pub const fn with(self, kind: ZoneKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether the kernel has this kind.
    #[must_use]
    pub const fn contains(self, kind: ZoneKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// The number of a kind; `None` where it is not configured.
    #[must_use]
    pub const fn index(self, kind: ZoneKind) -> Option<usize> {
        if !self.contains(kind) {
            return None;
        }
        Some((self.0 & ((1 << kind as u8) - 1)).count_ones() as usize)
    }

    /// How many kinds there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The kinds, lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = ZoneKind> {
        ZoneKind::ALL.into_iter().filter(move |&kind| self.contains(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for kind in ZoneKind::ALL {
            assert_eq!(ZoneKind::of_name(kind.name()), Some(kind));
        }
        assert_eq!(ZoneKind::of_name("Low"), None);
    }
}
