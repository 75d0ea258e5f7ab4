//! The shadow of KASAN: first one page of zeroes for all addresses, then memory for what is mapped.
//!
//! ```text
//! from the root slot in which the shadow starts
//!   user half's part, to the direct map      zeroes
//!   mapped memory                            memory, in the largest leaves
//!   behind the largest memory, to vmalloc    zeroes
//!   vmalloc                                  tables that all spaces share; memory comes with the areas
//!   behind vmalloc                           zeroes
//!   CPU entry areas                          memory
//!   to the image                             zeroes
//!   image                                    memory
//!   modules                                  nothing: it comes with them
//!   behind modules, to the end               zeroes
//! ```
//!
//! Not here: the tables that zeroes share (`kasan`), shadow of single objects.
//!
//! Source: Linux 6.1 arch/x86/mm/kasan_init_64.c `kasan_early_init`, `kasan_init`.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use kernmem_arch::x86::cpu_entry_area as cea;
use kernmem_arch::x86::direct_map::PageSizes;
use kernmem_arch::x86::layout::{CPU_ENTRY_AREA, Paging};
use kernmem_arch::x86::prot::{Masks, Prot, table};
use kernmem_arch::x86::{X86, X86Attrs};
use kernmem_arch::{Born, Bound, Entry, EntryFormat, Reason, UserFormat};
use kernmem_base::{Era, Granule, Level, Pfn, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_memblock::{Memblock, Nid, RegionArray, Request};
use kernmem_pgtable::{Mapping, Sizes};

use super::boot::{Booting, KernelTables, PAGE, page_sizes_up_to};
use super::late::Late;
use super::nodes::MAX_DMA;
use crate::frames::Ask;
use crate::kasan::{ZeroMap, ZeroShadow, parts};
use crate::numa::early_nid;
use crate::pc::lacking;
use crate::takers::{self, Taker};
use crate::{Area, BootError, EarlyFrames, LogEntry, Mapped, Witness};

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// All shadow is one page, in the early root and in the kernel's: nothing is known yet of the CPU.
    pub(super) fn kasan_early_init(&mut self, roots: [PhysAddr; 2]) -> Result<(), BootError> {
        let Some((zero, claimed)) = self.claimed_shadow() else { return Ok(()) };
        let page = Masks::early(true).kernel(self.config.era, Prot::Kernel);
        zero.fill::<X86<LEVELS>, M>(self.mem, table::KERNPG, page)?;
        for root in roots {
            self.share_unless_linked(root, 0, claimed, zero)?;
        }
        Ok(())
    }

    /// Links the shared tables from every empty entry down to those that map 512 GiB.
    fn share_unless_linked(
        &mut self,
        table: PhysAddr,
        depth: usize,
        range: VirtRange,
        zero: ZeroShadow,
    ) -> Result<(), BootError> {
        let shape = &X86::<LEVELS>::shape().levels[depth];
        let below = &X86::<LEVELS>::shape().levels[depth + 1];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            let raw = self.mem.entry::<AtomicU64>(table, index)?;
            match X86::<LEVELS>::decode(raw, shape.level) {
                Entry::Table { next, .. } if below.level == Level::P4d => {
                    self.share_unless_linked(next, depth + 1, part, zero)?;
                }
                Entry::Absent { sw: 0 } => {
                    let Some(shared) = zero.table(below.level) else { continue };
                    self.tables.set_entry(table, depth, index, shared.0 | table::KERNPG.0)?;
                }
                Entry::Absent { .. } | Entry::Table { .. } | Entry::Leaf { .. } | Entry::Reserved { .. } => {}
            }
        }
        Ok(())
    }

    /// The shared tables, and the shadow from the root slot on in which it starts.
    fn claimed_shadow(&self) -> Option<(ZeroShadow, VirtRange)> {
        let (zero, shadow) = (*self.state.zero_shadow.as_deref()?, self.state.layout.kasan_shadow?);
        let slot = 1 << X86::<LEVELS>::PAGING.root_shift();
        Some((zero, VirtRange { start: shadow.start.align_down(slot), last: shadow.last }))
    }

    /// Takes the first shadow away and builds the one that stays.
    pub(super) fn kasan_init(&mut self) -> Result<(), BootError> {
        let Some((zero, claimed)) = self.claimed_shadow() else { return Ok(()) };
        self.unshare(claimed)?;
        let layout = self.state.layout;
        let of = |va| layout.kasan_shadow_of(va);
        self.map_zeroes(zero, claimed.start, of(layout.page_offset))?;
        let mapped = self.state.mapped.clone();
        for memory in mapped {
            let nid = early_nid(&self.memblock, memory.start);
            let shadow = (of(layout.direct(memory.start)), of(layout.direct(memory.end)));
            self.populate_shadow(shadow, Some(memory), nid)?;
        }
        let end_of_memory = layout.page_offset.wrapping_add(layout.physmem_last.0).wrapping_add(1);
        self.map_zeroes(zero, of(end_of_memory), of(layout.vmalloc_start))?;
        self.shadow_vmalloc(zero, of(layout.vmalloc_start), of(layout.vmalloc_last))?;
        let areas = self.entry_area_shadow();
        self.map_zeroes(zero, of(layout.vmalloc_last.wrapping_add(1)), areas.start)?;
        self.populate_shadow((areas.start, areas.own), None, Nid(0))?;
        self.map_zeroes(zero, areas.end, of(layout.start_kernel_map))?;
        let text = self.image.virt("_stext")?;
        // Linux looks the node up with an address where a frame's number belongs.
        let page = Pfn(self.image.phys_of(text).0).to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        let nid = early_nid(&self.memblock, page);
        let image = PhysRange::new(self.image.phys_of(text), self.image.phys_of(self.symbols.end));
        self.populate_shadow((of(text), of(self.symbols.end)), Some(image), nid)?;
        self.map_zeroes(zero, of(layout.modules_end), claimed.end())?;
        self.protect_zeroes(zero)?;
        self.log(LogEntry::KasanReady);
        Ok(())
    }

    /// Clears the whole root slots of the shadow, and what lies beside other things in the last one.
    fn unshare(&mut self, claimed: VirtRange) -> Result<(), BootError> {
        let root = self.tables.root();
        let shape = &X86::<LEVELS>::shape().levels[0];
        for part in parts(shape, claimed) {
            let index = shape.index(part.start);
            if part.size() == shape.bytes() {
                self.tables.set_entry(root, 0, index, 0)?;
                continue;
            }
            let raw = self.mem.entry::<AtomicU64>(root, index)?;
            let Entry::Table { next, .. } = X86::<LEVELS>::decode(raw, shape.level) else { continue };
            let below = &X86::<LEVELS>::shape().levels[1];
            for part in parts(below, part) {
                self.tables.set_entry(next, 1, below.index(part.start), 0)?;
            }
        }
        Ok(())
    }

    /// Shows the page of zeroes from `start` up to `end`.
    fn map_zeroes(&mut self, zero: ZeroShadow, start: VirtAddr, end: VirtAddr) -> Result<(), BootError> {
        let Some(range) = VirtRange::until(start, end).filter(|_| start < end) else { return Ok(()) };
        let page = self.zero_page_attrs();
        let (tables, memblock) = (&mut self.tables, &mut self.memblock);
        ZeroMap { tables, memblock, shadow: zero, page, link: table::PAGE, wish: wish(PAGE, None) }.map(range)?;
        let shared = Reason::SharedShadow;
        let mut rights = Vec::from([Reason::Born(Born::SharedShadow)]);
        rights.extend(self.lacking());
        self.memblock.observer().mapped(&Mapped {
            range,
            pa: zero.page,
            area: Area::KasanShadow,
            start: shared,
            end: shared,
            limits: &[(shared, Sizes::PAGES)],
            rights: &rights,
        });
        Ok(())
    }

    /// The page of zeroes where a range ends within a table: kernel data without the right to write.
    fn zero_page_attrs(&self) -> X86Attrs {
        let data = self.state.masks.kernel(self.config.era, Prot::Kernel);
        X86::<LEVELS>::write_protect(self.config.era, data)
    }

    /// Nothing writes the page of zeroes from now on.
    fn protect_zeroes(&mut self, zero: ZeroShadow) -> Result<(), BootError> {
        let Some(pages) = zero.table(Level::Pte) else { return Ok(()) };
        let attrs = self.state.masks.kernel(self.config.era, Prot::KernelRo);
        let raw = self.state.masks.raw_leaf(zero.page, attrs, Level::Pte);
        let entries = X86::<LEVELS>::shape().level(Level::Pte).entries();
        Ok(self.mem.fill::<AtomicU64>(pages, 0, entries, raw, 0)?)
    }

    /// Gives the shadow from `start` up to `end`, whole pages of it, memory of node `nid`; `memory` is what the shadow
    /// speaks for, if that is memory.
    fn populate_shadow(
        &mut self,
        (start, end): (VirtAddr, VirtAddr),
        memory: Option<PhysRange>,
        nid: Nid,
    ) -> Result<(), BootError> {
        let (start, end) = (start.align_down(PAGE), VirtAddr(end.0.next_multiple_of(PAGE)));
        let Some(range) = VirtRange::until(start, end).filter(|_| start < end) else { return Ok(()) };
        let attrs = self.state.masks.kernel(self.config.era, Prot::Kernel);
        let (tables, memblock, masks) = (&mut self.tables, &mut self.memblock, self.state.masks);
        let mut shadow = Populate {
            tables,
            memblock,
            masks,
            attrs,
            sizes: PageSizes { m2: self.cpu.pse, g1: self.cpu.gbpages },
            nid,
            first: None,
        };
        shadow.fill(shadow.tables.root(), 0, range)?;
        let Some(pa) = shadow.first else { return Ok(()) };
        let edge = |at| Reason::Edge { bound: Bound::Shadow, at };
        let speaks_for = memory.unwrap_or(PhysRange::new(pa, pa));
        let no_1g = page_sizes_up_to::<LEVELS>(PageSizes { m2: true, g1: false });
        let limits = [(Reason::CpuLacks, no_1g)];
        let mut rights = Vec::from([Reason::Born(Born::Shadow)]);
        rights.extend(self.lacking());
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area: Area::KasanShadow,
            start: edge(speaks_for.start),
            end: edge(speaks_for.end),
            limits: if self.cpu.gbpages { &[] } else { &limits },
            rights: &rights,
        });
        Ok(())
    }

    /// Shadow of vmalloc: only the tables that spaces of programs share if areas bring their own, else zeroes.
    fn shadow_vmalloc(&mut self, zero: ZeroShadow, start: VirtAddr, last: VirtAddr) -> Result<(), BootError> {
        if !self.config.kconfig.is_set("KASAN_VMALLOC") {
            return self.map_zeroes(zero, start, last);
        }
        let step = 1 << Paging::P4D_SHIFT;
        let mut va = start;
        while va < last {
            let wish = Ask::Plain(wish(PAGE, None));
            let mut frames = EarlyFrames::new(&mut self.memblock, Granule::K4, wish);
            self.tables.make_table(va, Level::Pud, table::PAGE, &mut frames).map_err(BootError::Map)?;
            va = va.align_down(step) + step;
        }
        Ok(())
    }

    /// The shadow of the CPU entry areas.
    ///
    /// | era | has memory from the start |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | all that the areas of possible CPUs reserve |
    /// | 6.12, 7.2 | the shared page in front; each area's comes with it (UNVERIFIED) |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/kasan_init_64.c `kasan_init`.
    fn entry_area_shadow(&self) -> AreaShadow {
        let layout = &self.state.layout;
        let cpus = self.config.kconfig.number("NR_CPUS").unwrap_or(1);
        let up = |va: VirtAddr| VirtAddr(layout.kasan_shadow_of(va).0.next_multiple_of(PAGE));
        let end = up(CPU_ENTRY_AREA.wrapping_add(cea::map_bytes(self.config.era, true, cpus)));
        let own = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => end,
            Era::V6_12 | Era::V7_2 => up(cea::PER_CPU),
        };
        AreaShadow { start: layout.kasan_shadow_of(CPU_ENTRY_AREA).align_down(PAGE), own, end }
    }

    /// The shadow of one CPU's entry area, where it was not made before.
    pub(super) fn shadow_entry_area(&mut self, area: VirtAddr, bytes: u64, cpu: u32) -> Result<(), BootError> {
        let layout = self.state.layout;
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => Ok(()),
            Era::V6_12 | Era::V7_2 if layout.kasan_shadow.is_none() => Ok(()),
            Era::V6_12 | Era::V7_2 => {
                let nid = Nid(self.cpu_nodes().get(cpu as usize).copied().unwrap_or(0));
                let shadow = (layout.kasan_shadow_of(area), layout.kasan_shadow_of(area + bytes));
                self.populate_shadow(shadow, None, nid)
            }
        }
    }
}

/// Shadow of the CPU entry areas: from `start` to `own` it gets memory in `kasan_init`; behind `end` come zeroes again.
struct AreaShadow {
    start: VirtAddr,
    own: VirtAddr,
    end: VirtAddr,
}

fn wish(bytes: u64, nid: Option<Nid>) -> Request {
    Request::new(bytes, bytes).from(MAX_DMA).on(nid)
}

/// A range of shadow on its way to memory of its own.
struct Populate<'b, 'm, M, A, W, const LEVELS: usize> {
    tables: &'b mut KernelTables<'m, M, LEVELS>,
    memblock: &'b mut Memblock<A, W>,
    masks: Masks,
    attrs: X86Attrs,
    sizes: PageSizes,
    nid: Nid,
    /// The memory that was taken first.
    first: Option<PhysAddr>,
}

impl<M: PhysMem, A: RegionArray, W: Witness, const LEVELS: usize> Populate<'_, '_, M, A, W, LEVELS> {
    /// Fills what is empty in `range`, which one table covers: the largest leaf that it has memory for.
    ///
    /// Source: Linux 6.1 arch/x86/mm/kasan_init_64.c `kasan_populate_pud`, `kasan_populate_pmd`.
    fn fill(&mut self, table: PhysAddr, depth: usize, range: VirtRange) -> Result<(), BootError> {
        let shape = &X86::<LEVELS>::shape().levels[depth];
        for part in parts(shape, range) {
            let index = shape.index(part.start);
            let raw = self.tables.mem().entry::<AtomicU64>(table, index)?;
            match X86::<LEVELS>::decode(raw, shape.level) {
                Entry::Leaf { .. } => continue,
                Entry::Table { next, .. } => {
                    self.fill(next, depth + 1, part)?;
                    continue;
                }
                Entry::Absent { .. } | Entry::Reserved { .. } => {}
            }
            let is_page = shape.level == Level::Pte;
            let may_be_leaf = is_page || (part.size() == shape.bytes() && self.sizes.allow(shape.level));
            let memory = may_be_leaf.then(|| self.memory(shape.bytes()));
            match memory {
                Some(Ok(pa)) => {
                    let attrs = X86::<LEVELS>::leaf_attrs(self.attrs, shape.level, false);
                    self.tables.set_entry(table, depth, index, self.masks.raw_leaf(pa, attrs, shape.level))?;
                }
                Some(Err(error)) if is_page => return Err(error),
                Some(Err(_)) | None => {
                    let below = X86::<LEVELS>::shape().levels[depth + 1].level;
                    let next = self.new_table(part.start, below)?;
                    self.fill(next, depth + 1, part)?;
                }
            }
        }
        Ok(())
    }

    fn memory(&mut self, bytes: u64) -> Result<PhysAddr, BootError> {
        let pa = takers::allocate(self.memblock, Taker::KasanShadow, wish(bytes, Some(self.nid)))?;
        self.first.get_or_insert(pa);
        Ok(pa)
    }

    fn new_table(&mut self, va: VirtAddr, level: Level) -> Result<PhysAddr, BootError> {
        let mut frames = EarlyFrames::new(self.memblock, Granule::K4, Ask::Plain(wish(PAGE, Some(self.nid))));
        self.tables.make_table(va, level, table::PAGE, &mut frames).map_err(BootError::Map)
    }
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Late<'_, '_, M, W, LEVELS> {
    /// The shadow of an area of vmalloc, its guard page included.
    ///
    /// Source: Linux 6.1 mm/kasan/shadow.c `kasan_populate_vmalloc`.
    pub(super) fn populate_vmalloc_shadow(&mut self, area: VirtRange) -> Result<(), BootError> {
        let layout = self.state.layout;
        if layout.kasan_shadow.is_none() || !self.config.kconfig.is_set("KASAN_VMALLOC") {
            return Ok(());
        }
        let start = layout.kasan_shadow_of(area.start).align_down(PAGE);
        let bytes = layout.kasan_shadow_of(area.end()).0.next_multiple_of(PAGE) - start.0;
        let attrs = self.state.masks.kernel(self.config.era, Prot::Kernel);
        let mut rights = Vec::from([Reason::Born(Born::Shadow)]);
        rights.extend(lacking(self.state.pti, self.cpu));
        for offset in (0..bytes).step_by(PAGE as usize) {
            let Some(pa) = self.frames.page() else { return Ok(()) };
            let range = VirtRange { start: start + offset, last: start + (offset + PAGE - 1) };
            let mapping = Mapping::<X86<LEVELS>>::new(pa, attrs, Sizes::PAGES).with_table_attrs(table::PAGE);
            self.tables.cursor(range).map(&mut self.frames, &mapping)?.forgive("nothing was mapped there");
            let edge = |at| Reason::Edge { bound: Bound::Object, at };
            self.memblock.observer().mapped(&Mapped {
                range,
                pa,
                area: Area::KasanShadow,
                start: edge(pa),
                end: edge(pa + PAGE),
                limits: &[(Reason::ShadowPages, Sizes::PAGES)],
                rights: &rights,
            });
        }
        Ok(())
    }
}
