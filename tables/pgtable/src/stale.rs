//! The debt of a change: what TLBs may still hold, and the tables that wait for it.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{FrameSource, PhysAddr, PhysMem, Slot, TableNote, Tlb, VirtRange};

use crate::Tables;
use crate::cursor::Node;

/// What TLBs may still hold after a change: pay it, hand it on, or forgive it with a reason.
///
/// Dead tables hang on it as a list threaded through their notes: their memory may not be reused, and their virtual
/// range not be mapped anew, until the debt is paid.
#[must_use = "TLBs may still hold the old translation"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stale {
    range: Option<VirtRange>,
    dead: Option<PhysAddr>,
}

impl Stale {
    /// No debt: nothing was mapped where the change was made.
    pub(crate) const NONE: Self = Self { range: None, dead: None };

    pub(crate) const fn range_only(range: VirtRange) -> Self {
        Self { range: Some(range), dead: None }
    }

    /// The addresses that must be flushed, if any.
    #[must_use]
    pub const fn range(&self) -> Option<VirtRange> {
        self.range
    }

    /// Whether tables wait for the flush.
    #[must_use]
    pub const fn frees_tables(&self) -> bool {
        self.dead.is_some()
    }

    /// Widens the debt by `range`.
    pub(crate) fn owe(&mut self, range: VirtRange) {
        self.range = Some(match self.range {
            Some(old) => VirtRange { start: old.start.min(range.start), last: old.last.max(range.last) },
            None => range,
        });
    }

    /// Hangs a detached table, with everything below it, on the debt. One outside memory came from no source and is
    /// let go.
    pub(crate) fn bury<F: EntryFormat, M: PhysMem>(&mut self, mem: &M, node: Node) {
        let granule = F::shape().granule;
        if let Ok(note) = mem.note(node.table) {
            note.bury(node.depth, self.dead.map(|pa| pa.pfn(granule)));
            self.dead = Some(node.table);
        }
    }

    /// Flushes the range once, then gives every dead table back to `frames`, with the tables below it. A debt without
    /// a range was flushed when it was made.
    #[inline]
    pub fn pay<F: EntryFormat, M: PhysMem>(
        self,
        tlb: &mut impl Tlb,
        tables: &mut Tables<'_, F, M>,
        frames: &mut impl FrameSource,
    ) {
        self.settle::<F, M>(tlb, tables.mem(), frames);
    }

    /// [`Stale::pay`] where the tables are reached by other means.
    #[inline]
    pub(crate) fn settle<F: EntryFormat, M: PhysMem>(self, tlb: &mut impl Tlb, mem: &M, frames: &mut impl FrameSource) {
        if let Some(range) = self.range {
            tlb.flush(range, self.dead.is_some());
        }
        if let Some(first) = self.dead {
            free_list::<F, M>(mem, first, frames);
        }
    }

    /// Drops a debt that cannot matter.
    ///
    /// `reason` is for the reader of the code: the MMU is off, the range was never live, the whole TLB is flushed
    /// anyway. Dead tables are lost to the frame source.
    pub fn forgive(self, reason: &'static str) {
        let _ = reason;
    }
}

/// Gives back the dead tables from `first` on, with those below them.
#[inline(never)]
fn free_list<F: EntryFormat, M: PhysMem>(mem: &M, first: PhysAddr, frames: &mut impl FrameSource) {
    let granule = F::shape().granule;
    let mut next = Some(first);
    while let Some(table) = next {
        let Ok(note) = mem.note(table) else { return };
        next = note.link().and_then(|pfn| pfn.to_phys(granule));
        free_subtree::<F, M>(mem, Node { table, depth: note.dead_depth() }, frames);
    }
}

/// Gives back a dead table and the tables below it. What can link none is not read.
fn free_subtree<F: EntryFormat, M: PhysMem>(mem: &M, node: Node, frames: &mut impl FrameSource) {
    let levels = F::shape().levels;
    let note = mem.note(node.table);
    if note.is_ok_and(TableNote::may_link)
        && let Ok(slots) = mem.table::<F::Slot>(node.table, levels[node.depth].entries())
    {
        for slot in slots.iter() {
            if let Entry::Table { next, .. } = F::decode(slot.load(), levels[node.depth].level) {
                free_subtree::<F, M>(mem, node.below(next), frames);
            }
        }
    }
    if let Ok(note) = note {
        note.clear();
    }
    frames.give_back(node.table);
}
