//! The first tables where C code builds them: an identity map, and the kernel map that stays.
//!
//! ```text
//! identity   [_stext, __initdata_begin) executable and read only, then [.., _end) writable; the devicetree writable
//! kernel     six segments, each with its final rights; its root becomes `swapper_pg_dir`
//! ```
//! Leaves are pages, and blocks one level above them where a segment fills them; contiguous groups are of pages, in those
//! segments that may have them. Tables come in order from pages that lie in the image.
//! Not here: the same up to 6.1 (`early`).
//!
//! Source: Linux 6.12, 7.2 arch/arm64/kernel/pi/map_range.c `map_range`, `create_init_idmap`; pi/map_kernel.c
//! `map_kernel`, `early_map_kernel`, `map_fdt`.

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, prot};
use kernmem_arch::{Bound, Reason, Shape};
use kernmem_base::{FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, Slot, VirtAddr, VirtRange};
use kernmem_pgtable::{Mapping, Sizes, Tables};

use super::boot::Booting;
use super::early::{CarveOut, EarlyRoots, MAX_FDT, short, with_identity};
use super::image::{Run, segments};
use crate::{Area, BootError, TableFrame, Witness};

/// The leaves that this mapper makes: blocks one level above pages, pages, and groups of pages if it may.
fn leaves(shape: &Shape, contiguous: bool) -> Sizes {
    let block = shape.levels.len().checked_sub(2).map(|depth| shape.levels[depth].level);
    Sizes::only(shape, |leaf| match leaf.level {
        Level::Pte => contiguous || !leaf.contiguous,
        level => Some(level) == block && !leaf.contiguous,
    })
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Builds both maps; the kernel's root is copied to its place for good.
    pub(super) fn early_map_kernel(&mut self) -> Result<(), BootError> {
        let root = with_identity!(self, init_idmap())?;
        let kernel = PhysRange::new(
            self.image.phys_any(&["init_pg_dir", "__pi_init_pg_dir"])?,
            self.image.phys_any(&["init_pg_end", "__pi_init_pg_end"])?,
        );
        let mut rest = self.early_root(kernel)?;
        let mut tables = Tables::<F, M>::new(self.mem, kernel.start);
        for segment in segments(self.config.era, self.rodata) {
            let range = self.image.phys_range(segment.start, segment.end)?;
            let va = self.image.virt(segment.start)?;
            let sizes = leaves(F::shape(), segment.contiguous);
            let mapping = self.mapping::<F>(range.start, self.state.prot(segment.attrs), sizes);
            let Some(covered) = VirtRange::of_size(va, range.size()) else { continue };
            let mut source = CarveOut { pages: rest, page: self.page(), witness: self.memblock.observer() };
            tables
                .cursor(covered)
                .map(&mut source, &mapping)
                .map_err(|failed| short(self.config.era, failed))?
                .forgive("nothing was mapped there");
            rest = source.pages;
            let edge = |at| Reason::Edge { bound: Bound::Segment, at };
            let limits = [(Reason::NoContiguous, sizes)];
            self.tell(&Run {
                va,
                range,
                attrs: segment.attrs,
                no_exec: false,
                area: Area::Image(segment.segment),
                edges: (edge(range.start), edge(range.end)),
                limits: &limits,
                rights: &[segment.reason],
            });
        }
        self.copy_root(kernel.start)?;
        self.state.early = EarlyRoots { identity: root, kernel: kernel.start };
        Ok(())
    }

    /// The kernel's root is that of its first map from here on; the tables below it stay where they are.
    fn copy_root(&mut self, from: PhysAddr) -> Result<(), BootError> {
        let root = self.tables.root();
        let top = F::shape().levels[0];
        let raw: alloc::vec::Vec<u64> =
            self.mem.table::<F::Slot>(from, top.entries())?.iter().map(Slot::load).collect();
        self.mem.zero(PhysRange::new(root, root + self.page()))?;
        self.mem.note(root)?.set_used(0);
        for (index, raw) in raw.into_iter().enumerate().filter(|(_, raw)| *raw != 0) {
            self.tables.set_entry(root, 0, index, raw)?;
        }
        Ok(())
    }

    /// An empty root in the first of `pages`; what is left of them.
    fn early_root(&mut self, pages: PhysRange) -> Result<PhysRange, BootError> {
        let root = pages.start;
        self.mem.zero(PhysRange::new(root, root + self.page()))?;
        self.mem.note(root)?.set_used(0);
        self.memblock.observer().table(&TableFrame { pa: root, level: Level::Pgd, origin: FrameOrigin::Image });
        Ok(PhysRange::new(root + self.page(), pages.end))
    }

    /// The identity map of the image and the devicetree; its root.
    fn init_idmap<G: Arm64Format>(&mut self) -> Result<PhysAddr, BootError> {
        let pages = PhysRange::new(
            self.image.phys_any(&["init_idmap_pg_dir", "__pi_init_idmap_pg_dir"])?,
            self.image.phys_any(&["init_idmap_pg_end", "__pi_init_idmap_pg_end"])?,
        );
        let root = pages.start;
        let rest = self.early_root(pages)?;
        let text = self.image.phys_range("_stext", "__initdata_begin")?;
        let data = self.image.phys_range("__initdata_begin", "_end")?;
        let rest = self.identity_run::<G>(root, rest, text, prot::PAGE_KERNEL_ROX)?;
        self.identity_run::<G>(root, rest, data, prot::PAGE_KERNEL)?;
        if let (Some(dtb), Some(pages)) = (self.dtb(), self.fdt_tables(G::shape().levels.len())) {
            // The image is never mapped a second time.
            let text = self.image.phys("_text")?;
            let limit = if dtb < text { text.min(dtb + MAX_FDT) } else { dtb + MAX_FDT };
            let page = self.page();
            let window = PhysRange::new(dtb.align_down(page), limit.align_up(page).unwrap_or(limit));
            self.identity_run::<G>(root, pages, window, prot::PAGE_KERNEL)?;
        }
        Ok(root)
    }

    /// Maps `range` at its own address; what is left of `pages`.
    fn identity_run<G: Arm64Format>(
        &mut self,
        root: PhysAddr,
        pages: PhysRange,
        range: PhysRange,
        attrs: Arm64Attrs,
    ) -> Result<PhysRange, BootError> {
        let Some(va) = VirtRange::of_size(VirtAddr(range.start.0), range.size()) else { return Ok(pages) };
        let mapping = self.mapping::<G>(range.start, self.state.global_prot(attrs), leaves(G::shape(), false));
        let mut source = CarveOut { pages, page: self.page(), witness: self.memblock.observer() };
        let mut tables = Tables::<G, M>::new(self.mem, root);
        tables
            .cursor(va)
            .map(&mut source, &mapping)
            .map_err(|failed| short(self.config.era, failed))?
            .forgive("nothing was mapped there");
        Ok(source.pages)
    }

    fn mapping<G: Arm64Format>(&self, pa: PhysAddr, attrs: Arm64Attrs, sizes: Sizes) -> Mapping<G> {
        Mapping::new(pa, attrs, sizes).with_table_attrs(prot::table_early(self.config.era))
    }

    /// Pages in init data for the devicetree's tables, two for each level below the root: a variable of a function,
    /// which compilers give a number.
    fn fdt_tables(&self, levels: usize) -> Option<PhysRange> {
        const NAME: &str = "__pi_ptes";
        let numbered =
            |name: &str| name.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let symbol = self.image.symbols().iter().find(|symbol| numbered(&symbol.name))?;
        let start = self.image.phys_of(self.image.moved(symbol.address));
        Some(PhysRange::new(start, start + 2 * (levels as u64 - 1) * self.page()))
    }
}
