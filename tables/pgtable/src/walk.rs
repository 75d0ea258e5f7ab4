//! One address followed as the MMU would, without TLB and without touching the tables.

use core::fmt;

use kernmem_arch::{EncodeError, Entry, EntryFormat, LevelShape};
use kernmem_base::{BusError, Level, PhysAddr, PhysRead, VirtAddr};

/// Where a walk ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk<A> {
    /// The address reaches memory.
    Mapped {
        /// The byte it reaches.
        pa: PhysAddr,
        /// The leaf's level.
        level: Level,
        /// The leaf's attributes.
        attrs: A,
    },
    /// No entry maps the address.
    Hole {
        /// The level of the empty entry.
        level: Level,
    },
}

/// Why a walk cannot end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WalkError {
    /// A table lies where no memory can be read.
    Bus(BusError),
    /// An entry that the architecture does not define.
    Malformed {
        /// Its level.
        level: Level,
        /// Its bits.
        raw: u64,
    },
}

impl From<BusError> for WalkError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(_) => f.write_str("a table cannot be read"),
            Self::Malformed { level, raw } => {
                write!(f, "malformed entry at {}", EncodeError { level: *level, raw: *raw })
            }
        }
    }
}

impl core::error::Error for WalkError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Bus(error) => Some(error),
            Self::Malformed { .. } => None,
        }
    }
}

/// One level of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step<A> {
    /// The level.
    pub level: Level,
    /// The table that was read.
    pub table: PhysAddr,
    /// The entry in it.
    pub index: usize,
    /// Its bits.
    pub raw: u64,
    /// Its meaning.
    pub entry: Entry<A>,
}

/// The levels that the MMU reads for `va`, root first; ends behind the first entry that is no table.
pub fn steps<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    va: VirtAddr,
) -> impl Iterator<Item = Result<Step<F::Attrs>, BusError>> {
    let mut table = Some(root);
    F::shape().levels.iter().map_while(move |shape| {
        let here = table.take()?;
        let index = shape.index(va);
        Some(mem.entry::<F::Slot>(here, index).map(|raw| {
            let entry = F::decode(raw, shape.level);
            if let Entry::Table { next, .. } = entry {
                table = Some(next);
            }
            Step { level: shape.level, table: here, index, raw, entry }
        }))
    })
}

/// Follows `va` from `root`.
///
/// # Errors
/// A table cannot be read, or an entry is malformed.
#[inline]
pub fn translate<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    va: VirtAddr,
) -> Result<Walk<F::Attrs>, WalkError> {
    let (mut table, (above, last)) = (root, levels::<F>());
    for shape in above {
        let raw = mem.entry::<F::Slot>(table, shape.index(va))?;
        table = match F::decode(raw, shape.level) {
            Entry::Table { next, .. } => next,
            _ => return ended_above::<F>(raw, shape, va),
        }
    }
    ended::<F>(mem.entry::<F::Slot>(table, last.index(va))?, last, va)
}

/// The levels of tables that link others, and the level of base pages.
#[inline]
pub(crate) fn levels<F: EntryFormat>() -> (&'static [LevelShape], &'static LevelShape) {
    let levels = F::shape().levels;
    let last = levels.len() - 1;
    (&levels[..last], &levels[last])
}

/// [`ended`] out of the way of walks to base pages.
#[cold]
#[inline(never)]
pub(crate) fn ended_above<F: EntryFormat>(
    raw: u64,
    shape: &LevelShape,
    va: VirtAddr,
) -> Result<Walk<F::Attrs>, WalkError> {
    ended::<F>(raw, shape, va)
}

/// What `raw`, the entry of a level that ends the walk for `va`, says.
#[inline]
pub(crate) fn ended<F: EntryFormat>(raw: u64, shape: &LevelShape, va: VirtAddr) -> Result<Walk<F::Attrs>, WalkError> {
    let level = shape.level;
    match F::decode(raw, level) {
        Entry::Leaf { base, attrs } => Ok(Walk::Mapped { pa: base + shape.offset(va), level, attrs }),
        Entry::Absent { .. } => Ok(Walk::Hole { level }),
        Entry::Table { .. } | Entry::Reserved { .. } => Err(WalkError::Malformed { level, raw }),
    }
}
