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
use kernmem_base::{Pfn, PhysAddr, PhysMem, PhysRange};

use super::boot::Booting;
use crate::pc::reserve;
use crate::takers::{self, Taker, log_buffer};
use crate::{Boot, BootError, Witness};

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
    pub(super) fn early_reserve(&mut self) -> Result<(), BootError> {
        reserve::early(&mut self.memblock, &self.image, self.config, self.machine)
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
        self.edges = reserve::edges(self.config, &self.e820, &told);
        Ok(())
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
        reserve::mp_table(&mut self.memblock, self.config)?;
        let heap = self.early_tables;
        self.memblock.reserve_kern(heap.start, heap.size())?;
        takers::tell(&mut self.memblock, Taker::EarlyTables, heap.start, heap.size());
        self.cleanup_highmap()?;
        self.memblock.set_current_limit(ISA_END);
        reserve::fill(&mut self.memblock, &self.e820)?;
        if self.config.cmdline.movable_node() && self.config.kconfig.is_set("MEMORY_HOTPLUG") {
            self.memblock.set_movable_node(true);
            self.memblock.set_bottom_up(true);
        }
        self.state.trampoline = reserve::low_memory(&mut self.memblock, &self.image, self.config, self.machine)?;
        Ok(())
    }

    /// What is taken once all memory is mapped: a RAM disk that is not moves, firmware's tables stay.
    pub(super) fn reserve_mapped(&mut self) -> Result<(), BootError> {
        let limit = self.state.mapped_end();
        self.memblock.set_current_limit(limit);
        self.has_new_log = log_buffer::setup(self.config, &mut self.memblock, self.cpus, false)?;
        self.initrd = reserve::initrd_and_tables(&mut self.memblock, self.config, self.machine, &self.state.mapped)?;
        Ok(())
    }

    /// Small structures of the last steps of set-up.
    pub(super) fn reserve_small(&mut self) -> Result<(), BootError> {
        let io_apic = self.uses_io_apic();
        reserve::small(&mut self.memblock, self.config, &self.e820, io_apic)
    }

    /// Whether firmware has the ACPI table of that signature.
    pub(super) fn has_table(&self, signature: &str) -> bool {
        reserve::has_table(self.config, signature)
    }
}
