//! `/proc/meminfo` of a kernel that runs.
//!
//! | lines | from |
//! |---|---|
//! | `MemTotal`, `MemFree`, `MemAvailable` | zones: managed and free pages, watermarks, reserves |
//! | `Inactive`, `Inactive(anon)`, `AnonPages`, `PageTables` | programs; a new page is an inactive one |
//! | `KReclaimable`, `Slab`, `SReclaimable`, `SUnreclaim` | object caches |
//! | `CommitLimit`, `Committed_AS` | half of the pages that are no huge ones; regions that programs may write |
//! | `VmallocTotal`, `VmallocUsed`, `Percpu` | the region of areas, their pages, the first units of per-CPU variables |
//! | `HugePages_*`, `Hugetlb` | pools: those of the default size, all |
//! | `DirectMap*` | boot |
//!
//! All other lines are 0: there are no files, no swap, no threads, no memory of devices.
//!
//! Source: Linux 6.1 fs/proc/meminfo.c `meminfo_proc_show`; mm/page_alloc.c `si_mem_available`; mm/util.c
//! `vm_commit_limit`; mm/hugetlb.c `hugetlb_report_meminfo`; mm/percpu.c `pcpu_nr_pages`.

use kernmem::{Isa, Witness};
use kernmem_base::PhysMem;
use kernmem_page_alloc::figures::zone_reserve;

use super::super::{MemField, MemInfo};
use super::{OfRunning, Programs};
use crate::KernelView;

/// Pages of all zones.
#[derive(Default)]
struct Pages {
    managed: u64,
    free: u64,
    /// Sum of the low watermarks.
    low: u64,
    /// What no program may count on.
    kept: u64,
}

/// Pages of all caches.
#[derive(Default)]
struct Slabs {
    reclaimable: u64,
    unreclaimable: u64,
}

impl Pages {
    /// Pages that a program can have without swap: of caches that can shrink, all but half or a low watermark.
    ///
    /// Source: Linux 6.1 mm/page_alloc.c `si_mem_available`.
    fn available(&self, slabs: &Slabs) -> u64 {
        let reclaimed = slabs.reclaimable - (slabs.reclaimable / 2).min(self.low);
        (self.free + reclaimed).saturating_sub(self.kept)
    }
}

impl<M: PhysMem, W: Witness> OfRunning<'_, '_, M, W> {
    /// `/proc/meminfo`.
    #[must_use]
    pub fn meminfo(&self) -> MemInfo {
        use MemField as F;
        let (running, settled) = (self.running, self.settled);
        let kib = |pages: u64| pages << (running.kernel.granule.shift() - 10);
        let (pages, slabs, programs) = (self.pages(), self.slabs(), Programs::of(running));
        let huge = self.huge_pages();
        let mut info = MemInfo::zero(running.kernel.era, &settled.texts);
        for (field, value) in [
            (F::MemTotal, kib(pages.managed)),
            (F::MemFree, kib(pages.free)),
            (F::MemAvailable, kib(pages.available(&slabs))),
            (F::Inactive, kib(programs.anon())),
            (F::InactiveAnon, kib(programs.anon())),
            (F::AnonPages, kib(programs.anon())),
            (F::KReclaimable, kib(slabs.reclaimable)),
            (F::Slab, kib(slabs.reclaimable + slabs.unreclaimable)),
            (F::SReclaimable, kib(slabs.reclaimable)),
            (F::SUnreclaim, kib(slabs.unreclaimable)),
            (F::PageTables, kib(programs.tables())),
            (F::CommitLimit, kib(pages.managed.saturating_sub(huge) / 2)),
            (F::CommittedAs, self.committed_bytes() >> 10),
            (F::VmallocTotal, self.vmalloc_kib()),
            (F::VmallocUsed, kib(running.areas.nr_vmalloc_pages())),
            (F::Percpu, kib(settled.percpu_pages)),
            (F::Hugetlb, kib(huge)),
        ] {
            info.fields.set(field, value);
        }
        self.set_default_pool(&mut info);
        for (bytes, kib) in running.kernel.direct_map().known().unwrap_or_default() {
            info.fields.set(F::of_direct_map(bytes), kib);
        }
        info
    }

    /// The region of areas: x86's ends at its last byte, which is not counted.
    ///
    /// Source: Linux 6.1 include/linux/vmalloc.h `VMALLOC_TOTAL`; arch/x86/include/asm/pgtable_64_types.h `VMALLOC_END`.
    fn vmalloc_kib(&self) -> u64 {
        let range = self.running.facts.vmalloc_range();
        let last = range.last - range.start;
        match self.running.kernel.isa {
            Isa::X86(_) => last >> 10,
            _ => (last + 1) >> 10,
        }
    }

    fn pages(&self) -> Pages {
        let allocator = &self.running.kernel.pages.allocator;
        let mut sum = Pages::default();
        for zone in allocator.zones() {
            let (marks, boost) = (zone.watermarks(), zone.boost());
            let most = allocator.facts().kinds.iter().map(|kind| zone.reserve(kind)).max().unwrap_or(0);
            sum.managed += zone.managed();
            sum.free += zone.free();
            sum.low += marks.low + boost;
            sum.kept += zone_reserve(most, marks.high + boost, zone.managed());
        }
        sum
    }

    fn slabs(&self) -> Slabs {
        let mut sum = Slabs::default();
        for node in &self.running.kernel.nodes.nodes {
            let own = self.running.slab_pages(node.nid);
            sum.reclaimable += own.reclaimable;
            sum.unreclaimable += own.unreclaimable;
        }
        sum
    }

    /// Pages of all pools.
    fn huge_pages(&self) -> u64 {
        self.running.pools.iter().map(|pool| pool.counts().total << pool.order().0).sum()
    }

    /// The lines of the pool of the default size; its size is told even if nothing is in it.
    fn set_default_pool(&self, info: &mut MemInfo) {
        use MemField as F;
        let facts = &self.running.facts;
        info.fields.set(F::Hugepagesize, (facts.granule.bytes() << facts.default_huge.0) >> 10);
        let pool = self.running.pool_of(facts.default_huge).and_then(|index| self.running.pools.get(index));
        let Some(counts) = pool.map(|pool| pool.counts()) else { return };
        for (field, pages) in [
            (F::HugePagesTotal, counts.total),
            (F::HugePagesFree, counts.free),
            (F::HugePagesRsvd, counts.reserved),
            (F::HugePagesSurp, counts.surplus),
        ] {
            info.fields.set(field, pages);
        }
    }

    /// What the kernel has promised to programs.
    fn committed_bytes(&self) -> u64 {
        let processes = &self.running.processes;
        let regions = |pid| processes.regions(pid).unwrap_or_default();
        let own = |pid| regions(pid).iter().filter(|region| region.accounted).map(|region| region.end - region.start);
        processes.pids().into_iter().flat_map(own).sum()
    }
}
