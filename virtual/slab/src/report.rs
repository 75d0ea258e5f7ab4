//! What checks of a cache find: damage, and what was repaired.
//!
//! Source: Linux 6.1 mm/slub.c `check_bytes_and_report`, `object_err`, `slab_fix`: each report and each repair counts.

use core::fmt;

use kernmem_base::VirtAddr;

use crate::CacheId;

/// Which bytes were overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Area {
    /// The red zone in front of the object.
    LeftRedZone,
    /// The red zone behind the object.
    RightRedZone,
    /// What a request did not ask for of an object in use.
    KmallocRedZone,
    /// A free object.
    Poison,
    /// Between the object and its free pointer.
    AlignmentPadding,
    /// Behind the object's records.
    ObjectPadding,
    /// Behind the last object of the slab.
    SlabPadding,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Damage {
    /// Bytes were overwritten: the first of them.
    Overwritten {
        /// Which bytes.
        area: Area,
        /// Counted from the object's first byte; for the slab's padding from the slab's.
        offset: i64,
        /// What should be there.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// A free pointer on the slab's chain leads nowhere.
    Freechain,
    /// The free pointer of an object leads nowhere.
    Freepointer,
    /// The slab counts other objects in use than its chain leaves.
    WrongCount {
        /// Objects in use by the counter.
        counter: u16,
        /// Objects that are not on the chain.
        counted: u16,
    },
}

/// One damage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Report {
    /// The cache.
    pub cache: CacheId,
    /// The object, or the slab where no object is meant.
    pub object: VirtAddr,
    /// What is wrong.
    pub damage: Damage,
}

/// What was repaired after a [`Report`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fix {
    /// The bytes have their pattern again.
    BytesRestored,
    /// The counter follows the chain.
    CountAdjusted,
    /// The chain is empty: all free objects count as used.
    ChainCleared,
}

/// What a check found, in its order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Finding {
    /// Damage.
    Bug(Report),
    /// A repair.
    Fixed {
        /// The cache.
        cache: CacheId,
        /// The object, or the slab.
        object: VirtAddr,
        /// What was done.
        fix: Fix,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cache, object) = (self.cache.index(), self.object);
        match self.damage {
            Damage::Overwritten { area, offset, expected, found } => {
                let area = match area {
                    Area::LeftRedZone => "left red zone",
                    Area::RightRedZone => "right red zone",
                    Area::KmallocRedZone => "unrequested end",
                    Area::Poison => "poison",
                    Area::AlignmentPadding => "alignment padding",
                    Area::ObjectPadding => "object padding",
                    Area::SlabPadding => "slab padding",
                };
                write!(
                    f,
                    "cache {cache}, object {object:#x}: {area} at {offset} is {found:#04x} instead of {expected:#04x}"
                )
            }
            Damage::Freechain => write!(f, "cache {cache}, object {object:#x}: the free chain breaks here"),
            Damage::Freepointer => write!(f, "cache {cache}, object {object:#x}: the free pointer leads nowhere"),
            Damage::WrongCount { counter, counted } => {
                write!(f, "cache {cache}, slab {object:#x}: {counter} objects in use by the counter, {counted} in fact")
            }
        }
    }
}
