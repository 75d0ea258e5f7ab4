//! From a frame to its page descriptor and back, in each memory model.
//!
//! | model | frame to descriptor | descriptor to frame |
//! |---|---|---|
//! | flat | `map + (pfn - first)` | the inverse |
//! | sections | the section's coded address `+ pfn` | the section's number is in the descriptor's flags |
//! | vmemmap | `base + pfn` | the inverse |
//!
//! # Invariants
//! 1. Where both directions have an answer, they undo each other.
//!
//! Source: Linux 5.10–7.2 include/asm-generic/memory_model.h; arch/arm64/mm/init.c `pfn_valid` (5.10).

use kernmem_base::{Era, Pfn, VirtAddr};

use crate::store::Store;
use crate::{Geometry, Model, SectionNr, Sections, SparseArch, Word};

/// Memory references of one conversion, which is what the models differ in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct References {
    /// Loads of a global variable: always the same line.
    pub globals: u32,
    /// Loads of root pointers and section words: a line for each few sections.
    pub sections: u32,
    /// Loads of the page descriptor itself.
    pub page: u32,
}

impl References {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.globals + self.sections + self.page
    }
}

/// The descriptors of a flat model: one array over the span of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlatMap {
    /// Where the array starts.
    pub map: VirtAddr,
    /// The frame of its first descriptor.
    pub first: Pfn,
    /// Descriptors in the array.
    pub frames: u64,
    /// Bytes of a descriptor.
    pub page_bytes: u64,
    /// The array's address is a variable, not a constant of the build.
    pub variable: bool,
}

impl FlatMap {
    /// Whether the array has a descriptor for `pfn`.
    #[must_use]
    pub const fn is_valid(&self, pfn: Pfn) -> bool {
        pfn.0 >= self.first.0 && pfn.0 - self.first.0 < self.frames
    }
}

/// The descriptors of the vmemmap model: an array over all of physical memory, mapped where there is memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtualMap {
    /// Where the descriptor of frame 0 would be (`vmemmap`); it need not be mapped and may lie below the region.
    pub base: VirtAddr,
    /// Bytes of a descriptor.
    pub page_bytes: u64,
    /// The base is computed from a variable: arm64's start of memory, x86-64's randomised base.
    pub variable: bool,
}

impl VirtualMap {
    /// The map whose descriptor of `first` is at `start`.
    #[must_use]
    pub const fn starting_at(start: VirtAddr, first: Pfn, page_bytes: u64, variable: bool) -> Self {
        Self { base: VirtAddr(start.0.wrapping_sub(first.0.wrapping_mul(page_bytes))), page_bytes, variable }
    }

    /// The address of the descriptor of `pfn`.
    #[must_use]
    pub const fn page(&self, pfn: Pfn) -> VirtAddr {
        VirtAddr(self.base.0.wrapping_add(pfn.0.wrapping_mul(self.page_bytes)))
    }
}

/// How a kernel converts between frames and page descriptors.
#[derive(Debug)]
pub enum Memmap<'s, S> {
    /// One array.
    Flat(FlatMap),
    /// An array for each section (static and extreme).
    Sections(&'s Sections<S>),
    /// One virtual array.
    Virtual(VirtualMap),
}

impl<S> Clone for Memmap<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Memmap<'_, S> {}

impl<S: Store> Memmap<'_, S> {
    /// The address of the descriptor of `pfn`.
    ///
    /// `None` where the section has no map. The flat and the virtual model compute: whether there is a descriptor at
    /// the address, `pfn_valid` knows.
    #[must_use]
    pub fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        match self {
            Self::Flat(flat) => {
                let offset = pfn.0.wrapping_sub(flat.first.0).wrapping_mul(flat.page_bytes);
                Some(flat.map.wrapping_add(offset))
            }
            Self::Sections(sections) => sections.pfn_to_page(pfn),
            Self::Virtual(map) => Some(map.page(pfn)),
        }
    }

    /// The frame of the descriptor at `page`; `section_in_flags` reads the section's number from the descriptor, and
    /// is asked in the models with an array for each section only.
    ///
    /// `None` if no descriptor can begin at `page`.
    #[must_use]
    pub fn page_to_pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        match self {
            Self::Flat(flat) => {
                let index = descriptors(page.0.checked_sub(flat.map.0)?, flat.page_bytes)?;
                (index < flat.frames).then(|| Pfn(flat.first.0 + index))
            }
            Self::Sections(sections) => sections.page_to_pfn(page, section_in_flags()),
            Self::Virtual(map) => descriptors(page.0.wrapping_sub(map.base.0), map.page_bytes).map(Pfn),
        }
    }

    /// What [`Memmap::pfn_to_page`] costs.
    #[must_use]
    pub fn pfn_to_page_references(&self) -> References {
        match self {
            Self::Flat(FlatMap { variable, .. }) | Self::Virtual(VirtualMap { variable, .. }) => {
                References { globals: u32::from(*variable), ..References::default() }
            }
            Self::Sections(sections) => match sections.geometry.model() {
                Model::Flat | Model::Static => References { globals: 0, sections: 1, page: 0 },
                Model::Extreme | Model::Vmemmap => References { globals: 1, sections: 2, page: 0 },
            },
        }
    }

    /// What [`Memmap::page_to_pfn`] costs.
    #[must_use]
    pub fn page_to_pfn_references(&self) -> References {
        let there = self.pfn_to_page_references();
        match self {
            Self::Flat(_) | Self::Virtual(_) => there,
            Self::Sections(_) => References { page: 1, ..there },
        }
    }
}

fn descriptors(bytes: u64, page_bytes: u64) -> Option<u64> {
    bytes.is_multiple_of(page_bytes).then(|| bytes / page_bytes)
}

/// How a kernel tells whether a frame has a page descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValidRule {
    /// A section with a map; one added after boot only where its subsection is in use.
    Sections,
    /// The same, but of boot's sections only frames of memory that is mapped in the linear map.
    SectionsAndMemory,
    /// Any frame of memory that is mapped in the linear map.
    Memory,
}

impl ValidRule {
    /// The rule of a kernel.
    ///
    /// | arch | 4.14 (UNVERIFIED) | 5.10 | 6.1, 6.12, 7.2 |
    /// |---|---|---|---|
    /// | arm64 | mapped memory | sections; of boot's, mapped memory | sections |
    /// | x86 | sections | sections | sections |
    ///
    /// Source: Linux 5.10 arch/arm64/mm/init.c `pfn_valid`; 5.10–7.2 include/linux/mmzone.h `pfn_valid`.
    #[must_use]
    pub const fn of(geometry: &Geometry) -> Self {
        match (geometry.facts().arch, geometry.facts().era) {
            (SparseArch::Arm64, Era::V4_14) => Self::Memory,
            (SparseArch::Arm64, Era::V5_10) => Self::SectionsAndMemory,
            (SparseArch::Arm64, Era::V6_1 | Era::V6_12 | Era::V7_2) => Self::Sections,
            (SparseArch::X86_64 | SparseArch::I386Pae | SparseArch::I386, _) => Self::Sections,
        }
    }
}

impl<S: Store> Sections<S> {
    /// The coded address in a section's word.
    fn coded(&self, nr: SectionNr) -> Option<VirtAddr> {
        match self.word(nr) {
            Word::Mapped { coded, .. } => Some(coded),
            Word::Absent | Word::Early { .. } | Word::Odd { .. } => None,
        }
    }

    /// Where the descriptors of a section start.
    #[must_use]
    pub fn map_of(&self, nr: SectionNr) -> Option<VirtAddr> {
        self.pfn_to_page(self.geometry.first_pfn(nr))
    }

    /// The address of the descriptor of `pfn`, by its section's word; `None` where the section has no map.
    #[must_use]
    pub fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        let coded = self.coded(self.geometry.section_of(pfn))?;
        let page = coded.0.wrapping_add(pfn.0.wrapping_mul(self.geometry.page_bytes()));
        Some(VirtAddr(page & self.geometry.address_mask()))
    }

    /// The frame of the descriptor at `page`, whose flags name section `nr`; `None` if the section has no map, or no
    /// descriptor of it begins there.
    #[must_use]
    pub fn page_to_pfn(&self, page: VirtAddr, nr: SectionNr) -> Option<Pfn> {
        let bytes = page.0.wrapping_sub(self.coded(nr)?.0) & self.geometry.address_mask();
        let pfn = Pfn(descriptors(bytes, self.geometry.page_bytes())?);
        (self.geometry.section_of(pfn) == nr).then_some(pfn)
    }

    /// Whether a frame has a page descriptor, by the kernel's own rule; `is_mapped_memory` says whether boot's memory
    /// list has the frame and the linear map maps it, and is asked only where the rule wants to know.
    ///
    /// A frame number whose address would not fit into 64 bits is beyond the last section, so it needs no test.
    #[must_use]
    pub fn pfn_valid(&self, pfn: Pfn, is_mapped_memory: impl FnOnce(Pfn) -> bool) -> bool {
        let nr = self.geometry.section_of(pfn);
        let in_sections = || self.has_map(nr) && (self.is_whole(nr) || self.subsection_in_use(pfn));
        match ValidRule::of(&self.geometry) {
            ValidRule::Sections => in_sections(),
            ValidRule::SectionsAndMemory => in_sections() && (!self.is_early(nr) || is_mapped_memory(pfn)),
            ValidRule::Memory => pfn < self.geometry.max_pfn() && is_mapped_memory(pfn),
        }
    }

    /// Whether every frame of a section has a descriptor: boot maps sections whole, and so do classic models.
    fn is_whole(&self, nr: SectionNr) -> bool {
        self.is_early(nr) || self.geometry.subsection_words() == 0
    }

    /// The first frame at or after `from` and below `end` that has a descriptor by the rule of sections: absent
    /// sections and subsections are skipped whole.
    #[must_use]
    pub fn next_valid(&self, from: Pfn, end: Pfn) -> Option<Pfn> {
        let mut pfn = from;
        while pfn < end {
            let nr = self.next_present(self.geometry.section_of(pfn))?;
            pfn = pfn.max(self.geometry.first_pfn(nr));
            if !self.has_map(nr) {
                pfn = self.geometry.first_pfn(SectionNr(nr.0 + 1));
            } else if self.is_whole(nr) || self.subsection_in_use(pfn) {
                return Some(pfn).filter(|&pfn| pfn < end);
            } else {
                pfn = Pfn((pfn.0 | (self.geometry.pages_per_subsection() - 1)) + 1);
            }
        }
        None
    }
}
