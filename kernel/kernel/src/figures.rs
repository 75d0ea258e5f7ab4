//! The figures of zones as a finished boot leaves them: watermarks, what lower zones keep, limits of CPU lists.
//!
//! Here: which managed pages each figure is computed from, and what configuration and command line have to say.
//! Not here: how a figure is computed (`kernmem-page-alloc`), when a page became managed (`managed`).
//!
//! # Invariants
//! 1. Boot's own frames are taken before, under watermarks of 0, as in Linux.
//!
//! Source: Linux 6.1 mm/page_alloc.c `init_per_zone_wmark_min`, `setup_per_zone_lowmem_reserve`, `zone_pcp_update`;
//! mm/huge_memory.c `hugepage_init`.

use alloc::vec;
use alloc::vec::Vec;

use kernmem_base::{Era, Granule};
use kernmem_config::{Arch, Config};
use kernmem_page_alloc::figures::{
    BootFigures, LOWMEM_RESERVE_RATIO, Thp, ZoneCpus, ZoneFacts, boot_watermarks, lowmem_reserve, pcp_limits,
};
use kernmem_page_alloc::store::Store;
use kernmem_page_alloc::{PageAllocator, Watermarks};

use crate::Boot;
use crate::managed::Managed;
use crate::zones::Nodes;

/// What becomes of transparent huge pages on a machine with `pages` managed pages.
///
/// Source: Linux 6.1 mm/huge_memory.c `hugepage_init`, `setup_transparent_hugepage`.
#[must_use]
pub fn thp(config: &Config, granule: Granule, pages: u64) -> Thp {
    let kconfig = &config.kconfig;
    let is_large = pages >= (512 << 20) / granule.bytes();
    // Only 32-bit kernels start on an x86 CPU without leaves above the last level.
    let refused = config.arch == Arch::I386 && config.cmdline.nopentium();
    let has_leaves = !refused && config.cpu.x86().is_none_or(|cpu| cpu.has("pse"));
    if !kconfig.is_set("TRANSPARENT_HUGEPAGE") || !is_large || !has_leaves {
        return Thp::Absent;
    }
    let by_config = !kconfig.is_set("TRANSPARENT_HUGEPAGE_NEVER");
    let word = config.cmdline.last_value("transparent_hugepage");
    let is_on = word.map_or(by_config, |word| word == "always" || word == "madvise");
    if is_on { Thp::Enabled } else { Thp::Disabled }
}

/// The node of each CPU that boot brings up, the one that boots first.
#[must_use]
pub fn online_cpus(boot: &Boot<'_>, nodes: &Nodes) -> Vec<u32> {
    let line = &boot.config.cmdline;
    let most = line.maxcpus().map_or(u32::MAX, |limit| limit.max(1));
    let count = boot.config.possible_cpus.min(most).max(1);
    (0..count).map(|cpu| nodes.of_cpu(boot.machine, cpu)).collect()
}

/// Gives each zone of `allocator` the figures that follow from `nodes`.
///
/// | figure | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | 7.2 |
/// |---|---|---|
/// | watermarks, limits of CPU lists | of the pages managed when huge pages come up | same |
/// | what lower zones keep | of the pages managed before | of all that are managed in the end |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `init_per_zone_wmark_min`, `adjust_managed_page_count`.
pub fn settle<S: Store>(allocator: &PageAllocator<S>, nodes: &Nodes, boot: &Boot<'_>) {
    let facts = allocator.facts();
    let of = |managed: fn(&Managed) -> u64| zones_at(allocator, nodes, managed);
    let (early, then) = (of(|managed| managed.at_reserves), of(|managed| managed.at_watermarks));
    let kept_of = match facts.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => early.clone(),
        Era::V7_2 => of(|managed| managed.at_end),
    };
    let thp = thp(boot.config, facts.granule, early.iter().map(|zone| zone.managed).sum());
    let figures =
        BootFigures { era: facts.era, granule: facts.granule, pageblock_pages: 1 << facts.pageblock_order.0, thp };
    let mut marks = vec![Watermarks::default(); then.len()];
    boot_watermarks(&figures, &then, &early, &mut marks);
    let limited = if thp == Thp::Absent { &early } else { &then };
    let cpus = online_cpus(boot, nodes);
    for (index, zone) in allocator.zones().enumerate() {
        let (span, own) = (zone.span(), marks[index]);
        zone.set_watermarks(own);
        let of_node = cpus.iter().filter(|nid| **nid == span.nid).count() as u64;
        let sharing = ZoneCpus { of_node, online: cpus.len() as u64 };
        if zone.is_populated() {
            zone.set_pcp(pcp_limits(facts.era, facts.granule, limited[index].managed, own.low, sharing, 0));
        }
        let first = kept_of.iter().position(|other| other.node == span.nid).unwrap_or(index);
        let end = first + facts.kinds.count().min(kept_of.len() - first);
        let kept = lowmem_reserve(&kept_of[first..end], index - first, &LOWMEM_RESERVE_RATIO);
        for (kind, frames) in facts.kinds.iter().zip(kept) {
            zone.set_reserve(kind, frames);
        }
    }
}

/// The zones of the allocator with what was managed at one moment.
fn zones_at<S: Store>(allocator: &PageAllocator<S>, nodes: &Nodes, managed: fn(&Managed) -> u64) -> Vec<ZoneFacts> {
    let of = |zone: &kernmem_page_alloc::Zone<S>| {
        let span = zone.span();
        let node = nodes.nodes.iter().find(|node| node.nid == span.nid);
        let own = node.and_then(|node| node.zones.iter().find(|own| own.name == span.kind.name()));
        ZoneFacts {
            kind: span.kind,
            node: span.nid,
            spanned: span.end.0 - span.start.0,
            present: span.present,
            managed: own.map_or(0, |own| managed(&own.managed)),
        }
    };
    allocator.zones().map(of).collect()
}
