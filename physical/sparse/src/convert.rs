//! The two conversions of each memory model, its choices made once.
//!
//! | model | frame to descriptor | loads that follow each other | descriptor to frame | loads that follow each other |
//! |---|---|---|---|---|
//! | flat | `map + (pfn - first)` | 0 | the inverse | 0 |
//! | vmemmap | `base + pfn` | 0 | the inverse | 0 |
//! | static | the section's coded address `+ pfn` | 1: the word | the inverse | 2: flags, the word |
//! | extreme | the same | 2: root, word | the same | 3: flags, root, word |
//!
//! Here: [`Conversion`], a value for each model that holds what a kernel's build or its variables would give;
//! [`ConversionJob`], code that is compiled for each of them. Not here: which model a kernel has (`memmap`), in which
//! order tables are read (`lookup`), which frames are valid.
//!
//! # Invariants
//! 1. A conversion loads what the table says and nothing else: its own fields are few enough for registers.
//! 2. Where both directions have an answer, they undo each other.
//!
//! Source: Linux 5.10–7.2 include/asm-generic/memory_model.h.

use kernmem_base::{Pfn, VirtAddr};

use crate::lookup::Lookup;
use crate::memmap::{FlatMap, VirtualMap};
use crate::word::is_mapped;
use crate::{Geometry, SectionNr};

/// The two conversions of one memory model.
pub trait Conversion: Copy {
    /// The address of the descriptor of `pfn`, which has one; of another frame what Linux would compute, where no
    /// descriptor is.
    fn page(&self, pfn: Pfn) -> VirtAddr;

    /// The frame of the descriptor at `page`, which is one; `section_in_flags` loads the section's number from it, and is
    /// asked in the models with an array for each section only.
    fn pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Pfn;

    /// As [`Conversion::page`]; `None` where a flat array ends or a section has no map. The vmemmap model computes: whether
    /// there is a descriptor at the address, `pfn_valid` knows.
    fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr>;

    /// As [`Conversion::pfn`]; `None` if no descriptor can begin at `page`.
    fn page_to_pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn>;
}

/// Code that converts much: it is compiled for each model, and the model is chosen before it runs.
pub trait ConversionJob {
    /// What comes out of it.
    type Output;

    /// Does it.
    fn run(self, conversion: impl Conversion) -> Self::Output;
}

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

/// FLATMEM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flat<D> {
    map: u64,
    first: u64,
    frames: u64,
    size: D,
}

impl<D> Flat<D> {
    pub(crate) const fn new(flat: &FlatMap, size: D) -> Self {
        Self { map: flat.map.0, first: flat.first.0, frames: flat.frames, size }
    }
}

impl<D: Size> Conversion for Flat<D> {
    #[inline]
    fn page(&self, pfn: Pfn) -> VirtAddr {
        VirtAddr(self.map.wrapping_add(self.size.times(pfn.0.wrapping_sub(self.first))))
    }

    #[inline]
    fn pfn(&self, page: VirtAddr, _section_in_flags: impl FnOnce() -> SectionNr) -> Pfn {
        Pfn(self.first.wrapping_add(self.size.quotient(page.0.wrapping_sub(self.map))))
    }

    #[inline]
    fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        (pfn.0.wrapping_sub(self.first) < self.frames).then(|| self.page(pfn))
    }

    #[inline]
    fn page_to_pfn(&self, page: VirtAddr, _section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        let index = self.size.whole(page.0.checked_sub(self.map)?)?;
        (index < self.frames).then(|| Pfn(self.first.wrapping_add(index)))
    }
}

/// SPARSEMEM_VMEMMAP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Virtual<D> {
    base: u64,
    size: D,
}

impl<D> Virtual<D> {
    pub(crate) const fn new(map: &VirtualMap, size: D) -> Self {
        Self { base: map.base.0, size }
    }
}

impl<D: Size> Conversion for Virtual<D> {
    #[inline]
    fn page(&self, pfn: Pfn) -> VirtAddr {
        VirtAddr(self.base.wrapping_add(self.size.times(pfn.0)))
    }

    #[inline]
    fn pfn(&self, page: VirtAddr, _section_in_flags: impl FnOnce() -> SectionNr) -> Pfn {
        Pfn(self.size.quotient(page.0.wrapping_sub(self.base)))
    }

    #[inline]
    fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        Some(self.page(pfn))
    }

    #[inline]
    fn page_to_pfn(&self, page: VirtAddr, _section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        self.size.whole(page.0.wrapping_sub(self.base)).map(Pfn)
    }
}

/// SPARSEMEM without a vmemmap: the section's word says where its array is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BySection<L, D> {
    lookup: L,
    size: D,
    section_shift: u32,
    /// The bits of a word that are the coded address.
    coded: u64,
    /// The bits of an address.
    addresses: u64,
}

impl<L, D> BySection<L, D> {
    pub(crate) const fn new(geometry: &Geometry, lookup: L, size: D) -> Self {
        let coded = geometry.word_format().mask();
        let section_shift = geometry.pfn_section_shift();
        Self { lookup, size, section_shift, coded, addresses: geometry.address_mask() }
    }
}

impl<L: Lookup, D: Size> BySection<L, D> {
    #[inline]
    fn section_of(&self, pfn: Pfn) -> SectionNr {
        SectionNr(pfn.0 >> self.section_shift)
    }

    /// The descriptor of `pfn` by the word of its section.
    #[inline]
    fn page_by(&self, word: u64, pfn: Pfn) -> VirtAddr {
        VirtAddr((word & self.coded).wrapping_add(self.size.times(pfn.0)) & self.addresses)
    }

    /// Bytes from the coded address in `word` to `page`.
    #[inline]
    fn bytes_by(&self, word: u64, page: VirtAddr) -> u64 {
        page.0.wrapping_sub(word & self.coded) & self.addresses
    }
}

impl<L: Lookup, D: Size> Conversion for BySection<L, D> {
    #[inline]
    fn page(&self, pfn: Pfn) -> VirtAddr {
        self.page_by(self.lookup.word(self.section_of(pfn)), pfn)
    }

    #[inline]
    fn pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Pfn {
        Pfn(self.size.quotient(self.bytes_by(self.lookup.word(section_in_flags()), page)))
    }

    #[inline]
    fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        let word = self.lookup.word(self.section_of(pfn));
        is_mapped(word).then(|| self.page_by(word, pfn))
    }

    #[inline]
    fn page_to_pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        let nr = section_in_flags();
        let word = self.lookup.word(nr);
        if !is_mapped(word) {
            return None;
        }
        let pfn = Pfn(self.size.whole(self.bytes_by(word, page))?);
        (self.section_of(pfn) == nr).then_some(pfn)
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
