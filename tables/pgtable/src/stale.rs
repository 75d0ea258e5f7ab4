//! The debt of a change: what TLBs may still hold, and the tables that wait for it.

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{FrameSource, PhysAddr, PhysMem, Slot, Tlb, VirtRange};

use crate::Tables;

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
    pub(crate) fn bury<F: EntryFormat, M: PhysMem>(
        &mut self,
        tables: &Tables<'_, F, M>,
        table: PhysAddr,
        depth: usize,
    ) {
        let granule = F::shape().granule;
        if let Ok(note) = tables.mem().note(table) {
            note.bury(depth, self.dead.map(|pa| pa.pfn(granule)));
            self.dead = Some(table);
        }
    }

    /// Flushes the range once, then gives every dead table back to `frames`, with the tables below it. A debt without
    /// a range was flushed when it was made.
    pub fn pay<F: EntryFormat, M: PhysMem>(
        self,
        tlb: &mut impl Tlb,
        tables: &mut Tables<'_, F, M>,
        frames: &mut impl FrameSource,
    ) {
        if let Some(range) = self.range {
            tlb.flush(range, self.dead.is_some());
        }
        let granule = F::shape().granule;
        let mut next = self.dead;
        while let Some(table) = next {
            let Ok(note) = tables.mem().note(table) else { return };
            let depth = note.dead_depth();
            next = note.link().and_then(|pfn| pfn.to_phys(granule));
            free_subtree(tables, table, depth, frames);
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

/// Gives back a dead table and the tables below it; leaves are not looked at in the last level.
fn free_subtree<F: EntryFormat, M: PhysMem>(
    tables: &mut Tables<'_, F, M>,
    table: PhysAddr,
    depth: usize,
    frames: &mut impl FrameSource,
) {
    let levels = F::shape().levels;
    if depth + 1 < levels.len()
        && let Ok(slots) = tables.mem().table::<F::Slot>(table, levels[depth].entries())
    {
        for slot in slots.iter() {
            if let Entry::Table { next, .. } = F::decode(slot.load(), levels[depth].level) {
                free_subtree(tables, next, depth + 1, frames);
            }
        }
    }
    if let Ok(note) = tables.mem().note(table) {
        note.renew(false);
    }
    frames.give_back(table);
}
