//! Tables that several CPUs change at once.

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
        self.tables
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
