//! The shadow of KASAN: first one page for all of it, then memory for the shadow of the image and of all memory.
//!
//! ```text
//! kasan_early_init   all of the shadow            the shared page
//! kasan_init         image                        memory, page by page
//!                    PAGE_END to modules          the shared page
//!                    what nothing is mapped in    the shared page, by era
//!                    banks of memory              memory, page by page
//! later              areas of vmalloc             memory, with each area
//! ```
//! Here: the steps of boot and what each maps by era. Not here: how a range gets its memory (`populate`), the tag modes'
//! ring of stacks (`tags`), the shared page and its tables (`kasan` of this crate), which address has which shadow
//! (`kernmem-arch`), the meaning of shadow bytes.
//!
//! # Invariants
//! 1. Without a shadow in the layout nothing happens: hardware tags have none.
//! 2. Up to the end of `kasan_init` every shadow byte is readable; afterwards that of what nothing may be mapped in is.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_early_init`, `kasan_init_shadow`;
//! mm/kasan/shadow.c `kasan_populate_vmalloc`.

mod populate;
mod tags;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, Kasan, Layout, prot};
use kernmem_arch::{Born, Entry, Reason};
use kernmem_base::{Era, FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, RegionArray};
use kernmem_pgtable::Tables;

use super::boot::Booting;
use super::late::Late;
use super::later::Shared;
use crate::kasan::{ZeroShadow, parts};
use crate::{Area, BootError, Image, LogEntry, TableFrame, Witness};

use populate::Shadow;
pub(super) use tags::init_tags;

/// The mode of KASAN that has a shadow, by configuration.
pub(super) fn mode(config: &Config) -> Kasan {
    let set = |name| config.kconfig.is_set(name);
    match (set("KASAN"), set("KASAN_SW_TAGS"), set("KASAN_HW_TAGS")) {
        (false, _, _) | (true, _, true) => Kasan::Off,
        (true, true, false) => Kasan::SwTags,
        (true, false, false) => Kasan::Generic,
    }
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Booting<'_, '_, F, M, W> {
    /// Shows the shared page in all of the shadow: in the first tables of the kernel and in those that stay.
    ///
    /// | era | in |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | the first tables, from which the others copy the entries of the root |
    /// | 6.12, 7.2 | the tables that stay |
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_early_init`; 5.10, 6.1 `kasan_copy_shadow`.
    pub(super) fn kasan_early_init(&mut self) -> Result<(), BootError> {
        let (Some(zero), Some(shadow)) = (self.state.zero_shadow, shadow_range(&self.state.layout)) else {
            return Ok(());
        };
        let page = self.state.global_prot(prot::PAGE_KERNEL);
        zero.fill::<F, M>(self.mem, prot::TABLE_STATIC, page)?;
        let roots = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => [Some(self.state.early.kernel), Some(self.tables.root())],
            Era::V6_12 | Era::V7_2 => [None, Some(self.tables.root())],
        };
        let edge = self.edge_table(shadow)?;
        for root in roots.into_iter().flatten() {
            self.share(root, 0, shadow, zero, edge)?;
        }
        for level in F::shape().levels.iter().map(|level| level.level) {
            if let Some(pa) = zero.table(level) {
                self.memblock.observer().table(&TableFrame { pa, level, origin: FrameOrigin::Image });
            }
        }
        Ok(())
    }

    /// Links the shared table from each entry that the shadow fills, and the table of the edge where it begins inside one.
    fn share(
        &mut self,
        table: PhysAddr,
        depth: usize,
        range: VirtRange,
        zero: ZeroShadow,
        edge: Option<PhysAddr>,
    ) -> Result<(), BootError> {
        let (shape, below) = (&F::shape().levels[depth], &F::shape().levels[depth + 1]);
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            let is_whole = part.size() == shape.bytes();
            let raw = self.mem.entry::<F::Slot>(table, index)?;
            let next = match F::decode(raw, shape.level) {
                Entry::Table { next, .. } if !is_whole => next,
                _ => {
                    let own = if is_whole { zero.table(below.level) } else { edge };
                    let Some(next) = own else { return Err(no_edge()) };
                    self.tables.set_entry(table, depth, index, next.0 | prot::TABLE_STATIC.0)?;
                    next
                }
            };
            if !is_whole {
                self.share(next, depth + 1, part, zero, None)?;
            }
        }
        Ok(())
    }

    /// The table that the image keeps for a shadow that begins inside an entry of the root; `None` where it does not.
    ///
    /// Source: Linux 6.12, 7.2 arch/arm64/mm/kasan_init.c `root_level_aligned`.
    fn edge_table(&self, shadow: VirtRange) -> Result<Option<PhysAddr>, BootError> {
        let root = F::shape().levels[0].bytes();
        if shadow.start.0.is_multiple_of(root) {
            return Ok(None);
        }
        let symbols = self.image.symbols();
        let end = symbols.address("_end").unwrap_or_default();
        let start = symbols.address("__bss_start").unwrap_or_default();
        let own = symbols.iter().find(|symbol| {
            let is_table = symbol.name == "tbl" || symbol.name.starts_with("tbl.");
            is_table && (start..end).contains(&symbol.address)
        });
        let own = own.ok_or_else(no_edge)?;
        Ok(Some(self.image.phys_of(own.address.wrapping_add(self.image.displacement()))))
    }
}

fn no_edge() -> BootError {
    BootError::Beyond(
        "a shadow of KASAN that begins inside an entry of the root, without symbols that name its table".into(),
    )
}

/// Where the shadow lies, if there is one.
fn shadow_range(layout: &Layout) -> Option<VirtRange> {
    let (start, end) = layout.kasan?;
    VirtRange::until(start, end)
}

/// Takes the first shadow away and builds the one that stays; without a shadow nothing happens.
///
/// # Errors
/// The boot allocator has no memory for a page or a table; what was mapped before stays.
pub(super) fn kasan_init<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness>(
    shared: &Shared<'_>,
    image: &Image<'_>,
    tables: &mut Tables<'_, F, M>,
    memblock: &mut Memblock<A, W>,
) -> Result<(), BootError> {
    let layout = &shared.state.layout;
    let (Some(zero), Some(map)) = (shared.state.zero_shadow, layout.shadow_map) else { return Ok(()) };
    let Some(range) = shadow_range(layout) else { return Ok(()) };
    let state = shared.state;
    let mut shadow = Shadow {
        tables,
        memblock,
        map,
        zero,
        granule: state.granule(),
        page: state.prot(prot::PAGE_KERNEL),
        read_only: state.prot(prot::PAGE_KERNEL_RO),
        link: prot::table(shared.config.era, false),
        from: PhysAddr(state.memstart),
        not_global: shared.not_global,
    };
    shadow.clear(range)?;
    let kernel = image.range("_text", "_end")?.ok_or_else(|| BootError::Input("symbols: _text is _end".into()))?;
    shadow.populate(kernel, image.phys_range("_text", "_end")?)?;
    let areas_bring_shadow = shared.config.kconfig.is_set("KASAN_VMALLOC");
    let kernel = map.pages(kernel, state.granule());
    for part in zero_parts(shared.config.era, areas_bring_shadow, layout, kernel) {
        shadow.show_zeroes(part)?;
    }
    let banks: Vec<PhysRange> = shadow.memblock.mapped_regions().map(|region| region.range()).collect();
    for bank in banks {
        let Some(linear) = VirtRange::of_size(state.linear(bank.start), bank.size()) else { break };
        shadow.populate(linear, bank)?;
    }
    shadow.protect_zeroes()?;
    if is_ready(shared.config) {
        shadow.memblock.observer().log(LogEntry::KasanReady);
    }
    Ok(())
}

/// Whether KASAN is told to be ready once it has its shadow; tags are told of later.
///
/// | era | when |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | in both modes |
/// | 6.1, 6.12, 7.2 | in the generic mode |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_init`.
fn is_ready(config: &Config) -> bool {
    match config.era {
        Era::V4_14 | Era::V5_10 => true,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => mode(config) == Kasan::Generic,
    }
}

/// The parts of the shadow that only the shared page backs, in the order in which they are mapped; `image` are the pages
/// of the image's shadow.
///
/// | era | before the modules | behind |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | from PAGE_END | from the image's shadow; and between modules and image where they are apart |
/// | 6.1, 6.12, 7.2 | from PAGE_END | from the end of vmalloc's shadow, if areas of vmalloc bring their own; else as 5.10 |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_init_shadow`.
fn zero_parts(era: Era, areas_bring_shadow: bool, layout: &Layout, image: VirtRange) -> Vec<VirtRange> {
    let (Some((_, end)), Some(map)) = (layout.kasan, layout.shadow_map) else { return Vec::new() };
    let areas_bring_shadow = match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => areas_bring_shadow,
    };
    let mut parts = Vec::from([(map.of(layout.page_end), map.of(layout.modules_start))]);
    if areas_bring_shadow {
        parts.push((map.of(layout.vmalloc_end), end));
    } else {
        parts.extend([(image.end(), end), (map.of(layout.modules_end), image.start)]);
    }
    let until = |(start, end)| VirtRange::until(start, end).filter(|_| start < end);
    parts.into_iter().filter_map(until).collect()
}

impl<F: Arm64Format, M: PhysMem, W: Witness> Late<'_, '_, '_, F, M, W> {
    /// Gives the shadow of an area of vmalloc, its guard page included, memory where it has none.
    ///
    /// Source: Linux 6.1 mm/kasan/shadow.c `kasan_populate_vmalloc`.
    pub(super) fn populate_vmalloc_shadow(&mut self, area: VirtRange) -> Result<(), BootError> {
        let Some(map) = self.state.layout.shadow_map.filter(|_| self.config.kconfig.is_set("KASAN_VMALLOC")) else {
            return Ok(());
        };
        let page = self.state.granule().bytes();
        let shadow = map.pages(area, self.state.granule());
        for va in (shadow.start.0..=shadow.last.0).step_by(page as usize).map(VirtAddr) {
            let table =
                self.tables.make_table(va, Level::Pte, prot::table(self.config.era, false), &mut self.frames)?;
            let index = F::shape().level(Level::Pte).index(va);
            if self.tables.mem().entry::<F::Slot>(table, index)? != 0 {
                continue;
            }
            let Some(pa) = self.frames.page() else { return Ok(()) };
            self.map_page(
                va,
                pa,
                self.state.prot(prot::PAGE_KERNEL),
                Area::KasanShadow,
                &[Reason::Born(Born::Shadow)],
            )?;
        }
        Ok(())
    }
}
