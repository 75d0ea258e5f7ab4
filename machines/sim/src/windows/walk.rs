//! The walk of the fault handler: one leaf, and the longest run of equal leaves around an address.
//!
//! # Invariants
//! 1. Nothing here allocates, locks or panics: it runs in a signal handler.
//! 2. The reads are the host's and are not counted as references of a walk.
//! 3. Every byte of a run lies in one bank of memory.

use kernmem_arch::arm64::{Arm64Format, WithArm64, mmu};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Entry, FaultKind, MmuFormat};
use kernmem_base::{
    Access, BusError, BusFault, Level, PhysAddr, PhysRange, PhysRead, Privilege, Slot, VirtAddr, VirtRange,
};
use kernmem_pgtable::steps;

use super::control::Control;
use super::fault::WindowFaultKind;
use crate::Memory;

/// Leaves that are looked at on each side of an address.
const LEAVES_A_SIDE: usize = 512;

/// How a window's addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    pub root: PhysAddr,
    pub control: Control,
    pub privilege: Privilege,
    /// First address and the frame that alone may be mapped there, each further one accordingly.
    pub linear: Option<(VirtAddr, PhysAddr)>,
}

/// Why a walk found nothing that may be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub kind: WindowFaultKind,
    /// `None` where no table was to be read.
    pub level: Option<Level>,
}

impl From<kernmem_arch::Refusal> for Refusal {
    fn from(refusal: kernmem_arch::Refusal) -> Self {
        Self { kind: WindowFaultKind::Mmu(refusal.kind), level: refusal.level }
    }
}

/// The leaf that maps an address, readable by who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// All addresses of the leaf.
    pub range: VirtRange,
    /// What the first of them reaches.
    pub base: PhysAddr,
    pub level: Level,
    /// Who asks may write, too.
    pub write: bool,
}

/// Addresses whose frames follow one another, with equal rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub range: VirtRange,
    /// What the first address reaches.
    pub pa: PhysAddr,
    pub write: bool,
}

/// Memory read by the host on its own account.
struct Uncounted<'a>(&'a Memory);

impl PhysRead for Uncounted<'_> {
    type Lent<'m, S: Slot>
        = &'m [S]
    where
        Self: 'm;

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.0.table(pa, entries)
    }

    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let table = self.0.table::<S>(pa, index + 1)?;
        table.get(index).map(Slot::load).ok_or(BusError { pa, fault: BusFault::Truncated })
    }
}

/// The leaf for `va` under the registers of one architecture.
fn find<F: MmuFormat>(memory: &Memory, space: &Space, control: &F::Control, va: VirtAddr) -> Result<Leaf, Refusal> {
    let (half, _) = F::enter(control, va, Access::Read, space.privilege)?;
    F::open(control, half, space.root)?;
    let mut above = F::OPEN;
    for (shape, step) in F::shape().levels.iter().zip(steps::<F, _>(&Uncounted(memory), space.root, va)) {
        let level = shape.level;
        let at = |kind| Refusal { kind: WindowFaultKind::Mmu(kind), level: Some(level) };
        let raw = step.map_err(|_| at(FaultKind::External))?.raw;
        match F::read(control, raw, level).map_err(at)? {
            Entry::Table { attrs, .. } => above = F::inherit(above, attrs),
            Entry::Leaf { base, attrs } => {
                F::mark(control, raw, level, true, Access::Read).map_err(at)?;
                let rights = F::rights(control, F::narrow(attrs, above));
                if !rights.allow(Access::Read, space.privilege) {
                    return Err(at(FaultKind::Permission));
                }
                let start = va.align_down(shape.bytes());
                let range = VirtRange { start, last: VirtAddr(start.0 | (shape.bytes() - 1)) };
                return Ok(Leaf { range, base, level, write: rights.allow(Access::Write, space.privilege) });
            }
            Entry::Absent { .. } | Entry::Reserved { .. } => return Err(at(FaultKind::Translation)),
        }
    }
    // A format whose last level holds tables breaks its law; a handler does not panic over it.
    Err(Refusal { kind: WindowFaultKind::Mmu(FaultKind::Translation), level: None })
}

/// A search whose arm64 tables are known as a value.
struct Find<'a> {
    memory: &'a Memory,
    space: &'a Space,
    control: &'a mmu::Control,
    va: VirtAddr,
}

impl WithArm64 for Find<'_> {
    type Output = Result<Leaf, Refusal>;

    fn run<F: Arm64Format>(self) -> Self::Output {
        find::<F>(self.memory, self.space, self.control, self.va)
    }
}

/// The leaf for `va`, if who asks may read there; what it reaches need not be memory.
pub(crate) fn leaf(memory: &Memory, space: &Space, va: VirtAddr) -> Result<Leaf, Refusal> {
    let leaf = match &space.control {
        Control::Arm64(tables, control) => tables.with(Find { memory, space, control, va })?,
        Control::X86Level4(control) => find::<X86Level4>(memory, space, control, va)?,
        Control::X86Level5(control) => find::<X86Level5>(memory, space, control, va)?,
        Control::I386Pae(control) => find::<I386Pae>(memory, space, control, va)?,
        Control::I386Level2(control) => find::<I386Level2>(memory, space, control, va)?,
    };
    if let Some((start, pa)) = space.linear
        && va.0.wrapping_sub(start.0).wrapping_add(pa.0) != reached(&leaf, va).0
    {
        return Err(Refusal { kind: WindowFaultKind::NotLinear, level: Some(leaf.level) });
    }
    Ok(leaf)
}

/// The leaf for `va` and the bank that it reaches there.
pub(crate) fn leaf_in_memory(memory: &Memory, space: &Space, va: VirtAddr) -> Result<(Leaf, PhysRange), Refusal> {
    let no_memory = Refusal { kind: WindowFaultKind::Mmu(FaultKind::External), level: None };
    let leaf = leaf(memory, space, va)?;
    let bank = memory.bank_at(reached(&leaf, va)).ok_or(no_memory)?;
    Ok((leaf, bank))
}

/// What `va` reaches through `leaf`.
fn reached(leaf: &Leaf, va: VirtAddr) -> PhysAddr {
    PhysAddr(leaf.base.0.wrapping_add(va.0.wrapping_sub(leaf.range.start.0)))
}

/// The longest run around `va` within `bounds`, which hold `va`.
pub(crate) fn run(memory: &Memory, space: &Space, va: VirtAddr, bounds: VirtRange) -> Result<Run, Refusal> {
    let (first, bank) = leaf_in_memory(memory, space, va)?;
    let pa = reached(&first, va);
    // What follows frame by frame within these limits cannot leave the bank (invariant 3).
    let limits = VirtRange {
        start: VirtAddr(va.0 - (va.0 - bounds.start.0).min(pa.0 - bank.start.0)),
        last: VirtAddr(va.0 + (bounds.last.0 - va.0).min(bank.end.0 - 1 - pa.0)),
    };
    let follows = |at: VirtAddr| {
        let leaf = leaf(memory, space, at).ok()?;
        let expected = pa.0.wrapping_add(at.0.wrapping_sub(va.0));
        (leaf.write == first.write && reached(&leaf, at).0 == expected).then_some(leaf)
    };
    let mut range = first.range;
    for _ in 0..LEAVES_A_SIDE {
        if range.last >= limits.last {
            break;
        }
        let Some(next) = follows(VirtAddr(range.last.0 + 1)) else { break };
        range.last = next.range.last;
    }
    for _ in 0..LEAVES_A_SIDE {
        if range.start <= limits.start {
            break;
        }
        let Some(next) = follows(VirtAddr(range.start.0 - 1)) else { break };
        range.start = next.range.start;
    }
    let range = VirtRange { start: range.start.max(limits.start), last: range.last.min(limits.last) };
    Ok(Run { range, pa: PhysAddr(pa.0 - (va.0 - range.start.0)), write: first.write })
}
