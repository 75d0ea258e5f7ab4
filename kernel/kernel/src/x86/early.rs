//! Tables inside the image: the image's own map, the fixmap's, and what is left of the first after clean-up.
//!
//! The identity map of the first instructions is wiped before any C code runs, so it is not built.
//!
//! Source: Linux 6.1 arch/x86/kernel/head_64.S, head64.c `__startup_64`, `x86_64_start_kernel`;
//! arch/x86/mm/init_64.c `cleanup_highmap`; mm/early_ioremap.c, arch/x86/mm/ioremap.c `early_ioremap_init`.

use alloc::vec::Vec;

use kernmem_arch::x86::fixmap::PMD_TOP;
use kernmem_arch::x86::image::ImageSymbols;
use kernmem_arch::x86::kaslr::phys_base;
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::x86::{X86, X86Attrs, bit};
use kernmem_arch::{Born, Bound, EntryFormat, Reason};
use kernmem_base::{FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Mapping, Sizes};

use super::boot::{Booting, LARGE, PAGE, root_frames};
use crate::{Area, BootError, Mapped, Segment, TableFrame, Witness};

const SLOTS: usize = 512;
/// The slot of the image in the root, and with five levels in the table below.
const KERNEL_SLOT: usize = 511;
/// The slot of the image's directory, and of the fixmap's, in the table below.
const IMAGE_PUD: usize = 510;
const FIXMAP_PUD: usize = 511;

/// Where QEMU and PCs have the interrupt controllers.
const LOCAL_APIC: PhysAddr = PhysAddr(0xfee0_0000);
const IO_APIC: PhysAddr = PhysAddr(0xfec0_0000);

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// The tables as the image has them once they are corrected for where it was loaded.
    pub(super) fn build_early_tables(&mut self) -> Result<(), BootError> {
        let early_top = self.clear_table("early_top_pgt", 1, None)?;
        let root = self.clear_table("init_top_pgt", root_frames(self.config, self.state.pti), None)?;
        let level4 = match X86::<LEVELS>::PAGING {
            Paging::Level4 => None,
            Paging::Level5 => Some(self.clear_table("level4_kernel_pgt", 1, Some(Level::P4d))?),
        };
        let level3 = self.clear_table("level3_kernel_pgt", 1, Some(Level::Pud))?;
        let level2 = self.clear_table("level2_kernel_pgt", 1, Some(Level::Pmd))?;
        let fixmap = self.clear_table("level2_fixmap_pgt", 1, Some(Level::Pmd))?;
        let fixmap_pages = self.clear_table("level1_fixmap_pgt", 2, Some(Level::Pte))?;
        let boot_time = self.clear_table("bm_pte", 1, Some(Level::Pte))?;
        let depth = |level| X86::<LEVELS>::shape().depth(level);
        let mut link = |table, level, slot, next: PhysAddr, attrs: X86Attrs| {
            self.tables.set_entry(table, depth(level), slot, next.0 | attrs.0)
        };
        let below_root = level4.unwrap_or(level3);
        link(early_top, Level::Pgd, KERNEL_SLOT, below_root, table::PAGE)?;
        if let Some(level4) = level4 {
            link(level4, Level::P4d, KERNEL_SLOT, level3, table::PAGE)?;
        }
        link(level3, Level::Pud, IMAGE_PUD, level2, table::KERNPG)?;
        link(level3, Level::Pud, FIXMAP_PUD, fixmap, table::PAGE)?;
        let top = PMD_TOP as usize;
        link(fixmap, Level::Pmd, top - 1, fixmap_pages, table::PAGE)?;
        link(fixmap, Level::Pmd, top, fixmap_pages + PAGE, table::PAGE)?;
        link(fixmap, Level::Pmd, top - 1, boot_time, table::PAGE)?; // boot-time mappings have their own
        link(root, Level::Pgd, KERNEL_SLOT, below_root, table::PAGE)?; // copied from the early root
        self.kasan_early_init([early_top, root])?;
        self.fill_image_map(level2)
    }

    /// The whole image region in 2 MiB leaves; those outside the image lose their present bit.
    fn fill_image_map(&mut self, level2: PhysAddr) -> Result<(), BootError> {
        let layout = &self.state.layout;
        let depth = X86::<LEVELS>::shape().depth(Level::Pmd);
        let shape = &X86::<LEVELS>::shape().levels[depth];
        let base = phys_base(self.state.text_phys, self.state.image.start);
        let born = ImageSymbols::born(self.config.era).0;
        let present = shape.index(self.state.image.start)..=shape.index(self.symbols.end);
        for slot in 0..SLOTS.min((layout.kernel_image_size / LARGE) as usize) {
            let raw = (slot as u64 * LARGE).wrapping_add(base) & bit::FRAME | born;
            let raw = if present.contains(&slot) { raw } else { raw & !bit::PRESENT };
            self.tables.set_entry(level2, depth, slot, raw)?;
        }
        Ok(())
    }

    /// Zeroes a table of the image, and tells the witness if it stays in use.
    fn clear_table(&mut self, name: &str, frames: u64, level: Option<Level>) -> Result<PhysAddr, BootError> {
        let pa = self.image.phys(name)?;
        self.mem.zero(PhysRange::new(pa, pa + frames * PAGE))?;
        for frame in 0..frames {
            self.mem.note(pa + frame * PAGE)?.set_used(0);
        }
        if let Some(level) = level {
            let pa = pa + (frames - 1) * PAGE; // of two only the last stays linked
            self.memblock.observer().table(&TableFrame { pa, level, origin: FrameOrigin::Image });
        }
        Ok(pa)
    }

    /// Clears the image's map outside [_text, end of the heap's 2 MiB).
    pub(super) fn cleanup_highmap(&mut self) -> Result<(), BootError> {
        let level2 = self.image.phys("level2_kernel_pgt")?;
        let depth = X86::<LEVELS>::shape().depth(Level::Pmd);
        let kept = self.symbols.kept();
        let start = self.state.layout.start_kernel_map;
        for slot in 0..SLOTS {
            let va = start + slot as u64 * LARGE;
            if !kept.contains(va) {
                self.tables.set_entry(level2, depth, slot, 0)?;
            }
        }
        let pa = self.image.phys_of(kept.start);
        let edge = |at| Reason::Edge { bound: Bound::Segment, at };
        let mut rights = alloc::vec![Reason::Born(Born::Image)];
        rights.extend(self.lacking());
        let blocks = Sizes::only(X86::<LEVELS>::shape(), |leaf| leaf.level == Level::Pmd);
        self.memblock.observer().mapped(&Mapped {
            range: kept,
            pa,
            area: Area::Image(Segment::Whole),
            start: edge(pa),
            end: edge(pa + kept.size()),
            limits: &[(Reason::BlocksOnly, blocks)],
            rights: &rights,
        });
        Ok(())
    }

    /// Whether the IO-APIC is set up: a kernel that was told to run on one CPU leaves it.
    pub(super) fn uses_io_apic(&self) -> bool {
        let line = &self.config.cmdline;
        self.state.fixmap.io_apic.is_some() && !line.has("noapic") && line.maxcpus() != Some(0)
    }

    /// The local APIC and one IO-APIC at fixed addresses, uncached.
    pub(super) fn map_apics(&mut self) -> Result<(), BootError> {
        let local = self.state.fixmap.local_apic.map(|index| (index, LOCAL_APIC));
        let io = self.state.fixmap.io_apic.filter(|_| self.uses_io_apic()).map(|index| (index, IO_APIC));
        let places: Vec<(u32, PhysAddr)> = local.into_iter().chain(io).collect();
        for (index, pa) in places {
            self.set_fixmap(self.state.fixmap.address(index), pa)?;
        }
        Ok(())
    }

    fn set_fixmap(&mut self, va: VirtAddr, pa: PhysAddr) -> Result<(), BootError> {
        let attrs = self.state.masks.kernel(self.config.era, Prot::KernelNocache);
        let range = VirtRange { start: va, last: va + (PAGE - 1) };
        let mapping = Mapping::<X86<LEVELS>>::new(pa, attrs, Sizes::PAGES).with_table_attrs(table::PAGE);
        self.tables.cursor(range).map(&mut super::direct::NoFrames, &mapping)?.forgive("nothing was mapped there");
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
