//! The tables of the first instructions, and fixed addresses.
//!
//! Source: Linux 6.1 arch/x86/kernel/head_32.S, head32.c `mk_early_pgtbl_32`; arch/x86/kernel/setup.c `setup_arch`;
//! arch/x86/mm/ioremap.c `early_ioremap_init`; arch/x86/mm/init_32.c `early_ioremap_page_table_range_init`.

use alloc::vec::Vec;

use kernmem_arch::i386::layout::Paging;
use kernmem_arch::i386::{I386Format, early};
use kernmem_arch::x86::fixmap::Fixmap;
use kernmem_arch::x86::prealloc;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Mapping, Sizes, steps};

use super::boot::{Booting, PAGE};
use crate::x86::direct::NoFrames;
use crate::{Area, BootError, Mapped, TableFrame, Witness};

/// Where QEMU and PCs have the interrupt controllers.
const LOCAL_APIC: PhysAddr = PhysAddr(0xfee0_0000);
const IO_APIC: PhysAddr = PhysAddr(0xfec0_0000);

impl<F: I386Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// The first map as the kernel's own root takes it over: image and room for tables, page by page, and one table for
    /// fixed addresses. Its double at address 0 is not copied.
    pub(super) fn build_early_tables(&mut self) -> Result<(), BootError> {
        let root = self.tables.root();
        let built = self.config.kconfig.is_set("PAGE_TABLE_ISOLATION");
        let frames = prealloc::root_frames(self.config.era, built && F::PAGING == Paging::Pae, self.state.pti);
        self.mem.zero(PhysRange::new(root, root + frames * PAGE))?;
        for frame in 0..frames {
            self.mem.note(root + frame * PAGE)?.set_used(0);
        }
        self.link_middle_tables()?;
        let heap = self.image.phys("__brk_base")?;
        for index in 0..self.early.tables {
            let (pages, first) = (heap + index * PAGE, index * F::PAGING.large());
            self.fill_early(pages, PhysAddr(first))?;
            self.link(self.state.layout.direct(PhysAddr(first)), pages, table::KERNPG.0)?;
        }
        let last = self.image.phys("initial_pg_fixmap")?;
        self.mem.zero(PhysRange::new(last, last + PAGE))?;
        self.link(self.state.layout.kernel_half().last, last, table::KERNPG.0)?;
        self.tables.adopt(root, 0)?;
        let boot_time = self.image.phys("bm_pte")?;
        self.mem.zero(PhysRange::new(boot_time, boot_time + PAGE))?;
        self.mem.note(boot_time)?.set_used(0);
        self.link_boot_time(&self.first_fixmap(), boot_time)?;
        // `reservetop=` links the table once more, where the fixed addresses went.
        self.link_boot_time(&self.state.fixmap.clone(), boot_time)
    }

    /// PAE's root has the tables below it from the start: those of the kernel's part are in the image.
    fn link_middle_tables(&mut self) -> Result<(), BootError> {
        if F::PAGING == Paging::Level2 {
            return Ok(());
        }
        let (root, middle) = (self.tables.root(), self.image.phys("initial_pg_pmd")?);
        let first = self.state.layout.kernel_root_boundary();
        for slot in first..self.state.layout.root_entries() {
            let pa = middle + (slot - first) * PAGE;
            self.mem.zero(PhysRange::new(pa, pa + PAGE))?;
            let attrs = F::table_attrs(table::KERNPG, Level::Pgd);
            self.tables.set_entry(root, 0, slot as usize, pa.0 | attrs.0)?;
            self.tell_table(pa, Level::Pmd);
        }
        Ok(())
    }

    fn fill_early(&mut self, pages: PhysAddr, first: PhysAddr) -> Result<(), BootError> {
        let entries = F::PAGING.table_entries() as usize;
        self.mem.fill::<F::Slot>(pages, 0, entries, first.0 | early::PAGE.0, PAGE)?;
        self.tell_table(pages, Level::Pte);
        Ok(())
    }

    fn tell_table(&mut self, pa: PhysAddr, level: Level) {
        self.memblock.observer().table(&TableFrame { pa, level, origin: FrameOrigin::Image });
    }

    fn link_boot_time(&mut self, fixmap: &Fixmap, boot_time: PhysAddr) -> Result<(), BootError> {
        self.link(fixmap.boot_time().start, boot_time, table::PAGE.0)
    }

    /// Writes the entry of the level above pages for `va`.
    fn link(&mut self, va: VirtAddr, pages: PhysAddr, attrs: u64) -> Result<(), BootError> {
        let found = steps::<F, M>(self.mem, self.tables.root(), va)
            .find(|step| !matches!(step, Ok(step) if step.level != Level::Pmd))
            .transpose()?;
        if let Some(step) = found {
            self.tables.set_entry(step.table, F::shape().depth(Level::Pmd), step.index, pages.0 | attrs)?;
        }
        Ok(())
    }

    /// Whether the IO-APIC is set up: a kernel that was told to run on one CPU leaves it.
    pub(super) fn uses_io_apic(&self) -> bool {
        let line = &self.config.cmdline;
        self.state.fixmap.io_apic.is_some() && !line.has("noapic") && line.maxcpus() != Some(0)
    }

    /// The local APIC and one IO-APIC at fixed addresses, uncached.
    pub(super) fn map_apics(&mut self) -> Result<(), BootError> {
        let (fixmap, uses_io_apic) = (self.state.fixmap, self.uses_io_apic());
        let local = fixmap.local_apic.map(|index| (index, LOCAL_APIC));
        let io = fixmap.io_apic.filter(|_| uses_io_apic).map(|index| (index, IO_APIC));
        let places: Vec<(u32, PhysAddr)> = local.into_iter().chain(io).collect();
        for (index, pa) in places {
            self.set_fixmap(fixmap.address(index), pa)?;
        }
        Ok(())
    }

    fn set_fixmap(&mut self, va: VirtAddr, pa: PhysAddr) -> Result<(), BootError> {
        let attrs = self.state.masks.kernel(self.config.era, Prot::KernelNocache);
        let range = VirtRange { start: va, last: va + (PAGE - 1) };
        let mapping = Mapping::<F>::new(pa, attrs, Sizes::PAGES).with_table_attrs(table::PAGE);
        self.tables.cursor(range).map(&mut NoFrames, &mapping)?.forgive("nothing was mapped there");
        let edge = |at| Reason::Edge { bound: Bound::Object, at };
        let mut rights = alloc::vec![Reason::Born(Born::Device)];
        rights.extend(self.lacking());
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::Fixmap,
            start: edge(pa),
            end: edge(pa + PAGE),
            limits: &[(Reason::PagesOnly, Sizes::PAGES)],
            rights: &rights,
        });
        Ok(())
    }
}
