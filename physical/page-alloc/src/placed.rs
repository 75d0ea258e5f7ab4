//! What each placement answers for one zone: the one place where the two ways part, but for taking and giving back.
//!
//! Here: no rule, only who is asked.

use kernmem_base::Pfn;
use kernmem_base::sync::Held;
use kernmem_sparse::MigrateType;

use crate::dense::Kinds;
use crate::free_area::{Counts, KINDS};
use crate::ground::State;
use crate::handover::Records;
use crate::store::Store;
use crate::watermark::Pass;
use crate::zone::{Placed, Zone};
use crate::{AddError, AllocError};

impl<S: Store> Zone<S> {
    /// Whether the zone has a record of a frame.
    pub(crate) fn knows(&self, pfn: Pfn) -> bool {
        match self.placed() {
            Placed::Linux(zone) => zone.ground.state(pfn) != State::Nothing,
            Placed::Dense(zone) => zone.manages(pfn),
        }
    }

    /// Whether a frame is free, in a CPU's list, or given to somebody.
    pub(crate) fn manages(&self, pfn: Pfn) -> bool {
        match self.placed() {
            Placed::Linux(zone) => zone.lock_alone().is_free(pfn) || zone.ground.taken_block(pfn).is_some(),
            Placed::Dense(zone) => zone.manages(pfn),
        }
    }

    /// The type of a frame's pageblock.
    pub(crate) fn kind(&self, pfn: Pfn) -> MigrateType {
        match self.placed() {
            Placed::Linux(zone) => zone.ground.kind(pfn),
            Placed::Dense(zone) => zone.grounds.kind(pfn),
        }
    }

    /// Up to where the frames `[start, end)` of the zone are of the type of `start`, as far as that is known at a glance.
    pub(crate) fn alike(&self, start: Pfn, end: Pfn) -> Pfn {
        match self.placed() {
            Placed::Linux(zone) => zone.ground.alike(start, end),
            Placed::Dense(zone) => zone.grounds.alike(start, end),
        }
    }

    /// Free blocks of exactly this order by type, all of one moment.
    pub(crate) fn counts(&self, order: u8) -> [u64; KINDS] {
        match self.placed() {
            Placed::Linux(zone) => {
                let locked = zone.lock_alone();
                MigrateType::ALL.map(|kind| locked.count(order, kind))
            }
            Placed::Dense(zone) => zone.field.counts(&zone.grounds)[usize::from(order)],
        }
    }

    /// The same of all orders.
    pub(crate) fn all_counts(&self) -> Counts {
        match self.placed() {
            Placed::Linux(zone) => {
                let (locked, mut counts) = (zone.lock_alone(), Counts::default());
                for order in 0..=zone.facts.max_order.0 {
                    counts[usize::from(order)] = MigrateType::ALL.map(|kind| locked.count(order, kind));
                }
                counts
            }
            Placed::Dense(zone) => zone.field.counts(&zone.grounds),
        }
    }

    /// Whether a pass may take a block of `order` or larger.
    pub(crate) fn has_block(&self, held: &Held, order: u8, pass: Pass) -> bool {
        match self.placed() {
            Placed::Linux(zone) => zone.lock(held).has_block(order, pass),
            // Who tries to take learns it as cheaply.
            Placed::Dense(_) => true,
        }
    }

    /// Whether no pageblock is for a use of its own, so that all that is free may be had by all.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        match self.placed() {
            Placed::Linux(_) => false,
            Placed::Dense(zone) => zone.grounds.blocks.is_plain(),
        }
    }

    /// Takes `[start, end)` over as free frames; both lie in the zone.
    pub(crate) fn add_free(&self, start: Pfn, end: Pfn, records: Records) -> Result<(), AddError> {
        match self.placed() {
            Placed::Linux(zone) => zone.lock_alone().add_free(start, end, records),
            Placed::Dense(zone) => zone.add_free(start, end, records),
        }
    }

    /// Takes `[start, end)` over as single frames that somebody owns; both lie in the zone.
    pub(crate) fn adopt(&self, held: &Held, start: Pfn, end: Pfn) -> Result<(), AddError> {
        match self.placed() {
            Placed::Linux(zone) => {
                let mut locked = zone.lock(held);
                (start.0..end.0).try_for_each(|pfn| locked.adopt(Pfn(pfn)))
            }
            Placed::Dense(zone) => zone.adopt(held, start, end),
        }
    }

    /// Says what a pageblock is meant for; false if there is no memory for its records.
    pub(crate) fn retype(&self, pfn: Pfn, to: MigrateType) -> bool {
        match self.placed() {
            Placed::Linux(zone) => zone.lock_alone().retype(pfn, to),
            Placed::Dense(zone) => {
                zone.retype(None, pfn, to);
                true
            }
        }
    }

    /// Takes the free frames `[start, end)` as single frames; both lie in the zone.
    pub(crate) fn take_range(&self, held: &Held, start: Pfn, end: Pfn, movable: bool) -> Result<(), AllocError> {
        match self.placed() {
            Placed::Linux(zone) => zone.lock(held).take_range(start, end, movable),
            Placed::Dense(zone) => zone.take_range(start, end),
        }
    }

    /// Takes the lowest free range of `frames` frames that starts at a multiple of `align`, as single frames.
    pub(crate) fn take_piece(&self, held: &Held, frames: u64, align: u64, movable: bool) -> Option<Pfn> {
        match self.placed() {
            Placed::Linux(zone) => zone.lock(held).take_piece(frames, align, movable),
            Placed::Dense(zone) => zone.take_piece(frames, align),
        }
    }

    /// Takes the free frames `[start, end)` out of the zone; both lie in it.
    pub(crate) fn offline(&self, held: &Held, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        match self.placed() {
            Placed::Linux(zone) => zone.lock(held).offline(start, end),
            Placed::Dense(zone) => zone.offline(held, start, end),
        }
    }

    /// Brings frames back that were taken out.
    pub(crate) fn online(&self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        match self.placed() {
            Placed::Linux(zone) => zone.lock_alone().online(start, end),
            Placed::Dense(zone) => zone.online(start, end),
        }
    }
}
