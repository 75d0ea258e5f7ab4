//! Flags and nodes of regions that are already there.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_setclr_flag`, `memblock_set_node`.

use kernmem_base::{Era, PhysAddr};

use crate::{Flags, ListKind, Memblock, MemblockError, Nid, Observer, Region, RegionArray};

/// What happens to a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Set,
    Clear,
}

macro_rules! markers {
    ($($(#[$doc:meta])* $name:ident: $change:ident $flag:ident in $list:ident;)*) => {
        impl<A: RegionArray, O: Observer> Memblock<A, O> {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// A flag that the era does not have, and growth for a region that is cut in two; nothing has
                /// changed then.
                pub fn $name(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
                    self.change_flag(ListKind::$list, base, size, Flags::$flag, Change::$change)
                }
            )*
        }
    };
}

markers! {
    /// Marks memory as removable later.
    mark_hotplug: Set HOTPLUG in Memory;
    /// Marks memory as not removable.
    clear_hotplug: Clear HOTPLUG in Memory;
    /// Keeps memory out of the linear map.
    mark_nomap: Set NOMAP in Memory;
    /// Lets memory into the linear map again.
    clear_nomap: Clear NOMAP in Memory;
    /// Marks scratch memory of kexec handover (7.2).
    mark_kho_scratch: Set KHO_SCRATCH in Memory;
    /// Marks memory as no longer scratch of kexec handover (7.2).
    clear_kho_scratch: Clear KHO_SCRATCH in Memory;
    /// Leaves the page descriptors of taken memory to its taker (6.12 and later).
    reserved_mark_noinit: Set RSRV_NOINIT in Reserved;
    /// Marks taken memory as the kernel's own (7.2).
    reserved_mark_kern: Set RSRV_KERN in Reserved;
}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Marks memory as mirrored, so that allocations prefer it. Since 6.1 it does nothing without
    /// `kernelcore=mirror`.
    ///
    /// # Errors
    /// Growth for a region that is cut in two; no region has changed then.
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `memblock_mark_mirror`.
    pub fn mark_mirror(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        let counts = match self.era {
            Era::V4_14 | Era::V5_10 => true,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => self.limits.kernelcore_mirror,
        };
        if !counts {
            return Ok(());
        }
        self.has_mirror = true;
        self.change_flag(ListKind::Memory, base, size, Flags::MIRROR, Change::Set)
    }

    /// Says that `[base, base + size)` of one list lies on node `nid`. Without NUMA it does nothing.
    ///
    /// # Errors
    /// Growth for a region that is cut in two; nothing has changed then.
    pub fn set_node(
        &mut self,
        list: ListKind,
        base: PhysAddr,
        size: u64,
        nid: Option<Nid>,
    ) -> Result<(), MemblockError> {
        if !self.limits.numa {
            return Ok(());
        }
        let nid = self.stored_node(nid);
        let inside = self.isolate(list, base, size)?;
        for index in inside.clone() {
            self.list_mut(list).set_node(index, nid);
        }
        self.merge(list, inside);
        Ok(())
    }

    fn change_flag(
        &mut self,
        kind: ListKind,
        base: PhysAddr,
        size: u64,
        flag: Flags,
        change: Change,
    ) -> Result<(), MemblockError> {
        self.check_flags(flag)?;
        let inside = self.isolate(kind, base, size)?;
        let list = self.list_mut(kind);
        for index in inside.clone() {
            let old = list.regions()[index];
            let flags = match change {
                Change::Set => old.flags | flag,
                Change::Clear => old.flags & !flag,
            };
            list.replace(index, Region { flags, ..old });
        }
        self.merge(kind, inside);
        Ok(())
    }
}
