//! Zones and free blocks as they are handed over.
//!
//! Source: Linux 6.1 mm/memblock.c `memblock_free_all`; mm/page_alloc.c `init_per_zone_wmark_min`.

use alloc::vec;
use alloc::vec::Vec;

use kernmem::Witness;
use kernmem::zones::{Node, Zone};
use kernmem_base::{Era, Granule, Pfn};
use kernmem_page_alloc::Watermarks;
use kernmem_page_alloc::figures::{
    BootFigures, LOWMEM_RESERVE_RATIO, ZoneCpus, ZoneFacts, boot_watermarks, lowmem_reserve, pcp_limits, stat_threshold,
};

use super::super::{
    BuddyInfo, BuddyRow, Counters, NodeCounter, Pageset, PopulatedZone, TextConfig, ZoneCounter, ZoneInfo, ZoneKind,
    ZoneText,
};
use super::OfBoot;

/// Orders of free blocks: up to 4 MiB with 4K pages, 32 MiB with 16K, 512 MiB with 64K.
const fn orders(granule: Granule) -> usize {
    match granule {
        Granule::K4 => 11,
        Granule::K16 => 12,
        Granule::K64 => 14,
    }
}

/// A zone and its first frame.
#[derive(Clone, Copy)]
struct Sized {
    facts: ZoneFacts,
    start: Pfn,
}

impl<M, W: Witness> OfBoot<'_, '_, M, W> {
    /// `/proc/buddyinfo`: the blocks that are handed over.
    #[must_use]
    pub fn buddyinfo(&self) -> BuddyInfo {
        let mut zones: Vec<(BuddyRow, &Zone)> = Vec::new();
        for node in &self.kernel.nodes.nodes {
            for zone in node.zones.iter().filter(|zone| zone.present != 0) {
                let Some(kind) = ZoneKind::of_name(zone.name) else { continue };
                let free = vec![0; orders(self.kernel.granule)];
                zones.push((BuddyRow { node: node.nid, kind, free }, zone));
            }
        }
        for chunk in self.kernel.memblock.chunks() {
            let nid = chunk.nid.map_or(0, |nid| nid.0);
            let holds = |(row, zone): &&mut (BuddyRow, &Zone)| {
                row.node == nid && zone.span.start <= chunk.start && chunk.start < zone.span.end
            };
            let row = zones.iter_mut().find(holds);
            if let Some(count) = row.and_then(|(row, _)| row.free.get_mut(usize::from(chunk.order.0))) {
                *count += 1;
            }
        }
        BuddyInfo { zones: zones.into_iter().map(|(row, _)| row).collect() }
    }

    /// Every zone of a node with its sizes, Movable always among them.
    fn sizes(&self, node: &Node, buddy: &BuddyInfo) -> Vec<Sized> {
        let managed = |kind| {
            let row = buddy.zones.iter().find(|row| row.node == node.nid && row.kind == kind);
            row.map_or(0, |row| row.free.iter().enumerate().map(|(order, count)| count << order).sum())
        };
        let size = |zone: &Zone| {
            let kind = ZoneKind::of_name(zone.name)?;
            let spanned = zone.span.end.0.saturating_sub(zone.span.start.0);
            let facts = ZoneFacts { kind, node: node.nid, spanned, present: zone.present, managed: managed(kind) };
            Some(Sized { facts, start: zone.span.start })
        };
        let mut all: Vec<Sized> = node.zones.iter().filter_map(size).collect();
        let kind = ZoneKind::Movable;
        if all.iter().all(|zone| zone.facts.kind != kind) {
            let facts = ZoneFacts { kind, node: node.nid, spanned: 0, present: 0, managed: 0 };
            all.push(Sized { facts, start: Pfn(0) });
        }
        all
    }

    /// `/proc/zoneinfo`: sizes, watermarks and limits, of the pages that are handed over; counters are 0 but for free
    /// pages.
    #[must_use]
    pub fn zoneinfo(&self, texts: &TextConfig) -> ZoneInfo {
        let buddy = self.buddyinfo();
        let zones: Vec<Sized> = self.kernel.nodes.nodes.iter().flat_map(|node| self.sizes(node, &buddy)).collect();
        let facts: Vec<ZoneFacts> = zones.iter().map(|zone| zone.facts).collect();
        let managed = facts.iter().map(|zone| zone.managed).sum();
        let thp = kernmem::figures::thp(self.boot.config, self.kernel.granule, managed);
        let figures = BootFigures {
            era: self.kernel.era,
            granule: self.kernel.granule,
            pageblock_pages: 1 << self.kernel.sections.geometry().facts().pageblock_order,
            thp,
        };
        let mut marks = vec![Watermarks::default(); facts.len()];
        boot_watermarks(&figures, &facts, &facts, &mut marks);
        let mut out: Vec<ZoneText> = Vec::new();
        for (zone, marks) in zones.iter().zip(&marks) {
            let mut text = self.text(texts, zone, marks, &facts);
            let has_counters = |other: &ZoneText| other.node == text.node && other.node_counters.is_some();
            if text.populated.is_some() && !out.iter().any(has_counters) {
                text.node_counters = Some(Counters::<NodeCounter>::zero(self.kernel.era, texts));
            }
            out.push(text);
        }
        ZoneInfo { zones: out }
    }

    fn text(&self, texts: &TextConfig, zone: &Sized, marks: &Watermarks, all: &[ZoneFacts]) -> ZoneText {
        let own = zone.facts;
        let node: Vec<ZoneFacts> = all.iter().copied().filter(|other| other.node == own.node).collect();
        let index = node.iter().position(|other| other.kind == own.kind).unwrap_or(0);
        let kept = lowmem_reserve(&node, index, &LOWMEM_RESERVE_RATIO);
        ZoneText {
            node: own.node,
            kind: own.kind,
            node_counters: None,
            free: own.managed,
            boost: 0,
            min: marks.min,
            low: marks.low,
            high: marks.high,
            promo: marks.promo,
            spanned: own.spanned,
            present: own.present,
            managed: own.managed,
            cma: 0,
            protection: kept.into_iter().take(node.len()).collect(),
            populated: own.is_populated().then(|| self.populated(texts, zone, marks.low)),
        }
    }

    fn populated(&self, texts: &TextConfig, zone: &Sized, low: u64) -> PopulatedZone {
        let (era, granule, managed) = (self.kernel.era, self.kernel.granule, zone.facts.managed);
        let online = self.boot.machine.cpus.max(1);
        let cpu_nodes = &self.boot.machine.cpu_nodes;
        let of_node = match cpu_nodes.is_empty() {
            true => u64::from(online),
            false => cpu_nodes.iter().filter(|nid| **nid == zone.facts.node).count() as u64,
        };
        let limits = pcp_limits(era, granule, managed, low, ZoneCpus { of_node, online: online.into() }, 0);
        // From 6.12 on the limit moves, and starts at 0.
        let high = match era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => limits.high_min,
            Era::V6_12 | Era::V7_2 => 0,
        };
        let pageset = |cpu| Pageset {
            cpu,
            count: 0,
            high,
            batch: limits.batch,
            high_min: limits.high_min,
            high_max: limits.high_max,
            threshold: texts.smp.then(|| stat_threshold(granule, managed, online)),
        };
        let mut counters = Counters::zero(era, texts);
        counters.set(ZoneCounter::NrFreePages, managed);
        PopulatedZone {
            counters,
            numa: Counters::zero(era, texts),
            pagesets: (0..online).map(pageset).collect(),
            unreclaimable: 0,
            start_pfn: zone.start,
            reserved_highatomic: 0,
            free_highatomic: 0,
        }
    }
}
