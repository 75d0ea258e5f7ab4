//! The direct map: all memory at one offset, in the order in which its tables find mapped memory to lie in.
//!
//! Source: Linux 6.1 arch/x86/mm/init.c `init_mem_mapping`, `init_memory_mapping`, `alloc_low_pages`;
//! arch/x86/mm/init_64.c `kernel_physical_mapping_init`.

use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use kernmem_arch::x86::direct_map::{PageSizes, SlotAction, slot_action, split_mem_range};
use kernmem_arch::x86::layout::{ISA_END, ISA_HOLE};
use kernmem_arch::x86::prot::{Masks, Prot, table};
use kernmem_arch::x86::steps::{BottomUp, FIRST_STEP, TopDown, may_use_early_tables};
use kernmem_arch::x86::{X86, X86Attrs};
use kernmem_arch::{Born, Bound, EntryFormat, Reason};
use kernmem_base::{
    Era, Frame, FrameOrigin, FrameSource, Granule, Level, NoFrame, PhysAddr, PhysMem, PhysRange, Slot, VirtAddr,
    VirtRange,
};
use kernmem_memblock::{Memblock, RegionArray, UpTo};
use kernmem_pgtable::Sizes;

use super::boot::{Booting, PAGE, page_sizes_up_to};
use crate::{Area, BootError, LogEntry, Mapped, TableFrame, Witness};

/// No frames: where every table is known to exist.
pub(crate) struct NoFrames;

impl FrameSource for NoFrames {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        Err(NoFrame { level })
    }

    fn give_back(&mut self, _frame: PhysAddr) {}
}

/// Tables of the direct map: first pages of the image, then the top of what is mapped already.
pub(crate) struct LowPages<'b, A, W> {
    pub memblock: &'b mut Memblock<A, W>,
    /// What is left in the image.
    pub early: &'b mut PhysRange,
    /// Not while the range that holds those pages is mapped.
    pub may_use_early: bool,
    /// Mapped memory.
    pub window: PhysRange,
}

impl<A: RegionArray, W: Witness> FrameSource for LowPages<'_, A, W> {
    fn take(&mut self, level: Level) -> Result<Frame, NoFrame> {
        let (pa, origin) = if self.may_use_early && self.early.size() >= PAGE {
            let pa = self.early.start;
            self.early.start = pa + PAGE;
            (pa, FrameOrigin::Image)
        } else if self.window.start < self.window.end {
            let (start, end) = (self.window.start, UpTo::from(self.window.end));
            let pa = self.memblock.phys_alloc_range(PAGE, PAGE, start, end).map_err(|_| NoFrame { level })?;
            (pa, FrameOrigin::Memblock)
        } else {
            return Err(NoFrame { level });
        };
        self.memblock.observer().table(&TableFrame { pa, level, origin });
        Ok(Frame { pa, origin, zeroed: false })
    }

    fn give_back(&mut self, _frame: PhysAddr) {}
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Booting<'_, '_, M, W, LEVELS> {
    /// The first MiB, then all memory downwards (or upwards from the kernel), each step with tables from the last.
    pub(super) fn init_mem_mapping(&mut self) -> Result<(), BootError> {
        if self.state.gbpages {
            self.log(LogEntry::GbPages);
        }
        let nothing = PhysRange::new(PhysAddr(0), PhysAddr(0));
        self.map_memory(PhysRange::new(PhysAddr(0), ISA_END), nothing, true)?;
        self.prepare_trampoline_root()?;
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        if self.memblock.bottom_up() {
            let kernel_end = self.image.phys("_end")?;
            self.map_upwards(PhysRange::new(kernel_end, end))?;
            self.map_upwards(PhysRange::new(ISA_END, kernel_end))?;
        } else {
            self.map_downwards(end)?;
        }
        self.tell_direct_map();
        Ok(())
    }

    /// With drawn regions the trampoline's root needs tables of its own, one below each level above the pud's entries,
    /// which no listing shows.
    ///
    /// Source: Linux 6.1 arch/x86/mm/kaslr.c `init_trampoline_kaslr`.
    fn prepare_trampoline_root(&mut self) -> Result<(), BootError> {
        if self.kaslr().regions() {
            let window = PhysRange::new(PhysAddr(0), PhysAddr(0));
            let mut frames =
                LowPages { memblock: &mut self.memblock, early: &mut self.early_tables, may_use_early: true, window };
            let above = X86::<LEVELS>::shape().depth(Level::Pud);
            for shape in X86::<LEVELS>::shape().levels[1..=above].iter().rev() {
                let frame = frames.take(shape.level).map_err(kernmem_pgtable::MapError::NoFrame);
                let frame = frame.map_err(BootError::Map)?;
                self.mem.zero(PhysRange::new(frame.pa, frame.pa + PAGE))?;
            }
        }
        Ok(())
    }

    /// The highest free 2 MiB tell where to begin.
    ///
    /// | era | they are |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | found |
    /// | 6.1 and later | allocated and given back |
    ///
    /// Source: Linux 5.10–7.2 arch/x86/mm/init.c `memory_map_top_down`.
    fn map_downwards(&mut self, end: PhysAddr) -> Result<(), BootError> {
        let block = match self.config.era {
            Era::V4_14 | Era::V5_10 => self.memblock.find_in_range(ISA_END, UpTo::from(end), FIRST_STEP, FIRST_STEP),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => {
                let block = self.memblock.phys_alloc_range(FIRST_STEP, FIRST_STEP, ISA_END, UpTo::from(end)).ok();
                if let Some(block) = block {
                    self.memblock.phys_free(block, FIRST_STEP)?;
                }
                block
            }
        };
        let mut steps = TopDown::new(self.config.era, block, end);
        while let Some(range) = steps.next_range() {
            let bytes = self.map_ram(range, steps.mapped_from())?;
            steps.done(range, bytes);
        }
        Ok(())
    }

    fn map_upwards(&mut self, range: PhysRange) -> Result<(), BootError> {
        let mut steps = BottomUp::new(range);
        while let Some(step) = steps.next_range() {
            let bytes = self.map_ram(step, range.start)?;
            steps.done(step, bytes);
        }
        Ok(())
    }

    /// Maps the memory in `range`, with tables from `mapped_from` on; returns how much that was.
    fn map_ram(&mut self, range: PhysRange, mapped_from: PhysAddr) -> Result<u64, BootError> {
        let regions = self.memblock.memory().regions().iter().map(|region| region.range().intersect(&range));
        let pieces: Vec<PhysRange> = regions.filter(|piece| !piece.is_empty()).collect();
        let mut bytes = 0;
        for piece in pieces {
            let may_use_early = may_use_early_tables(piece, self.early_tables);
            let window = PhysRange { start: mapped_from, end: self.state.mapped_end().max(mapped_from) };
            self.map_memory(piece, window, may_use_early)?;
            bytes += piece.size();
        }
        Ok(bytes)
    }

    fn map_memory(&mut self, range: PhysRange, window: PhysRange, may_use_early: bool) -> Result<(), BootError> {
        let memblock = &self.memblock;
        let pieces =
            split_mem_range(range, self.sizes.sizes, |wide| memblock.is_region_memory(wide.start, wide.size()));
        let mut filler = Filler::<_, _, _, LEVELS> {
            mem: self.mem,
            frames: LowPages { memblock: &mut self.memblock, early: &mut self.early_tables, may_use_early, window },
            page_offset: self.state.layout.page_offset,
            era: self.config.era,
            masks: self.state.masks,
            counters: &mut self.state.counters,
        };
        let mut last = range.start;
        for piece in pieces.as_slice() {
            last = filler.fill(self.tables.root(), 0, piece.range, piece.sizes)?;
        }
        self.state.add_mapped(PhysRange::new(range.start, last));
        Ok(())
    }

    /// Tells the witness the whole map: how it grew is no reason for any leaf.
    fn tell_direct_map(&mut self) {
        let end = self.state.max_pfn.to_phys(Granule::K4).unwrap_or(PhysAddr(u64::MAX));
        let above = PhysRange::new(ISA_END, end);
        let regions = self.memblock.memory().regions().iter().map(|region| region.range().intersect(&above));
        let ranges: Vec<PhysRange> = regions.filter(|range| !range.is_empty()).collect();
        let limits = self.direct_limits();
        let mut rights = Vec::from([Reason::Born(Born::Linear)]);
        rights.extend(self.lacking());
        let hole = Reason::Edge { bound: Bound::IsaHole, at: ISA_HOLE.0 };
        let edge = |at| Reason::Edge { bound: self.bound(at), at };
        let first = (PhysRange::new(PhysAddr(0), ISA_END), hole, hole);
        let rest = ranges.into_iter().map(|range| (range, edge(range.start), edge(range.end)));
        let runs: Vec<(PhysRange, Reason, Reason)> = core::iter::once(first).chain(rest).collect();
        for (memory, start, end) in runs {
            let va = self.state.layout.direct(memory.start);
            let Some(range) = VirtRange::of_size(va, memory.size()) else { continue };
            let (pa, area) = (memory.start, Area::LinearMap);
            self.memblock.observer().mapped(&Mapped { range, pa, area, start, end, limits: &limits, rights: &rights });
        }
    }

    /// Every reason that alone limits the leaves.
    fn direct_limits(&self) -> Vec<(Reason, Sizes)> {
        let no_1g = page_sizes_up_to::<LEVELS>(PageSizes { m2: true, g1: false });
        let wanted = self.config.cmdline.gbpages(self.config.kconfig.is_set("X86_DIRECT_GBPAGES"));
        let mut limits = Vec::new();
        if self.config.debug_pagealloc().value {
            limits.push((Reason::DebugPagealloc, Sizes::PAGES));
        }
        if !self.cpu.gbpages {
            limits.push((Reason::CpuLacks, no_1g));
        }
        if !wanted {
            limits.push((Reason::NoGbpages, no_1g));
        }
        limits
    }
}

/// One range of memory on its way into the tables.
struct Filler<'b, 'm, M, A, W, const LEVELS: usize> {
    mem: &'m M,
    frames: LowPages<'b, A, W>,
    page_offset: VirtAddr,
    era: Era,
    masks: Masks,
    counters: &'b mut kernmem_arch::x86::counters::DirectMapCounters,
}

impl<M: PhysMem, A: RegionArray, W: Witness, const LEVELS: usize> Filler<'_, '_, M, A, W, LEVELS> {
    /// Maps `part`, which one table covers; leaves that are there already stay. Returns the end of what is mapped
    /// now, which may lie behind `part`.
    fn fill(
        &mut self,
        table: PhysAddr,
        depth: usize,
        part: PhysRange,
        sizes: PageSizes,
    ) -> Result<PhysAddr, BootError> {
        let shape = X86::<LEVELS>::shape().levels[depth];
        let slots = self.mem.table_mut::<AtomicU64>(table, shape.entries())?;
        let (mut at, mut mapped_to, mut written) = (part.start, part.start, 0);
        while at < part.end {
            let va = self.page_offset.wrapping_add(at.0);
            let next = at + (shape.bytes() - shape.offset(va)); // the next boundary of the virtual address
            let slot = &slots[shape.index(va)];
            let below = PhysRange::new(at, next.min(part.end));
            let raw = Slot::load(slot);
            match slot_action(X86::<LEVELS>::decode(raw, shape.level), shape.level, sizes) {
                SlotAction::Keep => {
                    self.counters.add(shape.level, 1);
                    mapped_to = next;
                }
                SlotAction::Leaf => {
                    Slot::store(slot, self.leaf(at, shape.level));
                    self.counters.add(shape.level, 1);
                    written += 1;
                    mapped_to = next;
                }
                SlotAction::Descend => {
                    let below_table = kernmem_arch::x86::prot::base_of(raw, Level::Pte);
                    mapped_to = self.fill(below_table, depth + 1, below, sizes)?;
                }
                SlotAction::Table => {
                    let frame = self.new_table(depth + 1)?;
                    mapped_to = self.fill(frame, depth + 1, below, sizes)?;
                    slot.publish(frame.0 | table::PAGE.0);
                    written += 1;
                }
                SlotAction::Rebuild(page) => {
                    let frame = self.new_table(depth + 1)?;
                    self.rebuild(frame, depth + 1, at.align_down(shape.bytes()), page)?;
                    mapped_to = self.fill(frame, depth + 1, below, sizes)?;
                    slot.publish(frame.0 | table::PAGE.0);
                }
            }
            at = next;
        }
        self.mem.note(table)?.add(written);
        Ok(mapped_to)
    }

    fn leaf(&self, at: PhysAddr, level: Level) -> u64 {
        let prot = if level == Level::Pte { Prot::Kernel } else { Prot::KernelLarge };
        self.masks.raw_leaf(at, self.masks.kernel(self.era, prot), level)
    }

    fn new_table(&mut self, depth: usize) -> Result<PhysAddr, BootError> {
        let level = X86::<LEVELS>::shape().levels[depth].level;
        let frame = self.frames.take(level).map_err(kernmem_pgtable::MapError::NoFrame).map_err(BootError::Map)?;
        self.mem.zero(PhysRange::new(frame.pa, frame.pa + PAGE))?;
        self.mem.note(frame.pa)?.set_used(0);
        Ok(frame.pa)
    }

    /// Fills a table with what a larger leaf said.
    fn rebuild(&mut self, table: PhysAddr, depth: usize, base: PhysAddr, page: X86Attrs) -> Result<(), BootError> {
        let shape = X86::<LEVELS>::shape().levels[depth];
        let attrs = X86::<LEVELS>::leaf_attrs(page, shape.level, false);
        let first = self.masks.raw_leaf(base, attrs, shape.level);
        self.mem.fill::<AtomicU64>(table, 0, shape.entries(), first, shape.bytes())?;
        self.mem.note(table)?.set_used(shape.entries() as u16);
        Ok(())
    }
}
