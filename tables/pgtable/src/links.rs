//! Walks through a tree whose owner links all tables alike: one test a level tells that an entry is such a link, and what
//! is left of it is the next table's address, with nothing to mask.
//!
//! Not here: walks that know nothing of the tree ([`translate`](crate::translate)).
//!
//! # Invariants
//! 1. The bits are a link's at every level that links tables: with any address that lies in [`EntryFormat::table_bits`]
//!    they are the entry that links the table there.

use core::fmt;
use core::marker::PhantomData;

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{PhysAddr, PhysRead, VirtAddr};

use crate::map::table_entry;
use crate::walk::{Walk, WalkError, ended, ended_above, levels};

/// The attributes of the entries that link a tree's tables, as whoever walks it expects them.
pub struct Links<F: EntryFormat> {
    bits: u64,
    format: PhantomData<fn() -> F>,
}

impl<F: EntryFormat> Clone for Links<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: EntryFormat> Copy for Links<F> {}

impl<F: EntryFormat> fmt::Debug for Links<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("attrs", &F::attrs(self.bits)).finish()
    }
}

impl<F: EntryFormat> Links<F> {
    /// Links with these attributes: those that [`Mapping::with_table_attrs`](crate::Mapping::with_table_attrs) was given.
    ///
    /// # Errors
    /// No entry with such attributes links a table.
    pub fn new(attrs: F::Attrs) -> Result<Self, EncodeError> {
        for shape in levels::<F>().0 {
            table_entry::<F>(PhysAddr(0), attrs, shape.level)?;
        }
        Ok(Self { bits: F::bits(attrs), format: PhantomData })
    }

    /// An entry of the level of `shape` less a link's bits: the next table's address, if the entry links one in this way.
    /// The same again makes the entry of what is left.
    #[inline]
    fn less(self, raw: u64, shape: &LevelShape) -> u64 {
        raw ^ F::bits(F::table_attrs(F::attrs(self.bits), shape.level))
    }

    /// Follows `va` from `root` as [`translate`](crate::translate) does, by the same reads and to the same end whatever
    /// links the tables; quickest where all of them are linked so.
    ///
    /// # Errors
    /// A table cannot be read, or an entry is malformed.
    #[inline]
    pub fn translate<M: PhysRead>(&self, mem: &M, root: PhysAddr, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
        let (mut table, (above, last)) = (root, levels::<F>());
        for (depth, shape) in above.iter().enumerate() {
            let left = self.less(mem.entry::<F::Slot>(table, shape.index(va))?, shape);
            if left & !F::table_bits() != 0 {
                return self.otherwise(mem, left, depth, va);
            }
            table = PhysAddr(left);
        }
        ended::<F>(mem.entry::<F::Slot>(table, last.index(va))?, last, va)
    }

    /// Follows `va` on from the entry that was read `depth` levels below the root; `left` is what is left of it.
    #[cold]
    #[inline(never)]
    fn otherwise<M: PhysRead>(
        self,
        mem: &M,
        left: u64,
        depth: usize,
        va: VirtAddr,
    ) -> Result<Walk<F::Attrs>, WalkError> {
        let levels = F::shape().levels;
        let mut raw = self.less(left, &levels[depth]);
        for (shape, below) in levels.iter().zip(&levels[1..]).skip(depth) {
            match F::decode(raw, shape.level) {
                Entry::Table { next, .. } => raw = mem.entry::<F::Slot>(next, below.index(va))?,
                _ => return ended_above::<F>(raw, shape, va),
            }
        }
        ended::<F>(raw, &levels[levels.len() - 1], va)
    }
}
