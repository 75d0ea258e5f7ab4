//! Document 004: how processes of i386 come to see a new area of vmalloc, on the tables of a booted kernel that does not
//! run: its roots and areas are made here.

use kernmem::Isa;
use kernmem_arch::i386::layout::Paging;
use kernmem_arch::x86::prot::{Prot, table};
use kernmem_arch::{UserFormat, WithFormat};
use kernmem_base::{Era, Granule, Level, NoTlb, Pfn, PhysAddr, PhysRange, VirtAddr, VirtRange};
use kernmem_mm::{History, KernelHandled, KernelPmds, KernelSharing, SharingCounts, UserRoot, shared_kernel_pmd};
use kernmem_page_alloc::pool::FramePool;
use kernmem_pgtable::{Tables, Walk, translate};
use kernmem_sim::Memory;
use kernmem_vmalloc::{Caller, Early, Env, Huge, Modified, Request, Rules, VecStore, Vmalloc};

use crate::bench::{Bench, Booted, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const BACK_TO_THE_LIST: ClaimId = ClaimId::new(4, 6);

pub(crate) const LAB: Lab = Lab {
    name: "vmalloc-sync-i386",
    title: Text::VmallocSyncI386Title,
    reverse: Text::VmallocSyncI386Reverse,
    claims: &[BACK_TO_THE_LIST],
    run,
};

/// Processes that are older than the areas.
const OLD: usize = 1000;
/// Of these, every how manyth reads the areas.
const EVERY: usize = 10;
/// Processes that are younger.
const YOUNG: usize = 24;
/// Areas.
const AREAS: usize = 8;
const PAGE: u64 = 4096;
/// Frames for roots, their PMD tables, areas and tables.
const FRAMES: u64 = 2200;

/// How the processes follow.
#[derive(Clone, Copy)]
struct Plan {
    /// All link the kernel's PMD table.
    is_shared: bool,
    sharing: KernelSharing,
    history: History,
    /// Areas lie apart, each below a PMD entry of its own.
    apart: bool,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
struct Outcome {
    counts: SharingCounts,
    /// Reads of areas by old and young processes.
    reads: u64,
    /// Of these, those that fault for good.
    lost: u64,
    /// Roots on the list in the end.
    listed: u64,
}

/// What the machine's processes have.
#[derive(Clone, Copy)]
struct Facts {
    pae: bool,
    pti: bool,
}

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("i386-2g"))?.of_i386(LAB.name)?;
    book.claim(BACK_TO_THE_LIST, Text::BackToTheListClaim)?;
    let facts = bench.boot(|booted| Facts::of(booted))?;
    let apart = !options.reverse;
    let plan = Plan { is_shared: false, sharing: KernelSharing::AtMapping, history: History::Right, apart };
    let at_mapping = plan.run(&bench)?;
    book.say(
        Text::I386Setup,
        &[
            ("pae", Value::Truth(facts.pae)),
            ("pti", Value::Truth(facts.pti)),
            ("old", Value::Count(OLD as u64)),
            ("areas", Value::Count(AREAS as u64)),
            ("young", Value::Count(YOUNG as u64)),
            ("reads", Value::Count(at_mapping.reads)),
        ],
    )?;
    book.say(
        Text::I386AtMapping,
        &[
            ("walks", Value::Count(at_mapping.counts.list_walks)),
            ("visited", Value::Count(at_mapping.counts.roots_visited)),
            ("copied", Value::Count(at_mapping.counts.entries_copied)),
            ("lost", Value::Count(at_mapping.lost)),
        ],
    )?;
    let on_fault = Plan { sharing: KernelSharing::OnFault, ..plan }.run(&bench)?;
    let none = Plan { history: History::NoWay, ..plan }.run(&bench)?;
    book.say(
        Text::I386OnFault,
        &[
            ("faults", Value::Count(on_fault.counts.faults)),
            ("fault_copied", Value::Count(on_fault.counts.entries_copied)),
            ("fault_lost", Value::Count(on_fault.lost)),
            ("none_lost", Value::Count(none.lost)),
        ],
    )?;
    if facts.pae {
        let shared = Plan { is_shared: true, ..plan }.run(&bench)?;
        book.say(
            Text::I386Shared,
            &[
                ("listed", Value::Count(shared.listed)),
                ("shared_walks", Value::Count(shared.counts.list_walks)),
                ("shared_copied", Value::Count(shared.counts.entries_copied)),
                ("shared_lost", Value::Count(shared.lost)),
            ],
        )?;
    }
    let works = at_mapping.lost + on_fault.lost == 0;
    let costs = at_mapping.counts.entries_copied > 0;
    for era in bench.eras() {
        book.conclude(era, judge(facts, era, works, costs))?;
    }
    Ok(())
}

fn judge(facts: Facts, era: Era, works: bool, costs: bool) -> Holds {
    let is_shared = shared_kernel_pmd(era, facts.pae, facts.pti);
    match (KernelSharing::of_i386(era), works, costs) {
        (_, false, _) => Holds::No(Text::StillLost),
        (KernelSharing::AtMapping, true, _) if is_shared => Holds::OnlyIf(Text::OwnPmds),
        (KernelSharing::AtMapping, true, true) => Holds::Yes,
        (KernelSharing::AtMapping, true, false) => Holds::OnlyIf(Text::NewPmdEntry),
        (_, true, _) => Holds::No(Text::FaultsAlone),
    }
}

impl Facts {
    fn of(booted: &Booted<'_>) -> Result<Self, LabError> {
        match &booted.kernel.isa {
            Isa::I386(state) => Ok(Self { pae: state.layout.paging == Paging::Pae, pti: state.pti }),
            _ => Err(LabError::Missing("tables of i386")),
        }
    }
}

impl Plan {
    /// Runs the plan on a kernel that has just booted.
    fn run(self, bench: &Bench) -> Result<Outcome, LabError> {
        bench.boot(|booted| {
            let Isa::I386(state) = &booted.kernel.isa else { return Err(LabError::Missing("tables of i386")) };
            let vmalloc = VirtRange { start: state.layout.vmalloc_start(), last: state.layout.vmalloc_end - 1 };
            let free = free_frames(booted)?;
            let play = Play {
                plan: self,
                mem: booted.memory,
                reference: booted.kernel_root()?,
                era: bench.era(),
                vmalloc,
                data: state.masks.kernel(bench.era(), Prot::Kernel).0,
                pool: FramePool::new(Granule::K4, free.start.pfn(Granule::K4), free.end.pfn(Granule::K4)),
            };
            state.format.with(play)
        })
    }
}

/// Frames of low memory that boot left alone.
fn free_frames(booted: &Booted<'_>) -> Result<PhysRange, LabError> {
    let reserved: Vec<PhysRange> = booted.kernel.memblock.reserved().regions().iter().map(|one| one.range()).collect();
    let fits = |start: PhysAddr| {
        let range = PhysRange::new(start, start + FRAMES * PAGE);
        let is_memory = booted.banks().iter().any(|bank| bank.start <= range.start && range.end <= bank.end);
        let is_free = reserved.iter().all(|other| other.end <= range.start || range.end <= other.start);
        (is_memory && is_free).then_some(range)
    };
    let above = PhysAddr(16 << 20); // what devices reach is left alone
    let ends = reserved.iter().filter_map(|one| one.end.align_up(PAGE)).filter(|end| *end >= above);
    core::iter::once(above).chain(ends).find_map(fits).ok_or(LabError::Missing("free memory"))
}

/// A plan on one kernel's tables.
struct Play<'m> {
    plan: Plan,
    mem: &'m Memory,
    reference: PhysAddr,
    era: Era,
    vmalloc: VirtRange,
    data: u64,
    pool: FramePool,
}

impl WithFormat for Play<'_> {
    type Output = Result<Outcome, LabError>;

    fn run<F: UserFormat>(mut self) -> Self::Output {
        let Plan { is_shared, sharing, history, .. } = self.plan;
        let mut kernel =
            KernelPmds::<F, _>::new(self.reference, is_shared, sharing, self.vmalloc, Vec::new()).with_history(history);
        let mut areas = self.vmalloc_areas()?;
        let places = self.places::<F>()?;
        if !self.plan.apart {
            // The one PMD entry that all areas use is there before the first process.
            self.vmalloc::<F>(&mut areas, &mut kernel, places[0])?;
        }
        let old = self.spawn(&mut kernel, OLD)?;
        let made = places.iter().map(|&place| self.vmalloc::<F>(&mut areas, &mut kernel, place));
        let made: Vec<VirtAddr> = made.collect::<Result<_, _>>()?;
        let young = self.spawn(&mut kernel, YOUNG)?;
        let mut outcome = Outcome::default();
        for root in old.iter().step_by(EVERY).chain(&young) {
            for &va in &made {
                outcome.reads += 1;
                outcome.lost += u64::from(!self.sees(&mut kernel, root.pa(), va));
            }
        }
        (outcome.counts, outcome.listed) = (kernel.counts(), kernel.roots().count() as u64);
        for root in old.into_iter().chain(young) {
            kernel.free_root(self.mem, &mut self.pool, root)?;
        }
        Ok(outcome)
    }
}

impl Play<'_> {
    fn vmalloc_areas(&self) -> Result<Vmalloc<VecStore>, LabError> {
        let rules = Rules {
            era: self.era,
            granule: Granule::K4,
            start: self.vmalloc.start,
            end: self.vmalloc.last + 1,
            online_cpus: 1,
            online_nodes: 1,
            ioremap_max_order: 12,
            max_page_order: 10,
            huge: Huge { pud: false, pmd: false, vmalloc: false, io: false },
        };
        let early = Early::new(VecStore::new(), rules).map_err(|_| LabError::Missing("range of vmalloc"))?;
        early.init().map_err(|_| LabError::Missing("range of vmalloc"))
    }

    /// Where the areas may lie: each below a PMD entry that is empty, or all below the first of these.
    fn places<F: UserFormat>(&self) -> Result<[VirtRange; AREAS], LabError> {
        let step = 1_u64 << F::shape().level(Level::Pmd).shift;
        let first = self.vmalloc.start.0.next_multiple_of(step);
        let steps = (first..=self.vmalloc.last.0).step_by(step as usize).map(VirtAddr);
        let is_empty =
            |va: &VirtAddr| translate::<F, _>(self.mem, self.reference, *va) == Ok(Walk::Hole { level: Level::Pmd });
        let mut empty = steps.filter(is_empty).map(|start| VirtRange { start, last: start + (step - 1) });
        let mut places = [VirtRange::ALL; AREAS];
        for at in 0..AREAS {
            places[at] = if at == 0 || self.plan.apart {
                empty.next().ok_or(LabError::Missing("empty PMD entries in vmalloc's range"))?
            } else {
                places[0]
            };
        }
        Ok(places)
    }

    fn spawn<F: UserFormat>(
        &mut self,
        kernel: &mut KernelPmds<F, Vec<PhysAddr>>,
        count: usize,
    ) -> Result<Vec<UserRoot>, LabError> {
        let make = |_| kernel.new_root(self.mem, &mut self.pool).map_err(|_| LabError::Missing("memory for roots"));
        (0..count).map(make).collect()
    }

    /// An area of a page in `place`; if a PMD entry was written for it, the roots follow.
    fn vmalloc<F: UserFormat>(
        &mut self,
        areas: &mut Vmalloc<VecStore>,
        kernel: &mut KernelPmds<F, Vec<PhysAddr>>,
        place: VirtRange,
    ) -> Result<VirtAddr, LabError> {
        let end = place.last.min(self.vmalloc.last) + 1;
        let request = Request { start: place.start, end, ..areas.request(PAGE, Caller(0)) };
        let mut tables = Tables::<F, _>::new(self.mem, self.reference);
        let mut env = Env {
            tables: &mut tables,
            pages: &mut self.pool,
            tlb: &mut NoTlb,
            trace: &mut (),
            list: &mut [Pfn(0)],
            prot: F::attrs(self.data),
            table_attrs: F::attrs(table::PAGE.0),
            total_pages: FRAMES,
            modified: Modified::default(),
        };
        let va = areas.vmalloc_node_range(&mut env, &request).map_err(|_| LabError::Missing("room for an area"))?;
        if env.modified.contains(Level::Pmd) {
            let area = VirtRange { start: va, last: va + (PAGE - 1) };
            kernel.follow(self.mem, area).map_err(|_| LabError::Missing("roots that agree"))?;
        }
        Ok(va)
    }

    /// Whether the kernel, running with `root`, reaches what its own root maps at `va`, if need be by a fault.
    fn sees<F: UserFormat>(&self, kernel: &mut KernelPmds<F, Vec<PhysAddr>>, root: PhysAddr, va: VirtAddr) -> bool {
        let walk = |root| translate::<F, _>(self.mem, root, va);
        if !matches!(walk(root), Ok(Walk::Mapped { .. })) {
            match kernel.vmalloc_fault(self.mem, root, va) {
                Ok(KernelHandled::Copied) => {}
                Ok(KernelHandled::Spurious) | Err(_) => return false,
            }
        }
        walk(root) == walk(self.reference)
    }
}
