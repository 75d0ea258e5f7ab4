//! The kernel image's segments, the fixmap, and the farewell to the early tables.
//!
//! Source: Linux 6.1 arch/arm64/mm/mmu.c `map_kernel`, `early_fixmap_init`, `fixmap_remap_fdt`, `create_idmap`.

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, prot};
use kernmem_arch::{Born, Bound, Entry, Reason};
use kernmem_base::{FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Rodata;
use kernmem_pgtable::{Mapping, Sizes, Tables};

use super::boot::Booting;
use super::early::{MAX_FDT, swapper_block};
use crate::frames::Ask;
use crate::witness::Segment;
use crate::{Area, BootError, EarlyFrames, Mapped, TableFrame, Witness};

/// A run to map: where, onto what, how and why.
pub(super) struct Run<'a> {
    pub va: VirtAddr,
    pub range: PhysRange,
    pub attrs: Arm64Attrs,
    pub no_exec: bool,
    pub area: Area,
    pub edges: (Reason, Reason),
    pub limits: &'a [(Reason, Sizes)],
    pub rights: &'a [Reason],
}

/// All sizes but contiguous groups.
pub(super) fn no_contiguous<F: Arm64Format>() -> Sizes {
    Sizes::only(F::shape(), |leaf| !leaf.contiguous)
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Maps a run with tables from the boot allocator and tells the witness.
    pub(super) fn map(&mut self, run: &Run<'_>) -> Result<(), BootError> {
        let Some(range) = VirtRange::of_size(run.va, run.range.size()) else { return Ok(()) };
        let sizes = run.limits.iter().fold(Sizes::ALL, |sizes, (_, allowed)| sizes.and(*allowed));
        let attrs = self.state.prot(run.attrs);
        let table = prot::table(self.config.era, run.no_exec);
        let mapping = Mapping::<F>::new(run.range.start, attrs, sizes).with_table_attrs(table);
        let mut frames = EarlyFrames::new(&mut self.memblock, F::shape().granule, Ask::Anywhere);
        self.tables.cursor(range).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        let mut rights = alloc::vec::Vec::from(run.rights);
        rights.extend(self.not_global);
        self.memblock.observer().mapped(&Mapped {
            range,
            pa: run.range.start,
            area: run.area,
            start: run.edges.0,
            end: run.edges.1,
            limits: run.limits,
            rights: &rights,
        });
        Ok(())
    }

    /// Rights of executable text, and why.
    pub(super) fn text_prot(&self) -> (Arm64Attrs, Reason) {
        match self.rodata {
            Rodata::Off => (prot::PAGE_KERNEL_EXEC, Reason::Born(Born::TextWritable)),
            Rodata::On | Rodata::Full => (prot::PAGE_KERNEL_ROX, Reason::Born(Born::Text)),
        }
    }

    /// The fixmap's own tables, one of each level below the root. Where its root entry is the image's as well (16K
    /// pages with four levels), they begin below the table that is there.
    fn fixmap_tables(&mut self) -> Result<(), BootError> {
        let start = self.state.layout.fixaddr_start;
        let mut above = self.tables.root();
        for (depth, below) in F::shape().levels.iter().enumerate().skip(1) {
            let index = F::shape().levels[depth - 1].index(start);
            let there = self.mem.entry::<F::Slot>(above, index)?;
            if let Entry::Table { next, .. } = F::decode(there, F::shape().levels[depth - 1].level) {
                above = next;
                continue;
            }
            let name = match below.level {
                Level::Pgd | Level::P4d => "bm_p4d",
                Level::Pud => "bm_pud",
                Level::Pmd => "bm_pmd",
                Level::Pte => "bm_pte",
            };
            let table = self.image.phys(name)?;
            self.memblock.observer().table(&TableFrame { pa: table, level: below.level, origin: FrameOrigin::Image });
            self.tables.set_entry(above, depth - 1, index, F::place(table) | prot::TABLE_STATIC.0)?;
            above = table;
        }
        Ok(())
    }

    /// The fixmap's own tables, which lie in the image, and the devicetree's window.
    pub(super) fn early_fixmap(&mut self) -> Result<(), BootError> {
        self.fixmap_tables()?;
        let (Some(dtb), Some(size)) = (self.dtb(), self.machine.devicetree_size) else { return Ok(()) };
        let block = swapper_block(self.granule());
        let window = PhysRange::new(dtb.align_down(block), (dtb + size).align_up(block).unwrap_or(dtb));
        let va = self.state.layout.fixmap.address(self.state.layout.fixaddr_top, self.state.layout.fixmap.fdt);
        let range = VirtRange::of_size(va, window.size().min(MAX_FDT + block))
            .ok_or_else(|| BootError::Input("the devicetree is empty".into()))?;
        let attrs = self.state.prot(prot::PAGE_KERNEL_RO);
        let mapping = Mapping::<F>::new(window.start, attrs, no_contiguous::<F>()).with_table_attrs(prot::TABLE_STATIC);
        let mut frames = EarlyFrames::new(&mut self.memblock, F::shape().granule, Ask::Anywhere);
        self.tables.cursor(range).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        let mut rights = alloc::vec![Reason::Born(Born::ReadOnly)];
        rights.extend(self.not_global);
        let edge = |at| Reason::Edge { bound: Bound::Object, at };
        self.memblock.observer().mapped(&Mapped {
            range,
            pa: window.start,
            area: Area::Fixmap,
            start: edge(window.start),
            end: edge(window.end),
            limits: &[(Reason::NoContiguous, no_contiguous::<F>())],
            rights: &rights,
        });
        Ok(())
    }

    /// The image's segments, each with its rights.
    pub(super) fn map_kernel(&mut self) -> Result<(), BootError> {
        let (text, text_reason) = self.text_prot();
        let data = (prot::PAGE_KERNEL, Reason::Born(Born::Data));
        let rodata = match self.rodata {
            Rodata::Off => (prot::PAGE_KERNEL, Reason::RodataOff),
            Rodata::On | Rodata::Full => data,
        };
        let segments = [
            (Segment::Text, "_stext", "_etext", (text, text_reason), false),
            (Segment::Rodata, "__start_rodata", "__inittext_begin", rodata, true),
            (Segment::InitText, "__inittext_begin", "__inittext_end", (text, text_reason), false),
            (Segment::InitData, "__initdata_begin", "__initdata_end", data, false),
            (Segment::Data, "_data", "_end", data, false),
        ];
        for (segment, start, end, (attrs, reason), single) in segments {
            let range = self.image.phys_range(start, end)?;
            let edge = |at| Reason::Edge { bound: Bound::Segment, at };
            let limit = [(Reason::NoContiguous, no_contiguous::<F>())];
            self.map(&Run {
                va: self.image.virt(start)?,
                range,
                attrs,
                no_exec: false,
                area: Area::Image(segment),
                edges: (edge(range.start), edge(range.end)),
                limits: if single { &limit } else { &[] },
                rights: &[reason],
            })?;
        }
        Ok(())
    }

    /// Gives the early tables back and builds the identity map that stays.
    pub(super) fn leave_early_tables(&mut self) -> Result<Option<PhysAddr>, BootError> {
        let early = self.image.phys_range("init_pg_dir", "init_pg_end")?;
        self.memblock.phys_free(early.start, early.size())?;
        self.memblock.allow_resize();
        let root = self.image.phys("idmap_pg_dir")?;
        let text = self.image.phys_range("__idmap_text_start", "__idmap_text_end")?;
        let page = self.page();
        let text = PhysRange::new(text.start.align_down(page), text.end.align_up(page).unwrap_or(text.end));
        let mut idmap = Tables::<F, M>::new(self.mem, root);
        let attrs = self.state.prot(prot::PAGE_KERNEL_ROX);
        let mut pages = alloc::vec![text];
        if self.config.kconfig.is_set("UNMAP_KERNEL_AT_EL0")
            && let Ok(flag) = self.image.phys("__idmap_kpti_flag")
        {
            pages.push(PhysRange::new(flag.align_down(page), flag.align_down(page) + page));
        }
        for (index, range) in pages.into_iter().enumerate() {
            let Some(va) = VirtRange::of_size(VirtAddr(range.start.0), range.size()) else { continue };
            let attrs = if index == 0 { attrs } else { self.state.prot(prot::PAGE_KERNEL) };
            let table = prot::table(self.config.era, false);
            let mapping = Mapping::<F>::new(range.start, attrs, Sizes::ALL).with_table_attrs(table);
            let mut frames = EarlyFrames::new(&mut self.memblock, F::shape().granule, Ask::Anywhere);
            idmap.cursor(va).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        }
        Ok(Some(root))
    }
}
