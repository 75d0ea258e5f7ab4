//! Questions: what is where, and how much of it.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_search` and its callers.

use core::fmt;

use kernmem_base::{Era, Pfn, PhysAddr};

use crate::{Event, Flags, List, ListKind, Memblock, Observer, RegionArray};

/// More memory than allowed has no node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uncovered {
    /// Bytes in whole pages without a node.
    pub bytes: u64,
    /// Bytes of all memory.
    pub total: u64,
}

impl fmt::Display for Uncovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes of memory lie on no node", self.bytes, self.total)
    }
}

impl core::error::Error for Uncovered {}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Whether memory exists at `pa`.
    #[must_use]
    pub fn is_memory(&self, pa: PhysAddr) -> bool {
        self.memory.search(pa).is_some()
    }

    /// Whether `pa` is taken.
    #[must_use]
    pub fn is_reserved(&self, pa: PhysAddr) -> bool {
        self.reserved.search(pa).is_some()
    }

    /// Whether memory exists at `pa` and belongs into the linear map.
    #[must_use]
    pub fn is_map_memory(&self, pa: PhysAddr) -> bool {
        self.memory.search(pa).is_some_and(|region| !region.flags.contains(Flags::NOMAP))
    }

    /// Whether one single region of memory covers `[base, base + size)`.
    #[must_use]
    pub fn is_region_memory(&self, base: PhysAddr, size: u64) -> bool {
        let end = base.0 + self.limits.cap_size(base, size);
        self.memory.search(base).is_some_and(|region| region.end().0 >= end)
    }

    /// Whether any byte of `[base, base + size)` is taken.
    #[must_use]
    pub fn is_region_reserved(&self, base: PhysAddr, size: u64) -> bool {
        self.overlaps_region(ListKind::Reserved, base, size)
    }

    /// Whether any byte of `[base, base + size)` is in a region of the list.
    #[must_use]
    pub fn overlaps_region(&self, list: ListKind, base: PhysAddr, size: u64) -> bool {
        let end = base.0 + self.limits.cap_size(base, size);
        let list: &List<A> = self.list(list);
        list.regions().get(list.first_ending_above(base)).is_some_and(|region| region.base.0 < end)
    }

    /// Bytes of memory, mapped or not.
    #[must_use]
    pub fn phys_mem_size(&self) -> u64 {
        self.memory.total_size()
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn reserved_size(&self) -> u64 {
        self.reserved.total_size()
    }

    /// Bytes that the kernel itself took: 7.2 knows them by their flag, earlier eras count everything.
    ///
    /// Source: Linux 7.2 mm/memblock.c `memblock_reserved_kern_size`.
    #[must_use]
    pub fn reserved_kern_size(&self) -> u64 {
        match self.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.reserved_size(),
            Era::V7_2 => {
                let own = self.reserved.regions().iter().filter(|region| region.flags.contains(Flags::RSRV_KERN));
                own.map(|region| region.size).sum()
            }
        }
    }

    /// Pages that are probably free: memory minus what was taken (7.2: minus what the kernel took).
    ///
    /// Source: Linux 6.12–7.2 mm/memblock.c `memblock_estimated_nr_free_pages`.
    #[must_use]
    pub fn estimated_nr_free_pages(&self) -> u64 {
        self.phys_mem_size().saturating_sub(self.reserved_kern_size()) >> self.limits.granule.shift()
    }

    /// First byte of memory; 0 if there is none.
    #[must_use]
    pub fn start_of_dram(&self) -> PhysAddr {
        self.memory.regions().first().map_or(PhysAddr(0), |region| region.base)
    }

    /// One past the last byte of memory; 0 if there is none.
    #[must_use]
    pub fn end_of_dram(&self) -> PhysAddr {
        self.memory.regions().last().map_or(PhysAddr(0), |region| region.end())
    }

    /// Checks that at most `threshold` bytes of memory lie on no node.
    ///
    /// # Errors
    /// [`Uncovered`] says how much does, and is told to the observer.
    ///
    /// Source: Linux 6.12–7.2 mm/memblock.c `memblock_validate_numa_coverage`.
    pub fn validate_numa_coverage(&mut self, threshold: u64) -> Result<(), Uncovered> {
        let shift = self.limits.granule.shift();
        let homeless = self.pfn_ranges(None).filter(|range| range.nid.is_none());
        let bytes = homeless.map(|range| (range.end.0 - range.start.0) << shift).sum();
        let total = self.phys_mem_size();
        if bytes <= threshold {
            return Ok(());
        }
        self.tell(Event::Uncovered { bytes, total });
        Err(Uncovered { bytes, total })
    }

    /// The frame that holds `pa`.
    pub(crate) fn frame_down(&self, pa: PhysAddr) -> Pfn {
        pa.pfn(self.limits.granule)
    }

    /// The first frame at or above `pa`.
    pub(crate) fn frame_up(&self, pa: PhysAddr) -> Pfn {
        let part = u64::from(!pa.is_aligned(self.limits.granule.bytes()));
        Pfn(self.frame_down(pa).0 + part)
    }
}
