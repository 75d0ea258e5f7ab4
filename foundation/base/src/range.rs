//! Ranges of addresses that cannot wrap.

use core::fmt;

use crate::{PhysAddr, VirtAddr};

/// A non-empty range of physical addresses, half open; its end may be 2^64 only as `len`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// One past the last byte.
    pub end: PhysAddr,
}

impl PhysRange {
    /// The range `[start, end)`; an `end` below `start` makes an empty range at `start`.
    #[must_use]
    pub const fn new(start: PhysAddr, end: PhysAddr) -> Self {
        let end = if end.0 < start.0 { start } else { end };
        Self { start, end }
    }

    /// The range of `size` bytes from `start`; `None` if it would wrap.
    #[must_use]
    pub const fn of_size(start: PhysAddr, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Bytes in the range.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// Whether no byte is in the range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `pa` is in the range.
    #[must_use]
    pub const fn contains(&self, pa: PhysAddr) -> bool {
        self.start.0 <= pa.0 && pa.0 < self.end.0
    }

    /// Whether the two ranges share a byte.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The shared part, empty if there is none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

impl fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start.0, self.end.0)
    }
}

/// A non-empty range of virtual addresses, inclusive, so that it may touch the top of the address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtRange {
    /// First byte.
    pub start: VirtAddr,
    /// Last byte.
    pub last: VirtAddr,
}

impl VirtRange {
    /// Every address.
    pub const ALL: Self = Self { start: VirtAddr(0), last: VirtAddr(u64::MAX) };

    /// The range of `size` bytes from `start`; `None` if it is empty or would wrap past 2^64.
    #[must_use]
    pub const fn of_size(start: VirtAddr, size: u64) -> Option<Self> {
        if size == 0 {
            return None;
        }
        match start.checked_add(size - 1) {
            Some(last) => Some(Self { start, last }),
            None => None,
        }
    }

    /// The range from `start` up to, not including, `end`; `None` if it is empty. An `end` of 0 means 2^64.
    #[must_use]
    pub const fn until(start: VirtAddr, end: VirtAddr) -> Option<Self> {
        Self::of_size(start, end.0.wrapping_sub(start.0))
    }

    /// One past the last byte, modulo 2^64.
    #[must_use]
    pub const fn end(&self) -> VirtAddr {
        self.last.wrapping_add(1)
    }

    /// Bytes in the range; `u64::MAX` stands for the whole address space.
    #[must_use]
    pub const fn size(&self) -> u64 {
        (self.last.0 - self.start.0).saturating_add(1)
    }

    /// Whether `va` is in the range.
    #[must_use]
    pub const fn contains(&self, va: VirtAddr) -> bool {
        self.start.0 <= va.0 && va.0 <= self.last.0
    }

    /// Whether the two ranges share a byte.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start.0 <= other.last.0 && other.start.0 <= self.last.0
    }
}

impl fmt::Debug for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}..={:#x}]", self.start.0, self.last.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_range_may_touch_the_top() {
        let top = VirtRange::until(VirtAddr(u64::MAX - 0xfff), VirtAddr(0)).unwrap();
        assert_eq!((top.size(), top.end()), (0x1000, VirtAddr(0)));
        assert_eq!(VirtRange::of_size(VirtAddr(u64::MAX), 2), None);
        assert_eq!(VirtRange::of_size(VirtAddr(5), 0), None);
    }
}
