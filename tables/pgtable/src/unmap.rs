//! Unmapping: whole subtrees by one store, leaves by runs, tables freed when their count falls to zero.

use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{PhysMem, Slot, VirtRange};

use crate::Stale;
use crate::cursor::{Node, slots};
use crate::error::{MapError, Stopped};
use crate::span::{covers, leaf_around, over};

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
    for (slot, part) in over(slots, shape, range) {
        let is_gone = match F::decode(slot.load(), shape.level) {
            Entry::Absent { sw: 0 } => continue,
            Entry::Table { next, .. } => unmap_table::<F, M>(mem, node.below(next), part, emptied, stale),
            entry => unmap_entry::<F>(entry, shape, range, part, stale),
        };
        match is_gone {
            Ok(false) => {}
            Ok(true) => {
                slot.store(0);
                gone += 1;
            }
            Err(stopped) => {
                result = Err(stopped);
                break;
            }
        }
    }
    note.take(gone);
    result
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
    let is_whole = part.size() == F::shape().levels[below.depth - 1].bytes();
    if emptied == Emptied::Keep || !is_whole {
        unmap::<F, M>(mem, below, part, emptied, stale)?;
        let used = mem.note(below.table).map_err(Stopped::at(part.start))?.used();
        if emptied != Emptied::Drop || used != 0 {
            return Ok(false);
        }
    }
    // also for a table without leaves: CPUs cache the entries that lead to it
    stale.owe(part);
    stale.bury::<F, M>(mem, below);
    Ok(true)
}

/// Whether an entry that is neither empty nor a table may go; what TLBs may hold of it joins the debt.
fn unmap_entry<F: EntryFormat>(
    entry: Entry<F::Attrs>,
    shape: &LevelShape,
    range: VirtRange,
    part: VirtRange,
    stale: &mut Stale,
) -> Result<bool, Stopped> {
    let is_contiguous = matches!(entry, Entry::Leaf { attrs, .. } if F::is_contiguous(attrs));
    if !covers(range, leaf_around(part.start, shape, is_contiguous)) {
        let error = MapError::Inside { va: part.start, level: shape.level };
        return Err(Stopped { va: part.start, error });
    }
    if !matches!(entry, Entry::Absent { .. }) {
        stale.owe(part);
    }
    Ok(true)
}
