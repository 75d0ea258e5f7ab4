//! Making memory smaller: alignment and limits. None of these prints a `memblock=debug` line.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_trim_memory`, `memblock_enforce_memory_limit`,
//! `memblock_cap_memory_range`, `memblock_mem_limit_remove_map`.

use kernmem_base::{Era, PhysAddr};

use crate::{Event, Flags, ListKind, Memblock, MemblockError, Observer, Region, RegionArray};

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Rounds the base of every memory region up and its end down to a multiple of `align` bytes; a region without a
    /// whole piece goes. The sum of sizes shrinks only by the regions that go.
    ///
    /// # Errors
    /// An alignment that is no power of two; nothing has changed then.
    pub fn trim_memory(&mut self, align: u64) -> Result<(), MemblockError> {
        if !align.is_power_of_two() {
            return Err(MemblockError::BadAlignment { align });
        }
        let mut index = 0;
        while let Some(&old) = self.memory.regions().get(index) {
            let end = old.end().align_down(align);
            match old.base.align_up(align).filter(|&base| base < end) {
                Some(base) => {
                    self.memory.replace(index, Region { base, size: end - base, ..old });
                    index += 1;
                }
                None => self.memory.remove(index..index + 1),
            }
        }
        Ok(())
    }

    /// Keeps the lowest `limit` bytes of memory and cuts both lists there; 0 and limits beyond all memory do nothing.
    ///
    /// # Errors
    /// Growth for a region that is cut in two.
    pub fn enforce_memory_limit(&mut self, limit: u64) -> Result<(), MemblockError> {
        let Some(end) = self.end_of_bytes(limit) else { return Ok(()) };
        self.remove_range(ListKind::Memory, end, u64::MAX)?;
        self.remove_range(ListKind::Reserved, end, u64::MAX)
    }

    /// Keeps the lowest `limit` bytes of memory, and all memory that is not mapped; 0 and limits beyond all memory do
    /// nothing.
    ///
    /// # Errors
    /// As [`Memblock::cap_memory_range`].
    pub fn mem_limit_remove_map(&mut self, limit: u64) -> Result<(), MemblockError> {
        match self.end_of_bytes(limit) {
            Some(end) => self.cap_memory_range(PhysAddr(0), end.0),
            None => Ok(()),
        }
    }

    /// Keeps of memory what lies in `[base, base + size)` or is not mapped, and cuts the list of taken memory to the
    /// range. A size of 0 does nothing; neither does a call before any memory was added, which warns since 6.1.
    ///
    /// # Errors
    /// Growth for a region that is cut in two.
    pub fn cap_memory_range(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        if size == 0 {
            return Ok(());
        }
        if self.memory.is_empty() && warns_without_memory(self.era) {
            self.tell(Event::CapWithoutMemory);
            return Ok(());
        }
        let inside = self.isolate(ListKind::Memory, base, size)?;
        for index in (0..self.memory.len()).rev().filter(|index| !inside.contains(index)) {
            if !self.memory.regions()[index].flags.contains(Flags::NOMAP) {
                self.memory.remove(index..index + 1);
            }
        }
        self.memory.note_split_pair();
        self.remove_range(ListKind::Reserved, PhysAddr(0), base.0)?;
        match base.checked_add(size) {
            Some(end) => self.remove_range(ListKind::Reserved, end, u64::MAX),
            None => Ok(()),
        }
    }

    /// The address below which the lowest `limit` bytes of memory lie; `None` if there are fewer, or for 0.
    fn end_of_bytes(&self, limit: u64) -> Option<PhysAddr> {
        let mut rest = limit;
        for region in self.memory.regions().iter().filter(|_| limit != 0) {
            if rest <= region.size {
                return Some(region.base + rest);
            }
            rest -= region.size;
        }
        None
    }
}

/// Source: Linux 6.1–7.2 mm/memblock.c `memblock_cap_memory_range`.
const fn warns_without_memory(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 | Era::V6_12 | Era::V7_2 => true,
    }
}
