//! The running kernel: what a boot hands over to, as one value.
//!
//! ```text
//! page allocator ── slab (objects) ── kmalloc
//!       │        ── vmalloc (areas)
//!       │        ── pools of huge pages ── memory map, given back and made whole
//!       └────────── processes ── user pages, tables; the kernel half that all share
//! ```
//!
//! * [`Running`]: the parts, and the operations on them.
//! * [`On`]: which CPU asks, how it flushes, who is told.
//! * [`memmap`]: page descriptors as memory; [`facts`]: what the parts need to know of the architecture.
//! * [`processes`]: programs with address spaces of their own.
//!
//! Not here: rules of the parts (their crates), a machine: memory, pointers and TLBs are lent to each call.
//!
//! # Invariants
//! 1. Every frame that a part has came from the page allocator, from the lists of the CPU that asked, or from boot.
//! 2. No operation keeps what it was lent.
//!
//! Source: Linux 6.1 init/main.c `mm_init`, `kernel_init_freeable`.

mod areas;
pub mod facts;
mod huge;
pub mod memmap;
mod objects;
pub mod processes;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use kernmem_base::{CpuId, PhysMem, Tlb};
use kernmem_hugetlb::{HugePage, Pool};
use kernmem_page_alloc::{CpuPages, HeapStore, Pages};
use kernmem_slab::{CpuSlabs, Slab};
use kernmem_vmalloc::{Trace, VecStore, Vmalloc};

use crate::{Boot, BootError, BootPages, CPU_SLOTS, Kernel, Witness};

pub use areas::{CALLERS, caller, is_of_boot};
pub use facts::Facts;
pub use memmap::LiveMap;
pub use processes::{Pid, ProcessError, Processes};

/// Places for object caches.
pub const CACHES: usize = 128;
/// Places for nodes.
pub const NODES: usize = 64;

/// Who asks: a CPU, the way it flushes, and an observer of vmalloc's calls.
pub struct On<'c> {
    /// The CPU.
    pub cpu: CpuId,
    /// How it flushes.
    pub tlb: &'c mut dyn Tlb,
    /// Who is told of each call of vmalloc.
    pub trace: Option<&'c mut dyn Trace>,
}

impl<'c> On<'c> {
    /// CPU `cpu`, which flushes by `tlb`; nobody is told.
    pub fn new(cpu: CpuId, tlb: &'c mut dyn Tlb) -> Self {
        Self { cpu, tlb, trace: None }
    }
}

impl fmt::Debug for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("On").field("cpu", &self.cpu).finish_non_exhaustive()
    }
}

/// What one CPU keeps for itself, but for the page lists of the CPU that booted.
struct CpuState {
    /// `None` for the first CPU: its lists are those of boot.
    pages: Option<CpuPages<HeapStore>>,
    slabs: CpuSlabs<CACHES>,
}

/// A kernel that runs.
pub struct Running<'m, M, W> {
    /// What boot made; its page allocator is the running one.
    pub kernel: Kernel<'m, M, W>,
    /// What the parts know of architecture and configuration.
    pub facts: Facts,
    /// Kernel addresses.
    pub areas: Vmalloc<VecStore>,
    /// Page descriptors.
    pub map: LiveMap<'m, M>,
    /// Pools of huge pages, in the order in which Linux registers their sizes.
    pub pools: Vec<Pool<Vec<HugePage>>>,
    /// Programs.
    pub processes: Processes,
    objects: Box<Slab<CACHES, NODES>>,
    cpus: Vec<CpuState>,
}

impl<M, W> fmt::Debug for Running<'_, M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("facts", &self.facts).field("cpus", &self.cpus.len()).finish_non_exhaustive()
    }
}

/// The lists of a CPU, out of the two places where they may be.
fn lists<'l>(
    boot: &'l mut CpuPages<HeapStore>,
    cpus: &'l mut [CpuState],
    cpu: CpuId,
) -> Option<(&'l mut CpuPages<HeapStore>, &'l mut CpuSlabs<CACHES>)> {
    let state = cpus.get_mut(cpu.0 as usize)?;
    Some((state.pages.as_mut().unwrap_or(boot), &mut state.slabs))
}

impl<'m, M: PhysMem, W: Witness> Running<'m, M, W> {
    /// Starts the parts on a booted kernel: `kernel` came from `boot`. Pools of huge pages are filled as the command line
    /// asks; what is short is left short, as in Linux.
    ///
    /// # Errors
    /// A part cannot be set up on this kernel.
    pub fn start(kernel: Kernel<'m, M, W>, boot: &Boot<'_>, tlb: &mut dyn Tlb) -> Result<Self, BootError> {
        let facts = Facts::of(&kernel, boot)?;
        let areas = areas::start(&kernel, &facts, boot.config)?;
        let given = kernel.pages.given();
        let geometry = *kernel.sections.geometry();
        let map = LiveMap::new(kernel.mem, facts.memmap_place(&kernel), boot.config, geometry, &kernel.nodes, given);
        let mut objects = objects::start(&facts)?;
        let mut cpus = Vec::new();
        for cpu in 0..facts.cpus {
            let nid = facts.node_of(cpu);
            let allocator = &kernel.pages.allocator;
            let pages = (cpu > 0).then(|| CpuPages::on_heap(CpuId(cpu), nid, allocator, CPU_SLOTS));
            let slabs = objects.cpu(CpuId(cpu), nid as u8).map_err(|error| facts::failed(&error))?;
            cpus.push(CpuState { pages, slabs });
        }
        let processes = Processes::new(&kernel, &facts);
        let pools = huge::pools(&facts);
        let mut running = Self { kernel, facts, areas, map, pools, processes, objects, cpus };
        running.fill_pools(&mut On::new(CpuId(0), tlb), boot.config)?;
        Ok(running)
    }

    /// CPUs that have come up.
    #[must_use]
    pub fn cpu_count(&self) -> u32 {
        self.cpus.len() as u32
    }

    /// The page allocator with the lists of `cpu`; `None` if there is no such CPU.
    pub fn pages(&mut self, cpu: CpuId) -> Option<Pages<'_, HeapStore>> {
        let Self { kernel, cpus, .. } = self;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let (cpu, _) = lists(boot, cpus, cpu)?;
        Some(Pages { allocator, cpu })
    }

    /// The page lists of all CPUs, in order.
    pub fn cpu_lists(&self) -> impl Iterator<Item = &CpuPages<HeapStore>> {
        self.cpus.iter().map(|state| state.pages.as_ref().unwrap_or(&self.kernel.pages.cpu))
    }

    /// Gives the pages in the lists of all CPUs back to their zones.
    pub fn drain_all(&mut self) {
        for cpu in 0..self.cpu_count() {
            if let Some(pages) = self.pages(CpuId(cpu)) {
                pages.allocator.drain(pages.cpu);
            }
        }
    }
}
