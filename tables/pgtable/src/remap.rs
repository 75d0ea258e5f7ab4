//! Giving mapped pages other frames: what stood there is replaced, never absent for longer than the architecture asks.
//!
//! # Invariants
//! 1. Nothing is written before every page of the range was found and its new entry proven encodable.
//! 2. Where live entries need break-before-make, all are broken, one flush follows, and then all are made: nobody may
//!    use the range meanwhile, which the caller has to see to.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{Level, PhysAddr, PhysMem, Slot, Tlb, VirtAddr, VirtRange};

use crate::Stale;
use crate::cursor::{Node, slots};
use crate::error::{Failed, MapError};
use crate::span::over;

/// Gives every base page of `range` the frame and attributes that `to` names for its address.
pub(crate) fn remap<F: EntryFormat, M: PhysMem>(
    mem: &M,
    top: Node,
    range: VirtRange,
    tlb: &mut impl Tlb,
    to: &impl Fn(VirtAddr) -> (PhysAddr, F::Attrs),
) -> Result<Stale, Failed> {
    let raw = |va: VirtAddr, level: Level| {
        let (base, attrs) = to(va);
        F::encode(Entry::Leaf { base, attrs }, level)
    };
    pages::<F, M>(mem, top, range, &mut |_, va, level| Ok(raw(va, level).map(|_| ())?))?;
    if F::BREAK_BEFORE_MAKE {
        pages::<F, M>(mem, top, range, &mut |slot, _, _| {
            slot.swap(0);
            Ok(())
        })?;
        tlb.flush(range, false);
    }
    make::<F, M>(mem, top, range, &mut |slot, va, level| {
        slot.publish(raw(va, level)?);
        Ok(())
    })?;
    Ok(if F::BREAK_BEFORE_MAKE { Stale::NONE } else { Stale::range_only(range) })
}

/// Calls `each` for every page of `range`; all must be mapped by base pages.
fn pages<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    range: VirtRange,
    each: &mut impl FnMut(&F::Slot, VirtAddr, Level) -> Result<(), MapError>,
) -> Result<(), MapError> {
    let shape = &F::shape().levels[node.depth];
    let is_last = node.depth + 1 == F::shape().levels.len();
    for (slot, part) in over(slots::<F, M>(mem, node)?, shape, range) {
        let (va, level) = (part.start, shape.level);
        match F::decode(slot.load(), level) {
            Entry::Table { next, .. } => pages::<F, M>(mem, node.below(next), part, each)?,
            Entry::Leaf { attrs, .. } if is_last && !F::is_contiguous(attrs) && part.size() == shape.bytes() => {
                each(slot, va, level)?;
            }
            Entry::Leaf { .. } => return Err(MapError::Inside { va, level }),
            Entry::Absent { .. } | Entry::Reserved { .. } => return Err(MapError::Hole { va, level }),
        }
    }
    Ok(())
}

/// Calls `each` for every entry of the last level, whatever it says: the range was found whole before.
fn make<F: EntryFormat, M: PhysMem>(
    mem: &M,
    node: Node,
    range: VirtRange,
    each: &mut impl FnMut(&F::Slot, VirtAddr, Level) -> Result<(), MapError>,
) -> Result<(), MapError> {
    let shape = &F::shape().levels[node.depth];
    let is_last = node.depth + 1 == F::shape().levels.len();
    for (slot, part) in over(slots::<F, M>(mem, node)?, shape, range) {
        match F::decode(slot.load(), shape.level) {
            Entry::Table { next, .. } => make::<F, M>(mem, node.below(next), part, each)?,
            _ if is_last => each(slot, part.start, shape.level)?,
            _ => return Err(MapError::Hole { va: part.start, level: shape.level }),
        }
    }
    Ok(())
}
