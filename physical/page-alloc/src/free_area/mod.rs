//! Free areas: the free blocks of one zone, by order and migrate type.
//!
//! Here: when neighbours merge, and whose list a block is on; the lists themselves (`linux`).
//! Not here: which type a request takes from (`fallback`), blocks that were not opened yet (`deferred`), dense placement
//! (`dense`).
//!
//! # Invariants
//! 1. A free block of order n begins at a multiple of 2^n frames, counted from frame 0, and lies in the zone.
//! 2. No frame is in two free blocks.
//! 3. Two free buddies of one order below the largest are one block, unless [`may_merge`] says no.
//! 4. `count` is the number of blocks of an order and a type.
//!
//! Source: Linux 6.1 mm/page_alloc.c `__free_one_page`, `expand`.

mod linux;

use kernmem_base::{Era, Pfn};
use kernmem_sparse::MigrateType;

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

/// Where the free frames of a zone are kept, and in which order they are taken.
///
/// What both have in common: free frames are listed in maximal aligned blocks, so equal free sets with equal types of
/// pageblocks have equal numbers of blocks of each order, summed over types (in 5.10 as long as no pageblock is kept for
/// CMA or urgent requests: [`Placement::Dense`] never merges those with others). Zonelists, watermarks and the order of
/// types in a fallback are the same rules. Where only single frames are asked for and enough are left, each zone loses as
/// many frames to its takers in both.
///
/// Where [`Placement::Dense`] differs:
/// * A CPU keeps 64 frames open for the next requests of one kind, and serves them without a look at zones or watermarks;
///   those are looked at when frames leave a zone. What a CPU keeps is free in no zone's count, as with Linux's lists,
///   and how much comes back at once does not follow their batch.
/// * [`crate::Zone::free`] may lag behind the blocks that are listed by fewer than 64 frames a CPU until that CPU drains.
/// * Orders of blocks that somebody has are not recorded: any aligned part of a block may come back by itself, and a wrong
///   order is told only where the frame cannot begin such a block, or where some of its frames are free. Frames that are
///   free, or that were never handed over, are told; one that two CPUs gave back is told to the one who brings it to the
///   zone second, at a later call.
/// * A fallback takes over the lowest whole free pageblock of another type, one at a time; where there is none it takes 64
///   frames at most from a pageblock of another type, which keeps its type.
/// * Blocks are listed under the type of their pageblock in every era, as Linux does from 6.12 on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// A bit a frame, and no lock: lowest address first, in pageblocks that are partly used before whole ones, which keeps
    /// large blocks whole. A pageblock has at least 64 frames.
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
