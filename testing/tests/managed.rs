//! What the page allocator of every recorded machine has after boot: as much as the ledger of boot says, each frame free or
//! in use.

mod common;

use common::{recordings, with_kernel};

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
