//! The hand-over to the page allocator: the end of memblock.
//!
//! Here: the last changes to the lists, the chunks that become free pages, the frames that stay reserved.
//! Not here: page descriptors and free lists (`kernmem-sparse`, `kernmem-page-alloc`).
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_free_all`, `free_low_memory_core_early`, `__free_pages_memory`,
//! `memmap_init_reserved_pages`.

use kernmem_base::{Era, Order, Pfn, PhysAddr};

use crate::{
    Event, Flags, Frames, FreeRanges, List, ListKind, Memblock, MemblockError, Nid, Observer, PfnRange, Region,
    RegionArray,
};

/// What the page allocator can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buddy {
    /// The largest block.
    pub max_order: Order,
    /// One past the last frame that is handed over; `None` if there is no such bound.
    pub max_low: Option<Pfn>,
}

/// A naturally aligned block of free frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// First frame, a multiple of `2^order`.
    pub start: Pfn,
    /// log2 of the number of frames.
    pub order: Order,
    /// The node of the memory.
    pub nid: Option<Nid>,
}

/// Memblock after the hand-over: to be read, no longer to be asked for memory.
#[derive(Clone, Debug)]
pub struct HandedOver<A, O = ()> {
    memblock: Memblock<A, O>,
    buddy: Buddy,
}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Ends the boot allocator. No region is removable any more, and from 6.12 on every taken region knows its node.
    ///
    /// # Errors
    /// A list that could not grow for this; the kernel cannot go on then.
    pub fn hand_over(mut self, buddy: Buddy) -> Result<HandedOver<A, O>, MemblockError> {
        self.clear_hotplug(PhysAddr(0), u64::MAX)?;
        match self.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 => {}
            Era::V6_12 | Era::V7_2 => self.give_nodes_to_reserved()?,
        }
        Ok(HandedOver { memblock: self, buddy })
    }

    /// Copies the node of each memory region to what is taken inside it; again from the start if the list had to
    /// grow, since its new storage is taken memory too.
    fn give_nodes_to_reserved(&mut self) -> Result<(), MemblockError> {
        loop {
            let capacity = self.reserved.capacity();
            for index in 0..self.memory.len() {
                let Region { base, size, nid, .. } = self.memory.regions()[index];
                self.set_node(ListKind::Reserved, base, size, nid)?;
            }
            if self.reserved.capacity() == capacity {
                return Ok(());
            }
        }
    }
}

impl<A: RegionArray, O: Observer> HandedOver<A, O> {
    /// Memory that exists.
    #[must_use]
    pub fn memory(&self) -> &List<A> {
        &self.memblock.memory
    }

    /// Memory that is taken.
    #[must_use]
    pub fn reserved(&self) -> &List<A> {
        &self.memblock.reserved
    }

    /// The era whose rules apply.
    #[must_use]
    pub fn era(&self) -> Era {
        self.memblock.era
    }

    /// Who listens.
    pub fn observer(&mut self) -> &mut O {
        &mut self.memblock.observer
    }

    /// Who listens, to look at what was heard.
    pub fn listener(&self) -> &O {
        &self.memblock.observer
    }

    /// The same lists, from now on told to another listener, which is made of the one so far.
    pub fn with_listener<P>(self, make: impl FnOnce(O) -> P) -> HandedOver<A, P> {
        let Self { memblock, buddy } = self;
        HandedOver { memblock: memblock.with_observer(make), buddy }
    }

    /// Gives the listener back: nothing more will be told.
    pub fn into_observer(self) -> O {
        self.memblock.observer
    }

    /// The free memory in whole frames, cut into the largest naturally aligned chunks, lowest first.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'_> {
        let ranges = self.memblock.free_ranges(None, Flags::NONE);
        let rest = PfnRange { start: Pfn(0), end: Pfn(0), nid: None };
        Chunks { ranges, granule_shift: self.memblock.limits.granule.shift(), buddy: self.buddy, rest }
    }

    /// The whole free frames, range by range, lowest first.
    pub fn free_frames(&self) -> impl Iterator<Item = Frames> + '_ {
        let shift = self.memblock.limits.granule.shift();
        let max_low = self.buddy.max_low;
        self.memblock.free_ranges(None, Flags::NONE).filter_map(move |free| {
            let start = Pfn(free.range.start.0.div_ceil(1 << shift));
            let end = Pfn(free.range.end.0 >> shift);
            let end = max_low.map_or(end, |max| max.min(end));
            (start < end).then_some(PfnRange { start, end, nid: free.nid })
        })
    }

    /// Pages in all chunks.
    #[must_use]
    pub fn nr_free_pages(&self) -> u64 {
        self.free_frames().map(|frames| frames.end.0 - frames.start.0).sum()
    }

    /// The frames whose descriptors are marked reserved, rounded outward: what is taken, and from 6.1 on what is not
    /// mapped. From 6.12 on what its taker initialises is left out. Ranges may overlap.
    pub fn reserved_frames(&self) -> impl Iterator<Item = Frames> + '_ {
        let (noinit_counts, nomap_counts) = match self.memblock.era {
            Era::V4_14 | Era::V5_10 => (false, false),
            Era::V6_1 => (false, true),
            Era::V6_12 | Era::V7_2 => (true, true),
        };
        let skipped = move |region: &&Region| noinit_counts && region.flags.contains(Flags::RSRV_NOINIT);
        let taken = self.reserved().regions().iter().filter(move |region| !skipped(region));
        let unmapped = self.memory().regions().iter();
        let unmapped = unmapped.filter(move |region| nomap_counts && region.flags.contains(Flags::NOMAP));
        taken.chain(unmapped).map(|region| Frames {
            start: self.memblock.frame_down(region.base),
            end: self.memblock.frame_up(region.end()),
            nid: region.nid,
        })
    }

    /// Takes `[base, base + size)` out of the list of taken memory, where the lists are kept after the hand-over. What
    /// becomes free of it the page allocator must be told apart.
    ///
    /// | era | the log |
    /// |---|---|
    /// | 4.14–6.12 | tells it |
    /// | 7.2 | does not |
    ///
    /// # Errors
    /// The list could not grow: it is as before.
    pub fn free_kept(&mut self, base: PhysAddr, size: u64) -> Result<(), MemblockError> {
        match self.memblock.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.memblock.phys_free(base, size),
            Era::V7_2 => self.memblock.remove_range(ListKind::Reserved, base, size),
        }
    }

    /// Gives `[base, base + size)` back after the hand-over: the whole frames inside it, for the page allocator to
    /// free. The list of taken memory keeps the range.
    ///
    /// Source: Linux 5.10–6.12 mm/memblock.c `memblock_free_late`.
    pub fn free_late(&mut self, base: PhysAddr, size: u64) -> Option<(Pfn, Pfn)> {
        match self.memblock.era {
            Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => self.memblock.tell(Event::FreeLate { base, size }),
            Era::V7_2 => self.memblock.tell(Event::Free { base, size }),
        }
        let end = PhysAddr(base.0 + self.memblock.limits.cap_size(base, size));
        let (start, end) = (self.memblock.frame_up(base), self.memblock.frame_down(end));
        (start < end).then_some((start, end))
    }
}

/// The chunks of [`HandedOver::chunks`].
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    ranges: FreeRanges<'a>,
    granule_shift: u32,
    buddy: Buddy,
    rest: PfnRange,
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        while self.rest.start >= self.rest.end {
            let free = self.ranges.next()?;
            let page = 1 << self.granule_shift;
            let end = Pfn(free.range.end.0 >> self.granule_shift);
            self.rest = PfnRange {
                start: Pfn(free.range.start.0.div_ceil(page)),
                end: self.buddy.max_low.map_or(end, |max| max.min(end)),
                nid: free.nid,
            };
        }
        let PfnRange { start, end, nid } = self.rest;
        let order = start.0.trailing_zeros().min(u32::from(self.buddy.max_order.0)).min((end.0 - start.0).ilog2());
        self.rest.start = Pfn(start.0 + (1 << order));
        Some(Chunk { start, order: Order(order as u8), nid })
    }
}
