//! What each CPU maps for entering the kernel, and the interrupt descriptor table beside it.
//!
//! Source: Linux 6.1 arch/x86/mm/cpu_entry_area.c `setup_cpu_entry_areas`, `setup_cpu_entry_area`, `cea_set_pte`.

use kernmem_arch::Born;
use kernmem_arch::i386::{I386Format, cpu_entry_area as cea};
use kernmem_arch::x86::X86Attrs;
use kernmem_arch::x86::cpu_entry_area::{self, Kind, Part};
use kernmem_arch::x86::prot::Masks;
use kernmem_base::{FrameSource, Level, PhysAddr, PhysMem, VirtAddr};
use kernmem_pgtable::{MapError, Tables};

use super::boot::{Booting, PAGE};
use super::low_map::make_pages;
use crate::x86::tell_entry_area;
use crate::{BootError, Witness};

/// Writes one page of the areas, whose table is there or is made.
pub(super) fn set_page<F: I386Format, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    frames: &mut impl FrameSource,
    masks: Masks,
    va: VirtAddr,
    (pa, attrs): (PhysAddr, X86Attrs),
) -> Result<(), MapError> {
    let pages = make_pages(tables, frames, va)?;
    let index = F::shape().level(Level::Pte).index(va);
    let raw = F::raw_leaf(masks, pa, attrs, Level::Pte);
    tables.set_entry(pages, F::shape().depth(Level::Pte), index, raw)?;
    Ok(())
}

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Tables for the areas of all CPUs that may be built, then the area of each possible CPU.
    pub(super) fn setup_cpu_entry_areas(&mut self) -> Result<(), BootError> {
        let (areas, large) = (self.state.layout.cpu_entry_areas(), F::PAGING.large());
        let mut va = areas.start;
        while va <= areas.last {
            self.make_pages(va, self.late_window(), true)?;
            va = va + large;
        }
        let intel = self.config.cpu.x86().is_some_and(|cpu| cpu.vendor == "GenuineIntel");
        let lacking = self.lacking();
        for cpu in 0..self.cpus {
            let area = cea::area(self.state.layout.cpu_entry_area, u64::from(cpu));
            for part in cea::parts(intel) {
                let (era, masks) = (self.config.era, self.state.masks);
                let Some(attrs) = cpu_entry_area::attrs(part.kind, era, masks, self.cpu.pge) else { continue };
                let pa = self.memory_of(&part, cpu);
                self.map_part(area + part.offset, &part, pa, attrs)?;
                let born = match part.kind {
                    Kind::Ro => Born::ReadOnly,
                    Kind::Rw => Born::Data,
                    Kind::NoRights | Kind::Unmapped => continue,
                };
                tell_entry_area(self.memblock.observer(), area + part.offset, pa, part.pages, born, &lacking);
            }
        }
        Ok(())
    }

    /// The per-CPU variable behind a part.
    fn memory_of(&self, part: &Part, cpu: u32) -> PhysAddr {
        let Some(name) = cea::symbol(part.name) else { return PhysAddr(0) };
        let address = self.image.symbols().address(name).map_or(self.state.percpu.start, |symbol| symbol.0);
        self.state.percpu.variable(cpu, address).unwrap_or_default().align_down(PAGE)
    }

    fn map_part(&mut self, va: VirtAddr, part: &Part, pa: PhysAddr, attrs: X86Attrs) -> Result<(), BootError> {
        for page in 0..part.pages {
            let memory = if part.kind == Kind::NoRights { PhysAddr(0) } else { pa + page * PAGE };
            let masks = self.state.masks;
            let place = (memory, attrs);
            set_page(&mut self.tables, &mut crate::x86::direct::NoFrames, masks, va + page * PAGE, place)
                .map_err(BootError::Map)?;
        }
        Ok(())
    }
}
