//! The first areas of per-CPU variables: one unit a CPU, units of near CPUs together.
//!
//! Source: Linux 6.1 mm/percpu.c `pcpu_embed_first_chunk`, `pcpu_build_alloc_info`;
//! arch/x86/kernel/setup_percpu.c `setup_per_cpu_areas`.

use alloc::vec::Vec;

use kernmem_base::{PhysAddr, PhysMem};
use kernmem_memblock::{Nid, Request};

use super::boot::{Booting, LARGE, PAGE};
use super::nodes::MAX_DMA;
use crate::{BootError, Witness};

/// Room for variables of modules, and for those that are asked for later.
const MODULE_BYTES: u64 = 8 << 10;
const DYNAMIC_BYTES: u64 = 28 << 10;
const MIN_UNIT: u64 = 32 << 10;
/// Units of a group are one piece of memory, aligned to a leaf so that it keeps large ones.
const ATOM: u64 = LARGE;

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

impl<M: PhysMem, W: Witness> Booting<'_, '_, M, W> {
    /// Allocates the units of all possible CPUs and gives back what they do not need.
    pub(super) fn setup_percpu(&mut self) -> Result<(), BootError> {
        let symbols = self.image.symbols();
        let bounds = symbols.address("__per_cpu_start").zip(symbols.address("__per_cpu_end"));
        let Some((start, end)) = bounds.filter(|(start, end)| start <= end) else { return Ok(()) };
        let reserved = if self.config.kconfig.is_set("MODULES") { MODULE_BYTES } else { 0 };
        let needed = ((end - start) + reserved + (DYNAMIC_BYTES - reserved)).next_multiple_of(PAGE);
        let groups = self.groups();
        let sizes: Vec<u64> = groups.iter().map(|group| group.len() as u64).collect();
        let (unit, units_a_piece) = layout(needed.max(MIN_UNIT), &sizes, u64::from(self.cpus));
        let line = self.memblock.limits().smp_cache_bytes;
        let info = self.memblock.alloc(PAGE, PAGE)?;
        let areas_bytes = (sizes.len() as u64 * 8).next_multiple_of(PAGE);
        let areas = self.memblock.alloc(areas_bytes, line)?;
        let mut units = alloc::vec![PhysAddr(0); self.cpus as usize];
        let mut pieces = Vec::with_capacity(groups.len());
        for group in &groups {
            let count = (group.len() as u64).next_multiple_of(units_a_piece);
            let node = group.first().map(|cpu| self.node_of(*cpu));
            let request = Request::new(count * unit, ATOM).from(MAX_DMA).on(node);
            pieces.push((self.memblock.alloc_try_nid(request)?, count));
        }
        for (group, (base, count)) in groups.iter().zip(pieces) {
            for index in 0..count {
                let start = base + index * unit;
                match group.get(index as usize) {
                    Some(cpu) => {
                        units[*cpu as usize] = start;
                        self.memblock.phys_free(start + needed, unit - needed)?;
                    }
                    None => self.memblock.phys_free(start, unit)?,
                }
            }
        }
        self.state.percpu.units = units;
        self.state.percpu.start = start.0;
        self.memblock.phys_free(info, PAGE)?;
        self.memblock.phys_free(areas, areas_bytes)?;
        Ok(())
    }

    /// CPUs by node, in the order in which nodes first appear.
    fn groups(&self) -> Vec<Vec<u32>> {
        let mut groups: Vec<(Nid, Vec<u32>)> = Vec::new();
        for cpu in 0..self.cpus {
            let node = self.node_of(cpu);
            match groups.iter_mut().find(|(nid, _)| *nid == node) {
                Some((_, cpus)) => cpus.push(cpu),
                None => groups.push((node, Vec::from([cpu]))),
            }
        }
        groups.into_iter().map(|(_, cpus)| cpus).collect()
    }

    fn node_of(&self, cpu: u32) -> Nid {
        Nid(self.state.percpu.nodes.get(cpu as usize).copied().unwrap_or(0))
    }
}

/// Bytes of a unit, and units of one allocation: as many as waste no more than a third of all CPUs.
fn layout(needed: u64, groups: &[u64], cpus: u64) -> (u64, u64) {
    let atom = needed.next_multiple_of(ATOM);
    let fits = |units: &u64| atom.is_multiple_of(*units) && (atom / units).is_multiple_of(PAGE);
    let (mut best, mut fewest) = (1, u64::MAX);
    for units in (1..=atom / needed).rev().filter(fits) {
        let pieces: u64 = groups.iter().map(|group| group.div_ceil(units)).sum();
        let wasted: u64 = groups.iter().map(|group| group.next_multiple_of(units) - group).sum();
        if wasted > cpus / 3 {
            continue;
        }
        if pieces > fewest {
            break;
        }
        (best, fewest) = (units, pieces);
    }
    (atom / best, best)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: u64 = 41 << 12;

    #[test]
    fn units_of_near_cpus_share_a_large_leaf() {
        assert_eq!(layout(NEEDED, &[2], 2), (1 << 20, 2));
        assert_eq!(layout(NEEDED, &[8], 8), (256 << 10, 8));
        assert_eq!(layout(NEEDED, &[1, 1], 2), (2 << 20, 1));
        assert_eq!(layout(NEEDED, &[1], 1), (2 << 20, 1));
    }
}
