//! After the hand-over: the entry trampoline, the first vmalloc areas, read-only aliases, freed init memory.
//!
//! Source: Linux 5.10–7.2 arch/arm64/mm/mmu.c `map_entry_trampoline`, `mark_linear_text_alias_ro`, `mark_rodata_ro`;
//! arch/arm64/mm/init.c `free_initmem`; 6.1 mm/kfence/core.c `kfence_init_pool`.

use kernmem_arch::arm64::{Arm64Attrs, Arm64Format, bit, prot};
use kernmem_arch::{Born, Bound, Change as Cause, Reason};
use kernmem_base::{Era, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::{Config, Rodata};
use kernmem_memblock::{HandedOver, Memblock, VecArray};
use kernmem_pgtable::{Change, Mapping, Sizes, Tables};

use super::State;
use super::image::{image_start, text_prot};
use super::later::Shared;
use super::mm_init::Prepared;
use crate::hand_over::{hand_over, memory_figures};
use crate::managed::Moment;
use crate::takers::hash_tables;
use crate::zones::Nodes;
use crate::{Area, Boot, BootError, BootPages, Changed, Freed, Image, LogEntry, Mapped, Witness};

/// The steps after the hand-over.
pub(super) struct Late<'s, 'm, 'c, F, M, W> {
    pub(super) config: &'c Config,
    pub(super) state: &'c State,
    not_global: Option<Reason>,
    apart: &'static [Reason],
    image: Image<'c>,
    pub(super) tables: &'s mut Tables<'m, F, M>,
    memblock: HandedOver<VecArray, W>,
    nodes: &'s mut Nodes,
    pub(super) frames: BootPages,
    rodata: Rodata,
}

impl<'s, 'm, 'c, F: Arm64Format, M: PhysMem, W: Witness> Late<'s, 'm, 'c, F, M, W> {
    pub(super) fn new(
        shared: &Shared<'c>,
        image: Image<'c>,
        tables: &'s mut Tables<'m, F, M>,
        memblock: Memblock<VecArray, W>,
        nodes: &'s mut Nodes,
        rodata: Rodata,
        boot: &Boot<'_>,
    ) -> Result<Self, BootError> {
        let (memblock, frames) = hand_over(memblock, nodes, boot)?;
        let Shared { config, state, not_global, apart, .. } = *shared;
        Ok(Self { config, state, not_global, apart, image, tables, memblock, nodes, frames, rodata })
    }

    /// Memory as the log tells it, if this is the time.
    ///
    /// | era | when |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | at the hand-over |
    /// | 6.12, 7.2 | when all CPUs run |
    ///
    /// Source: Linux 5.10, 6.1 init/main.c `mm_init`; 6.12, 7.2 mm/mm_init.c `page_alloc_init_late`.
    fn tell_memory(&mut self, all_cpus: bool) {
        let then = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
            Era::V6_12 | Era::V7_2 => true,
        };
        if then == all_cpus
            && let Some(figures) = memory_figures(&self.image, self.nodes, 0)
        {
            self.memblock.observer().log(LogEntry::Memory(figures));
        }
    }

    pub(super) fn run(&mut self, prepared: &Prepared) -> Result<(), BootError> {
        self.tell_memory(false);
        self.guard_kfence_pool()?;
        self.first_stack()?;
        hash_tables::late(self.config, &prepared.hashes, self.memblock.observer());
        self.tell_memory(true);
        self.map_entry_trampoline()?;
        for pool in &prepared.gigantic {
            for page in &pool.pages {
                let range = PhysRange::new(*page, *page + pool.size);
                self.nodes.release_whole_pages(range, Moment::BeforeWatermarks);
                self.frames.adopt(range)?;
            }
        }
        self.free_initrd()?;
        self.mark_linear_text_alias_ro()?;
        self.free_initmem()?;
        self.mark_rodata_ro()
    }

    /// Bytes of a page.
    const fn page(&self) -> u64 {
        self.state.granule().bytes()
    }

    pub(super) fn finish(self) -> (HandedOver<VecArray, W>, BootPages) {
        (self.memblock, self.frames)
    }

    /// The pool's first two pages and every odd page catch overruns.
    fn guard_kfence_pool(&mut self) -> Result<(), BootError> {
        let Some(pool) = self.state.kfence_pool else { return Ok(()) };
        let page = self.page();
        for index in (0..pool.size() / page).filter(|index| *index == 0 || index % 2 == 1) {
            let va = self.state.linear(pool.start + index * page);
            let range = VirtRange { start: va, last: va + (page - 1) };
            self.change(range, Change { set: 0, clear: bit::VALID }, Cause::KfenceGuard, true)?;
        }
        Ok(())
    }

    /// The first area of vmalloc: a kernel stack at the lowest free address, so that its tables exist.
    fn first_stack(&mut self) -> Result<(), BootError> {
        let bytes = self.config.sizes.get("THREAD_SIZE").unwrap_or(16 << 10).max(self.page());
        let mut start = self.state.layout.kimage;
        // The image is an area of vmalloc, with a guard page behind it.
        let image = VirtRange { start: self.state.image.start, last: self.state.image.last + self.page() };
        if VirtRange::of_size(start, bytes + self.page()).is_some_and(|range| range.overlaps(&image)) {
            start = image.end();
        }
        if let Some(area) = VirtRange::of_size(start, bytes + self.page()) {
            self.populate_vmalloc_shadow(area)?;
        }
        for page in 0..bytes >> self.state.granule().shift() {
            let Some(pa) = self.frames.page() else { return Ok(()) };
            let va = start + (page << self.state.granule().shift());
            self.map_page(va, pa, self.state.prot(prot::PAGE_KERNEL), Area::Vmalloc, &[Reason::Born(Born::Data)])?;
        }
        Ok(())
    }

    /// The text by which user mode enters the kernel, and a read-only page beside it, in the fixmap.
    ///
    /// | era | when | the page |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED), 5.10 | the kernel can be unmapped for user mode | data with the vectors' address, if the image can be moved at random |
    /// | 6.1 | the same | what follows the text, if the image can be moved |
    /// | 6.12, 7.2 | it is unmapped | the same |
    fn map_entry_trampoline(&mut self) -> Result<(), BootError> {
        let set = |name| self.config.kconfig.is_set(name);
        let (wanted, apart): (bool, &[Reason]) = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => (set("UNMAP_KERNEL_AT_EL0"), &[]),
            Era::V6_12 | Era::V7_2 => (self.state.isolates, self.apart),
        };
        if !wanted {
            return Ok(());
        }
        let because = |born| [&[born], apart].concat();
        let text = self.image.phys_range("__entry_tramp_text_start", "__entry_tramp_text_end")?;
        let pages = text.size().div_ceil(self.page());
        let layout = &self.state.layout;
        let (attrs, reason) = text_prot(self.rodata);
        for page in 0..pages {
            let va = layout.fixmap.address(layout.fixaddr_top, layout.fixmap.tramp_text - page);
            let pa = text.start + (page << self.state.granule().shift());
            self.map_page(va, pa, self.state.global_prot(attrs), Area::Fixmap, &because(reason))?; // global, whatever the rest of the kernel is
        }
        let beside = match self.config.era {
            Era::V4_14 | Era::V5_10 if set("RANDOMIZE_BASE") => {
                Some((layout.fixmap.tramp_data, self.image.phys("__entry_tramp_data_start")?))
            }
            Era::V6_1 | Era::V6_12 | Era::V7_2 if set("RELOCATABLE") => {
                Some((layout.fixmap.tramp_text - pages, text.start + (pages << self.state.granule().shift())))
            }
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => None,
        };
        if let Some((slot, pa)) = beside {
            let va = layout.fixmap.address(layout.fixaddr_top, slot);
            let (pa, attrs) = (pa.align_down(self.page()), self.state.prot(prot::PAGE_KERNEL_RO));
            self.map_page(va, pa, attrs, Area::Fixmap, &because(Reason::Born(Born::ReadOnly)))?;
        }
        Ok(())
    }

    /// The image window of the linear map is never written, whatever `rodata=` says.
    fn mark_linear_text_alias_ro(&mut self) -> Result<(), BootError> {
        self.protect_alias(image_start(self.config.era), "__init_begin")
    }

    /// The linear alias of a part of the image becomes read only.
    fn protect_alias(&mut self, start: &str, end: &str) -> Result<(), BootError> {
        let window = self.image.phys_range(start, end)?;
        let size = window.size().next_multiple_of(self.page());
        let range = VirtRange::of_size(self.state.linear(window.start), size);
        let Some(range) = range else { return Ok(()) };
        self.change(range, set_rights(prot::PAGE_KERNEL_RO), Cause::LinearAliasRo, false)
    }

    /// Init memory goes to the page allocator; its addresses in the image are unmapped, the tables stay.
    ///
    /// | era | the list of taken memory |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | keeps it |
    /// | 6.12, 7.2 | forgets it |
    fn free_initmem(&mut self) -> Result<(), BootError> {
        let Some(range) = self.image.range("__init_begin", "__init_end")? else { return Ok(()) };
        let memory = self.image.phys_range("__init_begin", "__init_end")?;
        match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
            Era::V6_12 | Era::V7_2 => self.memblock.free_kept(memory.start, memory.size())?,
        }
        self.tables.cursor(range).clear()?.forgive("no CPU of this machine has run init code");
        self.memblock.observer().changed(&Changed { range, cause: Cause::InitFreed, unmapped: true });
        self.release(memory, Freed::Init)?;
        Ok(())
    }

    /// The RAM disk is unpacked: its whole pages become free, and the list of taken memory forgets it.
    ///
    /// | era | the list forgets |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | every page that it touches |
    /// | 7.2 | its bytes |
    ///
    /// Source: Linux 5.10–7.2 init/initramfs.c `free_initrd_mem`; arch/arm64/mm/init.c up to 5.10.
    fn free_initrd(&mut self) -> Result<(), BootError> {
        let kept = ["retain_initrd", "keepinitrd"].iter().any(|word| self.config.cmdline.has(word));
        let Some(initrd) = self.state.initrd.filter(|_| !kept && self.config.kconfig.is_set("BLK_DEV_INITRD")) else {
            return Ok(());
        };
        let page = self.page();
        let (start, end) = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => {
                (initrd.start.align_down(page), initrd.end.align_up(page).unwrap_or(initrd.end))
            }
            Era::V7_2 => (initrd.start, initrd.end),
        };
        self.memblock.free_kept(start, end - start)?;
        self.release(initrd, Freed::Initrd)
    }

    /// Whole pages of `memory` become free, after the watermarks were computed; the log tells if there are some.
    fn release(&mut self, memory: PhysRange, what: Freed) -> Result<(), BootError> {
        let pages = self.nodes.release_whole_pages(memory, Moment::Later);
        if pages == 0 {
            return Ok(());
        }
        let page = self.page();
        let start = memory.start.align_up(page).unwrap_or(memory.start);
        self.frames.add(PhysRange::new(start, start + pages * page))?;
        self.memblock.observer().log(LogEntry::Freed { what, bytes: pages * page });
        Ok(())
    }

    /// Read-only data of the image loses its write rights, unless `rodata=off`.
    ///
    /// | era | as well |
    /// |---|---|
    /// | 4.14 (UNVERIFIED), 5.10, 6.1 | nothing |
    /// | 6.12 | the header in front of the text |
    /// | 7.2 | the header, and the linear alias of data and bss |
    fn mark_rodata_ro(&mut self) -> Result<(), BootError> {
        if self.rodata == Rodata::Off {
            return Ok(());
        }
        let with_head: &[_] = &[("_text", "_stext"), ("__start_rodata", "__init_begin")];
        let (ranges, with_alias) = match self.config.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => (&with_head[1..], false),
            Era::V6_12 => (with_head, false),
            Era::V7_2 => (with_head, true),
        };
        for (start, end) in ranges {
            let Some(range) = self.image.range(start, end)? else { continue };
            self.change(range, set_rights(prot::PAGE_KERNEL_RO), Cause::RodataRo, false)?;
        }
        if with_alias { self.protect_alias("__init_end", "__bss_stop") } else { Ok(()) }
    }

    fn change(&mut self, range: VirtRange, change: Change, cause: Cause, unmapped: bool) -> Result<(), BootError> {
        self.tables.cursor(range).protect(change)?.forgive("no CPU of this machine holds translations yet");
        self.memblock.observer().changed(&Changed { range, cause, unmapped });
        Ok(())
    }

    pub(super) fn map_page(
        &mut self,
        va: VirtAddr,
        pa: kernmem_base::PhysAddr,
        attrs: Arm64Attrs,
        area: Area,
        because: &[Reason],
    ) -> Result<(), BootError> {
        let page = self.page();
        let range = VirtRange { start: va, last: va + (page - 1) };
        let mapping = Mapping::<F>::new(pa, attrs, Sizes::PAGES).with_table_attrs(prot::table(self.config.era, false));
        self.tables.cursor(range).map(&mut self.frames, &mapping)?.forgive("nothing was mapped there");
        let edge = |at| Reason::Edge { bound: Bound::Object, at };
        let mut rights = because.to_vec();
        if attrs.0 & bit::NG != 0 {
            rights.extend(self.not_global);
        }
        self.memblock.observer().mapped(&Mapped {
            range,
            pa,
            area,
            start: edge(pa),
            end: edge(pa + page),
            limits: &[(Reason::PagesOnly, Sizes::PAGES)],
            rights: &rights,
        });
        Ok(())
    }
}

/// Replaces rights and memory type by those of `attrs`.
fn set_rights(attrs: Arm64Attrs) -> Change {
    const RIGHTS: u64 = bit::RDONLY | bit::DBM | bit::PXN | bit::ATTR_INDEX;
    Change { set: attrs.0 & RIGHTS, clear: RIGHTS }
}
