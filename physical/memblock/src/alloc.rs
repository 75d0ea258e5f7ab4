//! Allocation: the search for free memory, and the interfaces over it.
//!
//! Every interface returns an address or an error; whether the memory is to be zeroed is the interface's promise to
//! Linux's callers and the caller's work here.
//!
//! | interface | range | node | minimum given up | line |
//! |---|---|---|---|---|
//! | `phys_alloc` | 0 up to the current limit | any | – | `phys_alloc_range` |
//! | `phys_alloc_range` | as given | any | no | `phys_alloc_range` |
//! | `phys_alloc_try_nid` | 0 up to the current limit | preferred | – | none |
//! | `alloc_range_nid` | as given | preferred or exact | no | none |
//! | `alloc`, `alloc_raw` | 0 up to the current limit | any | – | `alloc_try_nid`, `_raw` |
//! | `alloc_from` | minimum up to the current limit | any | yes | `alloc_try_nid` |
//! | `alloc_low` | 0 up to the low limit | any | – | `alloc_try_nid` |
//! | `alloc_node` | 0 up to the current limit | preferred | – | `alloc_try_nid` |
//! | `alloc_try_nid`, `_raw` | as given | preferred | yes | its own |
//! | `alloc_exact_nid_raw` | as given | exact | yes | its own |
//!
//! Wishes are given up in this order: the node; then mirrored memory, with the node tried again; then the minimum,
//! with both tried again.
//!
//! Source: Linux 5.10–7.2 mm/memblock.c `memblock_find_in_range_node`, `memblock_alloc_range_nid`,
//! `memblock_alloc_internal`.

use kernmem_base::{Era, PhysAddr, PhysRange};

use crate::hint::{Hint, Search};
use crate::{Api, Event, Flags, Memblock, MemblockError, Nid, Observer, RegionArray, UpTo};

/// What is asked of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Bytes.
    pub size: u64,
    /// Alignment of the first byte, a power of two; 0 stands for a cache line.
    pub align: u64,
    /// Lowest address.
    pub from: PhysAddr,
    /// Upper bound.
    pub max: UpTo,
    /// The node.
    pub nid: Option<Nid>,
}

impl Request {
    /// `size` bytes aligned to `align` bytes, anywhere up to the current limit.
    #[must_use]
    pub const fn new(size: u64, align: u64) -> Self {
        Self { size, align, from: PhysAddr(0), max: UpTo::ACCESSIBLE, nid: None }
    }

    /// The same, not below `from`.
    #[must_use]
    pub const fn from(self, from: PhysAddr) -> Self {
        Self { from, ..self }
    }

    /// The same, below `max`.
    #[must_use]
    pub const fn up_to(self, max: UpTo) -> Self {
        Self { max, ..self }
    }

    /// The same, on node `nid`.
    #[must_use]
    pub const fn on(self, nid: Option<Nid>) -> Self {
        Self { nid, ..self }
    }

    fn not_found(&self) -> MemblockError {
        let Self { size, align, from, max, nid } = *self;
        MemblockError::NoMemory { size, align, from, max, nid }
    }
}

/// Whether a list that may not grow yet stops the kernel instead of failing the call; 4.14 is taken as 5.10
/// (UNVERIFIED).
///
/// Source: Linux 5.10–7.2 mm/memblock.c `memblock_double_array`.
const fn resize_failure_is_fatal(era: Era) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => false,
        Era::V6_12 | Era::V7_2 => true,
    }
}

impl<A: RegionArray, O: Observer> Memblock<A, O> {
    /// Allocates up to the current limit, on any node.
    ///
    /// # Errors
    /// No free memory satisfies the request, or the alignment is no power of two.
    pub fn phys_alloc(&mut self, size: u64, align: u64) -> Result<PhysAddr, MemblockError> {
        self.phys_alloc_range(size, align, PhysAddr(0), UpTo::ACCESSIBLE)
    }

    /// Allocates in `[from, max)`, on any node.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn phys_alloc_range(
        &mut self,
        size: u64,
        align: u64,
        from: PhysAddr,
        max: UpTo,
    ) -> Result<PhysAddr, MemblockError> {
        match self.era {
            Era::V4_14 | Era::V5_10 => {}
            Era::V6_1 | Era::V6_12 | Era::V7_2 => self.tell(Event::PhysAllocRange { size, align, from, max }),
        }
        self.alloc_range_nid(Request::new(size, align).from(from).up_to(max), false)
    }

    /// Allocates up to the current limit, on `nid` if possible. No request line is told.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn phys_alloc_try_nid(&mut self, size: u64, align: u64, nid: Option<Nid>) -> Result<PhysAddr, MemblockError> {
        self.alloc_range_nid(Request::new(size, align).on(nid), false)
    }

    /// Allocates up to the current limit, on any node; Linux zeroes it.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc(&mut self, size: u64, align: u64) -> Result<PhysAddr, MemblockError> {
        self.alloc_try_nid(Request::new(size, align))
    }

    /// As [`Memblock::alloc`], not zeroed.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_raw(&mut self, size: u64, align: u64) -> Result<PhysAddr, MemblockError> {
        self.alloc_try_nid_raw(Request::new(size, align))
    }

    /// As [`Memblock::alloc`], at or above `min` if possible.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_from(&mut self, size: u64, align: u64, min: PhysAddr) -> Result<PhysAddr, MemblockError> {
        self.alloc_try_nid(Request::new(size, align).from(min))
    }

    /// As [`Memblock::alloc`], below [`crate::Limits::low_address_limit`].
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_low(&mut self, size: u64, align: u64) -> Result<PhysAddr, MemblockError> {
        self.alloc_try_nid(Request::new(size, align).up_to(UpTo(self.limits.low_address_limit)))
    }

    /// As [`Memblock::alloc`], on `nid` if possible.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_node(&mut self, size: u64, align: u64, nid: Nid) -> Result<PhysAddr, MemblockError> {
        self.alloc_try_nid(Request::new(size, align).on(Some(nid)))
    }

    /// Allocates on the request's node and at or above its minimum if possible, below its bound in any case; Linux
    /// zeroes it.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_try_nid(&mut self, request: Request) -> Result<PhysAddr, MemblockError> {
        self.alloc_virtual(Api::TryNid, request)
    }

    /// As [`Memblock::alloc_try_nid`], not zeroed.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_try_nid_raw(&mut self, request: Request) -> Result<PhysAddr, MemblockError> {
        self.alloc_virtual(Api::TryNidRaw, request)
    }

    /// As [`Memblock::alloc_try_nid_raw`], on no other node than the request's.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_exact_nid_raw(&mut self, request: Request) -> Result<PhysAddr, MemblockError> {
        self.alloc_virtual(Api::ExactNidRaw, request)
    }

    fn alloc_virtual(&mut self, api: Api, request: Request) -> Result<PhysAddr, MemblockError> {
        let Request { size, align, from, max, nid } = request;
        self.tell(Event::Alloc { api, size, align, nid, from, max });
        let exact = api == Api::ExactNidRaw;
        let reachable = Request { max: UpTo(max.0.min(self.current_limit.0)), ..request };
        match self.alloc_range_nid(reachable, exact) {
            Err(MemblockError::NoMemory { .. }) if from.0 != 0 => {
                self.alloc_range_nid(reachable.from(PhysAddr(0)), exact).map_err(|error| match error {
                    MemblockError::NoMemory { .. } => request.not_found(),
                    error => error,
                })
            }
            result => result,
        }
    }

    /// Finds and takes memory in the request's range: on its node, then (unless `exact`) on any; with mirrored
    /// memory first if there is some. No request line is told.
    ///
    /// # Errors
    /// As [`Memblock::phys_alloc`].
    pub fn alloc_range_nid(&mut self, request: Request, exact: bool) -> Result<PhysAddr, MemblockError> {
        let align = if request.align == 0 { self.limits.smp_cache_bytes } else { request.align };
        if !align.is_power_of_two() {
            return Err(MemblockError::BadAlignment { align });
        }
        if !self.observer.permits(request.size) {
            return Err(request.not_found());
        }
        let aligned = Request { align, ..request };
        let anywhere = self.valid_node(request.nid).filter(|_| !exact).map(|_| aligned.on(None));
        let mut flags = self.wanted_flags();
        loop {
            for attempt in core::iter::once(aligned).chain(anywhere) {
                if let Some(found) = self.find_and_take(attempt, flags)? {
                    return Ok(found);
                }
            }
            if !flags.contains(Flags::MIRROR) {
                return Err(request.not_found());
            }
            self.tell(Event::MirrorExhausted { size: request.size });
            flags = flags & !Flags::MIRROR;
        }
    }

    /// One attempt. A list that cannot grow makes it fail as if nothing was found, where Linux goes on.
    fn find_and_take(&mut self, wish: Request, flags: Flags) -> Result<Option<PhysAddr>, MemblockError> {
        let Some(found) = self.find_in_range_node(wish, flags) else { return Ok(None) };
        // Before the place is taken: growing the list may give memory back and void the proof again.
        self.hint = if self.bottom_up() { None } else { Hint::new(self.search(wish, flags), found) };
        let taken = self.reserve_as(found, wish.size, wish.nid, Flags::RSRV_KERN);
        if taken.is_err() {
            self.hint = None;
        }
        match taken {
            Ok(()) => Ok(Some(found)),
            Err(error @ MemblockError::CannotResize { .. }) if resize_failure_is_fatal(self.era) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Finds `size` free bytes in `[from, max)` on any node without taking them: mirrored memory first if there is
    /// some. `align` is a power of two.
    ///
    /// Source: Linux 5.10–7.2 mm/memblock.c `memblock_find_in_range`.
    pub fn find_in_range(&mut self, from: PhysAddr, max: UpTo, size: u64, align: u64) -> Option<PhysAddr> {
        let wish = Request::new(size, align).from(from).up_to(max);
        let flags = self.wanted_flags();
        self.find_in_range_node(wish, flags).or_else(|| {
            if !flags.contains(Flags::MIRROR) {
                return None;
            }
            self.tell(Event::MirrorExhausted { size });
            self.find_in_range_node(wish, flags & !Flags::MIRROR)
        })
    }

    /// The free place for `wish` in regions that `flags` allow: the highest, or bottom-up the lowest.
    fn find_in_range_node(&self, wish: Request, flags: Flags) -> Option<PhysAddr> {
        if !wish.align.is_power_of_two() {
            return None;
        }
        let start = wish.from.max(PhysAddr(self.limits.granule.bytes())); // page 0 is never handed out
        let search = self.search(wish, flags);
        if self.bottom_up() {
            let mut ranges = self.free_ranges_in(PhysRange::new(start, search.end), wish.nid, flags, false);
            ranges.find_map(|free| lowest_fit(free.range, wish.size, wish.align))
        } else {
            let end = self.hint.map_or(search.end, |hint| hint.begin(&search));
            let mut ranges = self.free_ranges_in(PhysRange::new(start, end), wish.nid, flags, true);
            ranges.find_map(|free| highest_fit(free.range, wish.size, wish.align))
        }
    }

    fn search(&self, wish: Request, flags: Flags) -> Search {
        let Request { size, align, max, nid, .. } = wish;
        Search { size, align, end: max.resolve(self.current_limit), nid: self.valid_node(nid), flags }
    }
}

fn lowest_fit(free: PhysRange, size: u64, align: u64) -> Option<PhysAddr> {
    let start = free.start.align_up(align)?;
    (start < free.end && free.end - start >= size).then_some(start)
}

fn highest_fit(free: PhysRange, size: u64, align: u64) -> Option<PhysAddr> {
    let start = PhysAddr(free.end.0.checked_sub(size)?).align_down(align);
    (start >= free.start).then_some(start)
}
