//! After the hand-over: isolation, rights of parts of the image, freed parts.
//!
//! Source: Linux 6.1 init/main.c `start_kernel`, `kernel_init`; arch/x86/mm/init_32.c `mem_init`, `mark_rodata_ro`;
//! arch/x86/kernel/cpu/common.c `arch_cpu_finalize_init`; arch/x86/realmode/init.c `set_real_mode_permissions`.

use alloc::vec::Vec;

use kernmem_arch::i386::{I386Format, cpu_entry_area as cea};
use kernmem_arch::x86::bit;
use kernmem_arch::x86::cpa::{Masking, Protections};
use kernmem_arch::x86::cpu_entry_area;
use kernmem_arch::x86::image::{FreeFacts, FreedPart, ImageStep, ImageSymbols, Trampoline, idt_step, trampoline_steps};
use kernmem_arch::x86::prot::{CpuFacts, Prot, table};
use kernmem_arch::{Born, Bound, Change, Reason};
use kernmem_base::{PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_config::{Config, Rodata};
use kernmem_memblock::{HandedOver, VecArray};
use kernmem_pgtable::{Mapping, Sizes, Tables};
use kernmem_sparse::{Sections, VecStore};

use super::State;
use super::boot::{Booting, PAGE, finish};
use super::entry_area::set_page;
use super::mm_init::Prepared;
use super::zones::Brought;
use crate::cpa::{self, Cpa};
use crate::hand_over::hand_over;
use crate::managed::Moment;
use crate::pc::cpus::smp_locks_are_freed;
use crate::pc::given::{Giving, Milestone, what};
use crate::pc::lacking;
use crate::takers::hash_tables;
use crate::x86::tell_entry_area;
use crate::zones::Nodes;
use crate::{Area, Boot, BootError, BootPages, Image, Kept, Kernel, Mapped, Roots, Witness};

/// The steps after the hand-over.
pub(super) struct Late<'c, 'm, F, M, W> {
    pub config: &'c Config,
    pub cpu: CpuFacts,
    pub image: Image<'c>,
    pub symbols: ImageSymbols,
    pub tables: Tables<'m, F, M>,
    pub memblock: HandedOver<VecArray, W>,
    pub frames: BootPages,
    pub nodes: Nodes,
    pub state: State,
    pub protections: Protections,
    pub cpus: u32,
}

/// What goes into the kernel as it is.
pub(super) struct Parts<W> {
    pub memblock: HandedOver<VecArray, W>,
    pub sections: Sections<VecStore>,
    pub nodes: Nodes,
    pub frames: BootPages,
}

/// Hands memory over and takes the last steps.
pub(super) fn run<'m, F: I386Format, M: PhysMem, W: Witness>(
    booting: Booting<'m, '_, F, M, W>,
    Brought { sections, mut nodes }: Brought,
    prepared: Prepared,
    boot: &Boot<'_>,
) -> Result<Kernel<'m, M, W>, BootError> {
    let Booting { mem, config, cpu, image, symbols, tables, memblock, state, cpus, initrd, .. } = booting;
    let (memblock, frames) = hand_over(memblock, &mut nodes, boot)?;
    let protections = protections(config, &image, &symbols);
    let mut late = Late { config, cpu, image, symbols, tables, memblock, frames, nodes, state, protections, cpus };
    late.tell_memory(Milestone::HandOver);
    late.first_area()?;
    late.pti_init()?;
    late.protect_idt()?;
    late.free_smp_locks(Milestone::OneCpu)?;
    hash_tables::late(config, &prepared.hashes, late.memblock.observer());
    late.tell_memory(Milestone::AllCpus);
    late.giving().discard_lists()?;
    late.free_smp_locks(Milestone::AllCpus)?;
    late.protect_trampoline()?;
    let place =
        |range: PhysRange| Some((VirtRange::of_size(late.state.layout.direct(range.start), range.size())?, range));
    let initrd = initrd.and_then(place);
    late.giving().unpack(initrd, prepared.bounce)?;
    late.free(FreedPart::Init, Moment::Later)?;
    late.mark_rodata_ro()?;
    late.pti_finalize()?;
    late.frames.settle(&late.nodes, boot);
    let roots = Roots { kernel: late.tables.root(), user: late.user_root(), idmap: None };
    let parts = Parts { memblock: late.memblock, sections, nodes: late.nodes, frames: late.frames };
    Ok(finish(mem, config.era, late.state, roots, parts))
}

fn protections(config: &Config, image: &Image<'_>, symbols: &ImageSymbols) -> Protections {
    let between = |start, end| VirtRange { start, last: end - 1 };
    Protections {
        text: between(symbols.text, symbols.etext),
        text_and_rodata: between(symbols.text, symbols.end_rodata),
        rodata: frames_of(image, between(symbols.start_rodata, symbols.end_rodata)),
        rodata_is_readonly: false,
        pci_bios: config.kconfig.is_set("PCI_BIOS"),
    }
}

fn frames_of(image: &Image<'_>, range: VirtRange) -> PhysRange {
    PhysRange::new(image.phys_of(range.start), image.phys_of(range.last) + 1)
}

impl<F: I386Format, M: PhysMem, W: Witness> Late<'_, '_, F, M, W> {
    /// Takes one step; the image has no second map.
    pub(super) fn change(&mut self, step: &ImageStep) -> Result<(), BootError> {
        let touched = Cpa {
            tables: &mut self.tables,
            frames: &mut self.frames,
            era: self.config.era,
            masks: self.state.masks,
            protections: &self.protections,
            aliases: None,
            mapped: &self.state.mapped,
            counters: &mut self.state.counters,
        }
        .change(step, false)?;
        cpa::tell(touched, step.cause, step.change.clear & bit::PRESENT != 0, self.memblock.observer());
        Ok(())
    }

    /// The first area of vmalloc: what the first terminal keeps, so that its table exists.
    fn first_area(&mut self) -> Result<(), BootError> {
        const TERMINAL_PAGES: u64 = 3;
        let start = self.state.layout.vmalloc_start();
        let attrs = self.state.masks.kernel(self.config.era, Prot::Kernel);
        let mut rights = Vec::from([Reason::Born(Born::Data)]);
        rights.extend(lacking(self.state.pti, self.cpu));
        for page in 0..TERMINAL_PAGES {
            let Some(pa) = self.frames.page() else { return Ok(()) };
            let va = start + page * PAGE;
            let range = VirtRange { start: va, last: va + (PAGE - 1) };
            let mapping = Mapping::<F>::new(pa, attrs, Sizes::PAGES).with_table_attrs(table::PAGE);
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
        let (kind, masks) = (cpu_entry_area::Kind::Ro, self.state.masks);
        if let Some(attrs) = cpu_entry_area::attrs(kind, self.config.era, masks, self.cpu.pge) {
            let va = cea::ro_idt(self.state.layout.cpu_entry_area);
            set_page(&mut self.tables, &mut self.frames, masks, va, (pa, attrs)).map_err(BootError::Map)?;
            let lacking = lacking(self.state.pti, self.cpu);
            tell_entry_area(self.memblock.observer(), va, pa, 1, Born::ReadOnly, &lacking);
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

    /// Frees a part of the image; it stays mapped also under isolation.
    fn free(&mut self, part: FreedPart, moment: Moment) -> Result<(), BootError> {
        let facts = FreeFacts { pti: false, debug_pagealloc: self.config.debug_pagealloc().value };
        for step in part.steps(&self.symbols, facts) {
            self.change(&step)?;
        }
        if let Some(range) = part.range(&self.symbols) {
            let memory = frames_of(&self.image, range);
            self.giving().release(range, memory, what(part), moment)?;
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

    /// Text and read-only data become read only; what lies behind the text, up to the end of the leaf behind init memory,
    /// becomes not executable.
    fn mark_rodata_ro(&mut self) -> Result<(), BootError> {
        let large = F::PAGING.large();
        let up = |va: VirtAddr| VirtAddr(va.0.next_multiple_of(PAGE));
        let between = |start, end: VirtAddr| VirtRange { start, last: end - 1 };
        let read_only = between(up(self.symbols.text), self.symbols.end_rodata);
        let no_exec = between(up(self.symbols.etext), (self.symbols.init_end + large).align_down(large));
        if self.config.rodata().value == Rodata::Off {
            for range in [read_only].into_iter().chain(self.cpu.nx.then_some(no_exec)) {
                self.memblock.observer().kept(&Kept { range, reason: Reason::RodataOff });
            }
            return Ok(());
        }
        let step = |range, change, cause| ImageStep { range, change, aliases: false, cause };
        self.change(&step(read_only, Masking::ro(self.config.era), Change::RodataRo))?;
        self.protections.rodata_is_readonly = true;
        self.change(&step(no_exec, Masking::NX, Change::TextNx))
    }
}
