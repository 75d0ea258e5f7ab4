//! Document 004: what fork shares, what it copies, and what it copies later.

use core::sync::atomic::AtomicU64;

use kernmem::Isa;
use kernmem::running::{Pid, ProcessError};
use kernmem_arch::UserRights;
use kernmem_base::{Access, CpuId, PhysAddr, PhysRead, Privilege, VirtAddr};
use kernmem_live::{Live, LiveError, Program, Tally};
use kernmem_mm::Place;
use kernmem_view::entries::walk;

use crate::bench::{Bench, Own, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const SHARED: ClaimId = ClaimId::new(4, 4);
const LISTED: ClaimId = ClaimId::new(4, 7);
const COPIED: ClaimId = ClaimId::new(4, 8);

pub(crate) const LAB: Lab =
    Lab { name: "fork", title: Text::ForkTitle, reverse: Text::ForkReverse, claims: &[SHARED, LISTED, COPIED], run };

const CPU: CpuId = CpuId(0);
const PAGE: u64 = 4096;
/// Processes that share the kernel's tables.
const PROCESSES: u64 = 16;
/// Pages that the parent has written.
const PAGES: u64 = 8;
/// Of these, pages that the first writer writes after the fork.
const FIRST: u64 = 3;
/// Pages of a region that nobody has written.
const UNTOUCHED: u64 = 4;
/// Entries of a root.
const ENTRIES: usize = 512;

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("x86-4g"))?;
    bench.live(|live| {
        shared(&bench, live, book)?;
        listed(&bench, live, book)?;
        copied(&bench, live, options.reverse, book)
    })
}

/// Whether the kernel's tables hang below the upper half of every root, as on x86-64.
fn has_one_root(live: &Live<'_>) -> bool {
    matches!(live.running.kernel.isa, Isa::X86(_))
}

/// A root's entries for the kernel's half: the upper half of a root of x86-64; on arm64 all, since all are the user's.
fn kernel_entries(live: &Live<'_>, root: PhysAddr) -> Result<Vec<u64>, LabError> {
    let first = if has_one_root(live) { ENTRIES / 2 } else { 0 };
    let entry = |index| Ok(live.memory.entry::<AtomicU64>(root, index)?);
    (first..ENTRIES).map(entry).collect()
}

fn present(entries: &[u64]) -> u64 {
    entries.iter().filter(|raw| **raw != 0).count() as u64
}

/// The number of a new process.
fn spawn(live: &mut Live<'_>) -> Result<Pid, LabError> {
    Ok(live.on(CPU, |running, on| running.spawn(on)).0.map_err(LiveError::from)?)
}

fn root_of(live: &Live<'_>, pid: Pid) -> Result<PhysAddr, LabError> {
    live.running.processes.root(pid).ok_or(LabError::Missing("root of a process"))
}

fn shared(bench: &Bench, live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(SHARED, Text::SharedHalfClaim)?;
    let pids = (0..PROCESSES).map(|_| spawn(live)).collect::<Result<Vec<_>, _>>()?;
    let reference = kernel_entries(live, live.running.kernel.roots.kernel)?;
    let (mut equal, mut own) = (0, 0);
    for pid in &pids {
        let entries = kernel_entries(live, root_of(live, *pid)?)?;
        equal += u64::from(entries == reference);
        own += present(&entries);
    }
    book.say(
        Text::HalvesOfRoots,
        &[
            ("processes", Value::Count(PROCESSES)),
            ("slots", Value::Count(reference.len() as u64)),
            ("present", Value::Count(present(&reference))),
            ("equal", Value::Count(equal)),
            ("own_entries", Value::Count(own)),
        ],
    )?;
    let seen = new_area(live, &pids)?;
    let counts = live.running.processes.counts();
    let changed = changed_roots(live, &pids)?;
    book.say(
        Text::NewArea,
        &[
            ("seen", Value::Count(seen)),
            ("processes", Value::Count(PROCESSES)),
            ("faults", Value::Count(counts.faults)),
            ("changed", Value::Count(changed)),
        ],
    )?;
    let holds = match (seen == PROCESSES, equal == PROCESSES, has_one_root(live)) {
        (true, true, true) => Holds::Yes,
        (true, _, false) if own == 0 => Holds::OnlyIf(Text::RootOfItsOwn),
        _ => Holds::No(Text::HalvesDiffer),
    };
    for pid in pids {
        live.on(CPU, |running, on| running.exit(on, pid)).0.map_err(LiveError::from)?;
    }
    book.conclude(bench.era(), holds)
}

/// Makes an area of vmalloc, and counts the processes under which the kernel reads the word in it.
fn new_area(live: &mut Live<'_>, pids: &[Pid]) -> Result<u64, LabError> {
    const WORD: u64 = 0x0004_0004;
    let va = live.on(CPU, |running, on| running.vmalloc(on, PAGE)).0.map_err(LiveError::from)?;
    let mut seen = 0;
    for (number, pid) in pids.iter().enumerate() {
        let mut cpu = live.cpus.cpu(CPU).ok_or(LiveError::from(ProcessError::NoCpu))?;
        live.running.switch_to(&mut cpu, *pid).map_err(LiveError::from)?;
        cpu.flush_here(None, None, true);
        if number == 0 {
            cpu.write_u64(live.memory, va, WORD, Privilege::Kernel).map_err(LiveError::from)?;
        }
        seen += u64::from(matches!(cpu.read_u64(live.memory, va, Privilege::Kernel), Ok(WORD)));
    }
    live.on(CPU, |running, on| running.vfree(on, va)).0.map_err(LiveError::from)?;
    Ok(seen)
}

/// Roots of `pids` whose entries are not the reference's any more.
fn changed_roots(live: &Live<'_>, pids: &[Pid]) -> Result<u64, LabError> {
    if !has_one_root(live) {
        return Ok(0);
    }
    let reference = kernel_entries(live, live.running.kernel.roots.kernel)?;
    let mut changed = 0;
    for pid in pids {
        changed += u64::from(kernel_entries(live, root_of(live, *pid)?)? != reference);
    }
    Ok(changed)
}

fn fork(live: &mut Live<'_>, parent: Pid) -> Result<Pid, LabError> {
    Ok(live.on(CPU, |running, on| running.fork(on, parent)).0.map_err(LiveError::from)?)
}

fn listed(bench: &Bench, live: &mut Live<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(LISTED, Text::ListedClaim)?;
    let parent = spawn(live)?;
    let before = live.running.processes.roots().len();
    let child = fork(live, parent)?;
    let list = live.running.processes.roots();
    let (root, reference) = (root_of(live, child)?, live.running.kernel.roots.kernel);
    let copied = present(&kernel_entries(live, root)?);
    let equal = kernel_entries(live, root)? == kernel_entries(live, reference)?;
    let is_newest = list.first() == Some(&root);
    live.on(CPU, |running, on| running.exit(on, child)).0.map_err(LiveError::from)?;
    let behind = live.running.processes.roots().len();
    let has_list = has_one_root(live);
    if has_list {
        book.say(
            Text::ListOfRoots,
            &[
                ("before", Value::Count(before as u64)),
                ("after", Value::Count(list.len() as u64)),
                ("newest", Value::Truth(is_newest)),
                ("behind", Value::Count(behind as u64)),
            ],
        )?;
    }
    book.say(
        Text::EntriesCopied,
        &[
            ("child", Value::Address(root.0)),
            ("copied", Value::Count(copied)),
            ("swapper", Value::Address(reference.0)),
        ],
    )?;
    let holds = match (has_list, is_newest && equal, copied) {
        (true, true, _) => Holds::Yes,
        (false, _, 0) => Holds::No(Text::NothingToCopy),
        _ => Holds::No(Text::HalvesDiffer),
    };
    live.on(CPU, |running, on| running.exit(on, parent)).0.map_err(LiveError::from)?;
    book.conclude(bench.era(), holds)
}

/// A parent with pages that it wrote, from `pages` on, and a region that nobody touched.
struct Family {
    parent: Pid,
    child: Pid,
    pages: VirtAddr,
    untouched: VirtAddr,
}

impl Family {
    fn new(live: &mut Live<'_>) -> Result<Self, LabError> {
        let parent = spawn(live)?;
        let map = |live: &mut Live<'_>, pages: u64, rights| {
            let (va, _) = live.on(CPU, |running, on| running.mmap(on, parent, Place::Anywhere, pages * PAGE, rights));
            va.map_err(LiveError::from)
        };
        let pages = map(live, PAGES, UserRights::READ_WRITE)?;
        // Other rights, so that the two regions stay two.
        let untouched = map(live, UNTOUCHED, UserRights::READ)?;
        let mut program = Program::run_on(live, CPU, parent)?;
        for page in 0..PAGES {
            program.write(live, pages + page * PAGE, before(page))?;
        }
        let child = fork(live, parent)?;
        Ok(Self { parent, child, pages, untouched })
    }

    fn page(&self, number: u64) -> VirtAddr {
        self.pages + number * PAGE
    }

    /// Pages that both map to the same frame.
    fn same_frames(&self, live: &Live<'_>) -> Result<u64, LabError> {
        let frame = |pid, va| -> Result<_, LabError> {
            Ok(reached(&walk(&live.running.kernel, root_of(live, pid)?, va)?, va).map(|(pa, _)| pa))
        };
        let mut same = 0;
        for number in 0..PAGES {
            let va = self.page(number);
            let (of_parent, of_child) = (frame(self.parent, va)?, frame(self.child, va)?);
            same += u64::from(of_parent.is_some() && of_parent == of_child);
        }
        Ok(same)
    }

    /// Pages that the MMU lets `pid` not write.
    fn refused(&self, live: &mut Live<'_>, pid: Pid) -> Result<u64, LabError> {
        let mut cpu = live.cpus.cpu(CPU).ok_or(LiveError::from(ProcessError::NoCpu))?;
        live.running.switch_to(&mut cpu, pid).map_err(LiveError::from)?;
        let refuses =
            |number: &u64| cpu.access(live.memory, self.page(*number), Access::Write, Privilege::User).is_err();
        Ok((0..PAGES).filter(refuses).count() as u64)
    }

    /// Lets `pid` write `pages`.
    fn write(&self, live: &mut Live<'_>, pid: Pid, pages: core::ops::Range<u64>) -> Result<Tally, LabError> {
        let mut program = Program::run_on(live, CPU, pid)?;
        for number in pages {
            program.write(live, self.page(number), after(pid, number))?;
        }
        Ok(program.tally)
    }

    /// Lets `pid` read all pages; how many hold what `expected` says, and the faults.
    fn read(&self, live: &mut Live<'_>, pid: Pid, expected: impl Fn(u64) -> u64) -> Result<(u64, Tally), LabError> {
        let mut program = Program::run_on(live, CPU, pid)?;
        let mut right = 0;
        for number in 0..PAGES {
            right += u64::from(program.read(live, self.page(number))? == expected(number));
        }
        Ok((right, program.tally))
    }
}

/// What the parent wrote into a page before the fork.
const fn before(page: u64) -> u64 {
    1000 + page
}

/// What `pid` writes into it afterwards.
const fn after(pid: Pid, page: u64) -> u64 {
    ((pid.0 as u64) << 32) + 2000 + page
}

fn copied(bench: &Bench, live: &mut Live<'_>, parent_first: bool, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(COPIED, Text::CopyOnWriteClaim)?;
    let family = Family::new(live)?;
    let (parent, child) = (family.parent, family.child);
    let (_, table_bytes) = live.running.processes.usage(child).ok_or(LabError::Missing("usage of a process"))?;
    let same = family.same_frames(live)?;
    book.say(
        Text::AfterFork,
        &[
            ("pages", Value::Count(PAGES)),
            ("same", Value::Count(same)),
            ("tables", Value::Count(table_bytes / PAGE)),
            ("refused_parent", Value::Count(family.refused(live, parent)?)),
            ("refused_child", Value::Count(family.refused(live, child)?)),
        ],
    )?;
    let (inherited, first_reads) = family.read(live, child, before)?;
    book.say(
        Text::ChildReads,
        &[("inherited", Value::Count(inherited)), ("marked", Value::Count(first_reads.faults))],
    )?;
    let (one, two) = if parent_first { (parent, child) } else { (child, parent) };
    let is_apart = writes(live, &family, (one, two), book)?;
    let fresh = Program::run_on(live, CPU, child).and_then(|mut program| {
        program.read(live, family.untouched)?;
        Ok(program.tally)
    })?;
    book.say(Text::Untouched, &[("fresh", Value::Count(fresh.zero_pages))])?;
    let holds = match (same == PAGES && inherited == PAGES, is_apart) {
        (true, true) => Holds::OnlyIf(Text::PagesThatExist),
        _ => Holds::No(Text::NotApart),
    };
    book.conclude(bench.era(), holds)
}

/// Lets `one` write some pages, then `two` all, then `one` the rest; whether each reads its own.
fn writes(
    live: &mut Live<'_>,
    family: &Family,
    (one, two): (Pid, Pid),
    book: &mut Notebook<'_>,
) -> Result<bool, LabError> {
    let is_child = one == family.child;
    let first = family.write(live, one, 0..FIRST)?;
    let (kept, _) = family.read(live, two, before)?;
    book.say(
        if is_child { Text::ChildWrites } else { Text::ParentWrites },
        &[
            ("first_writes", Value::Count(FIRST)),
            ("first_copies", Value::Count(first.copies)),
            ("first_reused", Value::Count(first.reused)),
            ("kept", Value::Count(kept)),
        ],
    )?;
    let second = family.write(live, two, 0..PAGES)?;
    let rest = family.write(live, one, FIRST..PAGES)?;
    let (own_one, _) = family.read(live, one, |number| after(one, number))?;
    let (own_two, _) = family.read(live, two, |number| after(two, number))?;
    let same = family.same_frames(live)?;
    book.say(
        Text::OtherWrites,
        &[
            ("pages", Value::Count(PAGES)),
            ("second_copies", Value::Count(second.copies)),
            ("second_reused", Value::Count(second.reused)),
            ("rest_copies", Value::Count(rest.copies)),
            ("rest_reused", Value::Count(rest.reused)),
            ("same_at_last", Value::Count(same)),
        ],
    )?;
    Ok(kept == PAGES && own_one == PAGES && own_two == PAGES && same == 0)
}
