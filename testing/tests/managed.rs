//! What the page allocator of every recorded machine has after boot: as much as the ledger of boot says, each frame free or
//! in use.

use std::path::Path;

use crate::common::{recordings, with_kernel};
use kernmem::Boot;
use kernmem::running::{On, Running};
use kernmem_base::{CpuId, NoTlb, Order};
use kernmem_sim::Memory;
use kernmem_source::{Options, Source};

#[test]
fn every_zone_manages_what_boot_released_to_it() {
    let (mut zones, mut gigantic) = (0, 0);
    for path in recordings() {
        with_kernel(&path, |kernel, _| {
            for node in &kernel.nodes.nodes {
                for own in &node.zones {
                    let zone = kernel.pages.allocator.zones().find(|zone| {
                        let span = zone.span();
                        (span.nid, span.kind.name()) == (node.nid, own.name)
                    });
                    let managed = zone.map(|zone| zone.managed());
                    assert_eq!(managed, Some(own.managed.at_end), "{} node {} {}", path.display(), node.nid, own.name);
                    zones += 1;
                    gigantic += usize::from(own.managed.at_watermarks - own.managed.at_reserves >= 1 << 18);
                }
            }
        });
    }
    assert!(zones > 150 && gigantic > 0, "{zones} zones, {gigantic} with gigantic pages");
}

#[test]
fn every_managed_frame_is_free_or_in_use() {
    for path in recordings() {
        with_kernel(&path, |kernel, _| {
            let pages = &kernel.pages;
            let free = pages.allocator.free_frames() + pages.cpu.total();
            assert_eq!(free + pages.in_use(), pages.allocator.managed(), "{}", path.display());
            assert!(pages.in_use() >= pages.taken().len() as u64);
        });
    }
}

/// Two pages of 1 GiB that boot had set aside are managed from the start, and free once their pool is emptied.
#[test]
fn gigantic_pages_of_boot_go_back_to_their_zones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/arm64/a-hvo-gigantic");
    let source = Source::open_with(path.to_str().expect("a path of text"), &Options::default()).expect("inputs");
    let boot = Boot::new(&source.machine, &source.config);
    let memory = Memory::new(kernmem::memory_ranges(&boot)).expect("memory");
    let kernel = kernmem_live::boot(&memory, &boot, ()).expect("a kernel that boots");
    let mut running = Running::start(kernel, &boot, &mut NoTlb).expect("a kernel that runs");
    let pool = running.pool_of(Order(18)).expect("a pool of pages of 1 GiB");
    running.drain_all();
    let figures = |running: &Running<'_, Memory, ()>| {
        let allocator = &running.kernel.pages.allocator;
        (allocator.managed(), allocator.free_frames())
    };
    let (managed, free) = figures(&running);
    let mut tlb = NoTlb;
    let resized = running.resize_pool(&mut On::new(CpuId(0), &mut tlb), pool, 0);
    assert!(resized.is_some(), "the pool takes orders");
    running.drain_all();
    assert_eq!(figures(&running), (managed, free + (2 << 18)));
}
