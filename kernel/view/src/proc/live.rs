//! Zones and free blocks of a kernel that runs, out of its page allocator.
//!
//! Here: `/proc/zoneinfo`, `/proc/buddyinfo`, `/proc/pagetypeinfo` of this moment. A zone's free pages are those in its own
//! lists; what CPUs keep in theirs is told beside them, as in Linux.
//! Not here: which frames of a zone begin a pageblock (`kernmem::zones::Nodes::each_pageblock`), the texts
//! (`kernmem-report`).
//!
//! # Invariants
//! 1. A counter that the allocator does not keep is 0: it knows free pages, and no CMA areas.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `zoneinfo_show_print`, `frag_show_print`, `pagetypeinfo_show`.

use alloc::vec::Vec;

use kernmem_base::{Era, Order, Pfn};
use kernmem_page_alloc::figures::stat_threshold;
use kernmem_page_alloc::store::Store;
use kernmem_page_alloc::{CpuPages, PageAllocator, Zone, ZoneKind};
use kernmem_sparse::MigrateType;

use super::{
    BuddyInfo, BuddyRow, Counters, NodeCounter, PageTypeBlocks, PageTypeFree, PageTypeInfo, PageTypeNode, Pageset,
    PopulatedZone, TextConfig, ZoneCounter, ZoneInfo, ZoneText,
};

/// The zones of a running kernel.
#[derive(Debug)]
pub struct LiveZones<'a, S: Store> {
    /// Its page allocator.
    pub allocator: &'a PageAllocator<S>,
    /// The lists of each online CPU, by number.
    pub cpus: &'a [&'a CpuPages<S>],
    /// What was built into it.
    pub texts: &'a TextConfig,
}

impl<S: Store> LiveZones<'_, S> {
    /// `/proc/buddyinfo`.
    #[must_use]
    pub fn buddyinfo(&self) -> BuddyInfo {
        let row = |zone: &Zone<S>| {
            let span = zone.span();
            let census = zone.census();
            let free = self.orders().map(|order| census.nr_free(order)).collect();
            BuddyRow { node: span.nid, kind: span.kind, free }
        };
        BuddyInfo { zones: self.populated_zones().map(row).collect() }
    }

    /// `/proc/zoneinfo`.
    #[must_use]
    pub fn zoneinfo(&self) -> ZoneInfo {
        let mut last_counted = None;
        let mut zones = Vec::new();
        for zone in self.allocator.zones() {
            let mut text = self.zone(zone);
            if zone.is_populated() && last_counted != Some(text.node) {
                text.node_counters = Some(Counters::<NodeCounter>::zero(self.era(), self.texts));
                last_counted = Some(text.node);
            }
            zones.push(text);
        }
        ZoneInfo { zones }
    }

    /// `/proc/pagetypeinfo`. `pageblocks` names the frames of a zone that begin a pageblock to the function that it is
    /// given: a first one, and how many in a row.
    pub fn pagetypeinfo(&self, mut pageblocks: impl FnMut(u32, ZoneKind, &mut dyn FnMut(Pfn, u64))) -> PageTypeInfo {
        let facts = self.allocator.facts();
        let types = self.types();
        let mut nodes: Vec<(u32, PageTypeNode)> = Vec::new();
        for zone in self.populated_zones() {
            let (node, kind) = (zone.span().nid, zone.span().kind);
            if nodes.last().is_none_or(|(last, _)| *last != node) {
                nodes.push((node, PageTypeNode::default()));
            }
            let Some((_, text)) = nodes.last_mut() else { continue };
            let census = zone.census();
            let free = |&migrate: &MigrateType| {
                let counts = self.orders().map(|order| census.free_blocks(order, migrate)).collect();
                PageTypeFree { node, kind, migrate, counts }
            };
            text.free.extend(types.iter().map(free));
            let mut blocks = [0; MigrateType::ALL.len()];
            pageblocks(node, kind, &mut |first, count| {
                blocks.iter_mut().zip(zone.pageblocks(first, count)).for_each(|(all, these)| *all += these);
            });
            let counts = types.iter().map(|kind| blocks[*kind as usize]).collect();
            text.blocks.push(PageTypeBlocks { node, kind, counts });
        }
        PageTypeInfo {
            pageblock_order: facts.pageblock_order.0.into(),
            pageblock_pages: 1 << facts.pageblock_order.0,
            orders: self.orders().count() as u32,
            types,
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
        }
    }

    fn era(&self) -> Era {
        self.allocator.facts().era
    }

    fn orders(&self) -> impl Iterator<Item = Order> + use<S> {
        (0..=self.allocator.facts().max_order.0).map(Order)
    }

    fn populated_zones(&self) -> impl Iterator<Item = &Zone<S>> {
        self.allocator.zones().filter(|zone| zone.is_populated())
    }

    /// The migrate types that were built in.
    fn types(&self) -> Vec<MigrateType> {
        let is_built = |kind: &MigrateType| match kind {
            MigrateType::Unmovable | MigrateType::Movable | MigrateType::Reclaimable | MigrateType::HighAtomic => true,
            MigrateType::Cma => self.texts.cma,
            MigrateType::Isolate => self.texts.isolation,
        };
        MigrateType::ALL.into_iter().filter(is_built).collect()
    }

    fn zone(&self, zone: &Zone<S>) -> ZoneText {
        let (span, marks, boost) = (zone.span(), zone.watermarks(), zone.boost());
        ZoneText {
            node: span.nid,
            kind: span.kind,
            node_counters: None,
            free: zone.free(),
            boost,
            min: marks.min + boost,
            low: marks.low + boost,
            high: marks.high + boost,
            promo: marks.promo + boost,
            spanned: span.end.0 - span.start.0,
            present: span.present,
            managed: zone.managed(),
            cma: 0,
            protection: self.allocator.facts().kinds.iter().map(|kind| zone.reserve(kind)).collect(),
            populated: zone.is_populated().then(|| self.populated(zone)),
        }
    }

    fn populated(&self, zone: &Zone<S>) -> PopulatedZone {
        let era = self.era();
        let mut counters = Counters::zero(era, self.texts);
        counters.set(ZoneCounter::NrFreePages, zone.free());
        counters.set(ZoneCounter::NrFreePagesBlocks, self.free_in_whole_pageblocks(zone));
        counters.set(ZoneCounter::NrFreeCma, zone.free_cma());
        PopulatedZone {
            counters,
            numa: Counters::zero(era, self.texts),
            pagesets: self.cpus.iter().map(|cpu| self.pageset(zone, cpu)).collect(),
            unreclaimable: 0,
            start_pfn: zone.span().start,
            reserved_highatomic: zone.reserved_highatomic(),
            free_highatomic: zone.free_highatomic(),
        }
    }

    /// Free pages in blocks of at least a pageblock that are not isolated.
    fn free_in_whole_pageblocks(&self, zone: &Zone<S>) -> u64 {
        let whole = self.orders().filter(|order| *order >= self.allocator.facts().pageblock_order);
        let census = zone.census();
        let free = |order| (census.nr_free(order) - census.free_blocks(order, MigrateType::Isolate)) << order.0;
        whole.map(free).sum()
    }

    fn pageset(&self, zone: &Zone<S>, cpu: &CpuPages<S>) -> Pageset {
        let (limits, online) = (zone.pcp(), self.cpus.len() as u32);
        let threshold = stat_threshold(self.allocator.facts().granule, zone.managed(), online);
        Pageset {
            cpu: cpu.cpu().0,
            count: cpu.count(zone),
            high: cpu.high(zone),
            batch: limits.batch,
            high_min: limits.high_min,
            high_max: limits.high_max,
            threshold: self.texts.smp.then_some(threshold),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use kernmem_base::CpuId;
    use kernmem_page_alloc::{Facts, Gfp, HeapStore, PcpLimits, Placement, Topology, Watermarks, ZoneSpan};

    use super::*;

    /// Two nodes: DMA `[0, 0x1000)` of the first is free up to 0xc00, the second has Normal `[0x1000, 0x1800)`, all free.
    fn two_nodes(era: Era) -> PageAllocator<HeapStore> {
        let span =
            |nid, kind, start, end| ZoneSpan { nid, kind, start: Pfn(start), end: Pfn(end), present: end - start };
        let spans = [
            span(0, ZoneKind::Dma, 0, 0x1000),
            span(0, ZoneKind::Normal, 0x1000, 0x1000),
            span(1, ZoneKind::Normal, 0x1000, 0x1800),
        ];
        let topology = Topology { nodes: 2, distances: &[], has_cpus: &[], max_numnodes: 16, cpus: 2 };
        let allocator =
            PageAllocator::new(&mut HeapStore, Facts::of(era, Placement::Linux), &topology, &spans).unwrap();
        allocator.add_free(0, Pfn(0), Pfn(0xc00)).unwrap();
        allocator.add_free(1, Pfn(0x1000), Pfn(0x1800)).unwrap();
        for zone in allocator.zones() {
            zone.set_watermarks(Watermarks { min: 4, low: 5, high: 6, promo: 7 });
            zone.set_pcp(PcpLimits { batch: 8, high_min: 32, high_max: 64 });
        }
        allocator
    }

    fn texts() -> TextConfig {
        TextConfig { smp: true, isolation: true, ..TextConfig::default() }
    }

    /// One frame of node 1 is taken: the batch of 8 leaves 0x1800 - 8 = 2040 of 2048 in the zone, and 7 with the CPU.
    #[test]
    fn what_a_cpu_keeps_is_not_free_and_is_told_beside_it() {
        for era in [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2] {
            let allocator = two_nodes(era);
            let mut cpu = CpuPages::on_heap(CpuId(1), 1, &allocator, 64);
            allocator.alloc(&mut cpu, None, Gfp::KERNEL, Order(0)).unwrap();
            let idle = CpuPages::on_heap(CpuId(0), 0, &allocator, 64);
            let live = LiveZones { allocator: &allocator, cpus: &[&idle, &cpu], texts: &texts() };
            let zones = live.zoneinfo().zones;
            let rows: Vec<_> = zones.iter().map(|zone| (zone.node, zone.kind, zone.free, zone.managed)).collect();
            let expected =
                [(0, ZoneKind::Dma, 0xc00, 0xc00), (0, ZoneKind::Normal, 0, 0), (1, ZoneKind::Normal, 2040, 2048)];
            assert_eq!(rows, expected, "{era}");
            assert_eq!(zones.iter().map(|zone| zone.node_counters.is_some()).collect::<Vec<_>>(), [true, false, true]);
            assert!(zones[1].populated.is_none());
            let own = zones[2].populated.as_ref().unwrap();
            assert_eq!(own.counters.get(ZoneCounter::NrFreePages), Some(2040));
            let (first, second) = (own.pagesets[0], own.pagesets[1]);
            assert_eq!((first.cpu, first.count, second.cpu, second.count), (0, 0, 1, 7), "{era}");
            // From 6.12 on the limit starts at 0; a refill brings it between its bounds, and raises it by a batch.
            let high = if era >= Era::V6_12 { (0, 40) } else { (32, 32) };
            assert_eq!((first.high, second.high), high, "{era}");
            assert_eq!((second.batch, second.high_min, second.high_max), (8, 32, 64));
            // 2 * 2 bits of two CPUs, times one: less than 128 MiB.
            assert_eq!(second.threshold, Some(4));
        }
    }

    /// 2048 frames are two blocks of order 10. One frame less 7 that the CPU keeps: of the first block 0x3f8 frames stay,
    /// one block of each order from 3 to 9.
    #[test]
    fn rows_count_blocks_and_pageblocks_count_types() {
        let allocator = two_nodes(Era::V7_2);
        let mut cpu = CpuPages::on_heap(CpuId(0), 1, &allocator, 64);
        allocator.alloc(&mut cpu, None, Gfp::HIGHUSER_MOVABLE, Order(0)).unwrap();
        let texts = TextConfig { smp: false, cma: true, ..texts() };
        let live = LiveZones { allocator: &allocator, cpus: &[&cpu], texts: &texts };
        let rows = live.buddyinfo().zones;
        assert_eq!(rows.len(), 2, "populated zones");
        assert_eq!(rows[0].free, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(rows[1].free, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
        let own = live.zoneinfo().zones[2].populated.clone().unwrap();
        assert_eq!(own.counters.get(ZoneCounter::NrFreePagesBlocks), Some(0x600));
        assert_eq!(own.pagesets[0].threshold, None);
        let info = live.pagetypeinfo(|_, kind, each| {
            if kind == ZoneKind::Dma {
                each(Pfn(0), 8);
            } else {
                each(Pfn(0x1000), 1);
                each(Pfn(0x1200), 3);
            }
        });
        assert_eq!((info.pageblock_order, info.pageblock_pages, info.orders), (9, 512, 11));
        assert_eq!(info.types, MigrateType::ALL);
        assert_eq!(info.nodes[1].blocks[0].counts, [0, 4, 0, 0, 0, 0]);
        assert_eq!(info.nodes[1].free[1].counts, rows[1].free);
        assert_eq!(info.nodes[1].free[0].counts, vec![0; 11]);
    }
}
