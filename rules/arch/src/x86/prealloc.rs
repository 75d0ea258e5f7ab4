//! What the roots of all address spaces share: which slots, which level must be kept equal, and what is made ready
//! at boot so that vmalloc never needs to.
//!
//! Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `preallocate_vmalloc_pages`, arch/x86/mm/pgtable.c `pgd_ctor`.

use kernmem_base::{Era, Level, VirtAddr};

use super::layout::{Layout, Paging};

/// The tables below the root that boot allocates for vmalloc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preallocation {
    /// First root slot.
    pub first: u64,
    /// Last root slot.
    pub last: u64,
    /// The level of the tables that are hooked there.
    pub level: Level,
}

impl Preallocation {
    /// Tables that are allocated where none is yet: 64 (four levels) or 50 (five), one more if vmalloc does not start
    /// at a slot's boundary.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }

    /// An address in each slot, in the order of allocation.
    pub fn addresses(&self, layout: &Layout) -> impl Iterator<Item = VirtAddr> + use<> {
        let (shift, half) = (layout.paging.root_shift(), layout.paging.kernel_half().0);
        (self.first..=self.last).map(move |slot| VirtAddr(half | slot << shift))
    }
}

/// The root slots that are made ready for vmalloc at the end of memory initialisation.
///
/// | era | slots |
/// |---|---|
/// | 4.14 | none: a fault copies them (UNVERIFIED) |
/// | 5.10 | from the start to the end of vmalloc |
/// | 6.1 and later | to the end of the region, KMSAN's metadata included |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/init_64.c `preallocate_vmalloc_pages`.
#[must_use]
pub const fn vmalloc_slots(layout: &Layout) -> Option<Preallocation> {
    let last = match layout.era {
        Era::V4_14 => return None,
        Era::V5_10 => layout.vmalloc_last,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => layout.vmemory_last,
    };
    let level = match layout.paging {
        Paging::Level4 => Level::Pud,
        Paging::Level5 => Level::P4d,
    };
    Some(Preallocation { first: layout.root_slot(layout.vmalloc_start), last: layout.root_slot(last), level })
}

/// The level whose new entries must be copied to every root when kernel code outside vmalloc makes them.
///
/// | era | 4 levels | 5 levels |
/// |---|---|---|
/// | 4.14 | none: faults (UNVERIFIED) | none |
/// | 5.10.262 | none | none |
/// | 6.1.192, 6.12.117, 7.2 | p4d, which is the root's entry | pgd |
///
/// Source: Linux 6.1.192 arch/x86/include/asm/pgtable_64_types.h `ARCH_PAGE_TABLE_SYNC_MASK`.
#[must_use]
pub const fn synchronised_level(era: Era, paging: Paging) -> Option<Level> {
    match (era, paging) {
        (Era::V4_14 | Era::V5_10, _) => None,
        (Era::V6_1 | Era::V6_12 | Era::V7_2, Paging::Level4) => Some(Level::P4d),
        (Era::V6_1 | Era::V6_12 | Era::V7_2, Paging::Level5) => Some(Level::Pgd),
    }
}

/// Frames of one root: the second is the user's under page-table isolation.
///
/// | era | two frames |
/// |---|---|
/// | to 6.12 | where isolation is built, even if it is off (4.14 UNVERIFIED) |
/// | 7.2 | where isolation is on |
///
/// Source: Linux 5.10–7.2 arch/x86/mm/pgtable.c `_pgd_alloc`, `PGD_ALLOCATION_ORDER`.
#[must_use]
pub const fn root_frames(era: Era, pti_built: bool, pti_on: bool) -> u64 {
    let two = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => pti_built,
        Era::V7_2 => pti_on,
    };
    if two { 2 } else { 1 }
}
