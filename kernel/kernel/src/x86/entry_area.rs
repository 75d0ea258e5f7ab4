//! What each CPU maps for entering the kernel, and the interrupt descriptor table beside it.
//!
//! Source: Linux 6.1 arch/x86/mm/cpu_entry_area.c `setup_cpu_entry_area`, `cea_set_pte`; arch/x86/kernel/idt.c
//! `idt_map_in_cea`.

use alloc::vec::Vec;

use kernmem_arch::x86::cpu_entry_area::{self as cea, AreaFacts, Kind, Part, PartName};
use kernmem_arch::x86::prot::{Masks, table};
use kernmem_arch::x86::{X86, X86Attrs};
use kernmem_arch::{Born, Bound, EntryFormat, Reason};
use kernmem_base::{FrameSource, Granule, Level, PhysAddr, PhysMem, Seed, VirtAddr, VirtRange};
use kernmem_memblock::Request;
use kernmem_pgtable::{MapError, Sizes};

use super::boot::{Booting, KernelTables, PAGE};
use crate::frames::Ask;
use crate::{Area, BootError, EarlyFrames, Mapped, Witness};

/// Writes one page of the areas, with its tables.
pub(super) fn set_page<M: PhysMem, const LEVELS: usize>(
    tables: &mut KernelTables<'_, M, LEVELS>,
    frames: &mut impl FrameSource,
    masks: Masks,
    va: VirtAddr,
    (pa, attrs): (PhysAddr, X86Attrs),
) -> Result<(), MapError> {
    let pages = tables.make_table(va, Level::Pte, table::PAGE, frames)?;
    let depth = X86::<LEVELS>::shape().depth(Level::Pte);
    let index = X86::<LEVELS>::shape().level(Level::Pte).index(va);
    tables.set_entry(pages, depth, index, masks.raw_leaf(pa, attrs, Level::Pte))?;
    Ok(())
}

/// Tells the witness of a run in the areas.
pub(crate) fn tell(log: &mut impl Witness, va: VirtAddr, pa: PhysAddr, pages: u64, born: Born, lacking: &[Reason]) {
    let Some(range) = VirtRange::of_size(va, pages * PAGE) else { return };
    let edge = |at| Reason::Edge { bound: Bound::Object, at };
    let mut rights = Vec::from([Reason::Born(born)]);
    // Isolation leaves these pages global: both roots share them.
    rights.extend(lacking.iter().filter(|reason| **reason != Reason::PtiGlobal));
    log.mapped(&Mapped {
        range,
        pa,
        area: Area::CpuEntryArea,
        start: edge(pa),
        end: edge(pa + pages * PAGE),
        limits: &[(Reason::PagesOnly, Sizes::PAGES)],
        rights: &rights,
    });
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// The area of each possible CPU, with tables from the boot allocator.
    pub(super) fn setup_cpu_entry_areas(&mut self) -> Result<(), BootError> {
        let intel = self.config.cpu.x86().is_some_and(|cpu| cpu.vendor == "GenuineIntel");
        let kasan = self.state.layout.kasan_shadow.is_some();
        let parts = cea::parts(AreaFacts { kasan, intel, sev_es: false });
        let lacking = self.lacking();
        self.state.draws_entry_slots = cea::slots_are_drawn(self.config.era, self.kaslr().image());
        self.state.entry_slots = self.entry_slots();
        for cpu in 0..self.cpus {
            let slot = self.state.entry_slots.get(cpu as usize).copied().unwrap_or(u64::from(cpu));
            let area = cea::area(slot, kasan);
            self.shadow_entry_area(area, cea::area_bytes(kasan), cpu)?;
            let mut stack = 0;
            for part in &parts {
                let Some(attrs) = cea::attrs(part.kind, self.config.era, self.state.masks, self.cpu.pge) else {
                    continue;
                };
                let pa = self.memory_of(part, cpu, &mut stack);
                self.map_part(area + part.offset, part, pa, attrs)?;
                let born = match part.kind {
                    Kind::Ro => Born::ReadOnly,
                    Kind::Rw => Born::Data,
                    Kind::NoRights | Kind::Unmapped => continue,
                };
                tell(self.memblock.observer(), area + part.offset, pa, part.pages, born, &lacking);
            }
        }
        Ok(())
    }

    /// The slot of each CPU's area: its number, or drawn. Where no seed is told, the drawn places of the large regions are
    /// one.
    ///
    /// Source: Linux 6.12, 7.2 arch/x86/mm/cpu_entry_area.c `init_cea_offsets`.
    fn entry_slots(&self) -> Vec<u64> {
        if !self.state.draws_entry_slots {
            return (0..u64::from(self.cpus)).collect();
        }
        let layout = &self.state.layout;
        let places = layout.page_offset.0 ^ layout.vmalloc_start.0 ^ layout.vmemmap.0;
        let mut seed = Seed(self.machine.kaslr_seed.unwrap_or(places));
        let mut slots = Vec::with_capacity(self.cpus as usize);
        while slots.len() < self.cpus as usize {
            let slot = seed.draw() % cea::slots(self.state.layout.kasan_shadow.is_some());
            if !slots.contains(&slot) {
                slots.push(slot);
            }
        }
        slots
    }

    /// The per-CPU variable behind a part; exception stacks follow each other without guards in memory.
    fn memory_of(&self, part: &Part, cpu: u32, stack: &mut u64) -> PhysAddr {
        let Some(name) = part.name.symbol() else { return PhysAddr(0) };
        let address = self.image.symbols().address(name).map_or(self.state.percpu.start, |symbol| symbol.0);
        let first = self.state.percpu.variable(cpu, address).unwrap_or_default();
        let is_stack =
            matches!(part.name, PartName::DoubleFault | PartName::Nmi | PartName::Debug | PartName::MachineCheck);
        let skipped = if is_stack { core::mem::replace(stack, *stack + part.pages) } else { 0 };
        (first + skipped * PAGE).align_down(PAGE)
    }

    fn map_part(&mut self, va: VirtAddr, part: &Part, pa: PhysAddr, attrs: X86Attrs) -> Result<(), BootError> {
        let masks = self.state.masks;
        let wish = Request::new(PAGE, PAGE);
        for page in 0..part.pages {
            let memory = if part.kind == Kind::NoRights { PhysAddr(0) } else { pa + page * PAGE };
            let mut frames = EarlyFrames::new(&mut self.memblock, Granule::K4, Ask::Plain(wish));
            set_page(&mut self.tables, &mut frames, masks, va + page * PAGE, (memory, attrs))
                .map_err(BootError::Map)?;
        }
        Ok(())
    }
}
