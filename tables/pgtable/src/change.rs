//! Changing what is mapped: rights, splits, collapses.

use kernmem_arch::{Entry, EntryFormat, LevelShape};
use kernmem_base::{FrameSource, Level, PhysAddr, PhysMem, Slot, Tlb, VirtAddr, VirtRange};

use crate::cursor::slots;
use crate::map::{Failed, MapError};
use crate::unmap::cuts_group;
use crate::{CursorMut, Stale, Tables};

/// A change of attribute bits: `clear` goes first, then `set`. Address bits, the leaf's size and its contiguous mark
/// are not touched if the masks leave them alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl Change {
    const fn apply(self, raw: u64) -> u64 {
        raw & !self.clear | self.set
    }
}

pub(crate) fn protect<F: EntryFormat, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    range: VirtRange,
    change: Change,
) -> Result<Stale, Failed> {
    let mut stale = Stale::NONE;
    match protect_in(tables, tables.root(), 0, range, change, &mut stale) {
        Ok(()) => Ok(stale),
        Err(error) => Err(Failed { error, stale }),
    }
}

fn protect_in<F: EntryFormat, M: PhysMem>(
    tables: &Tables<'_, F, M>,
    table: PhysAddr,
    depth: usize,
    range: VirtRange,
    change: Change,
    stale: &mut Stale,
) -> Result<(), MapError> {
    let shape = F::shape().levels[depth];
    let slots = slots(tables, table, depth)?;
    let group = shape.bytes() << shape.contiguous_bits;
    let mut va = range.start;
    for slot in &slots[shape.index(range.start)..=shape.index(range.last)] {
        let here = VirtRange { start: va, last: VirtAddr(va.0 | (shape.bytes() - 1)).min(range.last) };
        va = here.last.wrapping_add(1);
        let raw = slot.load();
        match F::decode(raw, shape.level) {
            Entry::Table { next, .. } => protect_in(tables, next, depth + 1, here, change, stale)?,
            Entry::Leaf { base, attrs } => {
                let cut = F::is_contiguous(attrs) && cuts_group(range, here.start, group);
                if here.size() != shape.bytes() || cut {
                    return Err(MapError::Inside { va: here.start, level: shape.level });
                }
                let new = change.apply(raw);
                if new == raw {
                    continue;
                }
                // A group whose every member changes alike keeps its mark: compare without it.
                let mark = F::bits(F::leaf_attrs(attrs, shape.level, true))
                    ^ F::bits(F::leaf_attrs(attrs, shape.level, false));
                if !F::change_is_safe(raw & !mark, new & !mark) {
                    return Err(MapError::Live { va: here.start, level: shape.level });
                }
                match F::decode(new, shape.level) {
                    Entry::Leaf { base: same, .. } if same == base => {}
                    Entry::Absent { .. } => {}
                    _ => return Err(MapError::Live { va: here.start, level: shape.level }),
                }
                slot.store(new);
                stale.owe(here);
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn split<F: EntryFormat, M: PhysMem>(
    cursor: &mut CursorMut<'_, '_, F, M>,
    va: VirtAddr,
    frames: &mut impl FrameSource,
    tlb: &mut impl Tlb,
    table_attrs: F::Attrs,
) -> Result<(u64, Stale), Failed> {
    let under = cursor.under(va)?;
    let shape = F::shape().levels[under.depth];
    let Entry::Leaf { base, attrs } = under.entry else {
        return Err(MapError::Hole { va, level: shape.level }.into());
    };
    if F::is_contiguous(attrs) {
        let stale = unmark_group(cursor.tables, under.table, under.depth, va, tlb)?;
        return Ok((shape.bytes(), stale));
    }
    let Some(below) = F::shape().levels.get(under.depth + 1) else {
        return Ok((shape.bytes(), Stale::NONE));
    };
    let frame = frames.take(below.level).map_err(MapError::NoFrame)?;
    let mem = cursor.tables.mem();
    let child = F::leaf_attrs(F::page_attrs(attrs, shape.level), below.level, false);
    if let Err(error) = F::encode(Entry::Leaf { base, attrs: child }, below.level) {
        frames.give_back(frame.pa);
        return Err(MapError::Encode(error).into());
    }
    mem.fill::<F::Slot>(frame.pa, 0, below.entries(), base.0 | F::bits(child), below.bytes())?;
    mem.note(frame.pa)?.set_used(below.entries() as u16);
    let block = block_range(va, &shape);
    let slot = &slots(cursor.tables, under.table, under.depth)?[under.index];
    if F::BREAK_BEFORE_MAKE {
        slot.swap(0);
        tlb.flush(block, false);
    }
    slot.publish(frame.pa.0 | F::bits(table_attrs));
    let stale = if F::BREAK_BEFORE_MAKE { Stale::NONE } else { Stale::range_only(block) };
    Ok((below.bytes(), stale))
}

/// Takes the contiguous mark off the group around `va`.
fn unmark_group<F: EntryFormat, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    table: PhysAddr,
    depth: usize,
    va: VirtAddr,
    tlb: &mut impl Tlb,
) -> Result<Stale, Failed> {
    let shape = F::shape().levels[depth];
    let members = 1usize << shape.contiguous_bits;
    let first = shape.index(va) & !(members - 1);
    let slots = &slots(tables, table, depth)?[first..first + members];
    let start = va.align_down(shape.bytes() << shape.contiguous_bits);
    let group = VirtRange { start, last: VirtAddr(start.0 | ((shape.bytes() << shape.contiguous_bits) - 1)) };
    let mut old = [0; 128];
    for (old, slot) in old.iter_mut().zip(slots) {
        *old = if F::BREAK_BEFORE_MAKE { slot.swap(0) } else { slot.load() };
    }
    if F::BREAK_BEFORE_MAKE {
        tlb.flush(group, false);
    }
    for (raw, slot) in old.iter().zip(slots) {
        if let Entry::Leaf { base, attrs } = F::decode(*raw, shape.level) {
            let single = F::leaf_attrs(F::page_attrs(attrs, shape.level), shape.level, false);
            slot.publish(base.0 | F::bits(single));
        } else {
            slot.publish(*raw);
        }
    }
    Ok(if F::BREAK_BEFORE_MAKE { Stale::NONE } else { Stale::range_only(group) })
}

fn block_range(va: VirtAddr, shape: &LevelShape) -> VirtRange {
    let start = va.align_down(shape.bytes());
    VirtRange { start, last: VirtAddr(start.0 | (shape.bytes() - 1)) }
}

pub(crate) fn collapse<F: EntryFormat, M: PhysMem>(
    cursor: &mut CursorMut<'_, '_, F, M>,
    va: VirtAddr,
    level: Level,
    tlb: &mut impl Tlb,
) -> Result<Stale, Failed> {
    let depth = F::shape().depth(level);
    let shape = F::shape().levels[depth];
    let block = block_range(va, &shape);
    let Some(table) = cursor.table_at(va, depth)? else { return Err(MapError::Hole { va, level }.into()) };
    let slot = &slots(cursor.tables, table, depth)?[shape.index(va)];
    let Entry::Table { next, .. } = F::decode(slot.load(), level) else {
        return Err(MapError::Unequal { va: block.start }.into());
    };
    let (base, attrs) = equal_leaves(cursor.tables, next, depth + 1, block)?;
    let raw =
        F::encode(Entry::Leaf { base, attrs: F::leaf_attrs(attrs, level, false) }, level).map_err(MapError::Encode)?;
    let mut stale = Stale::range_only(block);
    if F::BREAK_BEFORE_MAKE {
        slot.swap(0);
        tlb.flush(block, true);
    }
    slot.publish(raw);
    stale.bury(cursor.tables, next, depth + 1);
    Ok(stale)
}

/// What the leaves of a full table say together: first byte and page attributes.
fn equal_leaves<F: EntryFormat, M: PhysMem>(
    tables: &Tables<'_, F, M>,
    table: PhysAddr,
    depth: usize,
    block: VirtRange,
) -> Result<(PhysAddr, F::Attrs), MapError> {
    let shape = F::shape().levels[depth];
    let mut first = None;
    for (slot, step) in slots(tables, table, depth)?.iter().zip(0u64..) {
        let va = block.start + step * shape.bytes();
        let Entry::Leaf { base, attrs } = F::decode(slot.load(), shape.level) else {
            return Err(MapError::Unequal { va });
        };
        let attrs = F::page_attrs(attrs, shape.level);
        let (start, same) = *first.get_or_insert((base, attrs));
        if base != start + step * shape.bytes() || attrs != same || !start.is_aligned(block.size()) {
            return Err(MapError::Unequal { va });
        }
    }
    first.ok_or(MapError::Unequal { va: block.start })
}
