//! Hand-over: free memory that boot leaves, and frames that boot had in use.
//!
//! # Invariants
//! 1. A range becomes the largest aligned blocks that fit, lowest first, each at the tail of its list.
//!
//! Source: Linux 6.1 mm/memblock.c `__free_pages_memory`, mm/page_alloc.c `__free_pages_core`.

use kernmem_base::{Order, Pfn};

use crate::AddError;
use crate::free_area::End;
use crate::ground::State;
use crate::store::{CHUNK_SHIFT, Store};
use crate::zone::Locked;

impl<S: Store> Locked<'_, S> {
    /// Takes `[start, end)` over; both lie in the zone.
    pub fn add_free(&mut self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let largest = self.max_order();
        let mut at = start.0;
        while at < end.0 {
            if let Some(pfn) = self.inner.deferred.meets(Pfn(at), Pfn(end.0.min(at + (1 << largest)))) {
                return Err(AddError::Known { pfn });
            }
            let aligned = (at.trailing_zeros() as u8).min(largest);
            let order = (0..=aligned).rev().find(|order| at + (1 << order) <= end.0).unwrap_or(0);
            let frames = if order == largest && self.defer(Pfn(at), end)? {
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
