//! Unmapping: whole subtrees by one store, leaves by runs, tables freed when their count falls to zero.

use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{PhysAddr, PhysMem, Slot, VirtRange};

use crate::Stale;
use crate::cursor::{Node, slots};
use crate::error::{MapError, Stopped};
use crate::span::Runs;

/// What happens to tables that hold nothing behind the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Emptied {
    /// They are detached; one whose addresses lie wholly in the range goes with everything below it.
    Drop,
    /// They stay, but one whose addresses lie wholly in the range goes with everything below it.
    DropCovered,
    /// They stay.
    Keep,
}

/// Removes what `range` maps below one table; `stale` takes the debt, also of an operation that stops half-way.
pub(crate) fn unmap<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    range: VirtRange,
    emptied: Emptied,
    stale: &mut Stale,
) -> Result<(), Stopped> {
    let shape = &F::shape().levels[node.depth];
    let slots = slots::<F, M>(mem, node).map_err(Stopped::at(range.start))?;
    let note = mem.note(node.table).map_err(Stopped::at(range.start))?;
    let (mut gone, mut result) = (0, Ok(()));
    let mut runs = Runs::new(slots, shape, range);
    while let Some((raw, part)) = runs.peek() {
        let done = match F::decode(raw, shape.level) {
            Entry::Absent { sw: 0 } => {
                runs.skip_alike(0, usize::MAX);
                continue;
            }
            Entry::Table { .. } if emptied != Emptied::Keep && part.size() == shape.bytes() => {
                Ok(drop_tables::<F, M>(mem, node, &mut runs, shape, stale))
            }
            Entry::Table { next, .. } => {
                let below = node.below(next);
                unmap_table::<F, M>(mem, below, part, emptied, stale).map(|is_gone| take_table(&mut runs, is_gone))
            }
            entry => unmap_run::<F, M>(mem, node.table, &mut runs, shape, entry, stale),
        };
        match done {
            Ok(count) => gone += count,
            Err(stopped) => {
                result = Err(stopped);
                break;
            }
        }
    }
    note.take(gone);
    result
}

/// Goes past an entry that links a table, and makes it empty if it `is_gone`. Returns how many entries went.
fn take_table<S: Slot>(runs: &mut Runs<'_, S>, is_gone: bool) -> u16 {
    if is_gone {
        runs.first().store(0);
    }
    runs.skip(1);
    u16::from(is_gone)
}

/// Removes `part` of what an entry reaches through the table `below` it. Returns whether the entry is to go:
/// its table hangs on the debt then.
fn unmap_table<F: EntryFormat, M: PhysMem>(
    mem: &M,
    below: Node,
    part: VirtRange,
    emptied: Emptied,
    stale: &mut Stale,
) -> Result<bool, Stopped> {
    unmap::<F, M>(mem, below, part, emptied, stale)?;
    let used = mem.note(below.table).map_err(Stopped::at(part.start))?.used();
    if emptied != Emptied::Drop || used != 0 {
        return Ok(false);
    }
    // also for a table without leaves: CPUs cache the entries that lead to it
    stale.owe(part);
    stale.bury::<F, M>(mem, below);
    Ok(true)
}

/// Detaches the tables that the next entries link, the first and those behind it whose addresses lie wholly in the range,
/// with everything below them. Returns how many.
#[inline(never)]
fn drop_tables<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    runs: &mut Runs<'_, F::Slot>,
    shape: &LevelShape,
    stale: &mut Stale,
) -> u16 {
    let (mut debt, mut gone) = (core::mem::replace(stale, Stale::NONE), 0);
    for slot in runs.next(runs.covered(0)) {
        let Entry::Table { next, .. } = F::decode(slot.peek(), shape.level) else { break };
        debt.bury::<F, M>(mem, node.below(next));
        slot.store(0);
        gone += 1;
    }
    debt.owe(runs.part(gone));
    *stale = debt;
    runs.skip(gone);
    gone as u16
}

/// Makes a run of entries like the next, `entry`, empty: neither they nor it are empty or link tables. What TLBs may
/// hold of them joins the debt. Returns how many entries went.
fn unmap_run<F: EntryFormat, M: PhysMem>(
    mem: &M,
    table: PhysAddr,
    runs: &mut Runs<'_, F::Slot>,
    shape: &LevelShape,
    entry: Entry<F::Attrs>,
    stale: &mut Stale,
) -> Result<u16, Stopped> {
    let is_contiguous = matches!(entry, Entry::Leaf { attrs, .. } if F::is_contiguous(attrs));
    let covered = runs.covered(if is_contiguous { shape.contiguous_bits } else { 0 });
    if covered == 0 {
        let va = runs.part(1).start;
        return Err(Stopped { va, error: MapError::Inside { va, level: shape.level } });
    }
    let (most, is_absent) = match entry {
        Entry::Leaf { .. } => (covered, false),
        Entry::Absent { .. } => (1, true),
        Entry::Table { .. } | Entry::Reserved { .. } => (1, false),
    };
    let (count, part) = runs.rewrite(mem, table, most, F::address_bits(shape.level), (0, 0))?;
    if !is_absent {
        stale.owe(part);
    }
    Ok(count as u16)
}
