//! The tables as one CPU reaches them: its cursors, its walks, and the dead tables that wait for the walks of others.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::{FrameSource, PhysAddr, PhysMem, Tlb, VirtAddr, VirtRange};

use super::hold::Hold;
use super::{CpuSlot, SharedCursor, SharedTables};
use crate::span::is_in_one_root;
use crate::stale::{append, free_list};
use crate::{MapError, Stale, Tables, Visitor, Walk, WalkError, translate, visit};

/// Detached subtrees that wait until a CPU looks whether walks go on: more means fewer looks at the other CPUs' lines,
/// and at the most two times so many subtrees of each CPU wait when no walk stands still.
const BATCH: usize = 32;

/// A list of detached subtrees, linked through the notes of their topmost tables.
#[derive(Debug, Default)]
struct Bag {
    first: Option<PhysAddr>,
    subtrees: usize,
}

/// The tables as one CPU reaches them: one handle for each [`CpuSlot`].
///
/// A CPU has one cursor or one reading at a time: both borrow the handle.
pub struct CpuTables<'s, 'm, F: EntryFormat, M: PhysMem> {
    shared: &'s SharedTables<'m, F, M>,
    slot: &'m CpuSlot,
    /// What was paid since the last look.
    open: Bag,
    /// What was paid before the epoch `closed_in` was read, and waits for the walks of that time.
    closed: Bag,
    closed_in: u64,
}

impl<F: EntryFormat, M: PhysMem> fmt::Debug for CpuTables<'_, '_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuTables").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl<'s, 'm, F: EntryFormat, M: PhysMem> CpuTables<'s, 'm, F, M> {
    /// The handle of the CPU whose slot this is, if nobody has it.
    pub(super) fn new(shared: &'s SharedTables<'m, F, M>, slot: &'m CpuSlot) -> Option<Self> {
        let left = slot.take()?;
        let first = left.checked_sub(1).map(PhysAddr);
        let open = Bag { first, subtrees: if first.is_some() { BATCH } else { 0 } };
        Some(Self { shared, slot, open, closed: Bag::default(), closed_in: 0 })
    }

    /// Waits until nobody else changes what `range` maps, and keeps it so while the cursor lives. The cursor stands at
    /// the start of the range.
    ///
    /// # Errors
    /// [`MapError::BeyondRoot`], or the root lies outside memory; nothing is held then.
    pub fn cursor(&mut self, range: VirtRange) -> Result<SharedCursor<'_, 'm, F, M>, MapError> {
        if !is_in_one_root::<F>(range) {
            return Err(MapError::BeyondRoot { range });
        }
        let SharedTables { tables, wait, .. } = self.shared;
        let hold = {
            let _walk = self.read();
            Hold::acquire(tables.mem(), tables.root(), range, *wait)?
        };
        Ok(SharedCursor::new(Tables::new(tables.mem(), tables.root()), hold))
    }

    /// Begins to read: tables that this CPU meets stay what they are until the reading is dropped.
    pub fn read(&mut self) -> Reading<'_, 'm, F, M> {
        self.shared.epochs.enter(self.slot);
        Reading { shared: self.shared, slot: self.slot }
    }

    /// Follows one address, as [`translate`] does.
    ///
    /// # Errors
    /// A table cannot be read, or an entry is malformed.
    pub fn translate(&mut self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        self.read().translate(va)
    }

    /// Flushes what the debt names now, and keeps its dead tables until no walk that could have met them goes on; every
    /// so often, those of which this is known are given back to `frames`.
    pub fn pay(&mut self, stale: Stale, tlb: &mut impl Tlb, frames: &mut impl FrameSource) {
        let dead = stale.flush(tlb);
        if let Some(first) = dead {
            self.open.prepend::<F, M>(self.shared.tables.mem(), first);
            if self.open.subtrees >= BATCH {
                self.collect(frames);
            }
        }
    }

    /// Gives back to `frames` every dead table of this CPU that no walk can meet any more. Returns how many subtrees
    /// have to wait on.
    pub fn collect(&mut self, frames: &mut impl FrameSource) -> usize {
        let epochs = &self.shared.epochs;
        let paid_in = epochs.now();
        let mut now = paid_in;
        for _ in 0..2 {
            now = epochs.advance(now);
        }
        if now >= self.closed_in + 2 {
            self.free(|cpu| &mut cpu.closed, frames);
        }
        if now >= paid_in + 2 {
            self.free(|cpu| &mut cpu.open, frames);
        } else if self.closed.first.is_none() {
            self.closed = core::mem::take(&mut self.open);
            self.closed_in = paid_in;
        }
        self.waiting()
    }

    /// Detached subtrees that wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.open.subtrees + self.closed.subtrees
    }

    fn free(&mut self, bag: impl Fn(&mut Self) -> &mut Bag, frames: &mut impl FrameSource) {
        if let Bag { first: Some(first), .. } = core::mem::take(bag(self)) {
            free_list::<F, M>(self.shared.tables.mem(), first, frames);
        }
    }
}

impl<F: EntryFormat, M: PhysMem> Drop for CpuTables<'_, '_, F, M> {
    /// Leaves what waits to the next handle of the slot, or to [`SharedTables::into_tables`].
    fn drop(&mut self) {
        if let Some(first) = self.closed.first {
            self.open.prepend::<F, M>(self.shared.tables.mem(), first);
        }
        self.slot.leave_behind(self.open.first.map_or(0, |table| table.0 + 1));
    }
}

impl Bag {
    /// Puts the list that begins with `first` in front.
    fn prepend<F: EntryFormat, M: PhysMem>(&mut self, mem: &M, first: PhysAddr) {
        self.subtrees += append::<F, M>(mem, first, self.first);
        self.first = Some(first);
    }
}

/// A CPU reads tables without a lock: none that it meets is given back before this is dropped.
pub struct Reading<'c, 'm, F: EntryFormat, M: PhysMem> {
    shared: &'c SharedTables<'m, F, M>,
    slot: &'c CpuSlot,
}

impl<F: EntryFormat, M: PhysMem> fmt::Debug for Reading<'_, '_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl<F: EntryFormat, M: PhysMem> Reading<'_, '_, F, M> {
    /// Follows one address, as [`translate`] does.
    ///
    /// # Errors
    /// A table cannot be read, or an entry is malformed.
    pub fn translate(&self, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        translate::<F, M>(self.shared.tables.mem(), self.shared.tables.root(), va)
    }

    /// Hands every entry whose addresses touch `range` to `visitor`, as [`visit`] does. What others change meanwhile
    /// is seen before or after the change, each entry for itself.
    pub fn visit(&self, range: VirtRange, visitor: &mut impl Visitor<F>) {
        visit::<F, M>(self.shared.tables.mem(), self.shared.tables.root(), range, visitor);
    }
}

impl<F: EntryFormat, M: PhysMem> Drop for Reading<'_, '_, F, M> {
    fn drop(&mut self) {
        self.slot.leave();
    }
}
