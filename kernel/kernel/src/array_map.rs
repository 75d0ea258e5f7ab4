//! The memory map as arrays in low memory: one for each section.
//!
//! Not here: the memory map in a region of its own (`sparse_init`).
//!
//! Source: Linux 6.1 mm/sparse.c `sparse_init`, `sparse_init_nid`, `sparse_buffer_init`, `__populate_section_memmap`.

use alloc::vec::Vec;

use kernmem_base::{PhysAddr, VirtAddr};
use kernmem_memblock::{Memblock, RegionArray, Request};
use kernmem_sparse::{Group, Sections, VecStore};

use crate::takers::{self, Taker};
use crate::{BootError, LogEntry, Witness};

/// Memory below is left for devices that reach no further (`MAX_DMA_ADDRESS`).
const MAX_DMA: PhysAddr = PhysAddr(16 << 20);

/// The boot allocator and the sections, on the way to a memory map.
pub(crate) struct ArrayMap<'b, A, W> {
    pub memblock: &'b mut Memblock<A, W>,
    pub sections: &'b mut Sections<VecStore>,
    /// Physical address 0 in the map of low memory.
    pub page_offset: VirtAddr,
}

impl<A: RegionArray, W: Witness> ArrayMap<'_, A, W> {
    /// Marks present sections, whose table is part of the image, and gives each its descriptors.
    ///
    /// # Errors
    /// The boot allocator has no memory.
    pub(crate) fn run(mut self) -> Result<(), BootError> {
        let ranges: Vec<_> = self.memblock.pfn_ranges(None).collect();
        for range in ranges {
            self.sections.memory_present(kernmem_sparse::Nid(0), range.start, range.end, |_| {})?;
        }
        let groups: Vec<Group> = self.sections.groups().collect();
        for group in groups {
            self.bring_up(group)?;
        }
        self.memblock.observer().log(LogEntry::SectionsReady);
        Ok(())
    }

    /// Usage maps, then one piece of memory for all descriptors of the group.
    fn bring_up(&mut self, group: Group) -> Result<(), BootError> {
        let geometry = *self.sections.geometry();
        let usage = geometry.usage_bytes() * group.map_count;
        takers::allocate_lines(self.memblock, Taker::SectionUsage, usage)?;
        let map_bytes = geometry.section_map_size();
        let wish = Request::new(map_bytes * group.map_count, map_bytes).from(MAX_DMA);
        let buffer = self.memblock.alloc_exact_nid_raw(wish).ok();
        if let Some(start) = buffer {
            takers::tell(self.memblock, Taker::MemoryMap, start, wish.size);
        }
        let mut maps = Vec::with_capacity(group.map_count as usize);
        for index in 0..group.map_count {
            maps.push(match buffer {
                Some(start) => start + index * map_bytes,
                None => {
                    takers::allocate(self.memblock, Taker::MemoryMap, Request::new(map_bytes, map_bytes).from(MAX_DMA))?
                }
            });
        }
        let mut maps = maps.into_iter();
        let place = |_| maps.next().map(|pa| self.page_offset.wrapping_add(pa.0));
        self.sections.bring_up(group, place).map_err(|error| BootError::Input(alloc::format!("{error}")))?;
        Ok(())
    }
}
