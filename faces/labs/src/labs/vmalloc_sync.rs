//! Document 004: how processes of x86-64 come to see a new area of vmalloc, in three ways and with two mistakes.

use core::sync::atomic::{AtomicU64, Ordering};

use kernmem::running::{Pid, ProcessError};
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::x86::prealloc::synchronised_level;
use kernmem_base::{Asid, Cpu, CpuId, Half, PhysAddr, PhysMem, Privilege, VirtAddr};
use kernmem_live::{Live, LiveError, Options};
use kernmem_mm::{History, KernelFault, KernelSharing, SharingCounts};

use super::preallocate::{layout_of, vmalloc_in};
use crate::bench::{Bench, Own};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const ON_DEMAND: ClaimId = ClaimId::new(4, 1);
const AT_BOOT: ClaimId = ClaimId::new(4, 2);

pub(crate) const LAB: Lab = Lab {
    name: "vmalloc-sync",
    title: Text::VmallocSyncTitle,
    reverse: Text::VmallocSyncReverse,
    claims: &[ON_DEMAND, AT_BOOT],
    run,
};

const CPU: CpuId = CpuId(0);
/// Processes that are older than the areas.
const OLD: u64 = 1000;
/// Of these, every how manyth reads the areas.
const EVERY: usize = 10;
/// Processes that are younger.
const YOUNG: u64 = 24;
/// Areas.
const AREAS: u64 = 8;
/// Processes of the runs that go wrong.
const FEW: u64 = 10;
/// Two interrupt vectors of real mode, as a BIOS leaves them in frame 0: offset, then segment F000.
const VECTORS: u64 = 0xf000_ff53_f000_ff53;

/// What is run.
#[derive(Clone, Copy)]
struct Plan {
    sharing: KernelSharing,
    history: History,
    old: u64,
    every: usize,
    /// Areas lie apart, each below a top-level entry of its own.
    apart: bool,
    /// The first word of frame 0.
    frame_0: u64,
}

/// What came of it.
#[derive(Clone, Copy, Default)]
struct Outcome {
    /// Tables made before the first process.
    tables: u64,
    counts: SharingCounts,
    /// Reads of areas by old processes.
    reads: u64,
    /// Of these, those that fault for good.
    lost: u64,
    /// Faults of the young, mended or not.
    young_faults: u64,
}

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("x86-4g"))?.of_x86(LAB.name)?;
    let plan = Plan {
        sharing: KernelSharing::OnFault,
        history: History::Right,
        old: OLD,
        every: EVERY,
        apart: !options.reverse,
        frame_0: 0,
    };
    on_demand(&bench, plan, book)?;
    at_boot(&bench, plan, book)
}

fn on_demand(bench: &Bench, plan: Plan, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(ON_DEMAND, Text::OnDemandClaim)?;
    let on_fault = plan.run(bench)?;
    book.say(
        Text::SyncSetup,
        &[
            ("old", Value::Count(plan.old)),
            ("areas", Value::Count(AREAS)),
            ("young", Value::Count(YOUNG)),
            ("readers", Value::Count(plan.old / plan.every as u64)),
            ("reads", Value::Count(on_fault.reads)),
        ],
    )?;
    book.say(
        Text::OnFaultWay,
        &[
            ("faults", Value::Count(on_fault.counts.faults)),
            ("copied", Value::Count(on_fault.counts.entries_copied)),
            ("walks", Value::Count(on_fault.counts.list_walks)),
            ("young_faults", Value::Count(on_fault.young_faults)),
        ],
    )?;
    let at_mapping = Plan { sharing: KernelSharing::AtMapping, ..plan }.run(bench)?;
    book.say(
        Text::AtMappingWay,
        &[
            ("sync_walks", Value::Count(at_mapping.counts.list_walks)),
            ("visited", Value::Count(at_mapping.counts.roots_visited)),
            ("sync_copied", Value::Count(at_mapping.counts.entries_copied)),
            ("sync_faults", Value::Count(at_mapping.counts.faults)),
        ],
    )?;
    let each_pays = on_fault.counts.faults > 0 && on_fault.counts.faults == on_fault.counts.entries_copied;
    let works = on_fault.lost == 0 && at_mapping.lost == 0;
    for era in bench.eras() {
        let holds = match (works, each_pays, KernelSharing::of_x86_64(era)) {
            (false, ..) => Holds::No(Text::StillLost),
            (true, false, _) => Holds::OnlyIf(Text::NewTopEntry),
            (true, true, KernelSharing::OnFault) => Holds::Yes,
            (true, true, _) => Holds::OnlyIf(Text::OldRule),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

fn at_boot(bench: &Bench, plan: Plan, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(AT_BOOT, Text::AtBootClaim)?;
    let plan = Plan { sharing: KernelSharing::Preallocated, ..plan };
    let right = plan.run(bench)?;
    book.say(
        Text::AtBootWay,
        &[
            ("tables", Value::Count(right.tables)),
            ("bytes", Value::Bytes(right.tables * 4096)),
            ("faults", Value::Count(right.counts.faults)),
            ("copied", Value::Count(right.counts.entries_copied)),
            ("walks", Value::Count(right.counts.list_walks)),
            ("reads", Value::Count(right.reads)),
        ],
    )?;
    mistakes(bench, Plan { old: FEW, every: 1, ..plan }, book)?;
    let counts = right.counts;
    let is_free = counts.faults + counts.entries_copied + counts.list_walks + right.lost == 0;
    for era in bench.eras() {
        let grows = synchronised_level(era, Paging::Level4).is_some();
        let holds = match (KernelSharing::of_x86_64(era), is_free, grows) {
            (KernelSharing::Preallocated, true, true) => Holds::OnlyIf(Text::WithinVmalloc),
            (KernelSharing::Preallocated, true, false) => Holds::Yes,
            (KernelSharing::Preallocated, false, _) => Holds::No(Text::StillLost),
            _ => Holds::No(Text::CopiesOnFault),
        };
        book.conclude(era, holds)?;
    }
    Ok(())
}

/// What went wrong on the way: no rule at all, and the first version of the preallocation.
fn mistakes(bench: &Bench, plan: Plan, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let none = Plan { history: History::NoWay, ..plan }.run(bench)?;
    book.say(
        Text::NoWayRun,
        &[
            ("few", Value::Count(plan.old)),
            ("none_reads", Value::Count(none.reads)),
            ("none_lost", Value::Count(none.lost)),
            ("none_young", Value::Count(none.young_faults)),
        ],
    )?;
    let first = Plan { history: History::DereferencesAbsent, ..plan };
    let zeros = first.run(bench)?;
    book.say(
        Text::FirstVersionZeros,
        &[("zeros_tables", Value::Count(zeros.tables)), ("zeros_lost", Value::Count(zeros.lost))],
    )?;
    let vectors = Plan { frame_0: VECTORS, ..first }.run(bench)?;
    book.say(
        Text::FirstVersionVectors,
        &[
            ("vectors", Value::Address(VECTORS)),
            ("vectors_tables", Value::Count(vectors.tables)),
            ("vectors_reads", Value::Count(vectors.reads)),
            ("vectors_lost", Value::Count(vectors.lost)),
        ],
    )
}

impl Plan {
    /// Runs the plan on a kernel that has booted without vmalloc's tables.
    fn run(self, bench: &Bench) -> Result<Outcome, LabError> {
        let options = Options { preallocates: false, ..Options::default() };
        bench.live_with(options, |live| self.run_on(live))
    }

    fn run_on(self, live: &mut Live<'_>) -> Result<Outcome, LabError> {
        live.memory.table_mut::<AtomicU64>(PhysAddr(0), 512)?[0].store(self.frame_0, Ordering::Relaxed);
        let (made, _) = live.on(CPU, |running, on| running.share(on, self.sharing, self.history));
        let made = made.map_err(|_| LabError::Missing("memory in frame 0"))?;
        let mut outcome = Outcome { tables: made.unwrap_or_default(), ..Outcome::default() };
        let old = spawn(live, self.old)?;
        let areas = self.areas(live)?;
        let young = spawn(live, YOUNG)?;
        for pid in old.into_iter().step_by(self.every) {
            for (va, value) in &areas {
                outcome.reads += 1;
                outcome.lost += u64::from(!sees(live, pid, *va, *value)?);
            }
        }
        let before = live.running.processes.counts().faults;
        for pid in young {
            for (va, value) in &areas {
                outcome.young_faults += u64::from(!sees(live, pid, *va, *value)?);
            }
        }
        outcome.counts = live.running.processes.counts();
        outcome.young_faults += outcome.counts.faults - before;
        Ok(outcome)
    }

    /// Makes the areas, and writes a word of its own into each through the kernel's root.
    fn areas(self, live: &mut Live<'_>) -> Result<Vec<(VirtAddr, u64)>, LabError> {
        let layout = layout_of(live)?;
        let shift = layout.paging.root_shift();
        let first = VirtAddr(layout.vmalloc_start.0 & (!0 << shift));
        let (root, mut areas) = (live.running.kernel.roots.kernel, Vec::new());
        let mut cpu = live.cpus.cpu(CPU).ok_or(LiveError::from(ProcessError::NoCpu))?;
        cpu.load_root(Half::Both, root, Asid(0));
        for number in 0..AREAS {
            // The first entry is in use since boot.
            let start = if self.apart { first + ((number + 1) << shift) } else { first };
            let va = vmalloc_in(live, start, shift)?;
            let cpu = live.cpus.cpu(CPU).ok_or(LiveError::from(ProcessError::NoCpu))?;
            let value = 0x0004_0000 + number;
            cpu.write_u64(live.memory, va, value, Privilege::Kernel).map_err(LiveError::from)?;
            areas.push((va, value));
        }
        Ok(areas)
    }
}

fn spawn(live: &mut Live<'_>, count: u64) -> Result<Vec<Pid>, LabError> {
    let make = |_| live.on(CPU, |running, on| running.spawn(on)).0.map_err(|error| LiveError::from(error).into());
    (0..count).map(make).collect()
}

/// Lets the kernel read `va` while `pid` runs; whether it got there, and found `value`. The CPU has read nothing before:
/// a translation that all processes share would hide what the root lacks.
fn sees(live: &mut Live<'_>, pid: Pid, va: VirtAddr, value: u64) -> Result<bool, LabError> {
    let mut cpu = live.cpus.cpu(CPU).ok_or(LiveError::from(ProcessError::NoCpu))?;
    live.running.switch_to(&mut cpu, pid).map_err(LiveError::from)?;
    cpu.flush_here(None, None, true);
    if let Ok(found) = cpu.read_u64(live.memory, va, Privilege::Kernel) {
        return Ok(found == value);
    }
    match live.running.kernel_fault(pid, va).map_err(LiveError::from)? {
        Ok(_) => {}
        Err(KernelFault::NoRule { .. }) => return Ok(false),
        Err(fault) => return Err(LiveError::from(fault).into()),
    }
    let found = cpu.read_u64(live.memory, va, Privilege::Kernel).map_err(LiveError::from)?;
    Ok(found == value)
}
