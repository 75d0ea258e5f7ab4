//! Every entry of a range, in address order, to a visitor: what listings are made of.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, Slot, VirtAddr, VirtRange};

use crate::span::{block_around, over};

/// Receives the entries of a tree in address order.
pub trait Visitor<F: EntryFormat> {
    /// A table entry, before the entries of its table. Returning `false` skips the table.
    fn table(&mut self, va: VirtAddr, level: Level, raw: u64, next: PhysAddr) -> bool;

    /// An entry that is no table: a leaf, an absent or a reserved one.
    fn slot(&mut self, va: VirtAddr, level: Level, raw: u64, entry: Entry<F::Attrs>);

    /// A table that cannot be read; the walk goes on behind it.
    fn unreadable(&mut self, va: VirtAddr, level: Level, error: BusError);
}

/// Hands every entry whose addresses touch `range` to `visitor`. Tables nest no deeper than the shape, so a cyclic
/// tree ends as well. A range that leaves what one root table translates is cut there.
pub fn visit<F: EntryFormat, M: PhysRead>(mem: &M, root: PhysAddr, range: VirtRange, visitor: &mut impl Visitor<F>) {
    let root_last = block_around(range.start, 1 << F::shape().va_bits()).last;
    let range = VirtRange { start: range.start, last: range.last.min(root_last) };
    visit_table::<F, M>(mem, root, 0, range, visitor);
}

fn visit_table<F: EntryFormat, M: PhysRead>(
    mem: &M,
    table: PhysAddr,
    depth: usize,
    range: VirtRange,
    visitor: &mut impl Visitor<F>,
) {
    let shape = &F::shape().levels[depth];
    let slots = match mem.table::<F::Slot>(table, shape.index(range.last) + 1) {
        Ok(slots) => slots,
        Err(error) => return visitor.unreadable(range.start, shape.level, error),
    };
    for (slot, part) in over(&slots, shape, range) {
        let (va, raw) = (part.start, slot.load());
        match F::decode(raw, shape.level) {
            Entry::Table { next, .. } => {
                if visitor.table(va, shape.level, raw, next) {
                    visit_table::<F, M>(mem, next, depth + 1, part, visitor);
                }
            }
            entry => visitor.slot(va, shape.level, raw, entry),
        }
    }
}
