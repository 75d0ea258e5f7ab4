//! Tables that several CPUs change at once, without a lock around the tree.
//!
//! Here: [`SharedTables`], made from [`Tables`] by value; [`CpuTables`], one CPU's handle with its cursors, walks and
//! waiting tables (`cpu.rs`); [`SharedCursor`] (`cursor.rs`); which tables a cursor locks (`hold.rs`); when nobody walks
//! through a table any more (`epoch.rs`). The lock itself is a bit of the table's note (`TableNote` in `kernmem-base`).
//! Not here: what an operation does to entries, which is the exclusive cursor's.
//!
//! # States of a table
//! ```text
//!  frame ──taken──► new: locked, out of reach ──linked──► held ◄──lock, unlock──► free
//!                                                          │
//!                                                          └──unlinked──► dead ──epoch + 2──► frame
//! ```
//!
//! # Protocol
//! 1. A cursor goes down from the root without a lock, inside an epoch, to the lowest table that contains its range, and
//!    locks that. If the table died meanwhile, it begins anew; if others made tables below meanwhile, it goes on down,
//!    with the lock of each taken before that of its parent is given back.
//! 2. It then locks all tables below that its range touches, parents before children, and leaves the epoch. From then
//!    until it is dropped nobody else changes what the range maps: another cursor over one of its addresses needs the
//!    topmost table of this one, or this one would need that one's.
//! 3. A table that a cursor makes is locked before it is linked, and belongs to what the cursor holds. Tables above the
//!    lowest that the range needs are linked empty, one by one, and the parent's lock is given back at once: of two who
//!    want to make the same table, one does and the other finds it.
//! 4. The entry of a table is changed only by who holds both it and the table that has the entry. So a cursor whose
//!    topmost table is to go (its range is all of it, or it became empty) *climbs*: it locks the parent, with all that
//!    it holds kept. While it waits for the parent its topmost table says so by a bit, and whoever waits for that table
//!    with the parent held gives all its locks back and begins anew.
//! 5. A table is unlinked, then marked as dead with all tables below it, which are all held. It hangs on the `Stale`
//!    debt. [`CpuTables::pay`] flushes at once and keeps the tables until no walk can be in them.
//! 6. Walks ([`CpuTables::read`]) take an epoch and nothing else.
//!
//! # Why nobody waits for ever
//! What a cursor holds is connected: whoever holds a table that is not its topmost holds the parent too.
//! A cursor waits in three ways: with nothing held; *down*, for a child of a table that it holds; *up*, by climbing.
//! If A waits down for X, which B holds, X is B's topmost table, since its parent is A's: B's topmost lies deeper than
//! A's. If B climbs, A sees the bit and gives way, so A waits on only if B itself runs or waits down. So a chain of
//! waits that has gone down once goes down for ever, and ends, since tables end.
//! If B waits up for P, which A holds, A's topmost is P or lies above it: a chain that only goes up ends at the root.
//! A CPU has one cursor at a time, since the cursor borrows its handle: nobody waits for itself.
//! Locks are not fair: a CPU may be overtaken any number of times.
//!
//! # Memory orders
//! | access | order | partner |
//! |---|---|---|
//! | entry that links a table | Release | the Acquire load of whoever goes down: the table's entries and its lock bit |
//! | lock | Acquire | Release of the unlock: entries and count of the last holder |
//! | dead bit | Release | the Acquire load before a lock: nothing links the table |
//! | epoch and slots | see `epoch.rs` | |
//!
//! Entries inside what is held are loaded and stored Relaxed, as by the exclusive cursor.
//!
//! # Invariants
//! 1. Those of the exclusive cursor (head of the crate): counts are true whenever a table is not held; a table whose
//!    count falls to zero in an unmap is dead, and so are those above that this empties; a table is linked after it was
//!    written; memory is given back after the debt is paid.
//! 2. A table that is neither held nor dead is linked once, at the place where it was made.
//! 3. A frame is given back only when no walk that could have met its table goes on.
//!
//! # Cost
//! A cursor makes two exchanges, one on its own CPU's line and one on the lowest table's note; one more for each table
//! below that its range touches, and one for each parent that it climbs to. Unlocking is a store. CPUs whose cursors
//! stand in different tables write to no common line, if the notes of their tables do not share one: a frame source that
//! hands each CPU neighbouring frames sees to that.
//!
//! # Not for
//! Trees in which a table is linked from two places ([`SharedTables::new`] refuses them), and tables that another tree
//! links too: its walks are not seen here. A flush in an operation is made with tables locked: who waits for a lock must
//! be able to answer it.

use core::fmt;

use kernmem_arch::EntryFormat;
use kernmem_base::sync::spin_loop;
use kernmem_base::{FrameSource, PhysAddr, PhysMem};

use crate::Tables;
use crate::stale::free_list;

mod cpu;
mod cursor;
mod epoch;
mod hold;

pub use cpu::{CpuTables, Reading};
pub use cursor::SharedCursor;
pub use epoch::CpuSlot;

use epoch::Epochs;
use hold::{Wait, check};

/// A tree of page tables that several CPUs change at once: made from [`Tables`] by value, and turned back into them.
pub struct SharedTables<'m, F: EntryFormat, M: PhysMem> {
    tables: Tables<'m, F, M>,
    epochs: Epochs<'m>,
    wait: Wait,
}

impl<F: EntryFormat, M: PhysMem> fmt::Debug for SharedTables<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTables").field("tables", &self.tables).field("epochs", &self.epochs).finish()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> SharedTables<'m, F, M> {
    /// Shares `tables` among the CPUs for which there are `slots`. Every table must be linked once, by this tree alone,
    /// or stand where no note is: those are read and never held.
    ///
    /// # Errors
    /// [`Entangled`], with the tables: one is linked twice, or a cursor that was forgotten holds it.
    pub fn new(tables: Tables<'m, F, M>, slots: &'m mut [CpuSlot]) -> Result<Self, Entangled<'m, F, M>> {
        match check::<F, M>(tables.mem(), tables.node()) {
            Ok(()) => Ok(Self { tables, epochs: Epochs::new(slots), wait: |_| spin_loop() }),
            Err(table) => Err(Entangled { tables, table }),
        }
    }

    /// What a CPU does between two looks at a lock that another CPU has, in place of a spin-loop hint; `wait` is told
    /// how often it has looked.
    #[must_use]
    pub fn with_wait(mut self, wait: fn(u32)) -> Self {
        self.wait = wait;
        self
    }

    /// The handle of a CPU. Nothing if there is no such slot, or somebody has its handle.
    pub fn cpu(&self, number: usize) -> Option<CpuTables<'_, 'm, F, M>> {
        CpuTables::new(self, self.epochs.slots().get(number)?)
    }

    /// Ends the sharing. Nobody walks any more, so what waited for walks is given back to `frames`.
    pub fn into_tables(self, frames: &mut impl FrameSource) -> Tables<'m, F, M> {
        for slot in self.epochs.slots() {
            let left = slot.take().unwrap_or(0);
            if let Some(first) = left.checked_sub(1) {
                free_list::<F, M>(self.tables.mem(), PhysAddr(first), frames);
            }
            slot.leave_behind(0);
        }
        let mut tables = self.tables;
        tables.set_unlinked(true);
        tables
    }
}

/// A tree that cannot be shared: one of its tables is linked more than once, or locked for ever.
pub struct Entangled<'m, F, M> {
    /// The tree.
    pub tables: Tables<'m, F, M>,
    /// The table.
    pub table: PhysAddr,
}

impl<F, M> fmt::Debug for Entangled<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entangled").field("table", &self.table).finish_non_exhaustive()
    }
}

impl<F, M> fmt::Display for Entangled<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table at {} is linked more than once or stays locked", self.table)
    }
}

impl<F, M> core::error::Error for Entangled<'_, F, M> {}
