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
//! order tables are read (`lookup`), what a build knows as constants (`shape`), which frames are valid.
//!
//! # Invariants
//! 1. A conversion loads what the table says and nothing else: its own fields are few enough for registers.
//! 2. Where both directions have an answer, they undo each other.
//!
//! Source: Linux 5.10–7.2 include/asm-generic/memory_model.h.

use kernmem_base::{Pfn, VirtAddr};

use crate::lookup::Lookup;
use crate::memmap::{FlatMap, VirtualMap};
use crate::shape::{SectionShape, Size};
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
pub(crate) struct BySection<L, P, D> {
    lookup: L,
    shape: P,
    size: D,
    /// The bits of a word that are the coded address.
    coded: u64,
}

impl<L, P, D> BySection<L, P, D> {
    pub(crate) const fn new(geometry: &Geometry, lookup: L, shape: P, size: D) -> Self {
        Self { lookup, shape, size, coded: geometry.word_format().mask() }
    }
}

impl<L: Lookup, P: SectionShape, D: Size> BySection<L, P, D> {
    #[inline]
    fn section_of(&self, pfn: Pfn) -> SectionNr {
        SectionNr(pfn.0 >> self.shape.section_shift())
    }

    /// The descriptor of `pfn` by the word of its section.
    #[inline]
    fn page_by(&self, word: u64, pfn: Pfn) -> VirtAddr {
        VirtAddr((word & self.coded).wrapping_add(self.size.times(pfn.0)) & self.shape.addresses())
    }

    /// Bytes from the coded address in `word` to `page`.
    #[inline]
    fn bytes_by(&self, word: u64, page: VirtAddr) -> u64 {
        page.0.wrapping_sub(word & self.coded) & self.shape.addresses()
    }
}

impl<L: Lookup, P: SectionShape, D: Size> Conversion for BySection<L, P, D> {
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
