//! Where each CPU's variables lie.
//!
//! Source: Linux 6.1 arch/x86/kernel/setup_percpu.c `setup_per_cpu_areas`.

use alloc::vec::Vec;

use kernmem_base::{Granule, PhysAddr, PhysMem};
use kernmem_memblock::Nid;

use super::boot::{Booting, LARGE};
use super::nodes::MAX_DMA;
use crate::takers::percpu::{ModulesRoom, PercpuFacts, first_chunk, room_factor};
use crate::{BootError, Witness};

/// Where each CPU's variables lie.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Percpu {
    /// The first byte of each CPU's unit.
    pub units: Vec<PhysAddr>,
    /// The node of each CPU, where firmware told.
    pub nodes: Vec<u32>,
    /// Where the variables are linked: their offset into a unit is counted from here.
    pub start: u64,
}

impl Percpu {
    /// The memory of the variable that is linked at `address`, for one CPU.
    #[must_use]
    pub fn variable(&self, cpu: u32, address: u64) -> Option<PhysAddr> {
        let unit = self.units.get(cpu as usize)?;
        Some(*unit + address.wrapping_sub(self.start))
    }
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// Allocates the units of all possible CPUs: the units of a node are one piece, aligned to a leaf so that it keeps
    /// large ones.
    pub(super) fn setup_percpu(&mut self) -> Result<(), BootError> {
        let symbols = self.image.symbols();
        let bounds = symbols.address("__per_cpu_start").zip(symbols.address("__per_cpu_end"));
        let Some((start, end)) = bounds.filter(|(start, end)| start <= end) else { return Ok(()) };
        let nodes: Vec<Nid> = self.cpu_nodes().into_iter().map(Nid).collect();
        let facts = PercpuFacts {
            static_bytes: end - start,
            modules: self.config.kconfig.is_set("MODULES"),
            room: ModulesRoom::Beside,
            factor: room_factor(self.config, Granule::K4.bytes()),
            atom: LARGE,
            page: Granule::K4.bytes(),
            from: MAX_DMA,
            nodes: &nodes,
        };
        self.state.percpu.units = first_chunk(&mut self.memblock, &facts)?;
        self.state.percpu.start = start.0;
        Ok(())
    }

    /// The node of each possible CPU: the first one where firmware did not tell.
    pub(super) fn cpu_nodes(&self) -> Vec<u32> {
        (0..self.cpus as usize).map(|cpu| self.state.percpu.nodes.get(cpu).copied().unwrap_or(0)).collect()
    }
}
