//! The zones of every recorded machine after boot, as its page allocator tells them: sums hold while pages are taken, and
//! what was there at first is there again when all of them are given back.

mod common;

use common::{recordings, with_kernel};
use kernmem::{Boot, Kernel};
use kernmem_base::Order;
use kernmem_page_alloc::{CpuPages, Gfp, HeapStore};
use kernmem_sim::Memory;
use kernmem_view::BootRecord;
use kernmem_view::proc::{LiveZones, TextConfig};

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

/// Takes blocks of many sizes and kinds and gives them back.
fn lend(kernel: &Kernel<'_, Memory, &mut BootRecord>, texts: &TextConfig, cpu: &mut CpuPages<HeapStore>) {
    let allocator = &kernel.pages.allocator;
    let told = |cpu: &CpuPages<HeapStore>| {
        let live = LiveZones { allocator, cpus: &[&kernel.pages.cpu, cpu], texts };
        (live.zoneinfo(), live.buddyinfo(), free(&live))
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
    assert!(taken.len() > BLOCKS / 2 && lent > 1000, "{} blocks, {lent} frames", taken.len());
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
