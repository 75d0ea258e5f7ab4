//! Areas that exist before the allocator does: segments of the kernel image, first per-CPU areas.
//!
//! Source: Linux 5.10, 6.1 mm/vmalloc.c `vm_area_add_early`, `vm_area_register_early`, `vmalloc_init`.

use kernmem_base::{Era, VirtAddr};

use crate::space::{LOWEST, Refused, Space};
use crate::{Area, Rules, Store, Vmalloc, VmallocError};

/// The list of early areas; nothing can be allocated yet.
#[derive(Clone, Debug)]
pub struct Early<S> {
    space: Space<S>,
    rules: Rules,
    /// Where the bump pointer of 5.10 stands.
    bump: VirtAddr,
}

impl<S: Store> Early<S> {
    /// No areas yet.
    ///
    /// # Errors
    /// [`VmallocError::BadRange`]: the default range is none.
    pub fn new(store: S, rules: Rules) -> Result<Self, VmallocError> {
        let (start, end) = (rules.start, rules.end);
        let page = rules.granule.bytes();
        if start.0 < page || !start.is_aligned(page) || start >= end {
            return Err(VmallocError::BadRange { start, end });
        }
        Ok(Self { space: Space::new(store), rules, bump: start })
    }

    /// Adds an area whose address is given.
    ///
    /// # Errors
    /// It is empty, leaves the space or overlaps another, or the store is full; nothing was added.
    pub fn add(&mut self, area: Area) -> Result<(), VmallocError> {
        if area.size == 0 {
            return Err(VmallocError::Zero);
        }
        if area.start.0 < LOWEST || area.start.checked_add(area.size).is_none() {
            return Err(VmallocError::TooLarge { size: area.size });
        }
        self.space.add_early(area).map_err(|refused| match refused {
            Refused::Overlap(start) => VmallocError::Overlap { start },
            Refused::NoNode | Refused::NoHole => VmallocError::NoNode,
        })
    }

    /// Adds `area` at an address of the default range that is a multiple of `align`; its own start is not looked at.
    /// Returns the address.
    ///
    /// | era | address |
    /// |---|---|
    /// | 4.14, 5.10 | behind the area registered last, whatever was added in between (4.14 UNVERIFIED) |
    /// | 6.1 and later | the first gap between the early areas |
    ///
    /// # Errors
    /// As [`Early::add`], or the alignment is no power of two, or the range is full; nothing was added.
    ///
    /// Source: Linux 5.10, 6.1 mm/vmalloc.c `vm_area_register_early`.
    pub fn register(&mut self, area: Area, align: u64) -> Result<VirtAddr, VmallocError> {
        if !align.is_power_of_two() {
            return Err(VmallocError::BadAlign { align });
        }
        let (size, start, end) = (area.size, self.rules.start, self.rules.end);
        let full = VmallocError::NoSpace { size, start, end };
        let found = match self.rules.era {
            Era::V4_14 | Era::V5_10 => self.bump.align_up(align),
            Era::V6_1 | Era::V6_12 | Era::V7_2 => self.first_gap(size, align),
        };
        let addr = found.ok_or(full)?;
        let behind = addr.checked_add(size).filter(|&behind| behind <= end).ok_or(full)?;
        self.add(Area { start: addr, ..area })?;
        self.bump = behind.align_up(self.rules.granule.bytes()).unwrap_or(behind);
        Ok(addr)
    }

    fn first_gap(&self, size: u64, align: u64) -> Option<VirtAddr> {
        let mut addr = self.rules.start.align_up(align)?;
        for node in self.space.busy().filter(|node| node.end > self.rules.start.0) {
            if node.start >= addr.0 && node.start - addr.0 >= size {
                break;
            }
            if node.end > addr.0 {
                addr = VirtAddr(node.end).align_up(align)?;
            }
        }
        Some(addr)
    }

    /// Makes every other address free: the early areas are busy ones from now on.
    ///
    /// # Errors
    /// The store is full; the early areas come back as they were.
    pub fn init(mut self) -> Result<Vmalloc<S>, (Self, VmallocError)> {
        match self.space.init() {
            Ok(()) => Ok(Vmalloc::new(self.space, self.rules)),
            Err(_) => Err((self, VmallocError::NoNode)),
        }
    }
}
