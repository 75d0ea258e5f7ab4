//! The tables of user mode: what of the kernel they share, and which kernel pages stay global.
//!
//! The root is one as processes have it, without rights in its entries.
//!
//! Source: Linux 6.1 arch/x86/mm/pti.c `pti_init`, `pti_finalize`, `pti_clone_pgtable`, `pti_clone_user_shared`;
//! arch/x86/mm/pgtable.c `pgd_prepopulate_user_pmd`.

use alloc::vec::Vec;

use kernmem_arch::Change;
use kernmem_arch::i386::I386Format;
use kernmem_arch::x86::bit;
use kernmem_arch::x86::cpa::Masking;
use kernmem_arch::x86::image::ImageStep;
use kernmem_arch::x86::prot::table;
use kernmem_arch::x86::pti::{PtiImage, USER_ROOT_OFFSET};
use kernmem_base::{Level, PhysAddr, PhysMem, VirtAddr, VirtRange};
use kernmem_pgtable::{Tables, steps};

use super::boot::PAGE;
use super::late::Late;
use crate::{BootError, Witness};

/// What of the kernel's tables a clone takes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Whole entries of the level above pages.
    Tables,
    /// Pages; a large leaf is taken whole all the same.
    Pages,
}

impl<'m, F: I386Format, M: PhysMem, W: Witness> Late<'_, 'm, F, M, W> {
    /// The root that user mode runs with, if it is another.
    pub(super) fn user_root(&self) -> Option<PhysAddr> {
        self.state.pti.then(|| self.tables.root() + USER_ROOT_OFFSET)
    }

    fn user_tables(&self) -> Tables<'m, F, M> {
        Tables::new(self.tables.mem(), self.tables.root() + USER_ROOT_OFFSET)
    }

    fn pti_ranges(&self) -> PtiImage {
        crate::x86::pti_ranges(self.config, self.cpu, &self.symbols)
    }

    /// Entry areas into the user root; the image not global, but for the text that enters it.
    pub(super) fn pti_init(&mut self) -> Result<(), BootError> {
        if !self.state.pti {
            return Ok(());
        }
        let areas = self.state.layout.cpu_entry_areas();
        self.clone_leaves(VirtRange { start: areas.start, last: areas.last - PAGE }, By::Tables)?;
        let ranges = self.pti_ranges();
        let (range, change) = (ranges.nonglobal, Masking::NONGLOBAL);
        self.change(&ImageStep { range, change, aliases: false, cause: Change::Pti })?;
        self.clone_entry_text()
    }

    /// The same again for what has changed since; if allowed, all text and read-only data.
    pub(super) fn pti_finalize(&mut self) -> Result<(), BootError> {
        if !self.state.pti {
            return Ok(());
        }
        let ranges = self.pti_ranges();
        self.clone_entry_text()?;
        if ranges.shared_text.is_some() {
            let (text, end) = (self.symbols.text.align_down(PAGE), self.symbols.end_rodata_aligned);
            self.clone_leaves(VirtRange { start: text, last: end - 1 }, By::Pages)?;
        }
        if let Some(range) = ranges.global_text {
            self.change(&ImageStep { range, change: Masking::GLOBAL, aliases: false, cause: Change::Pti })?;
        }
        Ok(())
    }

    fn clone_entry_text(&mut self) -> Result<(), BootError> {
        let (start, end) = (self.symbols.entry_text_start, self.symbols.entry_text_end);
        self.clone_leaves(VirtRange { start, last: end - 1 }, By::Pages)
    }

    /// Marks entries global in place and shares them with the user root, up to the first that is there and not present.
    fn clone_leaves(&mut self, range: VirtRange, by: By) -> Result<(), BootError> {
        let mut touched = Vec::new();
        let mut at = range.start;
        while at <= range.last {
            let mut found = None;
            for step in steps::<F, M>(self.tables.mem(), self.tables.root(), at) {
                let step = step?;
                let is_large = step.level == Level::Pmd && step.raw & bit::PSE != 0;
                let ends = step.level == Level::Pmd && (by == By::Tables || is_large);
                found = Some(step);
                if ends {
                    break;
                }
            }
            let Some(step) = found else { break };
            let bytes = F::shape().level(step.level).bytes();
            let block = VirtRange { start: at.align_down(bytes), last: VirtAddr(at.0 | (bytes - 1)) };
            if step.raw & bit::PRESENT != 0 {
                let raw = if self.cpu.pge { step.raw | bit::GLOBAL } else { step.raw };
                self.tables.set_entry(step.table, F::shape().depth(step.level), step.index, raw)?;
                self.set_user_entry(at, step.level, raw)?;
                let is_leaf = step.level == Level::Pte || raw & bit::PSE != 0;
                touched.extend((raw != step.raw && is_leaf).then_some(block));
            } else if step.raw != 0 {
                break;
            }
            at = block.last.wrapping_add(1);
        }
        crate::cpa::tell(touched, Change::Pti, false, self.memblock.observer());
        Ok(())
    }

    /// A large leaf of an earlier clone gives way to a table.
    fn set_user_entry(&mut self, va: VirtAddr, level: Level, raw: u64) -> Result<(), BootError> {
        let mut user = self.user_tables();
        let shape = F::shape();
        let last = steps::<F, M>(user.mem(), user.root(), va).last().transpose()?;
        if let Some(large) = last.filter(|step| step.level < level && step.raw & bit::PSE != 0) {
            user.set_entry(large.table, shape.depth(large.level), large.index, 0)?;
        }
        let pages = user.make_table(va, level, table::KERNPG, &mut self.frames).map_err(BootError::Map)?;
        user.set_entry(pages, shape.depth(level), shape.level(level).index(va), raw)?;
        Ok(())
    }
}
