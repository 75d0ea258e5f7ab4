//! The fixmap's tables, which lie in the image, and the devicetree's window in it.
//!
//! Source: Linux 5.10, 6.1 arch/arm64/mm/mmu.c, 6.12, 7.2 arch/arm64/mm/fixmap.c `early_fixmap_init`, `fixmap_remap_fdt`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, prot};
use kernmem_arch::{Born, Bound, Entry, Reason, Shape};
use kernmem_base::{Era, FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Mapping, Sizes};

use super::boot::Booting;
use super::early::{MAX_FDT, swapper_block};
use super::image::no_contiguous;
use crate::frames::Ask;
use crate::{Area, BootError, EarlyFrames, Mapped, TableFrame, Witness};

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// The tables, then the window.
    pub(super) fn early_fixmap(&mut self) -> Result<(), BootError> {
        let layout = &self.state.layout;
        let (first, last) = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => (layout.fixaddr_start, layout.fixaddr_start),
            Era::V6_12 | Era::V7_2 => (layout.fixaddr_tot_start, layout.fixaddr_top - 1),
        };
        let shift = pmd_shift(F::shape());
        for nth in 0..=(last.0 >> shift) - (first.0 >> shift) {
            self.link_fixmap(first + (nth << shift), nth)?;
        }
        self.map_devicetree()
    }

    /// Links the fixmap's tables down to the last level for `va`; the `nth` of them is the last.
    ///
    /// Where the image has put a table already the fixmap shares it.
    ///
    /// | era | tables of the last level |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | one, for the slots that stay |
    /// | 6.12, 7.2 | as many as all slots take |
    fn link_fixmap(&mut self, va: VirtAddr, nth: u64) -> Result<(), BootError> {
        let link = prot::table_static(self.config.era);
        let levels = F::shape().levels;
        let mut above = self.tables.root();
        for (depth, pair) in levels.windows(2).enumerate() {
            let [shape, below] = pair else { break };
            let index = shape.index(va);
            let raw = self.mem.entry::<F::Slot>(above, index)?;
            above = match F::decode(raw, shape.level) {
                Entry::Table { next, .. } => next,
                _ => {
                    let table = self.fixmap_table(below.level, nth)?;
                    self.memblock.observer().table(&TableFrame {
                        pa: table,
                        level: below.level,
                        origin: FrameOrigin::Image,
                    });
                    self.tables.set_entry(above, depth, index, F::place(table) | link.0)?;
                    table
                }
            };
        }
        Ok(())
    }

    fn fixmap_table(&self, level: Level, nth: u64) -> Result<PhysAddr, BootError> {
        match level {
            Level::Pte => Ok(self.image.phys("bm_pte")? + nth * self.page()),
            Level::Pmd => self.image.phys("bm_pmd"),
            Level::Pud => self.image.phys("bm_pud"),
            level @ (Level::P4d | Level::Pgd) => {
                Err(BootError::Input(alloc::format!("the fixmap shares no {} table with the image", level.name())))
            }
        }
    }

    /// The window onto the devicetree: read only from the time when it is known.
    ///
    /// | era | what is mapped | how |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | the blocks that hold it | blocks of 2M with 4K pages, else pages |
    /// | 6.12 | its pages | pages |
    /// | 7.2 | its pages | pages, in groups behind the first page |
    fn map_devicetree(&mut self) -> Result<(), BootError> {
        let (Some(dtb), Some(size)) = (self.dtb(), self.machine.devicetree_size) else { return Ok(()) };
        let grain = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => swapper_block(self.granule()),
            Era::V6_12 | Era::V7_2 => self.page(),
        };
        let window = PhysRange::new(dtb.align_down(grain), (dtb + size).align_up(grain).unwrap_or(dtb));
        let window = PhysRange::new(window.start, window.end.min(window.start + (MAX_FDT + grain)));
        let first = PhysRange::new(window.start, window.end.min(window.start + self.page()));
        let rest = PhysRange::new(first.end, window.end);
        let single = (Reason::NoContiguous, no_contiguous::<F>());
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => self.map_window(window, window, &[single]),
            Era::V6_12 => self.map_window(window, window, &[(Reason::PagesOnly, Sizes::PAGES)]),
            Era::V7_2 => {
                let pages = Sizes::only(F::shape(), |leaf| leaf.level == Level::Pte);
                self.map_window(window, first, &[(Reason::PagesOnly, Sizes::PAGES)])?;
                self.map_window(window, rest, &[(Reason::PagesOnly, pages)])
            }
        }
    }

    fn map_window(&mut self, window: PhysRange, part: PhysRange, limits: &[(Reason, Sizes)]) -> Result<(), BootError> {
        let fixmap = &self.state.layout.fixmap;
        let va = fixmap.address(self.state.layout.fixaddr_top, fixmap.fdt) + (part.start - window.start);
        let Some(range) = VirtRange::of_size(va, part.size()) else { return Ok(()) };
        let attrs = self.state.prot(prot::PAGE_KERNEL_RO);
        let sizes = limits.iter().fold(Sizes::ALL, |sizes, (_, allowed)| sizes.and(*allowed));
        let table = prot::table_static(self.config.era);
        let mapping = Mapping::<F>::new(part.start, attrs, sizes).with_table_attrs(table);
        let mut frames = EarlyFrames::new(&mut self.memblock, F::shape().granule, Ask::Anywhere);
        self.tables.cursor(range).map(&mut frames, &mapping)?.forgive("nothing was mapped there");
        let mut rights: Vec<Reason> = alloc::vec![Reason::Born(Born::ReadOnly)];
        rights.extend(self.not_global);
        let edge = |at| Reason::Edge { bound: Bound::Object, at };
        self.memblock.observer().mapped(&Mapped {
            range,
            pa: part.start,
            area: Area::Fixmap,
            start: edge(window.start),
            end: edge(window.end),
            limits,
            rights: &rights,
        });
        Ok(())
    }
}

/// log2 of the bytes that one table of the last level covers.
fn pmd_shift(shape: &Shape) -> u32 {
    shape.levels.len().checked_sub(2).map_or(63, |depth| shape.levels[depth].shift)
}
