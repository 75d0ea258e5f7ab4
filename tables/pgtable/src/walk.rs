//! One address followed as the MMU would, without TLB and without touching the tables.

use core::fmt;

use kernmem_arch::{EncodeError, Entry, EntryFormat};
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
///
/// # Panics
/// The format breaks its law that the last level holds no tables.
pub fn translate<F: EntryFormat, M: PhysRead>(
    mem: &M,
    root: PhysAddr,
    va: VirtAddr,
) -> Result<Walk<F::Attrs>, WalkError> {
    let mut table = root;
    for shape in F::shape().levels {
        let level = shape.level;
        let raw = mem.entry::<F::Slot>(table, shape.index(va))?;
        match F::decode(raw, level) {
            Entry::Table { next, .. } => table = next,
            Entry::Leaf { base, attrs } => return Ok(Walk::Mapped { pa: base + shape.offset(va), level, attrs }),
            Entry::Absent { .. } => return Ok(Walk::Hole { level }),
            Entry::Reserved { raw } => return Err(WalkError::Malformed { level, raw }),
        }
    }
    unreachable!("the last level of a format holds no tables")
}
