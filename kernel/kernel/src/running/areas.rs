//! Kernel addresses: vmalloc on the running kernel.
//!
//! Here: early areas that boot mapped, and each operation with the kernel's own tables, pages of the CPU that asks, and
//! the other roots brought along. Not here: how addresses are found (`kernmem-vmalloc`).
//!
//! # Invariants
//! 1. An operation that changed the top of the kernel's tables is followed by every root that has to know, before it
//!    returns.
//!
//! Source: Linux 6.1 mm/vmalloc.c; arch/arm64/mm/mmu.c `map_kernel`.

use alloc::vec::Vec;

use kernmem_arch::{UserFormat, WithFormat};
use kernmem_base::{Level, Pfn, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_memblock::{Flags, Region};
use kernmem_page_alloc::{HeapStore, Pages};
use kernmem_pgtable::{Tables, WalkError};
use kernmem_vmalloc::{
    Area, Caller, Early, Env, Modified, Request, Trace, VecStore, VmFlags, Vmalloc, VmallocError, vmalloc_to_pfn,
};

use super::facts::{Facts, failed, total_pages};
use super::{On, Running, lists};
use crate::{BootError, BootPages, Image, Isa, Kernel, Witness};

/// Who asks for areas, by the number of [`Caller`].
pub const CALLERS: [&str; 5] = ["kernmem", "paging_init", "start_kernel", "ioremap", "irq_init_percpu_irqstack"];

/// The name behind a number.
#[must_use]
pub fn caller(caller: Caller) -> &'static str {
    CALLERS.get(caller.0 as usize).copied().unwrap_or("?")
}

/// Whether an area was asked for by boot, and not by an operation of a running kernel.
#[must_use]
pub const fn is_of_boot(caller: Caller) -> bool {
    !matches!(caller, OURS | IOREMAP)
}

const OURS: Caller = Caller(0);
const PAGING_INIT: Caller = Caller(1);
const START_KERNEL: Caller = Caller(2);
const IOREMAP: Caller = Caller(3);
const IRQ_STACK: Caller = Caller(4);

/// The areas that boot made, and everything else free.
pub(super) fn start<M, W>(
    kernel: &Kernel<'_, M, W>,
    facts: &Facts,
    config: &Config,
) -> Result<Vmalloc<VecStore>, BootError> {
    let mut early = Early::new(VecStore::new(), facts.vmalloc).map_err(|error| failed(&error))?;
    for area in image_areas(kernel, config)? {
        early.add(area).map_err(|error| failed(&error))?;
    }
    early.register(interrupt_stack(kernel, facts), 1).map_err(|error| failed(&error))?;
    early.init().map_err(|(_, error)| failed(&error))
}

/// The stack on which the first CPU takes interrupts: the first area, which boot has mapped. Its pages are the area's own
/// on arm64, per-CPU variables on x86.
///
/// Source: Linux 6.1 arch/arm64/kernel/irq.c `init_irq_stacks`; arch/x86/kernel/irq_64.c `map_irq_stack`.
fn interrupt_stack<M, W>(kernel: &Kernel<'_, M, W>, facts: &Facts) -> Area {
    let area = |flags, caller| Area::new(VirtAddr(0), facts.thread_size + facts.granule.bytes(), flags, caller);
    match &kernel.isa {
        Isa::Arm64(_) => {
            let nr_pages = facts.thread_size >> facts.granule.shift();
            Area { nr_pages, ..area(VmFlags::ALLOC, START_KERNEL) }
        }
        Isa::X86(_) | Isa::I386(_) => area(VmFlags::MAP, IRQ_STACK),
    }
}

/// arm64's image is five areas of vmalloc; only the last has a guard page.
///
/// | era | text from |
/// |---|---|
/// | 6.1 | `_stext` |
/// | the others | `_text` |
fn image_areas<M, W>(kernel: &Kernel<'_, M, W>, config: &Config) -> Result<Vec<Area>, BootError> {
    use kernmem_base::Era;
    let Isa::Arm64(state) = &kernel.isa else { return Ok(Vec::new()) };
    let link = config.symbols.address("_text").unwrap_or_default();
    let image = Image::new(&config.symbols, Some(link + state.displacement), state.text_phys)?;
    let text = match config.era {
        Era::V6_1 => "_stext",
        Era::V4_14 | Era::V5_10 | Era::V6_12 | Era::V7_2 => "_text",
    };
    let segments = [
        (text, "_etext"),
        ("__start_rodata", "__inittext_begin"),
        ("__inittext_begin", "__inittext_end"),
        ("__initdata_begin", "__initdata_end"),
        ("_data", "_end"),
    ];
    let last = segments.len() - 1;
    let page = kernel.granule.bytes();
    let mut areas = Vec::with_capacity(segments.len());
    for (index, (start, end)) in segments.into_iter().enumerate() {
        let Some(range) = image.range(start, end)? else { continue };
        let (flags, guard) = if index == last { (VmFlags::MAP, page) } else { (VmFlags::MAP | VmFlags::NO_GUARD, 0) };
        let size = range.size().next_multiple_of(page) + guard;
        let area = Area::new(range.start, size, flags, PAGING_INIT);
        areas.push(Area { phys: Some(image.phys_of(range.start)), ..area });
    }
    Ok(areas)
}

/// What is asked of areas.
enum Ask<'o> {
    Plain(Request),
    Huge(u64),
    Free(VirtAddr),
    Map(&'o [Pfn]),
    Unmap(VirtAddr),
    Io(PhysAddr, u64),
    IoUnmap(VirtAddr),
}

impl<M: PhysMem, W: Witness> Running<'_, M, W> {
    /// Allocates `size` bytes of mapped pages; returns their address.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc`]; nothing is left behind.
    pub fn vmalloc(&mut self, on: &mut On<'_>, size: u64) -> Result<VirtAddr, VmallocError> {
        let request = self.areas.request(size, OURS);
        self.ask(on, Ask::Plain(request))
    }

    /// As [`Running::vmalloc`], with every part of the request the caller's.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_node_range`].
    pub fn vmalloc_request(&mut self, on: &mut On<'_>, request: Request) -> Result<VirtAddr, VmallocError> {
        self.ask(on, Ask::Plain(request))
    }

    /// As [`Running::vmalloc`], in blocks where the kernel has them.
    ///
    /// # Errors
    /// As [`Vmalloc::vmalloc_huge`].
    pub fn vmalloc_huge(&mut self, on: &mut On<'_>, size: u64) -> Result<VirtAddr, VmallocError> {
        self.ask(on, Ask::Huge(size))
    }

    /// Frees an area with its pages; its addresses wait for a purge.
    ///
    /// # Errors
    /// As [`Vmalloc::vfree`].
    pub fn vfree(&mut self, on: &mut On<'_>, addr: VirtAddr) -> Result<(), VmallocError> {
        self.ask(on, Ask::Free(addr)).map(|_| ())
    }

    /// Maps frames one behind the other; they stay the caller's.
    ///
    /// # Errors
    /// As [`Vmalloc::vmap`].
    pub fn vmap(&mut self, on: &mut On<'_>, frames: &[Pfn]) -> Result<VirtAddr, VmallocError> {
        self.ask(on, Ask::Map(frames))
    }

    /// Unmaps what [`Running::vmap`] mapped.
    ///
    /// # Errors
    /// As [`Vmalloc::vunmap`].
    pub fn vunmap(&mut self, on: &mut On<'_>, addr: VirtAddr) -> Result<(), VmallocError> {
        self.ask(on, Ask::Unmap(addr)).map(|_| ())
    }

    /// Maps `size` bytes of device memory.
    ///
    /// # Errors
    /// [`VmallocError::Memory`]: there is memory, nothing was taken. As [`Vmalloc::ioremap`].
    pub fn ioremap(&mut self, on: &mut On<'_>, phys: PhysAddr, size: u64) -> Result<VirtAddr, VmallocError> {
        if let Some(pfn) = self.memory_in_the_way(phys, size) {
            return Err(VmallocError::Memory { pfn });
        }
        self.ask(on, Ask::Io(phys, size))
    }

    /// The frame for which a window of device memory is refused.
    ///
    /// | architecture | which frames count |
    /// |---|---|
    /// | arm64 | the first of the window, if it is memory that the linear map has: what firmware keeps unmapped is none |
    /// | x86-64 | each that the page allocator has: memory that boot keeps reserved may be mapped |
    ///
    /// Source: Linux 5.10 arch/arm64/mm/ioremap.c `__ioremap_caller`; 6.1 `ioremap_allowed`; arch/x86/mm/ioremap.c
    /// `__ioremap_check_ram`.
    fn memory_in_the_way(&self, phys: PhysAddr, size: u64) -> Option<Pfn> {
        let granule = self.facts.granule;
        let last = phys.checked_add(size.checked_sub(1)?)?;
        match &self.kernel.isa {
            Isa::Arm64(_) => {
                let mut regions = self.kernel.memblock.memory().regions().iter();
                let is_mapped = |region: &Region| !region.flags.contains(Flags::NOMAP);
                let found = regions.find(|region| region.base <= phys && phys < region.end())?;
                is_mapped(found).then(|| phys.pfn(granule))
            }
            Isa::X86(_) | Isa::I386(_) => {
                let (first, last) = (phys.pfn(granule), last.pfn(granule));
                let memory = self.kernel.nodes.memory.iter().map(|(_, span)| span);
                let parts = memory.map(|span| (span.start.max(first).0, span.end.0.min(last.0 + 1)));
                parts.flat_map(|(start, end)| start..end).map(Pfn).find(|pfn| self.kernel.pages.allocator.manages(*pfn))
            }
        }
    }

    /// Unmaps what [`Running::ioremap`] mapped.
    ///
    /// # Errors
    /// As [`Vmalloc::iounmap`].
    pub fn iounmap(&mut self, on: &mut On<'_>, addr: VirtAddr) -> Result<(), VmallocError> {
        self.ask(on, Ask::IoUnmap(addr)).map(|_| ())
    }

    /// Makes all lazily freed addresses free by one flush; returns what was flushed.
    pub fn purge(&mut self, on: &mut On<'_>) -> Option<VirtRange> {
        self.areas.purge(on.tlb)
    }

    /// The frame behind an address of vmalloc.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn vmalloc_to_pfn(&self, addr: VirtAddr) -> Result<Option<Pfn>, WalkError> {
        struct Lookup<'a, M> {
            era: kernmem_base::Era,
            mem: &'a M,
            root: PhysAddr,
            va: VirtAddr,
        }
        impl<M: PhysMem> WithFormat for Lookup<'_, M> {
            type Output = Result<Option<Pfn>, WalkError>;
            fn run<F: UserFormat>(self) -> Self::Output {
                vmalloc_to_pfn::<F, M>(self.era, self.mem, self.root, self.va)
            }
        }
        let lookup = Lookup { era: self.facts.era, mem: self.kernel.mem, root: self.kernel.roots.kernel, va: addr };
        self.facts.format.with(lookup)
    }

    fn ask(&mut self, on: &mut On<'_>, ask: Ask<'_>) -> Result<VirtAddr, VmallocError> {
        let pages = match &ask {
            Ask::Plain(Request { size, .. }) | Ask::Huge(size) => *size,
            _ => 0,
        };
        let pages = pages.div_ceil(self.facts.granule.bytes());
        let total = total_pages(&self.kernel.pages.allocator);
        // A block rounds the request up; more than all memory is refused before the list is looked at.
        let room = pages.next_multiple_of(512).min(total.max(512)) as usize;
        let Self { kernel, facts, areas, cpus, processes, .. } = self;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let (cpu, _) = lists(boot, cpus, on.cpu).ok_or(VmallocError::NoNode)?;
        let mut nobody = ();
        let trace: &mut dyn Trace = match &mut on.trace {
            Some(trace) => &mut **trace,
            None => &mut nobody,
        };
        let op = Op {
            mem: kernel.mem,
            root: kernel.roots.kernel,
            facts,
            areas,
            pages: Pages { allocator, cpu },
            tlb: on.tlb,
            trace,
            list: alloc::vec![Pfn(0); room],
            total,
            ask,
        };
        let (done, modified) = facts.format.with(op);
        if modified.contains(Level::Pgd) {
            // The area's own range; where there is none any more, what was changed may be anywhere.
            let area = done.as_ref().ok().and_then(|addr| areas.find_vm_area(*addr));
            // The array of a large area is an area itself, anywhere.
            let area = area.filter(|area| area.array.is_none());
            let range = area.and_then(|area| area.usable_range(facts.granule));
            processes.follow(kernel.mem, range.unwrap_or_else(|| facts.vmalloc_range()));
        }
        done
    }
}

/// One operation, once the format is known.
struct Op<'a, 'm, M> {
    mem: &'m M,
    root: PhysAddr,
    facts: &'a Facts,
    areas: &'a mut Vmalloc<VecStore>,
    pages: Pages<'a, HeapStore>,
    tlb: &'a mut dyn kernmem_base::Tlb,
    trace: &'a mut dyn Trace,
    list: Vec<Pfn>,
    total: u64,
    ask: Ask<'a>,
}

impl<M: PhysMem> WithFormat for Op<'_, '_, M> {
    type Output = (Result<VirtAddr, VmallocError>, Modified);

    fn run<F: UserFormat>(self) -> Self::Output {
        let Self { mem, root, facts, areas, mut pages, tlb, trace, mut list, total, ask } = self;
        let mut tables = Tables::<F, M>::new(mem, root);
        let prot = F::attrs(facts.prot.data);
        let mut env = Env {
            tables: &mut tables,
            pages: &mut pages,
            tlb,
            trace,
            list: &mut list,
            prot,
            table_attrs: F::attrs(facts.prot.table),
            total_pages: total,
            modified: Modified::default(),
        };
        let done = match ask {
            Ask::Plain(request) if request == areas.request(request.size, request.caller) => {
                areas.vmalloc(&mut env, request.size, request.caller)
            }
            Ask::Plain(request) => areas.vmalloc_node_range(&mut env, &request),
            Ask::Huge(size) => areas.vmalloc_huge(&mut env, size, OURS),
            Ask::Free(addr) => areas.vfree(&mut env, addr).map(|()| addr),
            Ask::Map(frames) => areas.vmap(&mut env, frames, VmFlags::MAP, prot, OURS),
            Ask::Unmap(addr) => areas.vunmap(&mut env, addr).map(|()| addr),
            Ask::Io(phys, size) => areas.ioremap(&mut env, phys, size, F::attrs(facts.prot.device), IOREMAP),
            Ask::IoUnmap(addr) => areas.iounmap(&mut env, addr).map(|()| addr),
        };
        (done, env.modified)
    }
}
