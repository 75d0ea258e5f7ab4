//! `/sys/devices/system/memory`: the units in which memory goes on- and offline.
//!
//! Source: Linux 5.10–7.2 drivers/base/memory.c.

use alloc::vec::Vec;

use super::ZoneKind;

/// `/sys/devices/system/memory`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryBlocks {
    /// Bytes of a block.
    pub block_bytes: u64,
    /// What becomes of new memory: `offline`, `online`, `online_kernel` or `online_movable`.
    pub auto_online: &'static str,
    /// Whether a crash kernel learns of new memory by itself (from 6.12 on).
    pub crash_hotplug: bool,
    /// Blocks of which some section exists, in order.
    pub blocks: Vec<MemoryBlock>,
}

/// One block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryBlock {
    /// Its number: the first address by the size of a block.
    pub number: u64,
    /// On- or offline.
    pub state: BlockState,
    /// Whether the kernel was built to take memory away.
    pub removable: bool,
    /// The device that the firmware names; 0 on the architectures that are modelled.
    pub phys_device: u32,
    /// The zone of an online block (none if it lies in several), or the zones that an offline one may join, the
    /// default first.
    pub valid_zones: Vec<ZoneKind>,
}

/// State of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockState {
    /// In use.
    Online,
    /// Not in use.
    Offline,
    /// On its way out.
    GoingOffline,
}

impl BlockState {
    /// Linux's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::GoingOffline => "going-offline",
        }
    }
}
