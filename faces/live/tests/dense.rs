//! A kernel whose page allocator places densely, against the same kernel with Linux's lists.

use crate::common::{PRESETS, source};
use kernmem_base::Order;
use kernmem_live::{Live, Options};
use kernmem_page_alloc::{Placement, Watermarks};

/// A zone's figures that placement does not change: managed frames, watermarks, frames that somebody has.
type Figures = Vec<(u64, Watermarks, u64)>;

fn figures(preset: &str, placement: Placement) -> Figures {
    let source = source(preset, None, None);
    let memory = Live::memory(&source).expect("memory of the host");
    let options = Options { placement, ..Options::default() };
    let live = Live::start(&memory, &source, options).expect("a kernel that runs");
    let allocator = &live.running.kernel.pages.allocator;
    assert_eq!(allocator.facts().placement, placement);
    let orders = 0..=allocator.facts().max_order.0;
    let of = |zone: &kernmem_page_alloc::Zone<_>| {
        let free: u64 = orders.clone().map(|order| zone.nr_free(Order(order)) << order).sum();
        let kept: u64 = live.running.cpu_lists().map(|cpu| cpu.count(zone)).sum();
        assert!(zone.free() <= free && free < zone.free() + 64 * live.running.cpu_lists().count() as u64);
        (zone.managed(), zone.watermarks(), zone.managed() - free - kept)
    };
    allocator.zones().map(of).collect()
}

/// Boot and start take as many frames of each zone in both, and what is left is counted alike.
#[test]
fn both_placements_boot_alike() {
    for preset in PRESETS {
        assert_eq!(figures(preset, Placement::Dense), figures(preset, Placement::Linux), "{preset}");
    }
}
