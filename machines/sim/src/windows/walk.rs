//! The walk of the fault handler: one leaf, and the longest run of equal leaves around an address.
//!
//! # Invariants
//! 1. Nothing here allocates, locks or panics: it runs in a signal handler.
//! 2. The reads are the host's and are not counted as references of a walk.
//! 3. Every byte of a run lies in one bank of memory.

use kernmem_arch::{Entry, EntryFormat, Format, WithFormat};
use kernmem_base::{BusError, BusFault, Level, PhysAddr, PhysRange, PhysRead, Privilege, Slot, VirtAddr, VirtRange};
use kernmem_pgtable::steps;

use super::fault::FaultKind;
use super::rights::{Rights, Rules};
use crate::Memory;

/// Leaves that are looked at on each side of an address.
const LEAVES_A_SIDE: usize = 512;

/// How a window's addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    pub root: PhysAddr,
    pub format: Format,
    pub privilege: Privilege,
    /// First address and the frame that alone may be mapped there, each further one accordingly.
    pub linear: Option<(VirtAddr, PhysAddr)>,
}

/// Why a walk found nothing that may be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    pub kind: FaultKind,
    pub level: Level,
}

/// The leaf that maps an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// All addresses of the leaf.
    pub range: VirtRange,
    /// What the first of them reaches.
    pub base: PhysAddr,
    pub level: Level,
    pub rights: Rights,
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

struct Find<'a> {
    memory: &'a Memory,
    space: &'a Space,
    va: VirtAddr,
}

impl WithFormat for Find<'_> {
    type Output = Result<Leaf, Refusal>;

    fn run<F: EntryFormat>(self) -> Result<Leaf, Refusal> {
        let Self { memory, space, va } = self;
        let rules = Rules::of(space.format);
        let mut rights = Rules::ALL;
        let mut level = Level::Pgd;
        for (shape, step) in F::shape().levels.iter().zip(steps::<F, _>(&Uncounted(memory), space.root, va)) {
            level = shape.level;
            let Ok(step) = step else { break };
            match step.entry {
                Entry::Table { attrs, .. } => rights = rules.below(rights, F::bits(attrs), space.privilege),
                Entry::Leaf { attrs, .. } if rules.lacks_access_flag(F::bits(attrs)) => {
                    return Err(Refusal { kind: FaultKind::AccessFlag, level });
                }
                Entry::Leaf { base, attrs } => {
                    rights = rules.in_leaf(rights, F::bits(attrs), space.privilege);
                    let start = va.align_down(shape.bytes());
                    let range = VirtRange { start, last: VirtAddr(start.0 | (shape.bytes() - 1)) };
                    return Ok(Leaf { range, base, level, rights });
                }
                Entry::Absent { .. } => return Err(Refusal { kind: FaultKind::Translation, level }),
                Entry::Reserved { .. } => return Err(Refusal { kind: FaultKind::Malformed, level }),
            }
        }
        Err(Refusal { kind: FaultKind::Bus, level })
    }
}

/// The leaf for `va`, if who asks may read there; what it reaches need not be memory.
pub(crate) fn leaf(memory: &Memory, space: &Space, va: VirtAddr) -> Result<Leaf, Refusal> {
    let leaf = space.format.with(Find { memory, space, va })?;
    let level = leaf.level;
    if !leaf.rights.read {
        return Err(Refusal { kind: FaultKind::Permission, level });
    }
    if let Some((start, pa)) = space.linear
        && va.0.wrapping_sub(start.0).wrapping_add(pa.0) != reached(&leaf, va).0
    {
        return Err(Refusal { kind: FaultKind::NotLinear, level });
    }
    Ok(leaf)
}

/// The leaf for `va` and the bank that it reaches there.
pub(crate) fn leaf_in_memory(memory: &Memory, space: &Space, va: VirtAddr) -> Result<(Leaf, PhysRange), Refusal> {
    let leaf = leaf(memory, space, va)?;
    let bank = memory.bank_at(reached(&leaf, va)).ok_or(Refusal { kind: FaultKind::Bus, level: leaf.level })?;
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
        (leaf.rights == first.rights && reached(&leaf, at).0 == expected).then_some(leaf)
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
    Ok(Run { range, pa: PhysAddr(pa.0 - (va.0 - range.start.0)), write: first.rights.write })
}
