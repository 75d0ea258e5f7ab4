//! The firmware's map, what is taken of memory before the first table, and memory itself.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`, `early_reserve_memory`, `reserve_initrd`;
//! arch/x86/kernel/e820.c `e820__memblock_setup`; arch/x86/kernel/ebda.c; arch/x86/realmode/init.c.

use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::Bound;
use kernmem_arch::x86::kaslr::{RegionFacts, Switches, draws};
use kernmem_arch::x86::layout::{Bases, ISA_END, Paging};
use kernmem_base::{Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::cmdline::MemoryLimit;
use kernmem_firmware::Arch;
use kernmem_memblock::UpTo;

use super::boot::{Booting, PAGE};
use crate::takers::{self, Taker, log_buffer, swiotlb};
use crate::{Boot, BootError, LogEntry, Witness};

/// Most frames that four levels reach.
const MAX_ARCH_PFN: u64 = 1 << 34;
/// Bytes of the floating pointer to a table for several processors, and of that table as a PC's firmware writes it
/// directly behind.
const MP_POINTER: u64 = 16;
const MP_TABLE: u64 = 200;

/// The memory that a machine must have: what firmware calls usable, and what the command line adds.
pub(crate) fn memory_ranges(boot: &Boot<'_>) -> Vec<PhysRange> {
    let mut map = boot.machine.e820.clone();
    // A line that the kernel does not survive is an error of the boot, not of this question.
    let _ = map.apply_user(boot.config.cmdline.map_edits(), boot.config.era);
    let told = boot.machine.memory.iter().map(|bank| bank.range);
    told.chain(map.memory()).collect()
}

impl<M: PhysMem, W: Witness> Booting<'_, '_, M, W> {
    /// What is taken before the command line is known.
    pub(super) fn early_reserve(&mut self) -> Result<(), BootError> {
        const LOW_BYTES: u64 = 64 << 10;
        let image = self.image.phys_range("_text", "__end_of_kernel_reserve")?;
        self.memblock.reserve(image.start, image.size())?;
        takers::tell(&mut self.memblock, Taker::Image, image.start, image.size());
        self.memblock.reserve(PhysAddr(0), LOW_BYTES)?;
        if let Some(initrd) = self.initrd() {
            self.memblock.reserve(initrd.start, initrd.size())?;
            takers::tell(&mut self.memblock, Taker::Initrd, initrd.start, initrd.size());
        }
        let bios = self.bios_start();
        self.memblock.reserve(bios, ISA_END - bios)?;
        self.log(LogEntry::ParamsParsed);
        swiotlb::parsed(self.config, self.memblock.observer());
        Ok(())
    }

    /// The RAM disk, up to the end of its last page.
    fn initrd(&self) -> Option<PhysRange> {
        let given = self.config.given.initrd.map(|(start, last)| PhysRange::new(PhysAddr(start), PhysAddr(last) + 1));
        let initrd = self.machine.initrd.or(given).filter(|_| !self.config.cmdline.noinitrd())?;
        Some(PhysRange::new(initrd.start, initrd.end.align_up(PAGE)?)).filter(|range| !range.is_empty())
    }

    /// Where low memory ends and the BIOS begins: firmware's word for it is the end of its first usable entry.
    ///
    /// Source: Linux 6.1 arch/x86/kernel/ebda.c `reserve_bios_regions`.
    fn bios_start(&self) -> PhysAddr {
        const LOWEST: PhysAddr = PhysAddr(0x2_0000);
        const HIGHEST: PhysAddr = PhysAddr(0x9_f000);
        let low = self.machine.e820.memory().find(|range| range.start == PhysAddr(0)).map(|range| range.end);
        low.filter(|end| (LOWEST..=HIGHEST).contains(end)).unwrap_or(HIGHEST)
    }

    /// The map as the command line leaves it, and where memory ends.
    pub(super) fn take_firmware_map(&mut self) -> Result<(), BootError> {
        let told: Vec<PhysRange> = self.e820.memory().collect();
        let edits = self.config.cmdline.map_edits();
        self.e820.apply_user(edits, self.config.era).map_err(|fault| BootError::Input(format!("{fault}")))?;
        let image = self.image.phys_range("_text", "_end")?;
        self.e820.add_kernel(image.start.0, image.end.0);
        self.e820.trim_bios();
        self.state.e820 = self.e820.clone();
        self.state.max_pfn = Pfn(self.e820.end_pfn(self.config.era, MAX_ARCH_PFN, MAX_ARCH_PFN));
        if self.state.max_pfn.0 << 12 <= ISA_END.0 {
            return Err(BootError::Input("no memory above 1 MiB".into()));
        }
        self.note_edges(&told);
        Ok(())
    }

    /// Names each edge of memory by who drew it.
    fn note_edges(&mut self, told: &[PhysRange]) {
        let limit = self.config.cmdline.mem(self.config.era, Arch::X86_64, Granule::K4).value;
        let limit = match limit {
            Some(MemoryLimit::Address(address)) => Some(PhysAddr(address)),
            Some(MemoryLimit::Amount(_)) | None => None,
        };
        let edges: Vec<PhysAddr> = self.e820.memory().flat_map(|range| [range.start, range.end]).collect();
        for at in edges {
            let bound = if at <= ISA_END {
                Bound::IsaHole
            } else if told.iter().any(|range| range.start == at || range.end == at) {
                Bound::Bank
            } else if limit == Some(at) {
                Bound::MemLimit
            } else {
                Bound::Memmap
            };
            self.edges.push((at.align_up(PAGE).unwrap_or(at), bound));
            self.edges.push((at.align_down(PAGE), bound));
        }
    }

    /// What an edge of memory is the edge of.
    pub(super) fn bound(&self, at: PhysAddr) -> Bound {
        self.edges.iter().find(|(edge, _)| *edge == at).map_or(Bound::Bank, |(_, bound)| *bound)
    }

    /// The bases of the three large regions: given, drawn from the seed, or fixed.
    pub(super) fn place_regions(&mut self) -> Result<(), BootError> {
        let config = self.config;
        let fixed = Bases::fixed(config.era, Paging::Level4);
        let switches = Switches {
            randomize_memory: config.kconfig.is_set("RANDOMIZE_MEMORY"),
            loader_flag: !config.cmdline.nokaslr(config.era, Arch::X86_64),
            kasan: false,
        };
        let drawn = match self.machine.kaslr_seed {
            Some(seed) if switches.regions() => {
                let facts = RegionFacts {
                    era: config.era,
                    paging: Paging::Level4,
                    max_pfn: self.state.max_pfn,
                    padding_tb: config.kconfig.number("RANDOMIZE_MEMORY_PHYSICAL_PADDING").unwrap_or(0),
                    zone_device: config.kconfig.is_set("ZONE_DEVICE"),
                    struct_page_bytes: config.sizes.get("sizeof_page").unwrap_or(64),
                };
                facts.place(draws(seed)).bases
            }
            _ => fixed,
        };
        let given = &config.given;
        let bases = Bases {
            page_offset: given.page_offset_base.unwrap_or(drawn.page_offset),
            vmalloc: given.vmalloc_base.unwrap_or(drawn.vmalloc),
            vmemmap: given.vmemmap_base.unwrap_or(drawn.vmemmap),
        };
        self.move_regions(bases);
        Ok(())
    }

    /// From the tables of several processors to the whole first MiB.
    pub(super) fn reserve_and_fill(&mut self) -> Result<(), BootError> {
        let pointer = self.config.given.firmware.iter().find(|(_, _, name)| name == "MP table");
        if let Some(&(start, _, _)) = pointer {
            self.memblock.reserve(PhysAddr(start), MP_POINTER)?;
            self.memblock.reserve(PhysAddr(start) + MP_POINTER, MP_TABLE)?;
        }
        let heap = self.early_tables;
        self.memblock.reserve(heap.start, heap.size())?;
        takers::tell(&mut self.memblock, Taker::EarlyTables, heap.start, heap.size());
        self.cleanup_highmap()?;
        self.memblock.set_current_limit(ISA_END);
        self.memblock_setup()?;
        if self.config.cmdline.movable_node() && self.config.kconfig.is_set("MEMORY_HOTPLUG") {
            self.memblock.set_movable_node(true);
            self.memblock.set_bottom_up(true);
        }
        let blob = self.image.phys_range("real_mode_blob", "real_mode_blob_end")?;
        let bytes = blob.size().next_multiple_of(PAGE);
        let start = self.memblock.phys_alloc_range(bytes, PAGE, PhysAddr(0), UpTo::from(ISA_END))?;
        self.state.trampoline = PhysRange::new(start, start + bytes);
        self.memblock.reserve(PhysAddr(0), ISA_END.0)?;
        takers::tell(&mut self.memblock, Taker::LowMemory, PhysAddr(0), ISA_END.0);
        takers::tell(&mut self.memblock, Taker::Trampoline, start, bytes);
        Ok(())
    }

    fn memblock_setup(&mut self) -> Result<(), BootError> {
        self.memblock.allow_resize();
        let memory: Vec<PhysRange> = self.e820.memory().collect();
        let special: Vec<PhysRange> = self.e820.soft_reserved().collect();
        for range in special {
            self.memblock.reserve(range.start, range.size())?;
            takers::tell(&mut self.memblock, Taker::Firmware, range.start, range.size());
        }
        for range in memory {
            self.memblock.add(range.start, range.size())?;
        }
        self.memblock.trim_memory(PAGE)?;
        self.memblock.dump_all();
        Ok(())
    }

    /// What is taken once all memory is mapped: a RAM disk that is not moves, firmware's tables stay.
    pub(super) fn reserve_mapped(&mut self) -> Result<(), BootError> {
        let limit = self.state.mapped_end();
        self.memblock.set_current_limit(limit);
        self.has_new_log = log_buffer::setup(self.config, &mut self.memblock, self.cpus, false)?;
        self.initrd = self.initrd();
        if let Some(initrd) = self.initrd {
            let is_mapped = self.state.mapped.iter().any(|m| m.start <= initrd.start && initrd.end <= m.end);
            if !is_mapped {
                let start = self.memblock.phys_alloc_range(initrd.size(), PAGE, PhysAddr(0), UpTo::from(limit))?;
                takers::tell(&mut self.memblock, Taker::Initrd, start, initrd.size());
                self.initrd = Some(PhysRange::new(start, start + initrd.size()));
                self.memblock.phys_free(initrd.start, initrd.size())?;
            }
        }
        for (start, last, name) in &self.config.given.firmware {
            if name.starts_with("ACPI") {
                self.memblock.reserve(PhysAddr(*start), last - start + 1)?;
                takers::tell(&mut self.memblock, Taker::Firmware, PhysAddr(*start), last - start + 1);
            }
        }
        Ok(())
    }

    /// Small structures of the last steps of set-up: the event timer's and the IO-APIC's resources, firmware's map as
    /// resources.
    ///
    /// Source: Linux 6.1 arch/x86/kernel/acpi/boot.c `acpi_parse_hpet`; arch/x86/kernel/apic/io_apic.c
    /// `ioapic_setup_resources`; arch/x86/kernel/e820.c `e820__reserve_resources`.
    pub(super) fn reserve_small(&mut self) -> Result<(), BootError> {
        const HPET_NAME: u64 = 9;
        const IO_APIC_NAME: u64 = 11;
        let resource = self.config.sizes.get("sizeof_resource").unwrap_or(takers::RESOURCE_BYTES);
        let (hpet, io_apic) = (self.has_table("HPET"), self.uses_io_apic());
        let memblock = &mut self.memblock;
        if hpet {
            takers::allocate_lines(memblock, Taker::Resources, resource + HPET_NAME)?;
        }
        if io_apic {
            takers::allocate_lines(memblock, Taker::Resources, resource + IO_APIC_NAME)?;
        }
        takers::allocate_lines(memblock, Taker::Resources, resource * self.e820.entries().len() as u64).map(drop)
    }

    /// Whether firmware has the ACPI table of that signature.
    pub(super) fn has_table(&self, signature: &str) -> bool {
        let mut names = self.config.given.firmware.iter().map(|(_, _, name)| name);
        names.any(|name| name.strip_prefix("ACPI ") == Some(signature))
    }
}
