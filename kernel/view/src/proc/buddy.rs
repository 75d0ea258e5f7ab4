//! Free blocks: `/proc/buddyinfo` and `/proc/pagetypeinfo`.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `frag_show`, `pagetypeinfo_show`.

use alloc::vec::Vec;

use super::{MigrateType, ZoneKind};

/// `/proc/buddyinfo`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BuddyInfo {
    /// Populated zones, node by node.
    pub zones: Vec<BuddyRow>,
}

/// Free blocks of one zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuddyRow {
    /// The node.
    pub node: u32,
    /// The zone.
    pub kind: ZoneKind,
    /// Free blocks by order, from 0.
    pub free: Vec<u64>,
}

/// `/proc/pagetypeinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageTypeInfo {
    /// Order of a pageblock.
    pub pageblock_order: u32,
    /// Pages of a pageblock.
    pub pageblock_pages: u64,
    /// How many orders there are.
    pub orders: u32,
    /// The kernel's migrate types, in order.
    pub types: Vec<MigrateType>,
    /// Nodes with memory, in order; the text repeats its head for each.
    pub nodes: Vec<PageTypeNode>,
}

/// One node's part of `/proc/pagetypeinfo`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PageTypeNode {
    /// Free blocks: for each populated zone a row for each type.
    pub free: Vec<PageTypeFree>,
    /// Pageblocks of each populated zone.
    pub blocks: Vec<PageTypeBlocks>,
    /// Pageblocks that hold pages of another type; only a kernel that tracks owners of pages knows them.
    pub mixed: Option<Vec<PageTypeBlocks>>,
}

/// Free blocks of one type in one zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageTypeFree {
    /// The node.
    pub node: u32,
    /// The zone.
    pub kind: ZoneKind,
    /// The type.
    pub migrate: MigrateType,
    /// Free blocks by order, from 0; Linux stops counting at 100000.
    pub counts: Vec<u64>,
}

/// Pageblocks of one zone by type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageTypeBlocks {
    /// The node.
    pub node: u32,
    /// The zone.
    pub kind: ZoneKind,
    /// Pageblocks, in the order of [`PageTypeInfo::types`].
    pub counts: Vec<u64>,
}
