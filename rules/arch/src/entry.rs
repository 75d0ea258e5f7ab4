//! One page-table entry: what it means, with nothing lost.

use core::fmt;

use kernmem_base::{Level, PhysAddr, Slot};

use crate::Shape;

/// What one page-table entry means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry<A> {
    /// The MMU stops here. `sw` is the whole raw value: a swap entry, a marker, or 0.
    Absent {
        /// The raw value.
        sw: u64,
    },
    /// Points to the next level's table.
    Table {
        /// The table's first byte.
        next: PhysAddr,
        /// Every other bit, in place.
        attrs: A,
    },
    /// Maps a page or a block.
    Leaf {
        /// First byte of the mapped memory.
        base: PhysAddr,
        /// Every other bit, in place.
        attrs: A,
    },
    /// A pattern the architecture does not define at this level.
    Reserved {
        /// The raw value.
        raw: u64,
    },
}

/// One architecture's entry format.
///
/// Laws, for every `raw` and `level`: `decode` does not panic; `encode(decode(raw))` is `Ok(raw)`; `decode(0)` is
/// `Absent { sw: 0 }`; for every leaf level, `page_attrs(leaf_attrs(a, level, c), level)` is `a` without its
/// contiguous mark; the kind of an entry and a leaf's attributes do not depend on [`EntryFormat::address_bits`].
pub trait EntryFormat: 'static {
    /// Every bit but the output address, in place: a listing needs each one.
    type Attrs: Copy + PartialEq + fmt::Debug;

    /// The entry's place in memory: 64 or 32 bits.
    type Slot: Slot;

    /// Whether changing the size, address or memory type of a live entry needs break-before-make.
    const BREAK_BEFORE_MAKE: bool;

    /// Levels, index widths and leaf sizes.
    fn shape() -> &'static Shape;

    /// Meaning of `raw` at `level`.
    fn decode(raw: u64, level: Level) -> Entry<Self::Attrs>;

    /// The bits of an output address, where an entry holds them.
    #[inline]
    fn place(pa: PhysAddr) -> u64 {
        pa.0
    }

    /// The bits that hold the output address of a leaf of `level`; of no meaning where no leaf can be. Entries that are
    /// equal in all other bits are of one kind and, if they are leaves, have the same attributes.
    fn address_bits(level: Level) -> u64;

    /// The bits of a table's address that an entry holds where the address has them. An entry that links a table links
    /// another one, by the same attributes, if only these differ.
    #[inline]
    fn table_bits() -> u64 {
        Self::address_bits(Level::Pte)
    }

    /// The attribute bits in place.
    fn bits(attrs: Self::Attrs) -> u64;

    /// The attributes whose bits are `raw` less its output address: the inverse of [`EntryFormat::bits`].
    fn attrs(bits: u64) -> Self::Attrs;

    /// The form that attributes of a base page take in a leaf of `level`, as one of a contiguous group or not.
    fn leaf_attrs(page: Self::Attrs, level: Level, contiguous: bool) -> Self::Attrs;

    /// The form that the attributes of table entries take in an entry of `level`: the same, unless a level knows fewer
    /// bits than the others.
    #[inline]
    fn table_attrs(attrs: Self::Attrs, level: Level) -> Self::Attrs {
        let _ = level;
        attrs
    }

    /// The base-page form of a leaf's attributes, without its contiguous mark: what a split hands down.
    fn page_attrs(leaf: Self::Attrs, level: Level) -> Self::Attrs;

    /// Whether a leaf is marked as one of a contiguous group.
    fn is_contiguous(attrs: Self::Attrs) -> bool;

    /// Whether a live leaf may go from raw `old` to raw `new` by one store, without break-before-make.
    fn change_is_safe(old: u64, new: u64) -> bool;

    /// Raw form of `entry`: assembled, then accepted only if it decodes to the same entry.
    ///
    /// # Errors
    /// The attributes or the address do not exist at this level.
    // Callers know which kind of entry it is: most of this falls away in them.
    #[inline(always)]
    fn encode(entry: Entry<Self::Attrs>, level: Level) -> Result<u64, EncodeError> {
        let raw = match entry {
            Entry::Absent { sw: raw } | Entry::Reserved { raw } => raw,
            Entry::Table { next, attrs } => Self::place(next) | Self::bits(attrs),
            Entry::Leaf { base, attrs } => Self::place(base) | Self::bits(attrs),
        };
        if Self::decode(raw, level) == entry { Ok(raw) } else { Err(EncodeError { level, raw }) }
    }
}

/// The entry has no raw form at this level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodeError {
    /// Where it was to stand.
    pub level: Level,
    /// The assembled bits, which mean something else there.
    pub raw: u64,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {:#018x} does not exist at level {}", self.raw, self.level)
    }
}

impl core::error::Error for EncodeError {}
