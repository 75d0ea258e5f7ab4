//! What a kernel's build knows of its descriptors and sections: constants where a build is a usual one, values where not.
//!
//! Here: how many bytes a page descriptor has ([`Size`]), how frames divide into sections and roots ([`SectionShape`]).
//! Not here: how they follow from a configuration (`geometry`), who chooses (`memmap`).

use crate::Geometry;

/// How many bytes a descriptor has.
pub(crate) trait Size: Copy {
    /// Bytes of `descriptors`, modulo 2^64.
    fn times(self, descriptors: u64) -> u64;

    /// Descriptors in `bytes`, which are a whole number of them.
    fn quotient(self, bytes: u64) -> u64;

    /// Descriptors in `bytes`; `None` if they are no whole number.
    #[inline]
    fn whole(self, bytes: u64) -> Option<u64> {
        let descriptors = self.quotient(bytes);
        (descriptors.checked_mul(self.times(1)) == Some(bytes)).then_some(descriptors)
    }
}

/// A size that code is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed<const BYTES: u64>;

impl<const BYTES: u64> Size for Fixed<BYTES> {
    #[inline]
    fn times(self, descriptors: u64) -> u64 {
        descriptors.wrapping_mul(BYTES)
    }

    #[inline]
    fn quotient(self, bytes: u64) -> u64 {
        bytes / BYTES
    }
}

/// Any size: a whole quotient is a shift and a multiplication, since an odd number has an inverse modulo 2^64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Any {
    bytes: u64,
    shift: u32,
    inverse: u64,
}

impl Any {
    pub(crate) const fn new(bytes: u64) -> Self {
        let shift = bytes.trailing_zeros() % 64; // nothing has 0 bytes: then all is 0
        let odd = bytes >> shift;
        // Newton: three bits of `odd` are its own inverse, and each step doubles the bits that are right.
        let (mut inverse, mut right) = (odd, 3);
        while right < 64 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
            right *= 2;
        }
        Self { bytes, shift, inverse }
    }
}

impl Size for Any {
    #[inline]
    fn times(self, descriptors: u64) -> u64 {
        descriptors.wrapping_mul(self.bytes)
    }

    #[inline]
    fn quotient(self, bytes: u64) -> u64 {
        (bytes >> self.shift).wrapping_mul(self.inverse)
    }
}

/// How frames divide into sections and sections into roots, and how wide addresses are.
pub(crate) trait SectionShape: Copy {
    /// log2 of the frames of a section.
    fn section_shift(self) -> u32;

    /// log2 of the section descriptors of a root.
    fn root_shift(self) -> u32;

    /// The bits of a virtual address.
    fn addresses(self) -> u64;
}

/// 4K pages, sections of 128M, section descriptors of 16 bytes, 64-bit addresses: x86-64, and arm64 from 6.1 on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual;

impl Usual {
    const SECTION_SHIFT: u32 = 15;
    const ROOT_SHIFT: u32 = 8;

    /// Whether a geometry is the usual one; an array by number has no roots to ask for.
    pub(crate) const fn fits(geometry: &Geometry) -> bool {
        geometry.pfn_section_shift() == Self::SECTION_SHIFT
            && (geometry.is_array() || geometry.root_shift() == Self::ROOT_SHIFT)
            && geometry.address_mask() == u64::MAX
    }
}

impl SectionShape for Usual {
    #[inline]
    fn section_shift(self) -> u32 {
        Self::SECTION_SHIFT
    }

    #[inline]
    fn root_shift(self) -> u32 {
        Self::ROOT_SHIFT
    }

    #[inline]
    fn addresses(self) -> u64 {
        u64::MAX
    }
}

/// Any shape with addresses of 64 bits, or if they are `NARROW` of 32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shifts<const NARROW: bool> {
    section: u32,
    root: u32,
}

impl<const NARROW: bool> Shifts<NARROW> {
    pub(crate) const fn of(geometry: &Geometry) -> Self {
        Self { section: geometry.pfn_section_shift(), root: geometry.root_shift() }
    }
}

impl<const NARROW: bool> SectionShape for Shifts<NARROW> {
    #[inline]
    fn section_shift(self) -> u32 {
        self.section
    }

    #[inline]
    fn root_shift(self) -> u32 {
        self.root
    }

    #[inline]
    fn addresses(self) -> u64 {
        if NARROW { u32::MAX as u64 } else { u64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_divides_as_division_does() {
        for bytes in (1..=4096).chain([u64::MAX, 1 << 63]) {
            let any = Any::new(bytes);
            let most = u64::MAX / bytes;
            for n in [0, 1, 2, 3, 1000, most - 1, most].map(|n| n.min(most)) {
                assert_eq!(any.quotient(bytes * n), n, "{bytes}");
                for value in [(bytes * n).wrapping_sub(1), bytes * n, (bytes * n).wrapping_add(1)] {
                    let expected = value.is_multiple_of(bytes).then(|| value / bytes);
                    assert_eq!(any.whole(value), expected, "{value} by {bytes}");
                }
            }
        }
        assert_eq!(Any::new(0).whole(5), None);
    }

    #[test]
    fn fixed_sizes_divide_as_any_does() {
        for value in (0..4096).chain((1..4096).map(|n| u64::MAX - n)) {
            assert_eq!(Fixed::<64>.whole(value), Any::new(64).whole(value));
            assert_eq!(Fixed::<32>.whole(value), Any::new(32).whole(value));
            assert_eq!(Fixed::<64>.times(value), Any::new(64).times(value));
        }
    }
}
