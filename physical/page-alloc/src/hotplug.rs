//! Memory that goes out of the allocator and comes back: a section, or any range whose frames are all free.
//!
//! Here: the frames and the managed count. Not here: the records of sections (`kernmem-sparse`), moving pages out of the way
//! first, watermarks and the present count, which their owners set anew.
//!
//! # Invariants
//! 1. A frame that is offline is as one that was never handed over: nobody gets it, and to give it back is foreign. Under
//!    dense placement this holds for the CPU that took it out: another one that gives it back, which nobody has to give, may
//!    not be told, and the frame may be given out then.
//!
//! Source: Linux 6.1 mm/memory_hotplug.c `offline_pages`, `online_pages`.

use kernmem_base::Pfn;
use kernmem_sparse::MigrateType;

use crate::ground::State;
use crate::handover::Records;
use crate::pcp::CpuPages;
use crate::store::Store;
use crate::zone::Locked;
use crate::{AddError, AllocError, PageAllocator};

impl<S: Store> Locked<'_, S> {
    pub fn offline(&mut self, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        self.take_range(start, end, false)?;
        for pfn in (start.0..end.0).map(Pfn) {
            self.ground().set(pfn, State::Nothing);
        }
        self.zone.sub_managed(end.0 - start.0);
        Ok(())
    }

    /// Pageblocks that lie in the range whole become movable, as those of new memory are.
    pub fn online(&mut self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let frames = self.ground().block_frames();
        let first = start.0.checked_next_multiple_of(frames).unwrap_or(end.0);
        for block in (first..end.0).step_by(frames as usize).filter(|block| block + frames <= end.0) {
            let block = Pfn(block);
            if self.ground().kind(block) == MigrateType::HighAtomic {
                self.inner.reserved_highatomic = self.inner.reserved_highatomic.saturating_sub(frames);
            }
            self.ground().set_kind(block, MigrateType::Movable);
        }
        self.add_free(start, end, Records::Later)
    }
}

impl<S: Store> PageAllocator<S> {
    /// Takes the frames `[start, end)`, which lie in one zone and are all free, out of the allocator: they are managed no
    /// more. The CPU's own lists are given back first, and the other CPUs are asked for theirs if a frame is in the way.
    ///
    /// # Errors
    /// [`AllocError::Busy`] with the first frame that is not free; nothing was taken out.
    pub fn offline(&self, cpu: &mut CpuPages<S>, start: Pfn, end: Pfn) -> Result<(), AllocError> {
        let zone = self.zone_of(start).ok_or(AllocError::Busy { pfn: start })?;
        if end > zone.span().end {
            return Err(AllocError::Busy { pfn: zone.span().end });
        }
        self.drain_zone(cpu, zone);
        let done = zone.offline(&cpu.held, start, end);
        if done.is_err() {
            self.ask_others(cpu);
        }
        done
    }

    /// Brings the frames `[start, end)`, which lie in one zone, back as free ones. Pageblocks that lie in the range whole
    /// are movable then. Where zones overlap, the first of them gets the frames.
    ///
    /// # Errors
    /// [`AddError`]; what lies below the frame that it names was brought back.
    pub fn online(&self, start: Pfn, end: Pfn) -> Result<(), AddError> {
        let zone = self.zone_of(start).ok_or(AddError::NoZone { pfn: start })?;
        if end > zone.span().end {
            return Err(AddError::NoZone { pfn: zone.span().end });
        }
        zone.online(start, end)
    }
}
