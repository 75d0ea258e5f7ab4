//! The firmware's map, what is taken of memory before the first table, and memory itself.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`, `early_reserve_memory`, `reserve_initrd`;
//! arch/x86/kernel/e820.c `e820__memblock_setup`; arch/x86/kernel/ebda.c; arch/x86/realmode/init.c.

use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::Bound;
use kernmem_arch::x86::X86;
use kernmem_arch::x86::kaslr::{RegionFacts, draws};
use kernmem_arch::x86::layout::{Bases, ISA_END};
use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::cmdline::MemoryLimit;
use kernmem_firmware::Arch;
use kernmem_memblock::UpTo;

use super::boot::{Booting, PAGE};
use crate::takers::{self, Taker, log_buffer, swiotlb};
use crate::{Boot, BootError, LogEntry, Witness};

/// Bytes of the floating pointer to a table for several processors, and of that table as a PC's firmware writes it
/// directly behind.
const MP_POINTER: u64 = 16;
const MP_TABLE: u64 = 200;
/// KiB of low memory that 5.10 leaves to firmware, if the configuration does not tell.
const DEFAULT_RESERVE_LOW: u64 = 64;

/// The memory that a machine must have: what firmware calls usable, and what the command line adds.
pub(crate) fn memory_ranges(boot: &Boot<'_>) -> Vec<PhysRange> {
    let mut map = boot.machine.e820.clone();
    // A line that the kernel does not survive is an error of the boot, not of this question.
    let _ = map.apply_user(boot.config.cmdline.map_edits(), boot.config.era);
    let told = boot.machine.memory.iter().map(|bank| bank.range);
    told.chain(map.memory()).collect()
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// What is taken before the command line is known.
    ///
    /// | era | low memory | the BIOS |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | the first page | later |
    /// | 6.1 and later | 64 KiB | now |
    ///
    /// Source: Linux 5.10 arch/x86/kernel/setup.c `setup_arch`; 6.1–7.2 `early_reserve_memory`.
    pub(super) fn early_reserve(&mut self) -> Result<(), BootError> {
        let (low_bytes, with_bios) = match self.config.era {
            Era::V4_14 | Era::V5_10 => (PAGE, false),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => (64 << 10, true),
        };
        let image = self.image.phys_range("_text", "__end_of_kernel_reserve")?;
        self.memblock.reserve_kern(image.start, image.size())?;
        takers::tell(&mut self.memblock, Taker::Image, image.start, image.size());
        self.memblock.reserve(PhysAddr(0), low_bytes)?;
        if let Some(initrd) = self.initrd() {
            self.memblock.reserve_kern(initrd.start, initrd.size())?;
            takers::tell(&mut self.memblock, Taker::Initrd, initrd.start, initrd.size());
        }
        if with_bios {
            self.reserve_bios()?;
        }
        self.log(LogEntry::ParamsParsed);
        swiotlb::parsed(self.config, self.memblock.observer());
        Ok(())
    }

    fn reserve_bios(&mut self) -> Result<(), BootError> {
        let bios = self.bios_start();
        self.memblock.reserve(bios, ISA_END - bios)?;
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
        let most = X86::<LEVELS>::PAGING.max_arch_pfn().0;
        self.state.max_pfn = Pfn(self.e820.end_pfn(self.config.era, most, most));
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
        let fixed = Bases::fixed(config.era, X86::<LEVELS>::PAGING);
        let drawn = match self.machine.kaslr_seed {
            Some(seed) if self.kaslr().regions() => {
                let facts = RegionFacts {
                    era: config.era,
                    paging: X86::<LEVELS>::PAGING,
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
        // Bases may be those of another number of levels.
        if bases.vmalloc.0.checked_add(X86::<LEVELS>::PAGING.vmalloc_tb() << 40).is_none() {
            return Err(BootError::Input("given vmalloc_base leaves no room for the vmalloc area".into()));
        }
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
        self.memblock.reserve_kern(heap.start, heap.size())?;
        takers::tell(&mut self.memblock, Taker::EarlyTables, heap.start, heap.size());
        self.cleanup_highmap()?;
        self.memblock.set_current_limit(ISA_END);
        self.memblock_setup()?;
        if self.config.cmdline.movable_node() && self.config.kconfig.is_set("MEMORY_HOTPLUG") {
            self.memblock.set_movable_node(true);
            self.memblock.set_bottom_up(true);
        }
        self.reserve_low_memory()
    }

    /// The real-mode trampoline, then what is left to firmware.
    ///
    /// | era | trampoline | left to firmware |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | found, then taken; the BIOS before it | with `crashkernel=` the first MiB; `reservelow=` |
    /// | 6.1, 6.12 | allocated | the first MiB |
    /// | 7.2 | allocated; the first MiB is no scratch any more | the first MiB |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/realmode/init.c `reserve_real_mode`; 5.10 arch/x86/kernel/setup.c
    /// `trim_low_memory_range`, arch/x86/kernel/crash.c `crash_reserve_low_1M`.
    fn reserve_low_memory(&mut self) -> Result<(), BootError> {
        let blob = self.image.phys_range("real_mode_blob", "real_mode_blob_end")?;
        let bytes = blob.size().next_multiple_of(PAGE);
        let end = UpTo::from(ISA_END);
        match self.config.era {
            Era::V4_14 | Era::V5_10 => {
                self.reserve_bios()?;
                if let Some(start) = self.memblock.find_in_range(PhysAddr(0), end, bytes, PAGE) {
                    self.memblock.reserve(start, bytes)?;
                    self.state.trampoline = PhysRange::new(start, start + bytes);
                    takers::tell(&mut self.memblock, Taker::Trampoline, start, bytes);
                }
                if self.config.kconfig.is_set("KEXEC_CORE") && self.config.cmdline.has("crashkernel") {
                    self.memblock.reserve(PhysAddr(0), ISA_END.0)?;
                    self.log(LogEntry::CrashLowMemory);
                }
                let low = self.config.kconfig.number("X86_RESERVE_LOW").unwrap_or(DEFAULT_RESERVE_LOW) << 10;
                self.memblock.reserve(PhysAddr(0), self.config.cmdline.reservelow(self.config.era, low))?;
            }
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                let start = self.memblock.phys_alloc_range(bytes, PAGE, PhysAddr(0), end)?;
                self.state.trampoline = PhysRange::new(start, start + bytes);
                self.memblock.reserve(PhysAddr(0), ISA_END.0)?;
                takers::tell(&mut self.memblock, Taker::LowMemory, PhysAddr(0), ISA_END.0);
                takers::tell(&mut self.memblock, Taker::Trampoline, start, bytes);
            }
        }
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
            Era::V7_2 => self.memblock.clear_kho_scratch(PhysAddr(0), ISA_END.0)?,
        }
        Ok(())
    }

    /// The firmware's map becomes memory; in 7.2 the first MiB is marked as scratch of kexec handover, so that the
    /// trampoline finds a place there.
    ///
    /// Source: Linux 5.10–7.2 arch/x86/kernel/e820.c `e820__memblock_setup`.
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
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
            Era::V7_2 => self.memblock.mark_kho_scratch(PhysAddr(0), ISA_END.0)?,
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
