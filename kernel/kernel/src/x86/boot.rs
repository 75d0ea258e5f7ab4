//! The order of steps, and what they share.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::x86::direct_map::{PageSizes, SizeDecision, SizeFacts, early_table_pages, page_sizes};
use kernmem_arch::x86::fixmap::{Fixmap, FixmapFacts};
use kernmem_arch::x86::image::ImageSymbols;
use kernmem_arch::x86::kaslr::Switches;
use kernmem_arch::x86::layout::{Bases, Layout, LayoutFacts, Paging, PagingFacts};
use kernmem_arch::x86::markers::{MarkerFacts, Markers};
use kernmem_arch::x86::prot::{CpuFacts, Masks, Needed, missing_feature, nx_used};
use kernmem_arch::x86::{X86, prealloc};
use kernmem_arch::{Bound, EntryFormat, Reason};
use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysMem, PhysRange, VirtAddr};
use kernmem_config::{Arch, Config, X86Cpu};
use kernmem_firmware::{E820Table, Machine};
use kernmem_memblock::{Limits, Memblock, VecArray};
use kernmem_pgtable::Tables;

use super::nodes::Brought;
use super::{Percpu, State, late};
use crate::kasan::ZeroShadow;
use crate::numa::NodeData;
use crate::pc::lacking;
use crate::takers::gigantic::GiganticPool;
use crate::takers::page_counts;
use crate::{Boot, BootError, Image, Isa, Kernel, LogEntry, Roots, Witness};

/// The tables of this boot.
pub(super) type KernelTables<'m, M, const LEVELS: usize> = Tables<'m, X86<LEVELS>, M>;

/// Bytes of a page.
pub(super) const PAGE: u64 = 1 << 12;
/// Bytes of a leaf above the last level.
pub(super) const LARGE: u64 = 1 << 21;
/// Where an image that nobody moved is loaded.
const DEFAULT_PHYSICAL_START: u64 = 16 << 20;

/// Everything that the steps before the hand-over share.
pub(super) struct Booting<'m, 'c, M, W, const LEVELS: usize> {
    pub mem: &'m M,
    pub machine: &'c Machine,
    pub config: &'c Config,
    pub cpu: CpuFacts,
    pub image: Image<'c>,
    pub symbols: ImageSymbols,
    pub tables: KernelTables<'m, M, LEVELS>,
    pub memblock: Memblock<VecArray, W>,
    pub state: State,
    /// The firmware's map, as the command line left it.
    pub e820: E820Table,
    /// Edges of memory and what they are.
    pub edges: Vec<(PhysAddr, Bound)>,
    /// What is left of the image's pages for early tables.
    pub early_tables: PhysRange,
    /// Leaf sizes of the direct map.
    pub sizes: SizeDecision,
    /// CPUs that may ever come up.
    pub cpus: u32,
    /// Pages below 16 MiB that were taken before the zones were made.
    pub dma_reserve: u64,
    /// The log already has a larger buffer.
    pub has_new_log: bool,
    /// The RAM disk in whole pages, where it lies after it was moved.
    pub initrd: Option<PhysRange>,
}

/// Boots an x86-64 kernel, with as many levels of tables as it chooses on this CPU.
///
/// # Errors
/// As [`crate::boot`].
pub fn boot<'m, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    witness: W,
) -> Result<Kernel<'m, M, W>, BootError> {
    let config = boot.config;
    let model = config.cpu.x86().ok_or_else(|| BootError::Input("the CPU is no x86 model".into()))?;
    check_modelled(config)?;
    let facts = PagingFacts {
        built: config.kconfig.is_set("X86_5LEVEL"),
        la57: model.has("la57"),
        no5lvl: config.cmdline.no5lvl(),
    };
    match Paging::choose(config.era, facts) {
        Paging::Level4 => with_levels::<4, M, W>(mem, boot, model, witness),
        Paging::Level5 => with_levels::<5, M, W>(mem, boot, model, witness),
    }
}

/// The steps in their order.
fn with_levels<'m, const LEVELS: usize, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    model: &X86Cpu,
    witness: W,
) -> Result<Kernel<'m, M, W>, BootError> {
    let mut booting = Booting::<M, W, LEVELS>::new(mem, boot, model, witness)?;
    booting.build_early_tables()?;
    booting.early_reserve()?;
    booting.take_firmware_map()?;
    booting.place_regions()?;
    booting.reserve_and_fill()?;
    booting.init_mem_mapping()?;
    booting.reserve_mapped()?;
    let nodes = booting.initmem_init()?;
    booting.reserve_crash_kernel()?;
    let (brought, gigantic) = booting.set_up_memory_map(nodes)?;
    let prepared = booting.mm_init(&brought.nodes, gigantic)?;
    late::run(booting, brought, prepared, boot)
}

/// Puts the kernel together.
pub(super) fn finish<'m, M, W>(
    mem: &'m M,
    era: Era,
    state: State,
    roots: Roots,
    parts: late::Parts<W>,
) -> Kernel<'m, M, W> {
    let late::Parts { memblock, sections, nodes, frames, gigantic } = parts;
    Kernel {
        mem,
        era,
        granule: Granule::K4,
        isa: Isa::X86(state),
        roots,
        memblock,
        sections,
        nodes,
        gigantic,
        pages: frames,
    }
}

impl<'m, 'c, M: PhysMem, W: Witness, const LEVELS: usize> Booting<'m, 'c, M, W, LEVELS> {
    fn new(mem: &'m M, boot: &Boot<'c>, model: &X86Cpu, witness: W) -> Result<Self, BootError> {
        let (machine, config) = (boot.machine, boot.config);
        let cpu = cpu_facts(config, model);
        if let Some(feature) = missing_feature(config.era, cpu) {
            let feature = match feature {
                Needed::Pse => "pse",
                Needed::Pge => "pge",
            };
            return Err(BootError::Input(format!("this kernel does not start on a CPU without `{feature}`")));
        }
        let load = config.kconfig.number("PHYSICAL_START").unwrap_or(DEFAULT_PHYSICAL_START);
        let text_phys = config.given.text_phys.unwrap_or(PhysAddr(load));
        let image = Image::new(&config.symbols, config.given.text_virt, text_phys)?;
        let set = |name| config.kconfig.is_set(name);
        let pages = early_table_pages(config.era, set("X86_5LEVEL"), set("RANDOMIZE_MEMORY"));
        let symbols = image_symbols(&image, pages * PAGE)?;
        let paging = X86::<LEVELS>::PAGING;
        let layout = layout(config, paging, Bases::fixed(config.era, paging));
        let pti = config.isolates_page_tables(false);
        let nx = nx_used(config.era, cpu.nx, !config.cmdline.noexec(config.era));
        let fixmap = fixmap(config);
        let covered = image.range("_text", "_end")?.ok_or_else(|| BootError::Input("symbols: _text is _end".into()))?;
        let zero_shadow = match set("KASAN") {
            true => Some(Box::new(ZeroShadow::of_image(&image, X86::<LEVELS>::shape().levels)?)),
            false => None,
        };
        let sizes = page_sizes(SizeFacts {
            pse: cpu.pse,
            gbpages: cpu.gbpages,
            gbpages_wanted: config.cmdline.gbpages(set("X86_DIRECT_GBPAGES")),
            debug_pagealloc: config.debug_pagealloc().value,
        });
        let state = State {
            layout,
            fixmap,
            markers: Box::new(markers(config, &layout, &fixmap)),
            image: covered,
            text_phys,
            masks: Masks::new(nx, cpu.pge, pti),
            pti,
            gbpages: sizes.sizes.g1,
            max_pfn: Pfn(0),
            mapped: Vec::new(),
            counters: Default::default(),
            trampoline: PhysRange::new(PhysAddr(0), PhysAddr(0)),
            crash_kernel: None,
            percpu: Percpu::default(),
            zero_shadow,
            entry_slots: Vec::new(),
            draws_entry_slots: false,
            e820: E820Table::new(),
        };
        let limits = Limits {
            max_nodes: config.max_nodes(),
            numa: set("NUMA"),
            kernelcore_mirror: config.cmdline.last_value("kernelcore") == Some("mirror"),
            ..Limits::new_64bit(Granule::K4)
        };
        let lists = || VecArray::with_capacity(128);
        let memblock = Memblock::new(config.era, limits, lists(), lists(), witness);
        let root = image.phys("init_top_pgt")?;
        let brk = image.phys("__brk_base")?;
        Ok(Self {
            mem,
            machine,
            config,
            cpu,
            image,
            symbols,
            tables: Tables::new(mem, root),
            memblock,
            state,
            e820: machine.e820.clone(),
            edges: Vec::new(),
            early_tables: PhysRange::new(brk, brk + pages * PAGE),
            sizes,
            cpus: crate::pc::cpus::possible_cpus(config),
            dma_reserve: 0,
            has_new_log: false,
            initrd: None,
        })
    }

    /// The memory map and the zones, with what is taken around them.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | memory map, zones, shadow, small structures |
    /// | 7.2 | shadow, small structures, gigantic pages, memory map, zones |
    ///
    /// Source: Linux 5.10–6.12 arch/x86/kernel/setup.c `setup_arch`; 7.2 mm/mm_init.c `mm_core_init_early`.
    fn set_up_memory_map(&mut self, nodes: Vec<NodeData>) -> Result<(Brought, Vec<GiganticPool>), BootError> {
        self.dma_reserve = page_counts::dma_reserve(&self.memblock);
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
                let brought = self.paging_init(nodes)?;
                self.kasan_init()?;
                self.map_apics()?;
                self.reserve_small()?;
                Ok((brought, Vec::new()))
            }
            Era::V7_2 => {
                self.kasan_init()?;
                self.map_apics()?;
                self.reserve_small()?;
                let gigantic = self.allocate_gigantic();
                Ok((self.paging_init(nodes)?, gigantic))
            }
        }
    }

    /// Moves the three large regions to where they were drawn, and with them the landmarks.
    pub(super) fn move_regions(&mut self, bases: Bases) {
        self.state.layout = layout(self.config, X86::<LEVELS>::PAGING, bases);
        *self.state.markers = markers(self.config, &self.state.layout, &self.state.fixmap);
    }

    /// What may be drawn.
    pub(super) fn kaslr(&self) -> Switches {
        let config = self.config;
        Switches {
            randomize_memory: config.kconfig.is_set("RANDOMIZE_MEMORY"),
            loader_flag: !config.cmdline.nokaslr(config.era, Arch::X86_64),
            kasan: config.kconfig.is_set("KASAN"),
        }
    }

    /// Why kernel leaves lack rights' bits: no global pages, no NX.
    pub(super) fn lacking(&self) -> Vec<Reason> {
        lacking(self.state.pti, self.cpu)
    }

    /// Tells the log.
    pub(super) fn log(&mut self, entry: LogEntry) {
        self.memblock.observer().log(entry);
    }
}

/// No leaf larger than 2 MiB, or than a base page.
pub(super) fn page_sizes_up_to<const LEVELS: usize>(sizes: PageSizes) -> kernmem_pgtable::Sizes {
    kernmem_pgtable::Sizes::only(X86::<LEVELS>::shape(), |leaf| sizes.allow(leaf.level))
}

/// Features by their names; identifiers of processes need global pages.
fn cpu_facts(config: &Config, cpu: &X86Cpu) -> CpuFacts {
    CpuFacts {
        pse: cpu.has("pse"),
        pge: cpu.has("pge"),
        nx: cpu.has("nx"),
        gbpages: cpu.has("pdpe1gb"),
        pcid: cpu.has("pcid") && cpu.has("pge") && !config.cmdline.nopcid(),
    }
}

fn check_modelled(config: &Config) -> Result<(), BootError> {
    let set = |name| config.kconfig.is_set(name);
    match config.era {
        Era::V4_14 => return Err(BootError::Beyond("an x86-64 kernel of Linux 4.14".into())),
        Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
    }
    let beyond = |what: &str| Err(BootError::Beyond(format!("an x86-64 kernel with {what}")));
    let options = [("KMSAN", "KMSAN"), ("X86_ESPFIX64", "espfix stacks"), ("XEN_PV", "Xen")];
    for (option, what) in options {
        if set(option) {
            return beyond(what);
        }
    }
    if set("KFENCE") && config.kfence_sample_interval().value != Some(0) {
        return beyond("KFENCE");
    }
    if config.cmdline.last_value("percpu_alloc") == Some("page") {
        return beyond("per-CPU areas page by page");
    }
    // Without DMA_CMA nobody reads `cma=`.
    let default_cma = config.kconfig.number("CMA_SIZE_MBYTES").unwrap_or(0) != 0;
    if set("DMA_CMA") && (default_cma || config.cmdline.has("cma")) {
        return beyond("a CMA area");
    }
    if config.cmdline.numa_fake().is_some() && set("NUMA_EMU") {
        return beyond("emulated nodes");
    }
    if set("CMA") && set("HUGETLB_PAGE") && config.cmdline.has("hugetlb_cma") {
        return beyond("CMA areas for gigantic pages");
    }
    if set("CMA") && set("CRASH_RESERVE") && config.cmdline.crashkernel(config.era, u64::MAX >> 1).value.cma.is_some() {
        return beyond("CMA areas for a crash kernel");
    }
    let default = set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON");
    let shares = config.cmdline.hugetlb_free_vmemmap(config.era, default).value;
    if shares && set("SPARSEMEM_VMEMMAP_PREINIT") && set("HUGETLB_PAGE_OPTIMIZE_VMEMMAP") && asks_for_gigantic(config) {
        return beyond("gigantic pages whose descriptors are shared from the start");
    }
    Ok(())
}

/// Whether the command line asks for pages of 1 GiB.
fn asks_for_gigantic(config: &Config) -> bool {
    const SIZES: [u64; 2] = [LARGE, 1 << 30];
    let pools = config.cmdline.huge_pages(config.era, &SIZES, LARGE).value.pools;
    pools.iter().any(|pool| pool.size > LARGE && pool.pages > 0)
}

fn layout(config: &Config, paging: Paging, bases: Bases) -> Layout {
    let set = |name| config.kconfig.is_set(name);
    let facts = LayoutFacts {
        era: config.era,
        paging,
        randomize_base: set("RANDOMIZE_BASE"),
        kasan: set("KASAN"),
        kmsan: false,
        force_kmap_local: set("DEBUG_KMAP_LOCAL_FORCE_MAP"),
        physical_start: config.kconfig.number("PHYSICAL_START").unwrap_or(DEFAULT_PHYSICAL_START),
        physical_align: config.kconfig.number("PHYSICAL_ALIGN").unwrap_or(LARGE),
    };
    Layout::new(&facts, bases)
}

fn fixmap(config: &Config) -> Fixmap {
    const MAX_IO_APICS: u32 = 128;
    const KMAPS_PER_CPU: u32 = 16;
    let set = |name| config.kconfig.is_set(name);
    let cpus = config.kconfig.number("NR_CPUS").unwrap_or(1) as u32;
    Fixmap::new(&FixmapFacts {
        vsyscall: set("X86_VSYSCALL_EMULATION"),
        ohci1394: set("PROVIDE_OHCI1394_DMA_INIT"),
        local_apic: set("X86_LOCAL_APIC"),
        io_apics: if set("X86_IO_APIC") { MAX_IO_APICS } else { 0 },
        kmap_local: if set("KMAP_LOCAL") { KMAPS_PER_CPU * cpus } else { 0 },
        paravirt: set("PARAVIRT_XXL"),
        ghes: set("ACPI_APEI_GHES"),
        txt: set("INTEL_TXT"),
    })
}

fn markers(config: &Config, layout: &Layout, fixmap: &Fixmap) -> Markers {
    let set = |name| config.kconfig.is_set(name);
    let facts = MarkerFacts { modify_ldt: set("MODIFY_LDT_SYSCALL"), espfix: set("X86_ESPFIX64"), efi: set("EFI") };
    Markers::new(layout, fixmap, facts)
}

/// The image's symbols where they run; `taken` bytes of its heap are in use.
fn image_symbols(image: &Image<'_>, taken: u64) -> Result<ImageSymbols, BootError> {
    let init_end = image.virt("__init_end")?;
    let or = |name, other: VirtAddr| image.virt(name).unwrap_or(other);
    Ok(ImageSymbols {
        text: image.virt("_text")?,
        etext: image.virt("_etext")?,
        entry_text_start: image.virt("__entry_text_start")?,
        entry_text_end: image.virt("__entry_text_end")?,
        start_rodata: image.virt("__start_rodata")?,
        end_rodata: image.virt("__end_rodata")?,
        end_rodata_aligned: image.virt("__end_rodata_aligned")?,
        end_rodata_hpage_align: image.virt("__end_rodata_hpage_align")?,
        sdata: image.virt("_sdata")?,
        init_begin: image.virt("__init_begin")?,
        init_end,
        smp_locks: or("__smp_locks", init_end), // without SMP there are none
        smp_locks_end: or("__smp_locks_end", init_end),
        idt_table: image.virt("idt_table")?,
        end: image.virt("_end")?,
        brk_end: image.virt("__brk_base")? + taken,
    })
}

/// Frames of the kernel's root table: the second is the user's.
pub(super) fn root_frames(config: &Config, pti: bool) -> u64 {
    let option = match config.era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => "PAGE_TABLE_ISOLATION",
        Era::V6_12 | Era::V7_2 => "MITIGATION_PAGE_TABLE_ISOLATION",
    };
    prealloc::root_frames(config.era, config.kconfig.is_set(option), pti)
}
