//! Who has which frame: the stress's own books, one word a frame.
//!
//! # Invariants
//! 1. A frame passes from one owner to the next by compare-and-exchange alone, so a frame that is given twice is found by
//!    the second who is given it.
//! 2. Its accesses are Relaxed: the books must not order anything that the allocator left unordered.

use core::sync::atomic::{AtomicU32, Ordering};

use kernmem_base::Pfn;

use crate::broken::What;
use crate::machine::Machine;

/// Nobody has the frame: it is free.
pub(crate) const FREE: u32 = 0;
/// The frame is none of the allocator's.
pub(crate) const AWAY: u32 = u32::MAX;

/// The frame is a table of the tree that all CPUs share.
pub(crate) const TABLES: u32 = u32::MAX - 1;

/// The owner's number of a CPU.
pub(crate) const fn of_cpu(cpu: u32) -> u32 {
    cpu + 1
}

pub(crate) fn name(owner: u32) -> String {
    match owner {
        FREE => "nobody".to_owned(),
        AWAY => "the machine".to_owned(),
        TABLES => "the tree of tables".to_owned(),
        cpu => format!("CPU {}", cpu - 1),
    }
}

/// The owners of all frames.
#[derive(Debug)]
pub struct Owners(Vec<AtomicU32>);

impl Owners {
    /// All memory of a machine is free; holes are away.
    #[must_use]
    pub fn new(machine: &Machine) -> Self {
        let owners = Self((0..machine.frames()).map(|_| AtomicU32::new(AWAY)).collect());
        for span in machine.spans() {
            for pfn in machine.ranges(span).flat_map(|(start, end)| start.0..end.0) {
                // Relaxed: invariant 2.
                owners.0[pfn as usize].store(FREE, Ordering::Relaxed);
            }
        }
        owners
    }

    /// The owner of a frame.
    #[must_use]
    pub fn of(&self, pfn: Pfn) -> u32 {
        // Relaxed: invariant 2.
        self.0.get(pfn.0 as usize).map_or(AWAY, |owner| owner.load(Ordering::Relaxed))
    }

    /// `frames` frames pass from `from` to `to`.
    ///
    /// # Errors
    /// The first frame that `from` does not have, with its owner; those before it have changed hands.
    pub(crate) fn pass(&self, pfn: Pfn, frames: u64, from: u32, to: u32) -> Result<(), (Pfn, u32)> {
        for frame in pfn.0..pfn.0.saturating_add(frames) {
            let owner = self.0.get(frame as usize).ok_or((Pfn(frame), AWAY))?;
            // Relaxed: invariant 2.
            let done = owner.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            done.map_err(|owner| (Pfn(frame), owner))?;
        }
        Ok(())
    }

    /// A CPU was given frames.
    pub(crate) fn take(&self, pfn: Pfn, frames: u64, to: u32) -> Result<(), What> {
        self.pass(pfn, frames, FREE, to).map_err(|(pfn, owner)| What::GivenTwice { pfn, owner })
    }

    /// A CPU gives frames back, or on to another.
    pub(crate) fn give(&self, pfn: Pfn, frames: u64, from: u32, to: u32) -> Result<(), What> {
        self.pass(pfn, frames, from, to).map_err(|(pfn, owner)| What::Stolen { pfn, owner })
    }
}

#[cfg(test)]
mod tests {
    use kernmem_base::Era;
    use kernmem_page_alloc::Placement;

    use super::*;

    #[test]
    fn a_frame_that_is_given_twice_is_found() {
        let owners = Owners::new(&Machine::new(Era::V6_1, Placement::Dense, 2));
        assert_eq!(owners.take(Pfn(0x100), 4, of_cpu(1)), Ok(()));
        assert_eq!(owners.take(Pfn(0x102), 1, of_cpu(0)), Err(What::GivenTwice { pfn: Pfn(0x102), owner: 2 }));
        assert_eq!(owners.give(Pfn(0x100), 4, of_cpu(1), FREE), Ok(()));
        assert_eq!(owners.give(Pfn(0x100), 1, of_cpu(1), FREE), Err(What::Stolen { pfn: Pfn(0x100), owner: FREE }));
        assert_eq!(owners.take(Pfn(0xff), 1, of_cpu(0)), Err(What::GivenTwice { pfn: Pfn(0xff), owner: AWAY }));
    }
}
