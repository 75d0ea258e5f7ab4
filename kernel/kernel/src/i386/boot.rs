//! The order of steps, and what they share.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::i386::early::{EarlyMap, early_map};
use kernmem_arch::i386::layout::{Layout, LayoutFacts, Paging, Split};
use kernmem_arch::i386::low_memory::LowMemory;
use kernmem_arch::i386::{I386Format, I386Level2, I386Pae, markers};
use kernmem_arch::x86::counters::DirectMapCounters;
use kernmem_arch::x86::direct_map::{SizeDecision, SizeFacts, early_table_pages, page_sizes};
use kernmem_arch::x86::fixmap::Fixmap;
use kernmem_arch::x86::image::ImageSymbols;
use kernmem_arch::x86::prot::{CpuFacts, Masks, nx_used};
use kernmem_arch::{Bound, Reason};
use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysMem, PhysRange, VirtAddr};
use kernmem_config::{Config, X86Cpu};
use kernmem_firmware::{E820Table, Machine};
use kernmem_memblock::{Limits, Memblock, VecArray};
use kernmem_pgtable::Tables;

use super::zones::Brought;
use super::{State, late};
use crate::pc::lacking;
use crate::x86::Percpu;
use crate::{Boot, BootError, Image, Isa, Kernel, LogEntry, Roots, Witness};

/// Bytes of a page.
pub(super) const PAGE: u64 = 1 << 12;
/// Where an image that nobody moved is loaded.
const DEFAULT_PHYSICAL_START: u64 = 16 << 20;

/// Everything that the steps before the hand-over share.
pub(super) struct Booting<'m, 'c, F, M, W> {
    pub mem: &'m M,
    pub machine: &'c Machine,
    pub config: &'c Config,
    pub cpu: CpuFacts,
    pub image: Image<'c>,
    pub symbols: ImageSymbols,
    pub tables: Tables<'m, F, M>,
    pub memblock: Memblock<VecArray, W>,
    pub state: State,
    /// The first map.
    pub early: EarlyMap,
    /// The firmware's map, as the command line left it.
    pub e820: E820Table,
    /// Edges of memory and what they are.
    pub edges: Vec<(PhysAddr, Bound)>,
    /// What is left of the image's pages for tables.
    pub early_tables: PhysRange,
    /// Leaf sizes of low memory's map.
    pub sizes: SizeDecision,
    /// CPUs that may ever come up.
    pub cpus: u32,
    /// The log already has a larger buffer.
    pub has_new_log: bool,
    /// The RAM disk in whole pages, where it lies after it was moved.
    pub initrd: Option<PhysRange>,
}

/// Boots an i386 kernel.
///
/// # Errors
/// As [`crate::boot`].
pub fn boot<'m, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    witness: W,
) -> Result<Kernel<'m, M, W>, BootError> {
    match paging(boot.config) {
        Paging::Pae => run(Booting::<I386Pae, M, W>::new(mem, boot, witness)?, boot),
        Paging::Level2 => run(Booting::<I386Level2, M, W>::new(mem, boot, witness)?, boot),
    }
}

fn run<'m, F: I386Format, M: PhysMem, W: Witness>(
    mut booting: Booting<'m, '_, F, M, W>,
    boot: &Boot<'_>,
) -> Result<Kernel<'m, M, W>, BootError> {
    booting.build_early_tables()?;
    booting.early_reserve()?;
    booting.take_firmware_map()?;
    booting.reserve_and_fill()?;
    booting.init_mem_mapping()?;
    booting.reserve_mapped()?;
    booting.tell_low_memory();
    booting.make_kmap_table()?;
    let brought = booting.set_up_memory_map()?;
    let prepared = booting.mm_init(&brought.nodes)?;
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
    let late::Parts { memblock, sections, nodes, frames } = parts;
    Kernel {
        mem,
        era,
        granule: Granule::K4,
        isa: Isa::I386(state),
        roots,
        memblock,
        sections,
        nodes,
        gigantic: Vec::new(),
        pages: frames,
    }
}

impl<'m, 'c, F: I386Format, M: PhysMem, W: Witness> Booting<'m, 'c, F, M, W> {
    fn new(mem: &'m M, boot: &Boot<'c>, witness: W) -> Result<Self, BootError> {
        let (machine, config) = (boot.machine, boot.config);
        let model = config.cpu.x86().ok_or_else(|| BootError::Input("the CPU is no x86 model".into()))?;
        let cpu = cpu_facts(config, model, F::PAGING);
        check_modelled(config)?;
        if F::PAGING == Paging::Pae && !model.has("pae") {
            return Err(BootError::Input("this kernel does not start on a CPU without `pae`".into()));
        }
        let load = config.kconfig.number("PHYSICAL_START").unwrap_or(DEFAULT_PHYSICAL_START);
        let text_phys = config.given.text_phys.unwrap_or(PhysAddr(load));
        let (layout, fixmap) = Layout::new(&layout_facts(config));
        // The image moves with its memory.
        let text_virt = config.given.text_virt.unwrap_or_else(|| layout.direct(text_phys));
        let image = Image::new(&config.symbols, Some(text_virt), text_phys)?;
        let low_pages = layout.kernel_half().size() / PAGE;
        let early = early_map(F::PAGING, image.phys("_end")?, low_pages);
        let buffer = early_table_pages(config.era, false, false);
        let symbols = image_symbols(&image, (early.tables + buffer) * PAGE)?;
        let pti = F::PAGING == Paging::Pae && config.isolates_page_tables(false);
        let covered = image.range("_text", "_end")?.ok_or_else(|| BootError::Input("symbols: _text is _end".into()))?;
        let sizes = page_sizes(SizeFacts {
            pse: cpu.pse,
            gbpages: false,
            gbpages_wanted: false,
            debug_pagealloc: config.debug_pagealloc().value,
        });
        let state = State {
            format: F::PAGING.format(),
            layout,
            fixmap,
            markers: Box::new(markers(&layout, &fixmap, config.kconfig.is_set("MODIFY_LDT_SYSCALL"))),
            image: covered,
            text_phys,
            masks: Masks::new(cpu.nx, cpu.pge, pti),
            pti,
            low: LowMemory { max_low: Pfn(0), max: Pfn(0), high_pages: 0, warning: None },
            mapped: Vec::new(),
            counters: DirectMapCounters::with_pages(F::PAGING.table_entries()),
            trampoline: PhysRange::new(PhysAddr(0), PhysAddr(0)),
            percpu: Percpu::default(),
            e820: E820Table::new(),
        };
        let lists = || VecArray::with_capacity(128);
        let memblock = Memblock::new(config.era, limits(config, F::PAGING), lists(), lists(), witness);
        let root = image.phys("swapper_pg_dir")?;
        let heap = image.phys("__brk_base")? + early.tables * PAGE;
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
            early,
            e820: machine.e820.clone(),
            edges: Vec::new(),
            early_tables: PhysRange::new(heap, heap + buffer * PAGE),
            sizes,
            cpus: crate::pc::cpus::possible_cpus(config),
            has_new_log: false,
            initrd: None,
        })
    }

    /// The memory map and the zones, with what is taken around them.
    ///
    /// | era | order |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | memory map, zones, small structures |
    /// | 7.2 | small structures, memory map, zones |
    ///
    /// Source: Linux 5.10–6.12 arch/x86/kernel/setup.c `setup_arch`; 7.2 mm/mm_init.c `mm_core_init_early`.
    fn set_up_memory_map(&mut self) -> Result<Brought, BootError> {
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
                let brought = self.paging_init()?;
                self.map_apics()?;
                self.reserve_small()?;
                Ok(brought)
            }
            Era::V7_2 => {
                self.map_apics()?;
                self.reserve_small()?;
                self.paging_init()
            }
        }
    }

    /// The fixed addresses that a kernel has before it reads its command line.
    pub(super) fn first_fixmap(&self) -> Fixmap {
        Layout::new(&LayoutFacts { reserved_top: 0, ..layout_facts(self.config) }).1
    }

    /// Sets where low memory ends, and with it the landmarks.
    pub(super) fn settle_layout(&mut self, low: LowMemory) {
        self.state.low = low;
        self.state.layout = self.state.layout.with_low_memory(low.max_low);
        let modify_ldt = self.config.kconfig.is_set("MODIFY_LDT_SYSCALL");
        *self.state.markers = markers(&self.state.layout, &self.state.fixmap, modify_ldt);
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

/// Which entries the kernel was built for.
fn paging(config: &Config) -> Paging {
    if config.kconfig.is_set("X86_PAE") { Paging::Pae } else { Paging::Level2 }
}

/// Features by their names; 32-bit entries have no bit for NX.
fn cpu_facts(config: &Config, cpu: &X86Cpu, paging: Paging) -> CpuFacts {
    let nx = match paging {
        Paging::Pae => nx_used(config.era, cpu.has("nx"), !config.cmdline.noexec(config.era)),
        Paging::Level2 => false,
    };
    CpuFacts {
        pse: cpu.has("pse") && !config.cmdline.nopentium(),
        pge: cpu.has("pge"),
        nx,
        gbpages: false,
        pcid: false,
    }
}

fn check_modelled(config: &Config) -> Result<(), BootError> {
    let set = |name| config.kconfig.is_set(name);
    let beyond = |what: &str| Err(BootError::Beyond(format!("an i386 kernel with {what}")));
    let options = [("NUMA", "nodes"), ("KMSAN", "KMSAN"), ("FLATMEM", "one array of page descriptors")];
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
    let default_cma = config.kconfig.number("CMA_SIZE_MBYTES").unwrap_or(0) != 0;
    if set("DMA_CMA") && (default_cma || config.cmdline.has("cma")) {
        return beyond("a CMA area");
    }
    Ok(())
}

/// What configuration and command line say about the address space.
#[must_use]
pub fn layout_facts(config: &Config) -> LayoutFacts {
    let set = |name| config.kconfig.is_set(name);
    let split = Split::ALL.into_iter().find(|(_, option)| set(option)).map_or(Split::G3, |(split, _)| split);
    LayoutFacts {
        era: config.era,
        paging: paging(config),
        split,
        highmem: set("HIGHMEM"),
        nr_cpus: config.kconfig.number("NR_CPUS").unwrap_or(1),
        local_apic: set("X86_LOCAL_APIC"),
        io_apic: set("X86_IO_APIC"),
        pcie_mcfg: set("PCI_MMCONFIG"),
        ohci1394: set("PROVIDE_OHCI1394_DMA_INIT"),
        paravirt: set("PARAVIRT_XXL"),
        ghes: set("ACPI_APEI_GHES"),
        txt: set("INTEL_TXT"),
        reserved_top: config.cmdline.reservetop(config.era),
        vmalloc: config.cmdline.vmalloc(config.era),
        physical_start: config.kconfig.number("PHYSICAL_START").unwrap_or(DEFAULT_PHYSICAL_START),
        physical_align: config.kconfig.number("PHYSICAL_ALIGN").unwrap_or(2 << 20),
    }
}

/// The boot allocator's constants: no nodes, 32-bit words, and without PAE physical addresses of 32 bits.
fn limits(config: &Config, paging: Paging) -> Limits {
    let (address_max, region) = match paging {
        Paging::Pae => (u64::MAX, 20),
        Paging::Level2 => (u64::from(u32::MAX), 12),
    };
    Limits {
        smp_cache_bytes: config.sizes.get("SMP_CACHE_BYTES").unwrap_or(32),
        max_nodes: 1,
        numa: false,
        address_max,
        region_bytes: config.sizes.get("sizeof_memblock_region").unwrap_or(region),
        kernelcore_mirror: config.cmdline.last_value("kernelcore") == Some("mirror"),
        ..Limits::new_64bit(Granule::K4)
    }
}

/// The image's symbols where they run; `taken` bytes of its heap are in use.
fn image_symbols(image: &Image<'_>, taken: u64) -> Result<ImageSymbols, BootError> {
    let init_end = image.virt("__init_end")?;
    let or = |name, other: VirtAddr| image.virt(name).unwrap_or(other);
    let end_rodata = image.virt("__end_rodata")?;
    Ok(ImageSymbols {
        text: image.virt("_text")?,
        etext: image.virt("_etext")?,
        entry_text_start: image.virt("__entry_text_start")?,
        entry_text_end: image.virt("__entry_text_end")?,
        start_rodata: image.virt("__start_rodata")?,
        end_rodata,
        end_rodata_aligned: or("__end_rodata_aligned", end_rodata),
        end_rodata_hpage_align: end_rodata,
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
