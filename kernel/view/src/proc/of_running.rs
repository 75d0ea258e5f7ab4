//! What the files say of a kernel that runs, out of its parts.
//!
//! Here: zones and free blocks with what programs and slabs use of them, areas, object caches; `meminfo` in a file of its
//! own.
//! Not here: zones as the page allocator tells them ([`LiveZones`]), the texts (`kernmem-report`).
//!
//! # Invariants
//! 1. A number comes from the part that owns it at this moment; what no part of the kernel does (files, swap, threads,
//!    devices) is 0.
//! 2. Addresses are shown as they are, as by a kernel with `no_hash_pointers`.
//!
//! Source: Linux 6.1 mm/vmalloc.c `s_show`; mm/slab_common.c `cache_show`; mm/vmstat.c `zoneinfo_show_print`.

use alloc::string::ToString;
use alloc::vec::Vec;

use kernmem::running::{Running, caller};
use kernmem::{Boot, Kernel, LogEntry, Witness};
use kernmem_arch::{UserFormat, WithFormat};
use kernmem_base::{Pfn, PhysAddr, PhysMem};
use kernmem_page_alloc::{CpuPages, HeapStore};
use kernmem_pgtable::WalkError;
use kernmem_slab::{CacheInfo, SlabError};
use kernmem_vmalloc::{Area, Line, VmFlags, pages_on_nodes};

use super::{
    BuddyInfo, IoMem, LiveZones, NodeCounter, OfBoot, PageTypeInfo, Shown, SlabInfo, SlabRow, TextConfig, VmWords,
    VmallocInfo, VmallocLine, VmallocUse, ZoneCounter, ZoneInfo,
};
use crate::{Answer, BootRecord, KernelView};

mod meminfo;
mod programs;

use programs::Programs;

/// What boot settled for good and the running kernel does not keep.
#[derive(Clone, Debug)]
pub struct Settled {
    texts: TextConfig,
    percpu_pages: u64,
    iomem: Answer<IoMem>,
}

impl Settled {
    /// What was settled by the boot that made `kernel` and left `record`.
    #[must_use]
    pub fn of<M: PhysMem, W: Witness>(boot: Boot<'_>, kernel: &Kernel<'_, M, W>, record: &BootRecord) -> Self {
        let direct_map = kernel.direct_map().known().unwrap_or_default();
        let has_1g = direct_map.iter().any(|(bytes, _)| *bytes >= 1 << 30);
        let unit = record.log().find_map(|entry| match entry {
            LogEntry::Percpu(sizes) => Some(*sizes),
            _ => None,
        });
        let percpu_pages = unit.map_or(0, |sizes| {
            let units = units(&boot, kernel, sizes.per_piece);
            units * (sizes.used() >> kernel.granule.shift())
        });
        Self {
            texts: TextConfig::of(&boot.config.kconfig, true, has_1g),
            percpu_pages,
            iomem: OfBoot { boot, kernel }.iomem(record.log()),
        }
    }

    /// `/proc/iomem` without devices: the running kernel does not change it.
    #[must_use]
    pub const fn iomem(&self) -> &Answer<IoMem> {
        &self.iomem
    }
}

/// Units of per-CPU variables: the pieces of each node are whole.
fn units<M, W>(boot: &Boot<'_>, kernel: &Kernel<'_, M, W>, per_piece: u64) -> u64 {
    let cpus = 0..boot.config.possible_cpus.max(1);
    let mut nodes: Vec<u32> = cpus.map(|cpu| kernel.nodes.of_cpu(boot.machine, cpu)).collect();
    nodes.sort_unstable();
    let groups = nodes.chunk_by(|one, next| one == next);
    groups.map(|group| (group.len() as u64).next_multiple_of(per_piece.max(1))).sum()
}

/// A running kernel, and what its boot settled.
#[derive(Debug)]
pub struct OfRunning<'r, 'm, M, W> {
    /// The kernel.
    pub running: &'r Running<'m, M, W>,
    /// What its boot settled.
    pub settled: &'r Settled,
}

impl<M: PhysMem, W: Witness> OfRunning<'_, '_, M, W> {
    /// Runs `work` with the zones of the page allocator.
    fn zones<R>(&self, work: impl FnOnce(LiveZones<'_, HeapStore>) -> R) -> R {
        let cpus: Vec<&CpuPages<HeapStore>> = self.running.cpu_lists().collect();
        let allocator = &self.running.kernel.pages.allocator;
        work(LiveZones { allocator, cpus: &cpus, texts: &self.settled.texts })
    }

    /// `/proc/buddyinfo`.
    #[must_use]
    pub fn buddyinfo(&self) -> BuddyInfo {
        self.zones(|zones| zones.buddyinfo())
    }

    /// `/proc/pagetypeinfo`.
    #[must_use]
    pub fn pagetypeinfo(&self) -> PageTypeInfo {
        let kernel = &self.running.kernel;
        self.zones(|zones| {
            zones.pagetypeinfo(|nid, kind, each| {
                let node = kernel.nodes.nodes.iter().find(|node| node.nid == nid);
                let zone = node.and_then(|node| node.zones.iter().find(|zone| zone.name == kind.name()));
                if let Some(zone) = zone {
                    kernel.nodes.each_pageblock(kernel.era, &kernel.sections, nid, zone, each);
                }
            })
        })
    }

    /// `/proc/zoneinfo`, with what slabs and programs use.
    #[must_use]
    pub fn zoneinfo(&self) -> ZoneInfo {
        let mut info = self.zones(|zones| zones.zoneinfo());
        let programs = Programs::of(self.running);
        for zone in &mut info.zones {
            let anon = programs.anon_in(zone.node, zone.kind);
            if let Some(own) = &mut zone.populated {
                own.counters.set(ZoneCounter::NrZoneInactiveAnon, anon);
            }
            let Some(counters) = &mut zone.node_counters else { continue };
            let slabs = self.running.slab_pages(zone.node);
            let anon = programs.anon_on(zone.node);
            for (counter, pages) in [
                (NodeCounter::NrInactiveAnon, anon),
                (NodeCounter::NrAnonPages, anon),
                (NodeCounter::NrSlabReclaimable, slabs.reclaimable),
                (NodeCounter::NrSlabUnreclaimable, slabs.unreclaimable),
                (NodeCounter::NrPageTablePages, programs.tables_on(zone.node)),
            ] {
                counters.set(counter, pages);
            }
        }
        info
    }

    /// `/proc/vmallocinfo`: areas in the order of their addresses, then what waits for a purge.
    ///
    /// # Errors
    /// A table that maps an area cannot be read.
    pub fn vmallocinfo(&self) -> Result<VmallocInfo, WalkError> {
        let lines = self.running.areas.lines().map(|line| self.area_line(&line));
        Ok(VmallocInfo { virt_digits: 16, phys_digits: 16, lines: lines.collect::<Result<_, _>>()? })
    }

    fn area_line(&self, line: &Line) -> Result<VmallocLine, WalkError> {
        let (start, bytes, usage) = match line {
            Line::Area(area) => (area.start, area.size, self.usage(area)?),
            Line::Unpurged { start, size } => (*start, *size, VmallocUse::Unpurged),
        };
        Ok(VmallocLine { start: Shown::Address(start), end: Shown::Address(start + bytes), bytes, usage })
    }

    fn usage(&self, area: &Area) -> Result<VmallocUse, WalkError> {
        Ok(VmallocUse::Area {
            caller: Some(caller(area.caller).to_string()),
            pages: area.nr_pages,
            phys: area.phys.unwrap_or(PhysAddr(0)),
            words: words(area),
            nodes: self.nodes_of(area)?,
        })
    }

    /// Pages of an area by node; a kernel without nodes does not tell.
    fn nodes_of(&self, area: &Area) -> Result<Vec<(u32, u64)>, WalkError> {
        if !self.settled.texts.numa || area.nr_pages == 0 {
            return Ok(Vec::new());
        }
        let running = self.running;
        let nodes = running.kernel.nodes.nodes.iter().map(|node| node.nid + 1).max().unwrap_or(1);
        let mut counts = alloc::vec![0; nodes as usize];
        let nid_of = |pfn| running.node_of(pfn);
        let (mem, root) = (running.kernel.mem, running.kernel.roots.kernel);
        running.facts.format.with(OnNodes { mem, root, area, nid_of, counts: &mut counts })?;
        Ok((0..).zip(counts).filter(|(_, pages)| *pages != 0).collect())
    }

    /// `/proc/slabinfo`, newest cache first.
    ///
    /// # Errors
    /// A record of a slab is missing.
    pub fn slabinfo(&self) -> Result<SlabInfo, SlabError> {
        Ok(SlabInfo { caches: self.running.slabinfo()?.iter().map(row).collect() })
    }
}

struct OnNodes<'a, M, N> {
    mem: &'a M,
    root: PhysAddr,
    area: &'a Area,
    nid_of: N,
    counts: &'a mut [u64],
}

impl<M: PhysMem, N: Fn(Pfn) -> u32> WithFormat for OnNodes<'_, M, N> {
    type Output = Result<(), WalkError>;

    fn run<F: UserFormat>(self) -> Self::Output {
        pages_on_nodes::<F, M>(self.mem, self.root, self.area, self.nid_of, self.counts)
    }
}

/// The words of an area by its flags.
fn words(area: &Area) -> VmWords {
    let has = |flag| area.flags.contains(flag);
    VmWords {
        ioremap: has(VmFlags::IOREMAP),
        sparse: false,
        vmalloc: has(VmFlags::ALLOC),
        vmap: has(VmFlags::MAP),
        user: has(VmFlags::USERMAP),
        dma_coherent: has(VmFlags::DMA_COHERENT),
        vpages: area.array.is_some(),
    }
}

/// The allocator that is modelled has no arrays of objects, and all its slabs are active.
fn row(cache: &CacheInfo) -> SlabRow {
    SlabRow {
        name: cache.name.as_str().to_string(),
        active_objs: cache.active,
        num_objs: cache.objects,
        objsize: cache.slot.into(),
        objperslab: cache.per_slab.into(),
        pagesperslab: cache.pages.into(),
        tunables: [0; 3],
        active_slabs: cache.slabs,
        num_slabs: cache.slabs,
        sharedavail: 0,
    }
}
