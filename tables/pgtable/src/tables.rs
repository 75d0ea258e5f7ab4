//! One tree of tables: a root in some memory.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, Frame, FrameSource, Level, PhysAddr, PhysMem, PhysRange, Slot, VirtAddr, VirtRange};

use crate::cursor::Node;
use crate::map::table_entry;
use crate::{CursorMut, MapError};

/// A tree of page tables of format `F` in memory `M`.
///
/// The value is the right to change the tree: cursors borrow it mutably. Readers need only the memory and the root.
pub struct Tables<'m, F, M> {
    mem: &'m M,
    root: PhysAddr,
    /// 1 if a table may have been unlinked since [`crate::CachedTables`] looked last, else 0.
    unlinked: u64,
    format: PhantomData<fn() -> F>,
}

impl<F, M> fmt::Debug for Tables<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<'m, F: EntryFormat, M: PhysMem> Tables<'m, F, M> {
    /// Takes over the tree at `root`, whose tables carry true notes (a zeroed root table does).
    #[must_use]
    pub const fn new(mem: &'m M, root: PhysAddr) -> Self {
        Self { mem, root, unlinked: 0, format: PhantomData }
    }

    /// The memory that holds the tables.
    #[inline]
    #[must_use]
    pub const fn mem(&self) -> &'m M {
        self.mem
    }

    /// The root table.
    #[inline]
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// 0 while walks that were remembered hold, 1 when they are void: what whoever compares with them ors in.
    #[inline]
    pub(crate) const fn unlinked(&self) -> u64 {
        self.unlinked
    }

    /// Says that an operation may have unlinked a table, or that nothing is remembered of before.
    #[inline]
    pub(crate) const fn set_unlinked(&mut self, has_unlinked: bool) {
        self.unlinked = has_unlinked as u64;
    }

    /// The root as the node at which a descent starts.
    pub(crate) const fn node(&self) -> Node {
        Node { table: self.root, depth: 0 }
    }

    /// A cursor over `range`, standing at its start.
    pub fn cursor(&mut self, range: VirtRange) -> CursorMut<'_, 'm, F, M> {
        CursorMut::new(self, range)
    }

    /// Counts anew the used entries of the table at `pa`, `depth` levels below the root, and of every table below
    /// it: for trees whose tables were filled by other means.
    ///
    /// # Errors
    /// A table lies outside memory; the notes above it are not yet set.
    ///
    /// # Panics
    /// The format has no level `depth`.
    pub fn adopt(&mut self, pa: PhysAddr, depth: usize) -> Result<(), BusError> {
        let shape = F::shape().levels[depth];
        let mut used = 0;
        for slot in self.mem.table::<F::Slot>(pa, shape.entries())?.iter() {
            let raw = slot.load();
            used += u16::from(raw != 0);
            if let Entry::Table { next, .. } = F::decode(raw, shape.level) {
                self.adopt(next, depth + 1)?;
            }
        }
        self.mem.note(pa)?.set_used(used);
        Ok(())
    }

    /// Writes one entry of one table and keeps its note true: for tables that are shared or laid out by hand.
    /// Returns what was there.
    ///
    /// # Errors
    /// The table lies outside memory; nothing was written.
    ///
    /// # Panics
    /// The format has no level `depth`, or its tables no entry `index`.
    pub fn set_entry(&mut self, table: PhysAddr, depth: usize, index: usize, raw: u64) -> Result<u64, BusError> {
        let slots = self.mem.table_mut::<F::Slot>(table, F::shape().levels[depth].entries())?;
        let note = self.mem.note(table)?;
        let old = slots[index].swap(raw);
        self.set_unlinked(true);
        match (old != 0, raw != 0) {
            (false, true) => note.add(1),
            (true, true) => note.set_may_link(),
            (true, false) => {
                note.take(1);
            }
            _ => {}
        }
        Ok(old)
    }

    /// The table that holds the entry of `level` for `va`, made where it is missing, as every table above it. A new
    /// table is empty; its parent's entry carries `attrs`.
    ///
    /// # Errors
    /// Something else is in the way, `attrs` link no table, or no frame; what was made before stays.
    ///
    /// # Panics
    /// The format has no such level.
    pub fn make_table(
        &mut self,
        va: VirtAddr,
        level: Level,
        attrs: F::Attrs,
        frames: &mut impl FrameSource,
    ) -> Result<PhysAddr, MapError> {
        let target = F::shape().depth(level);
        let mut table = self.root;
        for (shape, below) in F::shape().levels[..target].iter().zip(&F::shape().levels[1..]) {
            let slot = &self.mem.table_mut::<F::Slot>(table, shape.entries())?[shape.index(va)];
            table = match F::decode(slot.load(), shape.level) {
                Entry::Table { next, .. } => next,
                Entry::Absent { sw: 0 } => {
                    let note = self.mem.note(table)?;
                    let frame = frames.take(below.level)?;
                    let link = self.empty_table(frame, attrs, shape.level);
                    slot.publish(link.inspect_err(|_| frames.give_back(frame.pa))?);
                    note.add(1);
                    frame.pa
                }
                _ => return Err(MapError::Occupied { va, level: shape.level }),
            };
        }
        Ok(table)
    }

    /// Makes `frame` a table without entries; returns the entry of the level above that links it.
    fn empty_table(&self, frame: Frame, attrs: F::Attrs, parent: Level) -> Result<u64, MapError> {
        let link = table_entry::<F>(frame.pa, attrs, parent)?;
        let note = self.mem.note(frame.pa)?;
        if !frame.zeroed {
            self.mem.zero(PhysRange::new(frame.pa, frame.pa + F::shape().granule.bytes()))?;
        }
        note.set_leaves(0);
        Ok(link)
    }
}
