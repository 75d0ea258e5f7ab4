//! After the hand-over: vmalloc's tables, isolation, rights of parts of the image, freed parts.
//!
//! Source: Linux 6.1 init/main.c `start_kernel`, `kernel_init`; arch/x86/mm/init_64.c `mem_init`,
//! `preallocate_vmalloc_pages`, `mark_rodata_ro`; arch/x86/kernel/cpu/common.c `arch_cpu_finalize_init`;
//! arch/x86/realmode/init.c `set_real_mode_permissions`.

use alloc::vec::Vec;

use kernmem_arch::x86::cpa::{AliasFacts, Protections};
use kernmem_arch::x86::image::{
    FreeFacts, FreedPart, ImageSymbols, Trampoline, forces_page_zero, idt_step, page_zero_step, rodata_steps,
    trampoline_steps,
};
use kernmem_arch::x86::prot::{CpuFacts, Prot, table};
use kernmem_arch::x86::{X86, cpu_entry_area, prealloc};
use kernmem_arch::{Born, Bound, Reason};
use kernmem_base::{PhysMem, PhysRange, VirtRange};
use kernmem_config::{Config, Rodata};
use kernmem_memblock::{HandedOver, VecArray};
use kernmem_pgtable::{Mapping, Sizes};
use kernmem_sparse::{Sections, VecStore};

use super::State;
use super::boot::{Booting, KernelTables, PAGE, finish};
use super::entry_area::{set_page, tell};
use super::mm_init::Prepared;
use super::nodes::Brought;
use crate::hand_over::hand_over;
use crate::managed::Moment;
use crate::pc::cpus::smp_locks_are_freed;
use crate::pc::given::{Giving, Milestone, what};
use crate::pc::lacking;
use crate::takers::gigantic::GiganticPool;
use crate::takers::hash_tables;
use crate::zones::Nodes;
use crate::{Area, Boot, BootError, BootPages, Freed, Image, Kept, Kernel, Mapped, Roots, Witness};

/// The steps after the hand-over.
pub(super) struct Late<'c, 'm, M, W, const LEVELS: usize> {
    pub config: &'c Config,
    pub cpu: CpuFacts,
    pub image: Image<'c>,
    pub symbols: ImageSymbols,
    pub tables: KernelTables<'m, M, LEVELS>,
    pub memblock: HandedOver<VecArray, W>,
    pub frames: BootPages,
    pub nodes: Nodes,
    pub state: State,
    pub protections: Protections,
    pub aliases: AliasFacts,
    pub cpus: u32,
}

/// What goes into the kernel as it is.
pub(super) struct Parts<W> {
    pub memblock: HandedOver<VecArray, W>,
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
    pub frames: BootPages,
    pub gigantic: Vec<GiganticPool>,
}

/// Hands memory over and takes the last steps.
pub(super) fn run<'m, M: PhysMem, W: Witness, const LEVELS: usize>(
    booting: Booting<'m, '_, M, W, LEVELS>,
    Brought { sections, mut nodes }: Brought,
    prepared: Prepared,
    boot: &Boot<'_>,
) -> Result<Kernel<'m, M, W>, BootError> {
    let Booting { mem, config, cpu, image, symbols, tables, memblock, state, cpus, initrd, .. } = booting;
    let (memblock, frames) = hand_over(memblock, &mut nodes, boot)?;
    let protections = protections(&image, &symbols);
    let aliases = AliasFacts {
        page_offset: state.layout.page_offset,
        mapped_end: state.mapped_end(),
        image: VirtRange { start: symbols.text, last: symbols.brk_end - 1 },
        image_frames: frames_of(&image, symbols.kept()),
    };
    let mut late =
        Late { config, cpu, image, symbols, tables, memblock, frames, nodes, state, protections, aliases, cpus };
    if boot.preallocates {
        late.preallocate_vmalloc()?;
    }
    late.tell_memory(Milestone::HandOver);
    late.first_stack()?;
    late.pti_init()?;
    late.protect_idt()?;
    late.free_smp_locks(Milestone::OneCpu)?;
    late.split_page_zero()?;
    hash_tables::late(config, &prepared.hashes, late.memblock.observer());
    late.tell_memory(Milestone::AllCpus);
    late.giving().discard_lists()?;
    late.free_smp_locks(Milestone::AllCpus)?;
    late.protect_trampoline()?;
    late.gather_gigantic(&prepared.gigantic)?;
    let place =
        |range: PhysRange| Some((VirtRange::of_size(late.state.layout.direct(range.start), range.size())?, range));
    let initrd = initrd.and_then(place);
    if let Some((_, memory)) = initrd.filter(|_| !config.cmdline.has("retain_initrd")) {
        late.fill(memory)?;
    }
    late.giving().unpack(initrd, prepared.bounce)?;
    late.free(FreedPart::Init, Moment::Later)?;
    late.mark_rodata_ro()?;
    late.pti_finalize()?;
    late.frames.settle(&late.nodes, boot);
    let roots = Roots { kernel: late.tables.root(), user: late.user_root(), idmap: None };
    let gigantic = prepared.gigantic;
    let parts = Parts { memblock: late.memblock, sections, nodes: late.nodes, frames: late.frames, gigantic };
    Ok(finish(mem, config.era, late.state, roots, parts))
}

fn protections(image: &Image<'_>, symbols: &ImageSymbols) -> Protections {
    let between = |start, end| VirtRange { start, last: end - 1 };
    Protections {
        text: between(symbols.text, symbols.etext),
        text_and_rodata: between(symbols.text, symbols.end_rodata_hpage_align),
        rodata: frames_of(image, between(symbols.start_rodata, symbols.end_rodata)),
        rodata_is_readonly: false,
        pci_bios: false,
    }
}

fn frames_of(image: &Image<'_>, range: VirtRange) -> PhysRange {
    PhysRange::new(image.phys_of(range.start), image.phys_of(range.last) + 1)
}

impl<M: PhysMem, W: Witness, const LEVELS: usize> Late<'_, '_, M, W, LEVELS> {
    /// The tables below the root for all of vmalloc, so that no root needs to be told of new ones.
    fn preallocate_vmalloc(&mut self) -> Result<(), BootError> {
        let Some(slots) = prealloc::vmalloc_slots(&self.state.layout) else { return Ok(()) };
        for va in slots.addresses(&self.state.layout) {
            self.tables.make_table(va, slots.level, table::PAGE, &mut self.frames).map_err(BootError::Map)?;
        }
        Ok(())
    }

    /// The first area of vmalloc: a kernel stack, so that its tables exist.
    fn first_stack(&mut self) -> Result<(), BootError> {
        let (start, bytes) = (self.state.layout.vmalloc_start, self.state.layout.thread_size);
        self.populate_vmalloc_shadow(VirtRange { start, last: start + (bytes + PAGE - 1) })?;
        let attrs = self.state.masks.kernel(self.config.era, Prot::Kernel);
        let mut rights = Vec::from([Reason::Born(Born::Data)]);
        rights.extend(lacking(self.state.pti, self.cpu));
        for offset in (0..bytes).step_by(PAGE as usize) {
            let Some(pa) = self.frames.page() else { return Ok(()) };
            let va = start + offset;
            let range = VirtRange { start: va, last: va + (PAGE - 1) };
            let mapping = Mapping::<X86<LEVELS>>::new(pa, attrs, Sizes::PAGES).with_table_attrs(table::PAGE);
            self.tables.cursor(range).map(&mut self.frames, &mapping)?.forgive("nothing was mapped there");
            let edge = |at| Reason::Edge { bound: Bound::Object, at };
            self.memblock.observer().mapped(&Mapped {
                range,
                pa,
                area: Area::Vmalloc,
                start: edge(pa),
                end: edge(pa + PAGE),
                limits: &[(Reason::PagesOnly, Sizes::PAGES)],
                rights: &rights,
            });
        }
        Ok(())
    }

    /// The interrupt descriptor table: read only in the entry areas, then in the image.
    fn protect_idt(&mut self) -> Result<(), BootError> {
        let pa = self.image.phys_of(self.symbols.idt_table);
        let kind = cpu_entry_area::Kind::Ro;
        let attrs = cpu_entry_area::attrs(kind, self.config.era, self.state.masks, self.cpu.pge);
        if let Some(attrs) = attrs {
            let va = cpu_entry_area::RO_IDT;
            set_page(&mut self.tables, &mut self.frames, self.state.masks, va, (pa, attrs)).map_err(BootError::Map)?;
            let lacking = lacking(self.state.pti, self.cpu);
            tell(self.memblock.observer(), va, pa, 1, Born::ReadOnly, &lacking);
        }
        let step = idt_step(self.config.era, &self.symbols);
        self.change(&step)
    }

    /// Lock prefixes are freed once it is known that several CPUs run.
    fn free_smp_locks(&mut self, now: Milestone) -> Result<(), BootError> {
        match smp_locks_are_freed(self.config, self.cpus, now) {
            Some(moment) => self.free(FreedPart::SmpLocks, moment),
            None => Ok(()),
        }
    }

    /// Page 0 becomes small.
    fn split_page_zero(&mut self) -> Result<(), BootError> {
        if forces_page_zero(self.state.gbpages) {
            self.change_with(&page_zero_step(self.config.era, self.state.layout.page_offset), true)?;
        }
        Ok(())
    }

    fn protect_trampoline(&mut self) -> Result<(), BootError> {
        let size = |name, usual| self.config.sizes.get(name).unwrap_or(usual);
        let trampoline = Trampoline {
            start: self.state.layout.direct(self.state.trampoline.start),
            bytes: self.state.trampoline.size(),
            text_start: size("real_mode_text_start", PAGE),
            ro_end: size("real_mode_ro_end", 2 * PAGE),
        };
        for step in trampoline_steps(self.config.era, &trampoline) {
            self.change(&step)?;
        }
        Ok(())
    }

    fn free(&mut self, part: FreedPart, moment: Moment) -> Result<(), BootError> {
        let facts = FreeFacts { pti: self.state.pti, debug_pagealloc: self.config.debug_pagealloc().value };
        for step in part.steps(&self.symbols, facts) {
            self.change(&step)?;
        }
        if let Some(range) = part.range(&self.symbols) {
            let memory = frames_of(&self.image, range);
            self.release(range, memory, what(part), moment)?;
        }
        Ok(())
    }

    /// The page allocator and its books.
    fn giving(&mut self) -> Giving<'_, W> {
        let Self { config, memblock, frames, nodes, .. } = self;
        Giving { config, memblock, frames, nodes }
    }

    /// Memory as the log tells it.
    fn tell_memory(&mut self, now: Milestone) {
        let image = self.image;
        self.giving().tell_memory(&image, now);
    }

    /// Gigantic pages count as managed once their pool is filled.
    fn gather_gigantic(&mut self, pools: &[GiganticPool]) -> Result<(), BootError> {
        for pool in pools {
            for page in &pool.pages {
                let range = PhysRange::new(*page, *page + pool.size);
                self.nodes.release_whole_pages(range, Moment::BeforeWatermarks);
                self.frames.adopt(range)?;
            }
        }
        self.optimise_gigantic(pools)
    }

    /// Whole pages of the RAM disk or of the image become free; what is freed is filled with a pattern through the direct
    /// map.
    fn release(&mut self, range: VirtRange, memory: PhysRange, what: Freed, moment: Moment) -> Result<(), BootError> {
        self.fill(memory)?;
        self.giving().release(range, memory, what, moment)
    }

    fn fill(&mut self, memory: PhysRange) -> Result<(), BootError> {
        let direct = VirtRange::of_size(self.state.layout.direct(memory.start), memory.size());
        match direct.filter(|_| !self.config.debug_pagealloc().value) {
            Some(direct) => self.write(direct),
            None => Ok(()),
        }
    }

    fn mark_rodata_ro(&mut self) -> Result<(), BootError> {
        let [read_only, no_exec] = rodata_steps(self.config.era, &self.symbols);
        if self.config.rodata().value == Rodata::Off {
            self.keep_rights(read_only.range, no_exec.range);
            return Ok(());
        }
        self.change(&read_only)?;
        self.protections.rodata_is_readonly = true;
        self.change(&no_exec)?;
        self.free(FreedPart::TextGap, Moment::Later)?;
        self.free(FreedPart::RodataGap, Moment::Later)
    }

    /// Tells what stays writable in both maps, and executable in the image's own, but for what was freed before.
    fn keep_rights(&mut self, writable: VirtRange, executable: VirtRange) {
        let direct = self.state.layout.direct(self.image.phys_of(writable.start));
        let mut ranges = Vec::from([writable]);
        ranges.extend(VirtRange::of_size(direct, writable.size()));
        if self.cpu.nx {
            let mut at = executable.start;
            for freed in [FreedPart::Init, FreedPart::SmpLocks].iter().filter_map(|part| part.range(&self.symbols)) {
                ranges.extend(VirtRange::until(at, freed.start).filter(|_| at < freed.start));
                at = freed.end();
            }
            ranges.extend(VirtRange::until(at, executable.end()).filter(|_| at < executable.end()));
        }
        for range in ranges {
            self.memblock.observer().kept(&Kept { range, reason: Reason::RodataOff });
        }
    }
}
