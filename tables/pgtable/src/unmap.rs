//! Unmapping: whole subtrees by one exchange, leaves by runs, tables freed when their count falls to zero.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{PhysAddr, PhysMem, Slot, VirtAddr, VirtRange};

use crate::cursor::slots;
use crate::map::{Failed, MapError};
use crate::{Stale, Tables};

/// What happens to tables whose addresses lie wholly in the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnTables {
    /// They are detached with everything below.
    Drop,
    /// They stay, without leaves.
    Keep,
}

pub(crate) fn unmap<F: EntryFormat, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    range: VirtRange,
    keep: OnTables,
) -> Result<Stale, Failed> {
    let mut stale = Stale::NONE;
    match unmap_in(tables, tables.root(), 0, range, keep, &mut stale) {
        Ok(()) => Ok(stale),
        Err(error) => Err(Failed { error, stale }),
    }
}

fn unmap_in<F: EntryFormat, M: PhysMem>(
    tables: &Tables<'_, F, M>,
    table: PhysAddr,
    depth: usize,
    range: VirtRange,
    keep: OnTables,
    stale: &mut Stale,
) -> Result<(), MapError> {
    let shape = F::shape().levels[depth];
    let slots = slots(tables, table, depth)?;
    let note = tables.mem().note(table)?;
    let mut gone = 0;
    let mut va = range.start;
    let mut result = Ok(());
    for slot in &slots[shape.index(range.start)..=shape.index(range.last)] {
        let here = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(range.last) };
        let whole = here.size() == shape.bytes();
        match F::decode(slot.load(), shape.level) {
            Entry::Absent { sw: 0 } => {}
            Entry::Table { next, .. } if whole && keep == OnTables::Drop => {
                slot.swap(0);
                stale.owe(here);
                stale.bury(tables, next, depth + 1);
                gone += 1;
            }
            Entry::Table { next, .. } => {
                result = unmap_in(tables, next, depth + 1, here, keep, stale);
                if keep == OnTables::Drop && tables.mem().note(next)?.used() == 0 {
                    slot.swap(0);
                    stale.bury(tables, next, depth + 1);
                    gone += 1;
                }
            }
            entry => {
                let group = shape.bytes() << shape.contiguous_bits;
                let cut = matches!(entry, Entry::Leaf { attrs, .. } if F::is_contiguous(attrs) && cuts_group(range, here.start, group));
                if !whole || cut {
                    result = Err(MapError::Inside { va: here.start, level: shape.level });
                } else {
                    slot.swap(0);
                    stale.owe(here);
                    gone += 1;
                }
            }
        }
        if result.is_err() {
            break;
        }
        va = here.last.wrapping_add(1);
    }
    note.take(gone);
    result
}

/// Whether `range` holds only a part of the contiguous group around `va`.
pub(crate) fn cuts_group(range: VirtRange, va: VirtAddr, group: u64) -> bool {
    let start = va.align_down(group);
    start < range.start && range.contains(va) && !range.contains(start) || start.0 | (group - 1) > range.last.0
}
