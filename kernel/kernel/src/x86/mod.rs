//! The boot of an x86-64 kernel with four or five levels of tables, from the firmware map to freed init memory.
//!
//! ```text
//! early      tables inside the image                     startup_64, cleanup_highmap
//! setup      firmware map, reservations                  setup_arch, e820__memblock_setup
//! direct     the direct map                              init_mem_mapping
//! nodes      nodes, crash kernel, memory map, zones      initmem_init, reserve_crashkernel, paging_init
//! percpu     per-CPU areas                              setup_per_cpu_areas
//! mm_init    hash tables, CPU entry areas, buffers       start_kernel, mm_init
//! late       vmalloc, rights, freed parts of the image   mem_init, mark_rodata_ro, free_initmem
//! pti        the tables of user mode                     pti_init, pti_finalize
//! kasan      the shadow of KASAN                     kasan_init
//! huge       descriptors of gigantic pages               hugetlb_vmemmap_optimize
//! ```
//! Rights change by [`crate::cpa`]; its decisions are those of `kernmem_arch::x86::cpa`.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`; arch/x86/mm/init.c, init_64.c; init/main.c `start_kernel`.

mod boot;
mod crash;
pub(crate) mod direct;
mod early;
mod entry_area;
mod huge;
mod kasan;
mod late;
mod mm_init;
mod nodes;
mod percpu;
mod pti;
mod rights;
mod setup;

pub use boot::boot;
pub(crate) use entry_area::tell as tell_entry_area;
pub(crate) use nodes::MAX_DMA;
pub use percpu::Percpu;
pub(crate) use pti::pti_ranges;
pub(crate) use setup::memory_ranges;

use alloc::boxed::Box;
use alloc::vec::Vec;

use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::fixmap::Fixmap;
use kernmem_arch::x86::layout::Layout;
use kernmem_arch::x86::markers::Markers;
use kernmem_arch::x86::prot::Masks;
use kernmem_base::{Pfn, PhysAddr, PhysRange, VirtRange};
use kernmem_firmware::e820::E820Table;

use crate::kasan::ZeroShadow;

/// What only an x86-64 kernel has.
#[derive(Clone, Debug)]
pub struct State {
    /// Where each region lies.
    pub layout: Layout,
    /// Fixed addresses.
    pub fixmap: Fixmap,
    /// Landmarks of a listing.
    pub markers: Box<Markers>,
    /// The addresses of the image, `_text` to `_end`.
    pub image: VirtRange,
    /// Where the image's first byte was loaded.
    pub text_phys: PhysAddr,
    /// Bits that may reach a table.
    pub masks: Masks,
    /// User mode runs on tables without the kernel.
    pub pti: bool,
    /// The direct map may use 1 GiB leaves.
    pub gbpages: bool,
    /// One past the last frame of memory.
    pub max_pfn: Pfn,
    /// Memory that the direct map holds, in order (`pfn_mapped`).
    pub mapped: Vec<PhysRange>,
    /// Leaves of the direct map, counted by events.
    pub counters: DirectMapCounters,
    /// The real-mode trampoline.
    pub trampoline: PhysRange,
    /// The crash kernel's memory, if any.
    pub crash_kernel: Option<PhysRange>,
    /// Where each CPU's variables lie.
    pub percpu: Percpu,
    /// The shadow that all addresses without shadow of their own share, with KASAN.
    pub zero_shadow: Option<Box<ZeroShadow>>,
    /// The slot of each CPU's entry area.
    pub entry_slots: Vec<u64>,
    /// Those slots were drawn.
    pub draws_entry_slots: bool,
    /// The firmware's map, as the command line left it.
    pub e820: E820Table,
}

impl State {
    /// Whether the direct map holds the page of `pa`.
    #[must_use]
    pub fn is_mapped(&self, pa: PhysAddr) -> bool {
        self.mapped.iter().any(|range| range.contains(pa))
    }

    /// One past the last address that the direct map holds.
    #[must_use]
    pub fn mapped_end(&self) -> PhysAddr {
        self.mapped.last().map_or(PhysAddr(0), |range| range.end)
    }

    /// Takes note that the direct map holds `range`.
    ///
    /// Source: Linux 6.1 arch/x86/mm/init.c `add_pfn_range_mapped`.
    fn add_mapped(&mut self, range: PhysRange) {
        add_mapped(&mut self.mapped, range);
    }
}

/// Adds a range to those that are mapped, in order and joined.
pub(crate) fn add_mapped(mapped: &mut Vec<PhysRange>, range: PhysRange) {
    let at = mapped.partition_point(|other| other.start < range.start);
    mapped.insert(at, range);
    let mut joined: Vec<PhysRange> = Vec::with_capacity(mapped.len());
    for range in mapped.drain(..) {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    *mapped = joined;
}
