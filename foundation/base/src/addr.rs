//! Addresses and frame numbers: newtypes where a mix-up would compile.

use core::fmt;
use core::ops::{Add, Sub};

use crate::Granule;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Rounds down to a multiple of `align` bytes, a power of two.
            #[must_use]
            pub const fn align_down(self, align: u64) -> Self {
                Self(self.0 & !(align - 1))
            }

            /// Rounds up to a multiple of `align` bytes, a power of two; `None` past 2^64.
            #[must_use]
            pub const fn align_up(self, align: u64) -> Option<Self> {
                match self.0.checked_add(align - 1) {
                    Some(sum) => Some(Self(sum & !(align - 1))),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align` bytes, a power of two.
            #[must_use]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The address `bytes` further; `None` past 2^64 - 1.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl Add<u64> for $name {
            type Output = Self;
            fn add(self, bytes: u64) -> Self {
                Self(self.0 + bytes)
            }
        }

        impl Sub<u64> for $name {
            type Output = Self;
            fn sub(self, bytes: u64) -> Self {
                Self(self.0 - bytes)
            }
        }

        impl Sub for $name {
            type Output = u64;
            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A physical address in bytes, as the machine's bus sees it.
    PhysAddr
}

address! {
    /// A virtual address in bytes, sign-extended where the architecture does so.
    VirtAddr
}

impl PhysAddr {
    /// The frame that holds this address.
    #[must_use]
    pub const fn pfn(self, granule: Granule) -> Pfn {
        Pfn(self.0 >> granule.shift())
    }
}

impl VirtAddr {
    /// The address `bytes` further, modulo 2^64: the end of the last range of the address space is 0.
    #[must_use]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

/// A page frame number; it knows no page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Pfn(pub u64);

impl Pfn {
    /// The first byte of the frame; `None` past 2^64.
    #[must_use]
    pub const fn to_phys(self, granule: Granule) -> Option<PhysAddr> {
        if self.0 > u64::MAX >> granule.shift() {
            return None;
        }
        Some(PhysAddr(self.0 << granule.shift()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_past_the_last_address_is_refused() {
        assert_eq!(VirtAddr(u64::MAX).align_up(4096), None);
        assert_eq!(VirtAddr(0x1001).align_up(4096), Some(VirtAddr(0x2000)));
    }

    #[test]
    fn a_frame_beyond_the_bus_has_no_address() {
        assert_eq!(Pfn(1 << 52).to_phys(Granule::K4), None);
        assert_eq!(Pfn(3).to_phys(Granule::K16), Some(PhysAddr(0xc000)));
    }
}
