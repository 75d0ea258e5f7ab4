//! What a boot tells of these files at the moment when the page allocator takes over.
//!
//! Here: resources, memory blocks, and what a configuration shows of itself.
//! Not here: what the running kernel tells ([`OfRunning`](super::OfRunning)): zones, meminfo, slab caches, areas.
//!
//! # Invariants
//! 1. A running kernel of one that booted tells the same here: nothing of this changes later.
//!
//! Source: Linux 6.1 kernel/resource.c; drivers/base/memory.c.

use alloc::vec::Vec;

use kernmem::zones::Zone;
use kernmem::{Boot, Isa, Kernel, LogEntry, Witness, i386, x86};
use kernmem_base::{PhysAddr, PhysRange};
use kernmem_config::KernelConfig;
use kernmem_firmware::e820::E820Entry;
use kernmem_sparse::SectionNr;

use super::{
    BlockState, CRASH_KERNEL, FirmwareEntry, IoMem, MemoryBlock, MemoryBlocks, Named, Segment, TextConfig,
    X86_SEGMENTS, ZoneKind, arm64_iomem_of_boot, arm64_segments, x86_iomem_of_boot,
};
use crate::Answer;

impl TextConfig {
    /// What a configuration shows of itself; of the CPU, whether it has huge pages (`pse` on i386), and whether the
    /// direct map uses 1G pages.
    #[must_use]
    pub fn of(kconfig: &KernelConfig, has_huge_pages: bool, has_1g_pages: bool) -> Self {
        let set = |name| kconfig.is_set(name);
        let is_x86 = set("X86");
        Self {
            smp: set("SMP"),
            numa: set("NUMA"),
            swap: set("SWAP"),
            numa_balancing: set("NUMA_BALANCING"),
            zsmalloc: set("ZSMALLOC"),
            zswap: set("ZSWAP"),
            unaccepted_memory: set("UNACCEPTED_MEMORY"),
            shadow_call_stack: set("SHADOW_CALL_STACK"),
            iommu: set("IOMMU_SUPPORT"),
            hugetlb: set("HUGETLB_PAGE") && has_huge_pages,
            thp: set("TRANSPARENT_HUGEPAGE"),
            cma: set("CMA"),
            isolation: set("MEMORY_ISOLATION"),
            memory_failure: set("MEMORY_FAILURE"),
            highmem: set("HIGHMEM"),
            memtest_ran: false,
            direct_map: is_x86,
            direct_map_2m: set("X86_64") || set("X86_PAE"),
            direct_map_1g: set("X86_64") && has_1g_pages,
        }
    }
}

/// A booted kernel and what it was booted from.
#[derive(Debug)]
pub struct OfBoot<'b, 'm, M, W> {
    /// What it was booted from.
    pub boot: Boot<'b>,
    /// The kernel.
    pub kernel: &'b Kernel<'m, M, W>,
}

impl<M, W: Witness> OfBoot<'_, '_, M, W> {
    /// `/proc/iomem` without devices; `log` is what the boot told, crash kernels among it.
    pub fn iomem<'l>(&self, log: impl Iterator<Item = &'l LogEntry>) -> Answer<IoMem> {
        let crash = log.filter_map(|entry| match entry {
            LogEntry::CrashKernel { range, .. } => Some((CRASH_KERNEL, *range)),
            _ => None,
        });
        let config = self.boot.config;
        let (memory, reserved) = (self.kernel.memblock.memory().regions(), self.kernel.memblock.reserved().regions());
        match &self.kernel.isa {
            Isa::Arm64(state) => {
                let Some(mut named) = self.image(state.text_phys, &arm64_segments(config.era)) else {
                    return Answer::Absent("the symbols do not name the parts of the image");
                };
                named.extend(crash);
                Answer::Known(arm64_iomem_of_boot(config.era, self.kernel.granule, memory, reserved, &named))
            }
            Isa::X86(x86::State { text_phys, e820, .. }) | Isa::I386(i386::State { text_phys, e820, .. }) => {
                let Some(mut named) = self.image(*text_phys, &X86_SEGMENTS) else {
                    return Answer::Absent("the symbols do not name the parts of the image");
                };
                named.extend(crash);
                let entry = |own: &E820Entry| FirmwareEntry {
                    name: own.kind.resource_name(),
                    range: own.range(),
                    is_busy: own.kind.is_busy(),
                };
                let entries: Vec<FirmwareEntry> = e820.entries().iter().map(entry).collect();
                Answer::Known(x86_iomem_of_boot(config.kconfig.is_set("PCI"), &entries, &named))
            }
            _ => Answer::Absent("this architecture tells no resources"),
        }
    }

    /// Parts of the image where they were loaded; `None` if a symbol is missing.
    fn image(&self, text_phys: PhysAddr, segments: &[Segment]) -> Option<Vec<Named>> {
        let symbols = &self.boot.config.symbols;
        let text = symbols.address("_text")?;
        let phys = |name| Some(PhysAddr(text_phys.0.wrapping_add(symbols.address(name)?.0.wrapping_sub(text.0))));
        segments.iter().map(|own| Some((own.name, PhysRange::new(phys(own.start)?, phys(own.end)?)))).collect()
    }

    /// `/sys/devices/system/memory`: after boot every block is online.
    #[must_use]
    pub fn memory_blocks(&self, block_bytes: u64) -> MemoryBlocks {
        let geometry = self.kernel.sections.geometry();
        let each = (block_bytes / geometry.section_bytes()).max(1);
        let kconfig = &self.boot.config.kconfig;
        let mut numbers: Vec<u64> = self.kernel.sections.present().map(|section| section.0 / each).collect();
        numbers.dedup();
        let block = |number: u64| {
            let first = geometry.first_pfn(SectionNr(number * each));
            let end = geometry.first_pfn(SectionNr((number + 1) * each));
            let touches = |zone: &&Zone| !zone.span.is_empty() && zone.span.start < end && first < zone.span.end;
            let zones: Vec<ZoneKind> =
                self.zones().filter(touches).filter_map(|zone| ZoneKind::of_name(zone.name)).collect();
            let valid_zones = if zones.len() == 1 { zones } else { Vec::new() };
            let removable = kconfig.is_set("MEMORY_HOTREMOVE");
            MemoryBlock { number, state: BlockState::Online, removable, phys_device: 0, valid_zones }
        };
        MemoryBlocks {
            block_bytes,
            auto_online: if kconfig.is_set("MEMORY_HOTPLUG_DEFAULT_ONLINE") { "online" } else { "offline" },
            crash_hotplug: kconfig.is_set("CRASH_HOTPLUG"),
            blocks: numbers.into_iter().map(block).collect(),
        }
    }

    fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.kernel.nodes.nodes.iter().flat_map(|node| node.zones.iter())
    }
}
