//! A zone as the figures see it.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h `struct zone`, `is_highmem_idx`.

use crate::ZoneKind;

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
