//! Hand-over: free memory that boot leaves, and frames that boot had in use.
//!
//! # Invariants
//! 1. A range becomes the largest aligned blocks that fit, lowest first, each at the tail of its list.
//!
//! Source: Linux 6.1 mm/memblock.c `__free_pages_memory`, mm/page_alloc.c `__free_pages_core`.

use core::fmt;

use kernmem_base::{Order, Pfn};
use kernmem_sparse::MigrateType;

use crate::free_area::End;
use crate::ground::State;
use crate::pcp::CpuPages;
use crate::store::{CHUNK_SHIFT, Store};
use crate::zone::Locked;
use crate::{PageAllocator, ZoneKind};

/// When the records of frames that are handed over free are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Records {
    /// When somebody needs them.
    Later,
    /// At once.
    Now,
}

impl<S: Store> Locked<'_, S> {
    /// Takes `[start, end)` over; both lie in the zone.
    pub fn add_free(&mut self, start: Pfn, end: Pfn, records: Records) -> Result<(), AddError> {
        let largest = self.max_order();
        let mut at = start.0;
        while at < end.0 {
            if let Some(pfn) = self.inner.deferred.meets(Pfn(at), Pfn(end.0.min(at + (1 << largest)))) {
                return Err(AddError::Known { pfn });
            }
            let aligned = (at.trailing_zeros() as u8).min(largest);
            let order = (0..=aligned).rev().find(|order| at + (1 << order) <= end.0).unwrap_or(0);
            let frames = if order == largest && records == Records::Later && self.defer(Pfn(at), end)? {
                (end.0 - at) >> largest << largest
            } else {
                self.add_block(Pfn(at), order)?;
                1 << order
            };
            self.zone.add_managed(frames);
            at += frames;
        }
        Ok(())
    }

    /// Notes all blocks of the largest order from `start` on; false if they must be opened now.
    fn defer(&mut self, start: Pfn, end: Pfn) -> Result<bool, AddError> {
        let stop = Pfn(end.0 >> self.max_order() << self.max_order());
        if let Some(pfn) = self.inner.deferred.meets(start, stop) {
            return Err(AddError::Known { pfn });
        }
        if let Some(pfn) = self.first_known(start, stop) {
            return Err(AddError::Known { pfn });
        }
        self.changed = true;
        Ok(self.inner.deferred.push(start, stop))
    }

    /// The first block of the largest order in `[start, stop)` whose first frame has a record; chunks without records are
    /// passed over whole.
    fn first_known(&self, start: Pfn, stop: Pfn) -> Option<Pfn> {
        let mut at = start.0;
        while at < stop.0 {
            if !self.ground().is_open(Pfn(at)) {
                at = (at + 1).next_multiple_of(1 << CHUNK_SHIFT);
                continue;
            }
            if self.is_known(Pfn(at)) {
                return Some(Pfn(at));
            }
            at += 1 << self.max_order();
        }
        None
    }

    /// Whether a frame has a record: it is free or taken.
    fn is_known(&self, pfn: Pfn) -> bool {
        self.ground().state(pfn) != State::Nothing || self.ground().taken_block(pfn).is_some() || self.is_free(pfn)
    }

    fn add_block(&mut self, pfn: Pfn, order: u8) -> Result<(), AddError> {
        if self.is_known(pfn) {
            return Err(AddError::Known { pfn });
        }
        let (area, ground) = self.area_mut();
        if !area.open(ground, pfn) {
            return Err(AddError::NoRecords { pfn });
        }
        let kind = self.ground().kind(pfn);
        self.give(pfn, order, kind, Some(End::Tail));
        Ok(())
    }

    /// Counts a frame that boot had in use as managed, and makes it the caller's.
    pub fn adopt(&mut self, pfn: Pfn) -> Result<(), AddError> {
        if self.is_known(pfn) {
            return Err(AddError::Known { pfn });
        }
        let (area, ground) = self.area_mut();
        if !area.open(ground, pfn) {
            return Err(AddError::NoRecords { pfn });
        }
        ground.set(pfn, State::Owned(Order(0)));
        self.zone.add_managed(1);
        Ok(())
    }
}

impl<S: Store> PageAllocator<S> {
    /// Takes over the free frames `[start, end)` of a node from boot: cut into the largest blocks, each put at the tail of
    /// its list, counted as managed. Blocks of the largest order are only noted, and opened when they are needed.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn add_free(&self, nid: u32, start: Pfn, end: Pfn) -> Result<(), AddError> {
        self.add_to_node(nid, start, end, Records::Later)
    }

    /// As [`PageAllocator::add_free`], with the records of all of it opened and written at once: whoever asks for these
    /// frames later needs no memory for records, and does not wait for them to be written.
    ///
    /// # Errors
    /// As [`PageAllocator::add_free`].
    pub fn add_free_opened(&self, nid: u32, start: Pfn, end: Pfn) -> Result<(), AddError> {
        self.add_to_node(nid, start, end, Records::Now)
    }

    fn add_to_node(&self, nid: u32, start: Pfn, end: Pfn, records: Records) -> Result<(), AddError> {
        let mut at = start;
        while at < end {
            let zones = self.zones().filter(|zone| zone.span().nid == nid);
            let zone = { zones }.find(|zone| zone.contains(at)).ok_or(AddError::NoZone { pfn: at })?;
            let stop = end.min(zone.span().end);
            zone.add_free(at, stop, records)?;
            at = stop;
        }
        Ok(())
    }

    /// As [`PageAllocator::add_free`] for a range that lies in one zone, where zones of a node overlap.
    ///
    /// # Errors
    /// As [`PageAllocator::add_free`].
    pub fn add_free_to(&self, nid: u32, kind: ZoneKind, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let zone = self.zone(nid, kind).ok_or(AddError::NoZone { pfn: start })?;
        let span = zone.span();
        if start < span.start || end > span.end {
            return Err(AddError::NoZone { pfn: if start < span.start { start } else { span.end } });
        }
        zone.add_free(start, end, Records::Later)
    }

    /// Takes over frames that boot had in use and needs no more, `[start, end)`: counted as managed and freed one by one
    /// as a driver would.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn free_reserved(&self, cpu: &mut CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), AddError> {
        for pfn in (start.0..end.0).map(Pfn) {
            let zone = self.zone_of(pfn).ok_or(AddError::NoZone { pfn })?;
            zone.adopt(&cpu.held, pfn, Pfn(pfn.0 + 1))?;
            let freed = self.free(cpu, pfn, Order(0));
            debug_assert!(freed.is_ok(), "the frame was just adopted {freed:?}");
        }
        Ok(())
    }

    /// Takes over frames that boot had in use and that stay so, `[start, end)`: counted as managed, and single frames of the
    /// caller.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was taken over.
    pub fn adopt_taken(&self, cpu: &CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let mut at = start;
        while at < end {
            let zone = self.zone_of(at).ok_or(AddError::NoZone { pfn: at })?;
            let stop = end.min(zone.span().end);
            zone.adopt(&cpu.held, at, stop)?;
            at = stop;
        }
        Ok(())
    }

    /// Says for the pageblocks of `[start, end)` what they are meant for: CMA areas, isolation, tests. What is free in
    /// them moves along; how many pageblocks changed.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was changed.
    pub fn set_migrate_type(&self, start: Pfn, end: Pfn, kind: MigrateType) -> Result<u64, AddError> {
        let order = self.facts.pageblock_order.0;
        let (mut pfn, mut blocks) = (start, 0);
        while pfn < end {
            let zone = self.zone_of(pfn).ok_or(AddError::NoZone { pfn })?;
            if !zone.retype(pfn, kind) {
                return Err(AddError::NoRecords { pfn });
            }
            blocks += 1;
            pfn = Pfn(((pfn.0 >> order) + 1) << order);
        }
        Ok(blocks)
    }
}

/// Why frames were not taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// The frame lies in no zone of the node.
    NoZone {
        /// The frame.
        pfn: Pfn,
    },
    /// The frame is free, or somebody has it.
    Known {
        /// The frame.
        pfn: Pfn,
    },
    /// The store has no memory for the frame's records.
    NoRecords {
        /// The frame.
        pfn: Pfn,
    },
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoZone { pfn } => write!(f, "frame {:#x} is in no zone", pfn.0),
            Self::Known { pfn } => write!(f, "frame {:#x} was handed over before", pfn.0),
            Self::NoRecords { pfn } => write!(f, "no memory for the records of frame {:#x}", pfn.0),
        }
    }
}

impl core::error::Error for AddError {}
