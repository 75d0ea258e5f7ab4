//! Counters by Linux's names, and which of them a kernel has.
//!
//! Source: Linux 5.10–7.2 mm/vmstat.c `vmstat_text`; include/linux/mmzone.h `node_stat_item`, `zone_stat_item`.

use alloc::vec::Vec;

use kernmem_base::Era;

/// What was built into a kernel, as far as its texts about memory show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TextConfig {
    /// Several CPUs (`SMP`).
    pub smp: bool,
    /// Several nodes (`NUMA`).
    pub numa: bool,
    /// Swap (`SWAP`).
    pub swap: bool,
    /// Pages move to the nodes that use them (`NUMA_BALANCING`).
    pub numa_balancing: bool,
    /// Compressed pools (`ZSMALLOC`).
    pub zsmalloc: bool,
    /// Swap that is compressed first (`ZSWAP`).
    pub zswap: bool,
    /// Memory that firmware must hand over first (`UNACCEPTED_MEMORY`).
    pub unaccepted_memory: bool,
    /// A second stack for return addresses (`SHADOW_CALL_STACK`).
    pub shadow_call_stack: bool,
    /// Page tables of devices (`IOMMU_SUPPORT`).
    pub iommu: bool,
    /// Huge pages (`HUGETLB_PAGE`); in meminfo also the CPU must have them.
    pub hugetlb: bool,
    /// Transparent huge pages (`TRANSPARENT_HUGEPAGE`).
    pub thp: bool,
    /// Contiguous areas (`CMA`).
    pub cma: bool,
    /// Pageblocks that nobody may take pages from (`MEMORY_ISOLATION`).
    pub isolation: bool,
    /// Pages that failed (`MEMORY_FAILURE`).
    pub memory_failure: bool,
    /// Memory that is mapped on demand (`HIGHMEM`).
    pub highmem: bool,
    /// A test of memory ran (`memtest=`), from 6.12 on.
    pub memtest_ran: bool,
    /// x86: the leaves of the direct map are counted.
    pub direct_map: bool,
    /// x86: a middle table maps 2M (64 bits, PAE) and not 4M.
    pub direct_map_2m: bool,
    /// x86: the CPU has 1G pages.
    pub direct_map_1g: bool,
}

/// A list of counters by name.
pub trait CounterKind: Copy + Eq + Sized + 'static {
    /// Every counter of any era, in the order in which they are printed.
    const ALL: &'static [Self];

    /// Linux's name.
    fn name(self) -> &'static str;

    /// Whether that kernel has it.
    fn is_in(self, era: Era, config: &TextConfig) -> bool;

    /// The counter of that name.
    #[must_use]
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// The counters of one kernel and their values, in the order in which they are printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters<K> {
    /// Counters and values.
    pub values: Vec<(K, u64)>,
}

impl<K: CounterKind> Counters<K> {
    /// All counters of that kernel, at 0.
    #[must_use]
    pub fn zero(era: Era, config: &TextConfig) -> Self {
        Self { values: K::ALL.iter().filter(|kind| kind.is_in(era, config)).map(|kind| (*kind, 0)).collect() }
    }

    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { values: Vec::new() }
    }

    /// The value of a counter; `None` if the kernel has none of that name.
    #[must_use]
    pub fn get(&self, kind: K) -> Option<u64> {
        self.values.iter().find(|(own, _)| *own == kind).map(|(_, value)| *value)
    }

    /// Sets a counter; `false` if the kernel has none of that name.
    pub fn set(&mut self, kind: K, value: u64) -> bool {
        let slot = self.values.iter_mut().find(|(own, _)| *own == kind);
        slot.is_some_and(|(_, old)| {
            *old = value;
            true
        })
    }
}

/// Counters by name: a variant for each, in order.
macro_rules! counter_names {
    ($(#[$doc:meta])* $kind:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $kind {
            $(#[doc = concat!("Linux's `", $name, "`.")] $variant,)*
        }

        impl $kind {
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];

            /// Every counter of any era, in the order in which they are printed.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Linux's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize].1
            }
        }
    };
}

mod node;
mod zone;

pub(super) use counter_names;
pub use node::NodeCounter;
pub use zone::{NumaCounter, ZoneCounter};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_a_kernel_lacks_is_not_set() {
        let mut counters = Counters::<ZoneCounter>::zero(Era::V6_1, &TextConfig::default());
        assert!(counters.set(ZoneCounter::NrFreePages, 7));
        assert_eq!(counters.get(ZoneCounter::NrFreePages), Some(7));
        assert!(!counters.set(ZoneCounter::NrPageTablePages, 7));
        assert_eq!(counters.get(ZoneCounter::NrPageTablePages), None);
    }

    #[test]
    fn names_are_found_again() {
        for kind in NodeCounter::ALL {
            assert_eq!(<NodeCounter as CounterKind>::of_name(kind.name()), Some(*kind));
        }
    }
}
