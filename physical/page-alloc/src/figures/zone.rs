//! A zone as the figures see it.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h `zone_type`, mm/page_alloc.c `zone_names`.

use core::fmt;

/// The most zones that a node can have.
pub const MAX_ZONES: usize = 6;

/// The kinds of zones, in the order of their numbers; a kernel has the configured ones, numbered without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ZoneKind {
    /// Reached by devices with few address bits.
    Dma,
    /// Reached by devices with 32 address bits.
    Dma32,
    /// The rest of what the kernel always has mapped.
    Normal,
    /// Memory that the kernel maps on demand (i386).
    HighMem,
    /// Memory that holds movable pages alone.
    Movable,
    /// Memory of devices.
    Device,
}

impl ZoneKind {
    /// All kinds in order.
    pub const ALL: [Self; MAX_ZONES] =
        [Self::Dma, Self::Dma32, Self::Normal, Self::HighMem, Self::Movable, Self::Device];

    /// Linux's name.
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

/// One zone of one node at one moment; all sizes in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ZoneFacts {
    /// Which zone.
    pub kind: ZoneKind,
    /// Its node.
    pub node: u32,
    /// From the first to the last page, holes included.
    pub spanned: u64,
    /// Pages that exist.
    pub present: u64,
    /// Pages that the page allocator manages at that moment.
    pub managed: u64,
}

impl ZoneFacts {
    /// Whether the zone has any page.
    #[must_use]
    pub const fn is_populated(&self) -> bool {
        self.present != 0
    }
}

/// Whether zones of `kind` count as high memory: also Movable, where it is cut from HighMem.
pub(super) fn is_high(kind: ZoneKind, zones: &[ZoneFacts]) -> bool {
    match kind {
        ZoneKind::HighMem => true,
        ZoneKind::Movable => zones.iter().any(|zone| zone.kind == ZoneKind::HighMem && zone.spanned != 0),
        ZoneKind::Dma | ZoneKind::Dma32 | ZoneKind::Normal | ZoneKind::Device => false,
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
