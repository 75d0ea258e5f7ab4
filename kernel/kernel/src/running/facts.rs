//! What the parts of a running kernel need to know of its architecture and configuration, once and as plain values.
//!
//! Not here: a rule: each value comes from the layout and the protections that boot used.
//!
//! Source: Linux 6.1 arch/arm64/include/asm/vmalloc.h, arch/x86/include/asm/vmalloc.h, arch/x86/mm/init_64.c.

use alloc::vec::Vec;

use kernmem_arch::x86::memtype::{CacheMode, PatKind};
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{Format, arm64, i386, x86};
use kernmem_base::{Era, Granule, Order, PhysAddr, VirtAddr, VirtRange};
use kernmem_page_alloc::PageAllocator;
use kernmem_slab::{Classes, KmallocArch};
use kernmem_vmalloc::{Huge, Rules};

use super::memmap::Place;
use crate::{Boot, BootError, Isa, Kernel};

/// Raw attribute bits of kernel mappings, in the form of a base page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protections {
    /// Data.
    pub data: u64,
    /// Data that nobody writes.
    pub read_only: u64,
    /// Device memory.
    pub device: u64,
    /// Entries that link tables.
    pub table: u64,
}

/// The values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The branch.
    pub era: Era,
    /// The page size.
    pub granule: Granule,
    /// The format of the tables.
    pub format: Format,
    /// CPUs that come up.
    pub cpus: u32,
    /// The node of each CPU.
    pub cpu_nodes: Vec<u32>,
    /// Nodes.
    pub nodes: u32,
    /// Rules of areas.
    pub vmalloc: Rules,
    /// Attribute bits.
    pub prot: Protections,
    /// Size classes of objects.
    pub classes: Classes,
    /// Bytes of a page descriptor.
    pub descriptor_bytes: u64,
    /// Orders of huge pages, in the order in which Linux registers their sizes.
    pub huge_orders: Vec<Order>,
    /// The default size of huge pages, which the command line can set.
    pub default_huge: Order,
    /// Huge pages give the memory of their descriptors back: Linux does it on this kernel and the command line says so.
    pub hvo: bool,
    /// Linux can do it on this kernel.
    pub hvo_built: bool,
    /// Bytes of a kernel stack.
    pub thread_size: u64,
}

/// A part that does not start.
pub(super) fn failed(what: &dyn core::fmt::Display) -> BootError {
    BootError::Input(alloc::format!("running kernel: {what}"))
}

impl Facts {
    /// The values of a booted kernel, which came from `boot`.
    ///
    /// # Errors
    /// The kernel is of an architecture without a running form.
    pub fn of<M, W>(kernel: &Kernel<'_, M, W>, boot: &Boot<'_>) -> Result<Self, BootError> {
        let Boot { machine, config, .. } = *boot;
        if !runs(kernel) {
            return Err(BootError::Beyond("a running kernel with other than 4K pages and 48 bits".into()));
        }
        let set = |name| config.kconfig.is_set(name);
        let cpus = config.possible_cpus.max(1);
        let nodes = kernel.nodes.nodes.len().max(1) as u32;
        let (format, range, prot, classes, huge, cpu_nodes) = match &kernel.isa {
            Isa::Arm64(state) => {
                let ng = |attrs| state.prot(attrs).0;
                let prot = Protections {
                    data: ng(arm64::prot::PAGE_KERNEL),
                    read_only: ng(arm64::prot::PAGE_KERNEL_RO),
                    device: ng(arm64::prot::device(config.era)),
                    table: arm64::prot::table(config.era, false).0,
                };
                let layout = &state.layout;
                let range = (layout.kimage, layout.vmalloc_end);
                let arch = KmallocArch::Arm64 { bounce: true, writeback: 128 };
                // Listings of tables need tables that stay: such a kernel maps no blocks there up to 6.12.
                let blocks = !set("PTDUMP_DEBUGFS") || config.era == Era::V7_2;
                let of_cpu = |cpu| kernel.nodes.of_cpu(machine, cpu);
                (Format::Arm64(state.geometry), range, prot, arch, (blocks, blocks), (0..cpus).map(of_cpu).collect())
            }
            Isa::X86(state) => {
                let kernel = |prot| state.masks.kernel(config.era, prot).0;
                let prot = Protections {
                    data: kernel(Prot::Kernel),
                    read_only: kernel(Prot::KernelRo),
                    device: kernel(Prot::KernelIo) | PatKind::Full.bits(CacheMode::UcMinus),
                    table: table::PAGE.0,
                };
                let layout = &state.layout;
                let range = (layout.vmalloc_start, layout.vmalloc_last.wrapping_add(1));
                let nodes = state.percpu.nodes.clone();
                (Format::x86(layout.paging), range, prot, KmallocArch::X86, (state.gbpages, true), nodes)
            }
            Isa::I386(_) => {
                return Err(BootError::Beyond("an i386 kernel that runs: it can be booted and listed".into()));
            }
        };
        let (thread_size, ioremap_max_order) = match &kernel.isa {
            Isa::Arm64(_) => {
                (config.sizes.get("THREAD_SIZE").unwrap_or(16 << 10), arm64::limits::ioremap_max_shift(kernel.granule))
            }
            Isa::X86(state) => (state.layout.thread_size, x86::layout::IOREMAP_MAX_SHIFT),
            Isa::I386(state) => (i386::layout::THREAD_SIZE, state.layout.paging.large().ilog2()),
        };
        let vmalloc = Rules {
            era: config.era,
            granule: kernel.granule,
            start: range.0,
            end: range.1,
            online_cpus: cpus,
            online_nodes: nodes,
            ioremap_max_order,
            max_page_order: kernel.pages.allocator.facts().max_order.0,
            huge: Huge {
                pud: huge.0,
                pmd: huge.1,
                vmalloc: set("HAVE_ARCH_HUGE_VMALLOC") && !config.cmdline.has("nohugevmalloc"),
                io: set("HAVE_ARCH_HUGE_VMAP") && !config.cmdline.has("nohugeiomap"),
            },
        };
        let has_gb = !matches!(&kernel.isa, Isa::X86(state) if !state.gbpages);
        let huge_orders =
            if set("HUGETLB_PAGE") { super::huge::orders(format, kernel.granule, has_gb) } else { Vec::new() };
        let hvo_built = set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP");
        let default_on = set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON");
        Ok(Self {
            era: config.era,
            granule: kernel.granule,
            format,
            cpus,
            cpu_nodes,
            nodes,
            vmalloc,
            prot,
            classes: Classes::new(config.era, kernel.granule, classes),
            descriptor_bytes: kernel.sections.geometry().page_bytes(),
            default_huge: super::huge::default_order(config, kernel.granule, &huge_orders),
            huge_orders,
            hvo: hvo_built && config.cmdline.hugetlb_free_vmemmap(config.era, default_on).value,
            hvo_built,
            thread_size,
        })
    }

    /// The node of a CPU.
    #[must_use]
    pub fn node_of(&self, cpu: u32) -> u32 {
        self.cpu_nodes.get(cpu as usize).copied().unwrap_or(0)
    }

    /// Where the page descriptors are.
    pub(super) fn memmap_place<M, W>(&self, kernel: &Kernel<'_, M, W>) -> Place {
        let base = match &kernel.isa {
            Isa::Arm64(state) => state.frame_zero(),
            Isa::X86(state) => state.layout.vmemmap,
            Isa::I386(state) => state.layout.page_offset,
        };
        Place { format: self.format, root: kernel.roots.kernel, base }
    }

    /// The vmalloc region.
    #[must_use]
    pub fn vmalloc_range(&self) -> VirtRange {
        VirtRange { start: self.vmalloc.start, last: VirtAddr(self.vmalloc.end.0.wrapping_sub(1)) }
    }
}

/// Whether CPUs and programs have these tables.
fn runs<M, W>(kernel: &Kernel<'_, M, W>) -> bool {
    match &kernel.isa {
        Isa::Arm64(state) => Some(state.geometry) == arm64::Geometry::of(12, 48),
        Isa::X86(_) | Isa::I386(_) => true,
    }
}

/// Pages that the page allocator has in all.
pub(super) fn total_pages<S: kernmem_page_alloc::store::Store>(allocator: &PageAllocator<S>) -> u64 {
    allocator.managed()
}

/// The linear map's address of `pa`.
#[must_use]
pub fn linear<M, W>(kernel: &Kernel<'_, M, W>, pa: PhysAddr) -> VirtAddr {
    match &kernel.isa {
        Isa::Arm64(state) => state.linear(pa),
        Isa::X86(state) => state.layout.direct(pa),
        Isa::I386(state) => state.layout.direct(pa),
    }
}
