//! Adding, removing, taking and giving back ranges.
//!
//! Here: the four operations, and the two steps all others are made of: isolate and merge.
//! Not here: flags and nodes of what is there (`mark`), limits (`trim`), storage (`grow`).
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_add_range`, `memblock_isolate_range`, `memblock_merge_regions`.

use core::ops::Range;

use kernmem_base::{Era, PhysAddr};

use crate::{Event, Flags, ListKind, Memblock, MemblockError, Nid, Observer, Region, RegionArray};

/// Whether a merge looks at the whole list instead of at the neighbourhood of a change; 4.14 is taken as 5.10
/// (UNVERIFIED).
///
/// Source: Linux 5.10–7.2 mm/memblock.c `memblock_merge_regions`.
const fn merges_everywhere(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => true,
        Era::V6_12 | Era::V7_2 => false,
    }
}

/// Whether a list of `len` regions with room for `capacity` takes any new range without counting its parts first.
///
/// Source: Linux 6.1–7.2 mm/memblock.c `memblock_add_range`.
const fn has_ample_room(era: Era, len: usize, capacity: usize) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 => false,
        Era::V6_1 => len * 2 + 1 < capacity,
        Era::V6_12 | Era::V7_2 => len * 2 < capacity,
    }
}

/// Whether regions of the reserved list say who took them: the kernel's own (flag and node) or firmware.
pub(crate) const fn records_taker(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => false,
        Era::V7_2 => true,
    }
}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Adds memory `[base, base + size)` without a node. What is already there keeps its node and flags.
    ///
    /// # Errors
    /// Only growth can fail; nothing was added then.
    pub fn add(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        self.tell(Event::Add { base, size });
        self.add_range(ListKind::Memory, Region { base, size, nid: None, flags: Flags::NONE })
    }

    /// Adds memory `[base, base + size)` of node `nid`. 5.10 gives no flags and prints no line.
    ///
    /// # Errors
    /// As [`Memblock::add`], and flags that the era does not have.
    pub fn add_node(&mut self, base: PhysAddr, size: u64, nid: Nid, flags: Flags) -> Result<(), MemblockError> {
        self.check_flags(flags)?;
        let nid = Some(nid);
        match self.era {
            Era::V4_14 | Era::V5_10 => {}
            Era::V6_1 | Era::V6_12 | Era::V7_2 => self.tell(Event::AddNode { base, size, nid, flags }),
        }
        self.add_range(ListKind::Memory, Region { base, size, nid, flags })
    }

    /// Removes `[base, base + size)` from memory.
    ///
    /// # Errors
    /// Only growth (for a region that is cut in two) can fail; nothing was removed then.
    pub fn remove(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        self.tell(Event::Remove { base, size });
        self.remove_range(ListKind::Memory, base, size)
    }

    /// Takes `[base, base + size)`: firmware's tables, an initrd, anything whose address is given.
    ///
    /// # Errors
    /// Only growth can fail; nothing was taken then.
    pub fn reserve(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        self.reserve_as(base, size, None, Flags::NONE)
    }

    /// Takes `[base, base + size)` for the kernel itself, such as its image. Before 7.2 the same as
    /// [`Memblock::reserve`].
    ///
    /// # Errors
    /// As [`Memblock::reserve`].
    pub fn reserve_kern(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        self.reserve_as(base, size, None, Flags::RSRV_KERN)
    }

    /// Takes `[base, base + size)` with a node and flags. 7.2 records both; earlier eras know neither and drop them.
    ///
    /// # Errors
    /// As [`Memblock::reserve`].
    ///
    /// Source: Linux 7.2 mm/memblock.c `__memblock_reserve`.
    pub fn reserve_as(
        &mut self,
        base: PhysAddr,
        size: u64,
        nid: Option<Nid>,
        flags: Flags,
    ) -> Result<(), MemblockError> {
        let (nid, flags) = if records_taker(self.era) { (self.valid_node(nid), flags) } else { (None, Flags::NONE) };
        self.tell(Event::Reserve { base, size, nid, flags });
        self.add_range(ListKind::Reserved, Region { base, size, nid, flags })
    }

    /// Gives `[base, base + size)` back, whoever took it. What was not taken stays as it is.
    ///
    /// # Errors
    /// Only growth (for a region that is cut in two) can fail; nothing was given back then.
    ///
    /// Source: Linux 5.10 mm/memblock.c `memblock_free`; 6.1–7.2 `memblock_phys_free`.
    pub fn phys_free(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        self.tell(Event::Free { base, size });
        self.remove_range(ListKind::Reserved, base, size)
    }

    pub(crate) fn check_flags(&self, flags: Flags) -> Result<(), MemblockError> {
        if Flags::known(self.era).contains(flags) {
            Ok(())
        } else {
            Err(MemblockError::UnknownFlag { flags, era: self.era })
        }
    }

    /// Inserts the parts of `new` that no region covers.
    fn add_range(&mut self, kind: ListKind, new: Region) -> Result<(), MemblockError> {
        let size = self.limits.cap_size(new.base, new.size);
        let new = Region { size, nid: self.stored_node(new.nid), ..new };
        if size == 0 {
            return Ok(());
        }
        if kind == ListKind::Memory {
            self.hint = None;
        }
        let list = self.list(kind);
        if !list.is_empty() && !has_ample_room(self.era, list.len(), list.capacity()) {
            self.make_room(kind, new)?;
        } else if list.capacity() == 0 {
            return Err(MemblockError::FixedArray { list: kind, capacity: 0 });
        }
        let everywhere = merges_everywhere(self.era);
        let list = self.list_mut(kind);
        let (mut at, mut base, end) = (list.first_ending_above(new.base), new.base, new.end());
        let mut changed: Option<Range<usize>> = None;
        while base < end {
            let old = list.regions().get(at).filter(|old| old.base < end).copied();
            let gap_end = old.map_or(end, |old| old.base);
            if base < gap_end {
                let inserted = usize::from(list.add(at, Region { base, size: gap_end - base, ..new }));
                changed = Some(changed.map_or(at, |changed| changed.start)..at + inserted);
                at += inserted;
            }
            base = old.map_or(end, |old| old.end());
            at += 1;
        }
        if let Some(changed) = changed {
            list.merge(changed, everywhere);
        }
        Ok(())
    }

    /// Grows the list until the parts of `new` that no region covers fit.
    fn make_room(&mut self, kind: ListKind, new: Region) -> Result<(), MemblockError> {
        loop {
            let list = self.list(kind);
            let parts = uncovered_parts(&list.regions()[list.first_ending_above(new.base)..], new);
            // Growing the list of taken memory takes memory itself, so the parts are counted again each time.
            if list.len() + parts <= list.capacity() {
                return Ok(());
            }
            self.double_array(kind, new.range())?;
        }
    }

    /// Makes the borders of `[base, base + size)` borders of regions; the regions inside are returned.
    pub(crate) fn isolate(&mut self, kind: ListKind, base: PhysAddr, size: u64) -> Result<Range<usize>, MemblockError> {
        let size = self.limits.cap_size(base, size);
        if size == 0 {
            return Ok(0..0);
        }
        self.hint = None;
        let end = base + size;
        while !self.list(kind).is_empty() && self.list(kind).len() + 2 > self.list(kind).capacity() {
            self.double_array(kind, Region { base, size, ..Region::default() }.range())?;
        }
        let list = self.list_mut(kind);
        let mut first = list.first_ending_above(base);
        if list.regions().get(first).is_some_and(|region| region.base < base) {
            list.split(first, base);
            first += 1;
        }
        let last = list.first_from(end);
        if last > first && list.regions()[last - 1].end() > end {
            list.split(last - 1, end);
        }
        Ok(first..last)
    }

    pub(crate) fn remove_range(&mut self, kind: ListKind, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        let inside = self.isolate(kind, base, size)?;
        self.list_mut(kind).remove(inside);
        Ok(())
    }

    /// Joins what belongs together after the regions at `changed` got another node or other flags.
    pub(crate) fn merge(&mut self, kind: ListKind, changed: Range<usize>) {
        let everywhere = merges_everywhere(self.era);
        self.list_mut(kind).merge(changed, everywhere);
    }
}

/// How many holes `new` would fill between `regions`, of which the first ends above its base.
fn uncovered_parts(regions: &[Region], new: Region) -> usize {
    let (mut parts, mut base) = (0, new.base);
    for old in regions.iter().take_while(|old| old.base < new.end()) {
        parts += usize::from(base < old.base);
        base = old.end();
    }
    parts + usize::from(base < new.end())
}
