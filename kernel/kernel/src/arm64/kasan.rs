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
//! Here: the steps of boot, what each takes, and the tables of the shadow. Not here: the shared page and its tables
//! (`kasan` of this crate), which address has which shadow (`kernmem-arch`), the meaning of shadow bytes.
//!
//! # Invariants
//! 1. Every page of shadow memory is one request to the boot allocator, in the order of addresses; the table before its
//!    first page.
//! 2. Hardware tags have no shadow: nothing here happens for them but the ring of stacks.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_early_init`, `kasan_init_shadow`, `kasan_pgd_populate`;
//! mm/kasan/tags.c `kasan_init_tags`.

use alloc::vec::Vec;

use kernmem_arch::arm64::{Arm64Format, Kasan, prot};
use kernmem_arch::kasan::ShadowMap;
use kernmem_arch::{Born, Bound, Entry, EntryFormat, Reason};
use kernmem_base::{Era, FrameOrigin, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::Config;
use kernmem_memblock::{Memblock, Nid, RegionArray, Request, UpTo};
use kernmem_pgtable::{Sizes, Tables};

use super::boot::Booting;
use super::late::Late;
use super::later::Shared;
use crate::frames::Ask;
use crate::kasan::{ZeroMap, ZeroShadow, parts};
use crate::takers::{self, Taker};
use crate::{Area, BootError, EarlyFrames, HardwareTags, Image, LogEntry, Mapped, TableFrame, Witness, numa};

/// The mode of KASAN that has a shadow, by configuration.
pub(super) fn mode(config: &Config) -> Kasan {
    let set = |name| config.kconfig.is_set(name);
    match (set("KASAN"), set("KASAN_SW_TAGS"), set("KASAN_HW_TAGS")) {
        (false, _, _) | (true, _, true) => Kasan::Off,
        (true, true, false) => Kasan::SwTags,
        (true, false, false) => Kasan::Generic,
    }
}

/// The CPU's own tags, if they are built in, wanted, and the CPU has them in memory.
///
/// Source: Linux 6.1 mm/kasan/hw_tags.c `kasan_init_hw_tags`.
fn hardware_tags(config: &Config) -> Option<HardwareTags> {
    let cmdline = &config.cmdline;
    let has_tags = config.cpu.arm64().is_some_and(|cpu| cpu.mte() >= 2) && !cmdline.has("arm64.nomte");
    let is_built = config.kconfig.is_set("KASAN_HW_TAGS");
    if !is_built || !has_tags || cmdline.last_value("kasan") == Some("off") {
        return None;
    }
    let mode = match cmdline.last_value("kasan.mode") {
        Some("async") => "async",
        Some("asymm") => "asymm",
        _ => "sync",
    };
    let vmalloc = config.kconfig.is_set("KASAN_VMALLOC") && cmdline.last_value("kasan.vmalloc") != Some("off");
    let write_only = cmdline.last_value("kasan.write_only") == Some("on");
    Some(HardwareTags { mode, vmalloc, write_only })
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
fn shadow_range(layout: &kernmem_arch::arm64::Layout) -> Option<VirtRange> {
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
    let mut shadow = Shadow { shared, tables, memblock, map, zero };
    shadow.clear(range)?;
    let kernel = image.range("_text", "_end")?.ok_or_else(|| BootError::Input("symbols: _text is _end".into()))?;
    let memory = image.phys_range("_text", "_end")?;
    shadow.populate(kernel, memory)?;
    for part in zero_parts(shared.config, shared.state, &map, kernel) {
        shadow.show_zeroes(part)?;
    }
    let banks: Vec<PhysRange> = shadow.memblock.mapped_regions().map(|region| region.range()).collect();
    for bank in banks {
        let linear = VirtRange::of_size(shared.state.linear(bank.start), bank.size());
        let Some(linear) = linear else { break };
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

/// The parts of the shadow that only the shared page backs, in the order in which they are mapped.
///
/// | era | before the modules | behind |
/// |---|---|---|
/// | 4.14 (UNVERIFIED), 5.10 | from PAGE_END | from the image's shadow; and between modules and image where they are apart |
/// | 6.1, 6.12, 7.2 | from PAGE_END | from the end of vmalloc's shadow, if areas of vmalloc bring their own; else as 5.10 |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/kasan_init.c `kasan_init_shadow`.
fn zero_parts(config: &Config, state: &super::State, map: &ShadowMap, image: VirtRange) -> Vec<VirtRange> {
    let layout = &state.layout;
    let Some((_, end)) = layout.kasan else { return Vec::new() };
    let areas_bring_shadow = match config.era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => config.kconfig.is_set("KASAN_VMALLOC"),
    };
    let image = map.pages(image, state.granule());
    let mut parts = Vec::from([(map.of(layout.page_end), map.of(layout.modules_start))]);
    if areas_bring_shadow {
        parts.push((map.of(layout.vmalloc_end), end));
    } else {
        parts.extend([(image.end(), end), (map.of(layout.modules_end), image.start)]);
    }
    parts
        .into_iter()
        .filter(|(start, end)| start < end)
        .filter_map(|(start, end)| VirtRange::until(start, end))
        .collect()
}

/// The shadow on its way to what stays.
struct Shadow<'b, 's, 'm, F: EntryFormat, M, A, W> {
    shared: &'b Shared<'s>,
    tables: &'b mut Tables<'m, F, M>,
    memblock: &'b mut Memblock<A, W>,
    map: ShadowMap,
    zero: ZeroShadow,
}

/// A piece of shadow that gets memory of one node; `first` is what it got first.
struct Piece {
    nid: Nid,
    first: Option<PhysAddr>,
}

impl<F: Arm64Format, M: PhysMem, A: RegionArray, W: Witness> Shadow<'_, '_, '_, F, M, A, W> {
    /// Clears the entries of the root that the shadow fills, and below one that it shares what is the shadow's.
    ///
    /// Source: Linux 5.10, 6.1 arch/arm64/mm/kasan_init.c `clear_pgds`; 6.12, 7.2 `clear_shadow`.
    fn clear(&mut self, range: VirtRange) -> Result<(), BootError> {
        let root = self.tables.root();
        let shape = &F::shape().levels[0];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            if part.size() == shape.bytes() {
                self.tables.set_entry(root, 0, index, 0)?;
                continue;
            }
            let raw = self.tables.mem().entry::<F::Slot>(root, index)?;
            let Entry::Table { next, .. } = F::decode(raw, shape.level) else { continue };
            let below = &F::shape().levels[1];
            for part in parts(below, part) {
                self.tables.set_entry(next, 1, below.index(part.start), 0)?;
            }
        }
        Ok(())
    }

    fn wish(&self, nid: Option<Nid>) -> Request {
        let page = self.shared.state.granule().bytes();
        Request::new(page, page).from(PhysAddr(self.shared.state.memstart)).on(nid)
    }

    /// Gives the shadow of `range`, whole pages of it, memory of its own; `memory` lies behind the range.
    fn populate(&mut self, range: VirtRange, memory: PhysRange) -> Result<(), BootError> {
        let shadow = self.map.pages(range, self.shared.state.granule());
        let mut piece = Piece { nid: numa::early_nid(self.memblock, memory.start), first: None };
        self.fill(self.tables.root(), 0, shadow, &mut piece)?;
        let Some(pa) = piece.first else { return Ok(()) };
        let edge = |at| Reason::Edge { bound: Bound::Shadow, at };
        self.tell(shadow, pa, (edge(memory.start), edge(memory.end)), Reason::ShadowPages, Born::Shadow);
        Ok(())
    }

    /// Maps `range`, which one table covers, page by page: its first entry in any case, and so on as long as entries are
    /// empty. Below the root a part ends where something is mapped already.
    fn fill(&mut self, table: PhysAddr, depth: usize, range: VirtRange, piece: &mut Piece) -> Result<(), BootError> {
        let shape = &F::shape().levels[depth];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            let raw = self.tables.mem().entry::<F::Slot>(table, index)?;
            let entry = F::decode(raw, shape.level);
            if depth > 0 && part.start != range.start && !matches!(entry, Entry::Absent { sw: 0 }) {
                return Ok(());
            }
            if depth + 1 == F::shape().levels.len() {
                let pa = self.page(piece)?;
                let attrs = self.shared.state.prot(prot::PAGE_KERNEL);
                let raw =
                    F::encode(Entry::Leaf { base: pa, attrs }, shape.level).map_err(crate::kasan::not_encodable)?;
                self.tables.set_entry(table, depth, index, raw)?;
                continue;
            }
            let next = match entry {
                Entry::Table { next, .. } => next,
                _ => self.new_table(part.start, F::shape().levels[depth + 1].level, piece.nid)?,
            };
            self.fill(next, depth + 1, part, piece)?;
        }
        Ok(())
    }

    /// A page of shadow, filled with what stands for memory that is accessible.
    fn page(&mut self, piece: &mut Piece) -> Result<PhysAddr, BootError> {
        let wish = self.wish(Some(piece.nid)).up_to(UpTo::NOLEAKTRACE);
        let pa = self.memblock.alloc_try_nid_raw(wish)?;
        takers::tell(self.memblock, Taker::KasanShadow, pa, wish.size);
        piece.first.get_or_insert(pa);
        Ok(pa)
    }

    fn new_table(&mut self, va: VirtAddr, level: Level, nid: Nid) -> Result<PhysAddr, BootError> {
        let wish = self.wish(Some(nid)).up_to(UpTo::NOLEAKTRACE);
        let mut frames = EarlyFrames::new(self.memblock, F::shape().granule, Ask::Plain(wish));
        Ok(self.tables.make_table(va, level, prot::TABLE_STATIC, &mut frames)?)
    }

    /// Shows the shared page in `range`.
    fn show_zeroes(&mut self, range: VirtRange) -> Result<(), BootError> {
        let state = self.shared.state;
        let page = state.prot(prot::PAGE_KERNEL_RO);
        let (link, wish) = (prot::table(self.shared.config.era, false), self.wish(None));
        let (tables, memblock) = (&mut *self.tables, &mut *self.memblock);
        ZeroMap { tables, memblock, shadow: self.zero, page, link, wish }.map(range)?;
        let shared = Reason::SharedShadow;
        self.tell(range, self.zero.page, (shared, shared), shared, Born::SharedShadow);
        Ok(())
    }

    /// Nothing writes the shared page from now on.
    fn protect_zeroes(&mut self) -> Result<(), BootError> {
        let Some(pages) = self.zero.table(Level::Pte) else { return Ok(()) };
        let shape = F::shape().level(Level::Pte);
        let attrs = self.shared.state.prot(prot::PAGE_KERNEL_RO);
        let raw = F::encode(Entry::Leaf { base: self.zero.page, attrs }, Level::Pte);
        let raw = raw.map_err(crate::kasan::not_encodable)?;
        Ok(self.tables.mem().fill::<F::Slot>(pages, 0, shape.entries(), raw, 0)?)
    }

    fn tell(&mut self, range: VirtRange, pa: PhysAddr, edges: (Reason, Reason), limit: Reason, born: Born) {
        let mut rights = Vec::from([Reason::Born(born)]);
        rights.extend(self.shared.not_global);
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::KasanShadow,
            start: edges.0,
            end: edges.1,
            limits: &[(limit, Sizes::PAGES)],
            rights: &rights,
        });
    }
}

/// Entries of the ring in which tag modes keep the stacks of allocations, if the command line names no number.
const STACK_RING: u64 = 32 << 10;

/// Bytes of an entry of that ring; `None` where the mode keeps stacks elsewhere.
///
/// | era | bytes |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10 | no ring |
/// | 6.1 | 32 |
/// | 6.12, 7.2 | 32, with CPU and time 40 (UNVERIFIED) |
///
/// Source: Linux 6.1 mm/kasan/kasan.h `kasan_stack_ring_entry`.
const fn ring_entry(era: Era, extra_info: bool) -> Option<u64> {
    match era {
        Era::V4_14 | Era::V5_10 => None,
        Era::V6_1 => Some(32),
        Era::V6_12 | Era::V7_2 => Some(if extra_info { 40 } else { 32 }),
    }
}

/// Sets the tag modes up, once the boot CPU has its per-CPU area: takes the ring of stacks and tells the log.
///
/// Source: Linux 6.1 mm/kasan/tags.c `kasan_init_tags`; mm/kasan/sw_tags.c, hw_tags.c; arch/arm64/kernel/smp.c
/// `smp_prepare_boot_cpu`.
pub(super) fn init_tags<A: RegionArray, W: Witness>(config: &Config, memblock: &mut Memblock<A, W>) {
    let hardware = hardware_tags(config);
    if mode(config) != Kasan::SwTags && hardware.is_none() {
        return;
    }
    let Some(entry) = ring_entry(config.era, config.kconfig.is_set("KASAN_EXTRA_INFO")) else { return };
    let mut stacktrace = config.cmdline.last_value("kasan.stacktrace") != Some("off");
    if stacktrace {
        let asked = config.cmdline.last_value("kasan.stack_ring_size");
        let asked = asked.map(|text| kernmem_config::number::leading_number(text).value).filter(|size| *size > 0);
        let bytes = asked.unwrap_or(STACK_RING).saturating_mul(entry);
        // Without memory the stacks are not kept.
        stacktrace = takers::allocate_lines(memblock, Taker::KasanStacks, bytes).is_ok();
    }
    memblock.observer().log(LogEntry::KasanTagsReady { hardware, stacktrace });
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
            self.map_page(va, pa, self.state.prot(prot::PAGE_KERNEL), Area::KasanShadow, Born::Shadow)?;
        }
        Ok(())
    }
}
