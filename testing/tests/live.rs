//! The zones of every recorded machine after boot, as its page allocator tells them: sums hold while pages are taken, and
//! what was there at first is there again when all of them are given back.

use crate::common::{recordings, with_kernel};
use kernmem::{Boot, Kernel};
use kernmem_base::{Order, Pfn};
use kernmem_page_alloc::{CpuPages, Gfp, HeapStore};
use kernmem_sim::Memory;
use kernmem_view::BootRecord;
use kernmem_view::proc::{LiveZones, TextConfig, ZoneInfo, ZoneKind, parse};

/// How many blocks each machine lends.
const BLOCKS: usize = 600;

/// Free frames by buddyinfo and in the lists of CPUs; each zone's own count says the same.
fn free(live: &LiveZones<'_, HeapStore>) -> u64 {
    let zones = live.zoneinfo().zones;
    let rows = live.buddyinfo().zones;
    let populated = zones.iter().filter(|zone| zone.present != 0);
    let mut sum = 0;
    for (zone, row) in populated.zip(&rows) {
        assert_eq!((zone.node, zone.kind), (row.node, row.kind));
        let blocks: u64 = row.free.iter().enumerate().map(|(order, count)| count << order).sum();
        assert_eq!(blocks, zone.free);
        let kept = zone.populated.iter().flat_map(|own| &own.pagesets).map(|set| set.count);
        sum += blocks + kept.sum::<u64>();
    }
    sum
}

/// From 6.12 on the `high` of a CPU's lists moves with use.
fn without_moving_highs(mut zones: ZoneInfo) -> ZoneInfo {
    let populated = zones.zones.iter_mut().filter_map(|zone| zone.populated.as_mut());
    populated.flat_map(|own| &mut own.pagesets).for_each(|set| set.high = 0);
    zones
}

/// Takes blocks of many sizes and kinds and gives them back.
fn lend(kernel: &Kernel<'_, Memory, &mut BootRecord>, texts: &TextConfig, cpu: &mut CpuPages<HeapStore>) {
    let allocator = &kernel.pages.allocator;
    let told = |cpu: &CpuPages<HeapStore>| {
        let live = LiveZones { allocator, cpus: &[&kernel.pages.cpu, cpu], texts };
        (without_moving_highs(live.zoneinfo()), live.buddyinfo(), free(&live))
    };
    let before = told(cpu);
    assert_eq!(before.2, allocator.managed() - kernel.pages.in_use());
    let (mut taken, mut lent) = (Vec::new(), 0);
    for at in 0..BLOCKS {
        let order = Order((at * 7 % 11).min(at % 5 * 3) as u8);
        let gfp = if at % 3 == 0 { Gfp::KERNEL } else { Gfp::HIGHUSER_MOVABLE };
        let Ok(pfn) = allocator.alloc(cpu, None, gfp, order) else { continue };
        taken.push((pfn, order));
        lent += 1 << order.0;
        if at % 100 == 99 {
            assert_eq!(told(cpu).2 + lent, before.2, "after {at} requests");
        }
    }
    // The smallest machine has 128 MiB in pages of 64K.
    assert!(taken.len() > 50 && lent > 1000, "{} blocks, {lent} frames", taken.len());
    for (pfn, order) in taken {
        allocator.free(cpu, pfn, order).expect("a block that was lent");
    }
    allocator.drain(cpu);
    allocator.zones().for_each(|zone| zone.clear_boost());
    assert_eq!(told(cpu), before);
}

#[test]
fn what_is_taken_is_missing_and_what_is_given_back_is_there_again() {
    for path in recordings() {
        with_kernel(&path, |kernel, boot: &Boot<'_>| {
            let texts = TextConfig::of(&boot.config.kconfig, true, false);
            let mut others = kernel.pages.other_cpus(&[kernel.pages.cpu.nid(); 2], kernmem::CPU_SLOTS);
            lend(kernel, &texts, &mut others[0]);
        });
    }
}

/// A zone of which nothing is in use has the free blocks and the pageblocks of every type that boot gave it: each row that
/// the real kernel printed of it must be ours.
#[test]
fn zones_that_nobody_uses_have_the_recorded_free_blocks_of_every_type() {
    let mut rows = 0;
    for path in recordings() {
        let read = |file: &str| std::fs::read_to_string(path.join(file)).ok();
        let (Some(zoneinfo), Some(pagetypeinfo)) = (read("zoneinfo"), read("pagetypeinfo")) else { continue };
        let zones = parse::zoneinfo(&zoneinfo).expect("zoneinfo is read").zones;
        let is_unused = |node: u32, kind: ZoneKind| {
            zones.iter().any(|zone| (zone.node, zone.kind) == (node, kind) && zone.free == zone.managed)
        };
        let recorded = parse::pagetypeinfo(&pagetypeinfo).expect("pagetypeinfo is read");
        // The files were read one after the other: something may have been taken between.
        let blocks_of = |node: u32, kind: ZoneKind| -> u64 {
            let rows = recorded.nodes.iter().flat_map(|node| &node.free);
            let counts =
                rows.filter(|row| (row.node, row.kind) == (node, kind)).flat_map(|row| row.counts.iter().enumerate());
            counts.map(|(order, count)| count << order).sum()
        };
        let is_unused = |node: u32, kind: ZoneKind| {
            let free = zones.iter().find(|zone| (zone.node, zone.kind) == (node, kind)).map(|zone| zone.free);
            is_unused(node, kind) && free == Some(blocks_of(node, kind))
        };
        with_kernel(&path, |kernel, boot| {
            let texts = TextConfig::of(&boot.config.kconfig, true, false);
            let live = LiveZones { allocator: &kernel.pages.allocator, cpus: &[&kernel.pages.cpu], texts: &texts };
            let ours = live.pagetypeinfo(|nid, kind, each: &mut dyn FnMut(Pfn, u64)| {
                let zones = kernel.nodes.nodes.iter().filter(|node| node.nid == nid).flat_map(|node| &node.zones);
                let zone = { zones }.find(|zone| zone.name == kind.name()).expect("a zone of boot");
                kernel.nodes.each_pageblock(kernel.era, &kernel.sections, nid, zone, each);
            });
            for (ours, recorded) in ours.nodes.iter().zip(&recorded.nodes) {
                let free = recorded.free.iter().zip(&ours.free).filter(|(row, _)| is_unused(row.node, row.kind));
                for (recorded, ours) in free {
                    assert_eq!(ours, recorded, "{}", path.display());
                    rows += 1;
                }
                let blocks = recorded.blocks.iter().zip(&ours.blocks).filter(|(row, _)| is_unused(row.node, row.kind));
                for (recorded, ours) in blocks {
                    assert_eq!(ours, recorded, "{}", path.display());
                    rows += 1;
                }
            }
        });
    }
    assert!(rows > 100, "{rows} rows");
}
