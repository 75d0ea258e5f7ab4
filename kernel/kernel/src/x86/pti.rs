//! The tables of user mode: what of the kernel they share, and which kernel pages stay global.
//!
//! Source: Linux 6.1 arch/x86/mm/pti.c `pti_init`, `pti_finalize`, `pti_clone_pgtable`, `pti_clone_user_shared`.

use alloc::vec::Vec;

use kernmem_arch::x86::cpa::Masking;
use kernmem_arch::x86::image::{ImageStep, ImageSymbols};
use kernmem_arch::x86::prot::{CpuFacts, Prot, table};
use kernmem_arch::x86::pti::{
    GlobalFacts, PtiImage, PtiOption, USER_ROOT_OFFSET, image_may_be_global, image_ranges, shared_area_level,
};
use kernmem_arch::x86::{X86, bit, layout};
use kernmem_arch::{Change, EntryFormat};
use kernmem_base::{Level, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_config::cmdline::Pti;
use kernmem_pgtable::{Tables, steps};

use super::boot::{KernelTables, LARGE, PAGE};
use super::late::Late;
use crate::{BootError, Witness};

/// What isolation does to the image.
pub(crate) fn pti_ranges(config: &Config, cpu: CpuFacts, symbols: &ImageSymbols) -> PtiImage {
    let option = match config.cmdline.pti(config.era) {
        Pti::On => PtiOption::On,
        Pti::Off => PtiOption::Off,
        Pti::Auto => PtiOption::Auto,
    };
    let set = |name| config.kconfig.is_set(name);
    let randstruct = set("RANDSTRUCT") || set("GCC_PLUGIN_RANDSTRUCT");
    let facts = GlobalFacts { option, pcid: cpu.pcid, amd_k8: false, randstruct };
    image_ranges(symbols, image_may_be_global(facts))
}

impl<'m, M: PhysMem, W: Witness, const LEVELS: usize> Late<'_, 'm, M, W, LEVELS> {
    /// The root that user mode runs with, if it is another.
    pub(super) fn user_root(&self) -> Option<PhysAddr> {
        self.state.pti.then(|| self.tables.root() + USER_ROOT_OFFSET)
    }

    fn user_tables(&self) -> KernelTables<'m, M, LEVELS> {
        Tables::new(self.tables.mem(), self.tables.root() + USER_ROOT_OFFSET)
    }

    fn pti_ranges(&self) -> PtiImage {
        pti_ranges(self.config, self.cpu, &self.symbols)
    }

    /// Entry areas and task states into the user root; the image not global, but for the text that enters it.
    pub(super) fn pti_init(&mut self) -> Result<(), BootError> {
        if !self.state.pti {
            return Ok(());
        }
        self.share_entry_areas()?;
        self.share_task_states()?;
        let ranges = self.pti_ranges();
        let (range, change) = (ranges.nonglobal, Masking::NONGLOBAL);
        self.change(&ImageStep { range, change, aliases: true, cause: Change::Pti })?;
        self.clone_leaves(ranges.entry)
    }

    /// The same again for what has changed since; if allowed, all text and read-only data.
    pub(super) fn pti_finalize(&mut self) -> Result<(), BootError> {
        if !self.state.pti {
            return Ok(());
        }
        let ranges = self.pti_ranges();
        self.clone_leaves(ranges.entry)?;
        if let Some(range) = ranges.shared_text {
            self.clone_leaves(range)?;
        }
        if let Some(range) = ranges.global_text {
            self.change(&ImageStep { range, change: Masking::GLOBAL, aliases: true, cause: Change::Pti })?;
        }
        Ok(())
    }

    /// The whole 512 GiB of the CPU entry areas: the root's slot, or with five levels a slot of the table below.
    fn share_entry_areas(&mut self) -> Result<(), BootError> {
        let va = layout::CPU_ENTRY_AREA;
        let level = shared_area_level(X86::<LEVELS>::PAGING);
        let shared = steps::<X86<LEVELS>, M>(self.tables.mem(), self.tables.root(), va)
            .find(|step| !matches!(step, Ok(step) if step.level != level))
            .transpose()?;
        match shared {
            Some(step) => self.set_user_entry(va, level, step.raw),
            None => Ok(()),
        }
    }

    /// Each CPU's task state, at its address in the direct map.
    fn share_task_states(&mut self) -> Result<(), BootError> {
        let Some(address) = self.image.symbols().address("cpu_tss_rw") else { return Ok(()) };
        let attrs = self.state.masks.kernel(self.config.era, Prot::Kernel);
        for cpu in 0..self.cpus {
            let Some(pa) = self.state.percpu.variable(cpu, address.0) else { continue };
            let pa = pa.align_down(PAGE);
            let raw = self.state.masks.raw_leaf(pa, attrs, Level::Pte);
            self.set_user_entry(self.state.layout.direct(pa), Level::Pte, raw)?;
        }
        Ok(())
    }

    /// Marks whole 2 MiB entries global in place, leaves or tables, and shares them with the user root.
    fn clone_leaves(&mut self, range: VirtRange) -> Result<(), BootError> {
        let mut touched = Vec::new();
        let mut at = Some(range.start);
        while let Some(va) = at {
            let entry = steps::<X86<LEVELS>, M>(self.tables.mem(), self.tables.root(), va)
                .find(|step| !matches!(step, Ok(step) if step.level != Level::Pmd))
                .transpose()?;
            if let Some(step) = entry.filter(|step| step.raw & bit::PRESENT != 0) {
                let raw = if self.cpu.pge { step.raw | bit::GLOBAL } else { step.raw };
                let depth = X86::<LEVELS>::shape().depth(Level::Pmd);
                self.tables.set_entry(step.table, depth, step.index, raw)?;
                self.set_user_entry(va, Level::Pmd, raw)?;
                if raw != step.raw && raw & bit::PSE != 0 {
                    touched.push(VirtRange { start: va, last: va + (LARGE - 1) });
                }
            }
            let last = va + (LARGE - 1);
            at = (last < range.last).then(|| last + 1);
        }
        self.tell(touched, Change::Pti, false);
        Ok(())
    }

    fn set_user_entry(&mut self, va: VirtAddr, level: Level, raw: u64) -> Result<(), BootError> {
        let mut user = self.user_tables();
        let shape = X86::<LEVELS>::shape();
        let pages = user.make_table(va, level, table::KERNPG, &mut self.frames).map_err(BootError::Map)?;
        user.set_entry(pages, shape.depth(level), shape.level(level).index(va), raw)?;
        Ok(())
    }
}
