//! Free areas: the free blocks of one zone, by order and migrate type, behind one trait.
//!
//! Here: the trait, the choice between its two implementations, and when neighbours merge.
//! Not here: which type a request takes from (`fallback`), blocks that were not opened yet (`deferred`).
//!
//! # Invariants
//! 1. A free block of order n begins at a multiple of 2^n frames, counted from frame 0, and lies in the zone.
//! 2. No frame is in two free blocks.
//! 3. Two free buddies of one order below the largest are one block, unless [`may_merge`] says no.
//! 4. `count` is the number of blocks of an order and a type.
//!
//! Source: Linux 6.1 mm/page_alloc.c `__free_one_page`, `expand`.

mod dense;
mod linux;

use kernmem_base::{Era, Pfn};
use kernmem_sparse::MigrateType;

use crate::ground::Ground;
use crate::store::{States, Words};

pub(crate) use dense::DenseBits;
pub(crate) use linux::LinuxLists;

/// Orders that a zone may have: 0 to 15.
pub(crate) const ORDERS: usize = 16;

/// Migrate types.
pub(crate) const KINDS: usize = MigrateType::ALL.len();

/// Whose merges [`Placement::Dense`] makes: a block has one type there, its pageblocks'; the merges of 5.10 across CMA and
/// urgent pageblocks would lose it.
pub(crate) const MERGES_AS: Era = Era::V6_1;

/// Blocks by order and type.
pub(crate) type Counts = [[u64; KINDS]; ORDERS];

/// Where the free blocks of a zone are kept, and in which order they are taken.
///
/// What both have in common: every free set is kept in maximal aligned blocks, so equal free sets with equal types of
/// pageblocks have equal numbers of blocks of each order, summed over types (in 5.10 as long as no pageblock is kept for
/// CMA or urgent requests: [`Placement::Dense`] never merges those with others); requests of order 0 succeed or fail alike and leave equal numbers of free
/// frames in each zone, as long as no frames wait for urgent requests alone.
/// Where they differ: addresses, hence which larger requests find a block later; and up to 6.1 the types that blocks are
/// listed under, since [`Placement::Dense`] lists each under the type of its pageblock, as Linux does from 6.12 on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// Lowest address first, in pageblocks that are partly used before whole ones: keeps large blocks whole.
    Dense,
    /// Linux's lists, with their order of members.
    Linux,
}

/// A free block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    pub pfn: Pfn,
    pub order: u8,
    pub kind: MigrateType,
}

/// The end of a list at which a block is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Taken next.
    Head,
    /// Taken last.
    Tail,
}

/// The free blocks of one zone.
pub(crate) trait FreeArea<T: States> {
    /// Opens the records around a frame; false if there is no memory for them.
    fn open(&mut self, ground: &Ground<T>, pfn: Pfn) -> bool;

    /// Blocks of exactly this order and type.
    fn count(&self, order: u8, kind: MigrateType) -> u64;

    /// The block of exactly this order and type that would be taken next.
    fn first(&self, ground: &Ground<T>, order: u8, kind: MigrateType) -> Option<Pfn>;

    /// The block of this type that a request of `order` would be cut from.
    fn choose(&self, ground: &Ground<T>, order: u8, kind: MigrateType) -> Option<Block>;

    /// Puts a block in without looking at its neighbours.
    fn insert(&mut self, ground: &Ground<T>, block: Block, end: End);

    /// Puts a block in, merged with its neighbours; answers what became of it. Without `end` Linux's rule decides.
    fn give(&mut self, ground: &Ground<T>, block: Block, end: Option<End>) -> Block;

    /// Takes a whole block out.
    fn remove(&mut self, ground: &Ground<T>, block: Block);

    /// The free block that a frame lies in.
    fn find(&self, ground: &Ground<T>, pfn: Pfn) -> Option<Block>;

    /// Moves what is free in a pageblock to the lists of `to`; the pageblock's own type stays.
    fn move_free(&mut self, ground: &Ground<T>, block_start: Pfn, to: MigrateType);

    /// Says what a pageblock is meant for; free blocks in it stay on their lists, where there are lists.
    fn retype(&mut self, ground: &Ground<T>, block_start: Pfn, to: MigrateType);
}

/// The two implementations.
// One value a zone, and nowhere to box it: the difference of sizes costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Areas<W> {
    Dense(DenseBits<W>),
    Linux(LinuxLists<W>),
}

impl<W: Words> Areas<W> {
    pub fn new(placement: Placement, words: W) -> Self {
        match placement {
            Placement::Dense => Self::Dense(DenseBits::new(words)),
            Placement::Linux => Self::Linux(LinuxLists::new(words)),
        }
    }

    pub fn get<T: States>(&self) -> &dyn FreeArea<T> {
        match self {
            Self::Dense(area) => area,
            Self::Linux(area) => area,
        }
    }

    pub fn get_mut<T: States>(&mut self) -> &mut dyn FreeArea<T> {
        match self {
            Self::Dense(area) => area,
            Self::Linux(area) => area,
        }
    }
}

/// Whether two free buddies in pageblocks of these types become one block.
///
/// | era | yes when the types are equal, or |
/// |---|---|
/// | 4.14 | neither is isolated (UNVERIFIED) |
/// | 5.10 | neither is isolated |
/// | 6.1, 6.12, 7.2 | both are unmovable, movable or reclaimable |
///
/// Source: Linux 5.10–7.2 mm/page_alloc.c `__free_one_page`, `migratetype_is_mergeable`.
pub(crate) fn may_merge(era: Era, a: MigrateType, b: MigrateType) -> bool {
    let plain = |kind| kind < MigrateType::HighAtomic;
    let differ = match era {
        Era::V4_14 | Era::V5_10 => a != MigrateType::Isolate && b != MigrateType::Isolate,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => plain(a) && plain(b),
    };
    a == b || differ
}

/// Whether the list that a free block is on follows the type of its pageblock.
///
/// | era | list |
/// |---|---|
/// | 4.14, 5.10, 6.1 | the type at the time of the free, which may differ from the pageblock's later (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | always the pageblock's |
///
/// Source: Linux 6.1–7.2 mm/page_alloc.c `__free_one_page`, `account_freepages`.
pub(crate) const fn lists_follow_pageblocks(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => true,
    }
}
