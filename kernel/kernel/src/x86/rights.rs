//! Steps that change rights, as the witness hears of them.
//!
//! Not here: what a step does to leaves (`crate::cpa`).
//!
//! Source: Linux 6.1 arch/x86/mm/pat/set_memory.c `change_page_attr_set_clr`.

use alloc::vec::Vec;

use kernmem_arch::Change;
use kernmem_arch::x86::image::ImageStep;
use kernmem_arch::x86::{X86, bit};
use kernmem_base::{PhysMem, VirtRange};

use super::late::Late;
use crate::cpa::{self, Cpa};
use crate::{BootError, BootPages, Witness};

impl<'m, M: PhysMem, W: Witness, const LEVELS: usize> Late<'_, 'm, M, W, LEVELS> {
    /// Takes one step.
    pub(super) fn change(&mut self, step: &ImageStep) -> Result<(), BootError> {
        self.change_with(step, false)
    }

    /// As [`Late::change`]; `force_pages` splits every leaf in the way.
    pub(super) fn change_with(&mut self, step: &ImageStep, force_pages: bool) -> Result<(), BootError> {
        let touched = self.cpa().change(step, force_pages)?;
        self.tell(touched, step.cause, step.change.clear & bit::PRESENT != 0);
        Ok(())
    }

    /// The CPU writes to `range`: leaves that it may write become dirty.
    pub(super) fn write(&mut self, range: VirtRange) -> Result<(), BootError> {
        self.cpa().write(range)
    }

    fn cpa(&mut self) -> Cpa<'_, 'm, X86<LEVELS>, M, BootPages> {
        Cpa {
            tables: &mut self.tables,
            frames: &mut self.frames,
            era: self.config.era,
            masks: self.state.masks,
            protections: &self.protections,
            aliases: Some(&self.aliases),
            mapped: &self.state.mapped,
            counters: &mut self.state.counters,
        }
    }

    /// Tells the witness, neighbours joined.
    pub(super) fn tell(&mut self, touched: Vec<VirtRange>, cause: Change, unmapped: bool) {
        cpa::tell(touched, cause, unmapped, self.memblock.observer());
    }
}
