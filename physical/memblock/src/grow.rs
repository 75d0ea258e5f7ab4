//! Growth of the lists: where a list of twice the size is put, and what that takes.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_double_array`.

use kernmem_base::{PhysAddr, PhysRange};

use crate::{Event, ListKind, Memblock, MemblockError, Observer, RegionArray};

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Doubles the room of a list while `area` is being added to it or cut out of it. The new storage is taken from
    /// free memory, which can make the list of taken memory grow in turn.
    ///
    /// # Errors
    /// The list may not grow yet, has storage that cannot, or finds no memory: it is as before.
    pub(crate) fn double_array(&mut self, kind: ListKind, area: PhysRange) -> Result<(), MemblockError> {
        let old = self.list(kind).capacity();
        if !self.can_resize {
            return Err(MemblockError::CannotResize { list: kind, capacity: old });
        }
        let entries = old * 2;
        let size = entries as u64 * self.limits.region_bytes;
        let rounded = size.next_multiple_of(self.limits.granule.bytes());
        let Some(home) = self.place_array(kind, area, rounded) else {
            self.tell(Event::DoubleFailed { list: kind, from: old, to: entries });
            return Err(MemblockError::NoRoomForArray { list: kind, entries });
        };
        let old_home = self.list(kind).home();
        if self.list_mut(kind).grow(entries, home).is_err() {
            return Err(MemblockError::FixedArray { list: kind, capacity: old });
        }
        self.tell(Event::Doubled { list: kind, entries, base: home.start, size });
        if let Some(old_home) = old_home {
            self.phys_free(old_home.start, old_home.size())?;
        }
        self.reserve_kern(home.start, home.size())
    }

    /// Free memory for a list's storage. The list of taken memory stays clear of `area`, which is about to be taken:
    /// above it first, then below. Where Linux would look for "below 0" it searches everywhere; here that finds
    /// nothing, since the storage could end up inside `area`.
    fn place_array(&mut self, kind: ListKind, area: PhysRange, size: u64) -> Option<PhysRange> {
        let (limit, align) = (self.current_limit, self.limits.granule.bytes());
        let start = match kind {
            ListKind::Memory => self.find_in_range(PhysAddr(0), limit.into(), size, align),
            ListKind::Reserved => {
                let below = area.start.min(limit);
                self.find_in_range(area.end, limit.into(), size, align).or_else(|| {
                    if below.0 <= align { None } else { self.find_in_range(PhysAddr(0), below.into(), size, align) }
                })
            }
        }?;
        PhysRange::of_size(start, size)
    }
}
