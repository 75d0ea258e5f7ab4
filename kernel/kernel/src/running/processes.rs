//! Programs with address spaces of their own, and the kernel half that all share.
//!
//! Here: which program has which space, by number; spaces of any format as one value. Not here: what a space is
//! (`kernmem-mm`), which program runs.
//!
//! # Invariants
//! 1. A program's number is its space's number in TLBs too, so there are at most 65,535 programs.
//! 2. The counts of frames exist once there is a program.
//!
//! Source: Linux 6.1 kernel/fork.c `copy_mm`, `mm_init`; arch/x86/mm/pgtable.c `pgd_alloc`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Format, UserFormat, UserRights};
use kernmem_base::{
    Access, Asid, Cpu, FrameSource, Granule, Order, Pfn, PhysAddr, PhysMem, PhysRange, Privilege, VirtAddr, VirtRange,
};
use kernmem_mm::{
    Env, Handled, History, KernelFault, KernelHalf, KernelHandled, KernelSharing, LentCounts, Limits, Place, Region,
    RootError, SharingCounts, Signal, Space, SpaceError, Switch, SyncError, switch_to,
};
use kernmem_page_alloc::{Gfp, HeapStore, PageSource, Pages};

use super::facts::Facts;
use super::{On, Running, lists};
use crate::{BootPages, Kernel, Witness};

/// The number of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub u16);

/// Why an operation on a program failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such program.
    NoProcess(Pid),
    /// Every number is in use.
    TooMany,
    /// There is no such CPU.
    NoCpu,
    /// There is no page of zeros: memory is short.
    NoZeroPage,
    /// The host has no room to count the machine's frames.
    NoCounts {
        /// Frames.
        frames: usize,
    },
    /// A root could not be made.
    Root(RootError),
    /// The space refused.
    Space(SpaceError),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess(pid) => write!(f, "there is no program {}", pid.0),
            Self::TooMany => f.write_str("every number of programs is in use"),
            Self::NoCpu => f.write_str("there is no such CPU"),
            Self::NoZeroPage => f.write_str("no memory for the page of zeros"),
            Self::NoCounts { frames } => write!(f, "the host has no room to count {frames} frames"),
            Self::Root(error) => error.fmt(f),
            Self::Space(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ProcessError {}

impl From<RootError> for ProcessError {
    fn from(error: RootError) -> Self {
        Self::Root(error)
    }
}

impl From<SpaceError> for ProcessError {
    fn from(error: SpaceError) -> Self {
        Self::Space(error)
    }
}

/// Programs of one format.
struct Table<F: UserFormat> {
    half: KernelHalf<F, Vec<PhysAddr>>,
    spaces: BTreeMap<Pid, Space<F, Vec<Region>>>,
    limits: Limits,
}

impl<F: UserFormat> Table<F> {
    fn new(facts: &Facts, root: PhysAddr, sharing: KernelSharing, limits: Limits) -> Self {
        let half = KernelHalf::new(root, sharing, facts.era, facts.vmalloc_range(), Vec::new());
        Self { half, spaces: BTreeMap::new(), limits }
    }
}

/// The programs of a kernel.
pub struct Processes {
    table: AnyTable,
    /// The first frame that `counts` counts.
    first: Pfn,
    /// Frames of memory, counts for them once there is a program.
    frames: usize,
    counts: Vec<u32>,
    zero_page: Option<PhysAddr>,
    next: u16,
}

enum AnyTable {
    Arm64(Table<Arm64Granule4K>),
    X86Level4(Table<X86Level4>),
    X86Level5(Table<X86Level5>),
}

/// Calls the same code for the table of whatever format.
macro_rules! with_table {
    ($table:expr, $own:ident => $work:expr) => {
        match $table {
            AnyTable::Arm64($own) => $work,
            AnyTable::X86Level4($own) => $work,
            AnyTable::X86Level5($own) => $work,
        }
    };
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processes").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Processes {
    pub(super) fn new<M, W>(kernel: &Kernel<'_, M, W>, facts: &Facts) -> Self {
        let (root, x86) = (kernel.roots.kernel, KernelSharing::of_x86_64(facts.era));
        let table = match facts.format {
            Format::X86Level4 => AnyTable::X86Level4(Table::new(facts, root, x86, Limits::x86_64())),
            Format::X86Level5 => AnyTable::X86Level5(Table::new(facts, root, x86, Limits::x86_64())),
            _ => AnyTable::Arm64(Table::new(facts, root, KernelSharing::OwnRoot, Limits::arm64_48())),
        };
        let memory = &kernel.nodes.memory;
        let first = memory.iter().map(|(_, span)| span.start).min().unwrap_or_default();
        let end = memory.iter().map(|(_, span)| span.end).max().unwrap_or_default();
        let frames = end.0.saturating_sub(first.0) as usize;
        Self { table, first, frames, counts: Vec::new(), zero_page: None, next: 1 }
    }

    /// The programs' numbers, in order.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        with_table!(&self.table, table => table.spaces.keys().copied().collect())
    }

    /// The root table of a program.
    #[must_use]
    pub fn root(&self, pid: Pid) -> Option<PhysAddr> {
        with_table!(&self.table, table => table.spaces.get(&pid).map(Space::root))
    }

    /// The regions of a program.
    #[must_use]
    pub fn regions(&self, pid: Pid) -> Option<&[Region]> {
        with_table!(&self.table, table => table.spaces.get(&pid).map(Space::regions))
    }

    /// The frames that programs map, each once, in order; not the page of zeros.
    pub fn mapped_frames(&self) -> impl Iterator<Item = Pfn> {
        let mapped = self.counts.iter().enumerate().filter(|(_, count)| **count != 0);
        mapped.map(|(at, _)| Pfn(self.first.0 + at as u64))
    }

    /// Pages and bytes of tables that a program has.
    #[must_use]
    pub fn usage(&self, pid: Pid) -> Option<(u64, u64)> {
        with_table!(&self.table, table => table.spaces.get(&pid).map(|space| (space.anon_pages(), space.table_bytes())))
    }

    /// The root tables of all programs, newest first: Linux's `pgd_list`, where it keeps one.
    #[must_use]
    pub fn roots(&self) -> Vec<PhysAddr> {
        with_table!(&self.table, table => table.half.roots().collect())
    }

    /// How the roots follow the kernel's.
    #[must_use]
    pub const fn sharing(&self) -> KernelSharing {
        with_table!(&self.table, table => table.half.sharing())
    }

    /// What following has cost.
    #[must_use]
    pub const fn counts(&self) -> SharingCounts {
        with_table!(&self.table, table => table.half.counts())
    }

    /// Makes roots follow in another way, or with a mistake of the past; only while there is no program.
    pub fn share(&mut self, facts: &Facts, sharing: KernelSharing, history: History) -> bool {
        let (era, range) = (facts.era, facts.vmalloc_range());
        with_table!(&mut self.table, table => {
            let is_idle = table.spaces.is_empty();
            if is_idle {
                let root = table.half.reference();
                table.half = KernelHalf::new(root, sharing, era, range, Vec::new()).with_history(history);
            }
            is_idle
        })
    }

    /// Lets all roots follow a change of the kernel's top.
    pub(super) fn follow<M: PhysMem>(&mut self, mem: &M, range: VirtRange) {
        let followed: Result<(), SyncError> = with_table!(&mut self.table, table => table.half.follow(mem, range));
        debug_assert!(followed.is_ok(), "roots agree with the kernel's: {followed:?}");
    }

    /// Counts and the page of zeros, made with the first program.
    fn begin<M: PhysMem, P: PageSource + FrameSource>(
        &mut self,
        mem: &M,
        pages: &mut P,
        granule: Granule,
    ) -> Result<PhysAddr, ProcessError> {
        if let Some(page) = self.zero_page {
            return Ok(page);
        }
        // An allocation that fails below ends the program, so one is tried first; memory is touched by neither.
        let mut probe = Vec::<u32>::new();
        probe.try_reserve_exact(self.frames).map_err(|_| ProcessError::NoCounts { frames: self.frames })?;
        // Without this the compiler may leave the attempt out, since nobody uses what it gives.
        drop(core::hint::black_box(probe));
        let pfn = pages.alloc(Gfp::KERNEL, Order(0)).map_err(|_| ProcessError::NoZeroPage)?;
        let page = pfn.to_phys(granule).ok_or(ProcessError::NoZeroPage)?;
        mem.zero(PhysRange::new(page, page + granule.bytes())).map_err(|_| ProcessError::NoZeroPage)?;
        self.counts = alloc::vec![0; self.frames];
        self.zero_page = Some(page);
        Ok(page)
    }
}

/// Names the parts of a running kernel that an operation on programs needs, and calls `work` with the environment.
macro_rules! with_env {
    ($self:expr, $on:expr, $env:ident, $table:ident, $processes:ident => $work:expr) => {{
        let Running { kernel, facts, cpus, processes, .. } = $self;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let (cpu, _) = lists(boot, cpus, $on.cpu).ok_or(ProcessError::NoCpu)?;
        let mut pages: Pages<'_, HeapStore> = Pages { allocator, cpu };
        let zero_page = processes.begin(kernel.mem, &mut pages, facts.granule)?;
        let Processes { table, first, counts, next: $processes, .. } = processes;
        let mut counts = LentCounts::new(*first, counts);
        let mut tlb = &mut *$on.tlb;
        #[allow(unused_mut, reason = "some operations only read it")]
        let mut $env =
            Env { mem: kernel.mem, frames: &mut pages, tlb: &mut tlb, counts: &mut counts, zero_page, era: facts.era };
        with_table!(table, $table => $work)
    }};
}

impl<M: PhysMem, W: Witness> Running<'_, M, W> {
    /// Makes a program without regions.
    ///
    /// # Errors
    /// No number, no memory; nothing was taken but the page of zeros, which the first program brings and all share.
    pub fn spawn(&mut self, on: &mut On<'_>) -> Result<Pid, ProcessError> {
        with_env!(self, on, env, table, next => {
            let pid = free_pid(&table.spaces, next)?;
            let root = table.half.new_root(env.mem, env.frames)?;
            let mut space = Space::new(root, table.limits, Vec::new());
            space.retag(Asid(pid.0));
            table.spaces.insert(pid, space);
            Ok(pid)
        })
    }

    /// Makes a child of a program: all pages are shared until one of the two writes.
    ///
    /// # Errors
    /// No number, no memory; the parent is as before.
    pub fn fork(&mut self, on: &mut On<'_>, parent: Pid) -> Result<Pid, ProcessError> {
        with_env!(self, on, env, table, next => {
            let pid = free_pid(&table.spaces, next)?;
            let space = table.spaces.get_mut(&parent).ok_or(ProcessError::NoProcess(parent))?;
            let root = table.half.new_root(env.mem, env.frames)?;
            match space.fork(&mut env, root, Vec::new()) {
                Ok(mut child) => {
                    child.retag(Asid(pid.0));
                    table.spaces.insert(pid, child);
                    Ok(pid)
                }
                Err(failed) => {
                    let freed = table.half.free_root(env.mem, env.frames, failed.root);
                    debug_assert!(freed.is_ok(), "a root that was just made can be given back");
                    Err(failed.error.into())
                }
            }
        })
    }

    /// Ends a program: its pages, tables and root go back.
    ///
    /// # Errors
    /// There is none, or memory does not answer.
    pub fn exit(&mut self, on: &mut On<'_>, pid: Pid) -> Result<(), ProcessError> {
        with_env!(self, on, env, table, _next => {
            let space = table.spaces.remove(&pid).ok_or(ProcessError::NoProcess(pid))?;
            let (root, done) = space.exit(&mut env);
            let freed = table.half.free_root(env.mem, env.frames, root);
            done?;
            Ok(freed.map_err(SpaceError::from)?)
        })
    }

    /// Makes a private anonymous region of a program.
    ///
    /// # Errors
    /// As [`Space::mmap`].
    pub fn mmap(
        &mut self,
        on: &mut On<'_>,
        pid: Pid,
        place: Place,
        bytes: u64,
        rights: UserRights,
    ) -> Result<VirtAddr, ProcessError> {
        with_env!(self, on, env, table, _next => {
            let space = table.spaces.get_mut(&pid).ok_or(ProcessError::NoProcess(pid))?;
            Ok(space.mmap(&mut env, place, bytes, rights)?)
        })
    }

    /// Unmaps a range of a program.
    ///
    /// # Errors
    /// As [`Space::munmap`].
    pub fn munmap(&mut self, on: &mut On<'_>, pid: Pid, start: VirtAddr, bytes: u64) -> Result<(), ProcessError> {
        with_env!(self, on, env, table, _next => {
            let space = table.spaces.get_mut(&pid).ok_or(ProcessError::NoProcess(pid))?;
            Ok(space.munmap(&mut env, start, bytes)?)
        })
    }

    /// Gives a range of a program other rights.
    ///
    /// # Errors
    /// As [`Space::mprotect`].
    pub fn mprotect(
        &mut self,
        on: &mut On<'_>,
        pid: Pid,
        start: VirtAddr,
        bytes: u64,
        rights: UserRights,
    ) -> Result<(), ProcessError> {
        with_env!(self, on, env, table, _next => {
            let space = table.spaces.get_mut(&pid).ok_or(ProcessError::NoProcess(pid))?;
            Ok(space.mprotect(&mut env, start, bytes, rights)?)
        })
    }

    /// Deals with a fault of a program.
    ///
    /// # Errors
    /// There is no such program; the inner error is the signal that it gets.
    pub fn fault(
        &mut self,
        on: &mut On<'_>,
        pid: Pid,
        va: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Result<Handled, Signal>, ProcessError> {
        with_env!(self, on, env, table, _next => {
            let space = table.spaces.get_mut(&pid).ok_or(ProcessError::NoProcess(pid))?;
            Ok(space.fault(&mut env, va, access, privilege))
        })
    }

    /// Makes roots follow in another way, or with a mistake of the past, and makes the tables that this way wants before
    /// the first program, as far as boot has not made them. Returns how many it made; `None` if there is a program.
    ///
    /// # Errors
    /// The way is chosen, what was made stays. As [`KernelHalf::preallocate`].
    pub fn share(
        &mut self,
        on: &mut On<'_>,
        sharing: KernelSharing,
        history: History,
    ) -> Result<Option<u64>, SyncError> {
        if !self.processes.share(&self.facts, sharing, history) {
            return Ok(None);
        }
        let Self { kernel, cpus, processes, .. } = self;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let Some((cpu, _)) = lists(boot, cpus, on.cpu) else { return Ok(None) };
        let mut pages: Pages<'_, HeapStore> = Pages { allocator, cpu };
        with_table!(&mut processes.table, table => table.half.preallocate(kernel.mem, &mut pages).map(Some))
    }

    /// Deals with a fault of the kernel in vmalloc's range under a program's root.
    ///
    /// # Errors
    /// There is no such program; the inner error is what the kernel would end for.
    pub fn kernel_fault(&mut self, pid: Pid, va: VirtAddr) -> Result<Result<KernelHandled, KernelFault>, ProcessError> {
        let mem = self.kernel.mem;
        with_table!(&mut self.processes.table, table => {
            let root = table.spaces.get(&pid).map(Space::root).ok_or(ProcessError::NoProcess(pid))?;
            Ok(table.half.fault(mem, root, va))
        })
    }

    /// Lets a CPU run a program: its root is loaded under its own number.
    ///
    /// # Errors
    /// There is no such program.
    pub fn switch_to(&mut self, cpu: &mut impl Cpu, pid: Pid) -> Result<(), ProcessError> {
        with_table!(&mut self.processes.table, table => {
            let space = table.spaces.get_mut(&pid).ok_or(ProcessError::NoProcess(pid))?;
            switch_to(cpu, space, Switch { asid: Asid(pid.0), flush: None });
            Ok(())
        })
    }
}

/// A number that no program has.
fn free_pid<T>(spaces: &BTreeMap<Pid, T>, next: &mut u16) -> Result<Pid, ProcessError> {
    for _ in 0..u16::MAX {
        let pid = Pid(*next);
        *next = next.checked_add(1).unwrap_or(1);
        if !spaces.contains_key(&pid) {
            return Ok(pid);
        }
    }
    Err(ProcessError::TooMany)
}
