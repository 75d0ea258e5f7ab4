//! The firmware's map, what is taken of memory before the first table, and memory itself, split into low and high.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`, `early_reserve_memory`, `reserve_initrd`;
//! arch/x86/kernel/e820.c `e820__memblock_setup`; arch/x86/mm/init_32.c `find_low_pfn_range`, `initmem_init`.

use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::Bound;
use kernmem_arch::i386::I386Format;
use kernmem_arch::i386::layout::Layout;
use kernmem_arch::i386::low_memory::{LowFacts, split};
use kernmem_arch::x86::layout::ISA_END;
use kernmem_base::{Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Config;
use kernmem_memblock::UpTo;

use super::boot::{Booting, PAGE};
use crate::takers::{self, Taker, log_buffer, swiotlb};
use crate::{BootError, LogEntry, Witness};

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
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

    /// The map as the command line leaves it, where memory ends, and how much of it is low.
    pub(super) fn take_firmware_map(&mut self) -> Result<(), BootError> {
        let told: Vec<PhysRange> = self.e820.memory().collect();
        let edits = self.config.cmdline.map_edits();
        self.e820.apply_user(edits, self.config.era).map_err(|fault| BootError::Input(format!("{fault}")))?;
        let image = self.image.phys_range("_text", "_end")?;
        self.e820.add_kernel(image.start.0, image.end.0);
        self.e820.trim_bios();
        self.state.e820 = self.e820.clone();
        let most = F::PAGING.max_arch_pfn().0;
        let max_pfn = Pfn(self.e820.end_pfn(self.config.era, most, most));
        let low = split(&low_facts(self.config, &self.state.layout, max_pfn));
        if image.end.0 > low.max_low.0 * PAGE || low.max_low.0 * PAGE <= ISA_END.0 {
            return Err(BootError::Input("the kernel lies outside low memory".into()));
        }
        self.settle_layout(low);
        self.note_edges(&told);
        Ok(())
    }

    /// Names each edge of memory by who drew it.
    fn note_edges(&mut self, told: &[PhysRange]) {
        let edges: Vec<PhysAddr> = self.e820.memory().flat_map(|range| [range.start, range.end]).collect();
        for at in edges {
            let bound = if at <= ISA_END {
                Bound::IsaHole
            } else if told.iter().any(|range| range.start == at || range.end == at) {
                Bound::Bank
            } else {
                Bound::Memmap
            };
            self.edges.push((at.align_up(PAGE).unwrap_or(at), bound));
            self.edges.push((at.align_down(PAGE), bound));
        }
    }

    /// From the image's heap to the whole first MiB.
    pub(super) fn reserve_and_fill(&mut self) -> Result<(), BootError> {
        let heap = PhysRange::new(self.image.phys("__brk_base")?, self.early_tables.end);
        self.memblock.reserve(heap.start, heap.size())?;
        takers::tell(&mut self.memblock, Taker::EarlyTables, heap.start, heap.size());
        self.memblock.set_current_limit(ISA_END);
        self.memblock_setup()?;
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
        let last = self.memblock.limits().address_max;
        let memory: Vec<PhysRange> = self.e820.memory().filter(|range| range.end.0 - 1 <= last).collect();
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

    /// What is taken once low memory is mapped: a RAM disk that is not in it moves there.
    pub(super) fn reserve_mapped(&mut self) -> Result<(), BootError> {
        let limit = self.mapped_end();
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

    /// Tells the log how memory is split.
    pub(super) fn tell_low_memory(&mut self) {
        let low = self.state.low;
        let bytes = |pfn: Pfn| pfn.to_phys(Granule::K4).map_or(0, |pa| pa.0);
        let (low_bytes, all) = (bytes(low.max_low), bytes(low.max));
        if self.state.layout.highmem {
            self.log(LogEntry::HighMemory(all.saturating_sub(low_bytes)));
        }
        self.log(LogEntry::LowMemory(low_bytes));
    }

    /// Small structures of the last steps of set-up, as on x86-64.
    pub(super) fn reserve_small(&mut self) -> Result<(), BootError> {
        const HPET_NAME: u64 = 9;
        const IO_APIC_NAME: u64 = 11;
        let resource = self.config.sizes.get("sizeof_resource").unwrap_or(takers::RESOURCE_BYTES);
        let mut names = self.config.given.firmware.iter().map(|(_, _, name)| name);
        let hpet = names.any(|name| name == "ACPI HPET");
        let line = &self.config.cmdline;
        let io_apic = self.state.fixmap.io_apic.is_some() && !line.has("noapic") && line.maxcpus() != Some(0);
        let memblock = &mut self.memblock;
        if hpet {
            takers::allocate_lines(memblock, Taker::Resources, resource + HPET_NAME)?;
        }
        if io_apic {
            takers::allocate_lines(memblock, Taker::Resources, resource + IO_APIC_NAME)?;
        }
        takers::allocate_lines(memblock, Taker::Resources, resource * self.e820.entries().len() as u64).map(drop)
    }
}

/// What decides how much of memory up to frame `max_pfn` is low, for the layout of this kernel.
#[must_use]
pub fn low_facts(config: &Config, layout: &Layout, max_pfn: Pfn) -> LowFacts {
    let set = |name| config.kconfig.is_set(name);
    LowFacts {
        era: config.era,
        max_pfn,
        most_low: Pfn(layout.max_low_bytes / PAGE),
        highmem: set("HIGHMEM"),
        highmem_64g: set("HIGHMEM64G"),
        asked: config.cmdline.highmem(config.era),
    }
}
