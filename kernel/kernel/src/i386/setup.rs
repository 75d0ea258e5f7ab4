//! The firmware's map, what is taken of memory before the first table, and memory itself, split into low and high.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup.c `setup_arch`, `early_reserve_memory`, `reserve_initrd`;
//! arch/x86/kernel/e820.c `e820__memblock_setup`; arch/x86/mm/init_32.c `find_low_pfn_range`, `initmem_init`.

use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::i386::I386Format;
use kernmem_arch::i386::layout::Layout;
use kernmem_arch::i386::low_memory::{LowFacts, split};
use kernmem_arch::x86::layout::ISA_END;
use kernmem_base::{Era, Granule, Pfn, PhysAddr, PhysMem, PhysRange};
use kernmem_config::Config;

use super::boot::{Booting, PAGE};
use crate::pc::reserve;
use crate::takers::{self, Taker, log_buffer};
use crate::{BootError, LogEntry, Witness};

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// What is taken before the command line is known.
    pub(super) fn early_reserve(&mut self) -> Result<(), BootError> {
        reserve::early(&mut self.memblock, &self.image, self.config, self.machine)
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
        self.edges = reserve::edges(self.config, &self.e820, &told);
        Ok(())
    }

    /// From the tables of several processors to the whole first MiB.
    pub(super) fn reserve_and_fill(&mut self) -> Result<(), BootError> {
        reserve::mp_table(&mut self.memblock, self.config)?;
        let heap = PhysRange::new(self.image.phys("__brk_base")?, self.early_tables.end);
        self.memblock.reserve_kern(heap.start, heap.size())?;
        takers::tell(&mut self.memblock, Taker::EarlyTables, heap.start, heap.size());
        self.memblock.set_current_limit(ISA_END);
        reserve::fill(&mut self.memblock, &self.e820)?;
        self.drop_unused()?;
        self.state.trampoline = reserve::low_memory(&mut self.memblock, &self.image, self.config, self.machine)?;
        Ok(())
    }

    /// Memory that no zone has is forgotten.
    ///
    /// | era | memory from the last frame on |
    /// |---|---|
    /// | to 6.12 | stays in the list, though no zone has it (4.14 UNVERIFIED) |
    /// | 7.2 | is removed |
    ///
    /// Source: Linux 7.2 arch/x86/kernel/e820.c `e820__memblock_setup`.
    fn drop_unused(&mut self) -> Result<(), BootError> {
        let end = self.state.low.max.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {}
            Era::V7_2 => self.memblock.remove(end, u64::MAX)?,
        }
        Ok(())
    }

    /// What is taken once low memory is mapped: a RAM disk that is not in it moves there.
    pub(super) fn reserve_mapped(&mut self) -> Result<(), BootError> {
        let limit = self.mapped_end();
        self.memblock.set_current_limit(limit);
        self.has_new_log = log_buffer::setup(self.config, &mut self.memblock, self.cpus, false)?;
        self.initrd = reserve::initrd_and_tables(&mut self.memblock, self.config, self.machine, &self.state.mapped)?;
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

    /// Small structures of the last steps of set-up.
    pub(super) fn reserve_small(&mut self) -> Result<(), BootError> {
        let io_apic = self.uses_io_apic();
        reserve::small(&mut self.memblock, self.config, &self.e820, io_apic)
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
