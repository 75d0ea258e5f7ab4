//! Every entry of a range, in address order, to a visitor: what listings are made of.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, Slot, VirtAddr, VirtRange};

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
/// tree ends as well.
pub fn visit<F: EntryFormat, M: PhysRead>(mem: &M, root: PhysAddr, range: VirtRange, visitor: &mut impl Visitor<F>) {
    visit_table::<F, M>(mem, root, 0, range, visitor);
}

fn visit_table<F: EntryFormat, M: PhysRead>(
    mem: &M,
    table: PhysAddr,
    depth: usize,
    range: VirtRange,
    visitor: &mut impl Visitor<F>,
) {
    let shape = F::shape().levels[depth];
    let (first, last) = (shape.index(range.start), shape.index(range.last));
    let slots = match mem.table::<F::Slot>(table, last + 1) {
        Ok(slots) => slots,
        Err(error) => return visitor.unreadable(range.start, shape.level, error),
    };
    let mut va = range.start;
    for slot in slots.iter().skip(first) {
        let entry_last = VirtAddr(va.0 | (shape.bytes() - 1)).min(range.last);
        let raw = slot.load();
        match F::decode(raw, shape.level) {
            Entry::Table { next, .. } => {
                if visitor.table(va, shape.level, raw, next) {
                    let below = VirtRange { start: va, last: entry_last };
                    visit_table::<F, M>(mem, next, depth + 1, below, visitor);
                }
            }
            entry => visitor.slot(va, shape.level, raw, entry),
        }
        va = entry_last.wrapping_add(1);
    }
}
