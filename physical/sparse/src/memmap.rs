//! Which memory model a kernel has, and which frames have page descriptors.
//!
//! Here: [`Memmap`], which chooses a model's conversions, for many ([`Memmap::convert`]) or for one; what they cost in
//! Linux; [`ValidRule`]. Not here: the conversions (`convert`).
//!
//! Source: Linux 5.10–7.2 include/asm-generic/memory_model.h; arch/arm64/mm/init.c `pfn_valid` (5.10).

use kernmem_base::{Era, Pfn, VirtAddr};

use crate::convert::{BySection, Conversion, ConversionJob, Flat, Virtual};
use crate::lookup::{ByArray, ByRoots, Words};
use crate::shape::{Any, Fixed, SectionShape, Shifts, Size, Usual};
use crate::store::Store;
use crate::word::HAS_MAP;
use crate::{Geometry, Model, SectionNr, Sections, SparseArch};

/// Runs code with the size of descriptors: 64-bit and 32-bit kernels' usual sizes as constants, others as values.
macro_rules! with_size {
    ($bytes:expr, |$size:ident| $run:expr) => {
        match $bytes {
            64 => {
                let $size = Fixed::<64>;
                $run
            }
            32 => {
                let $size = Fixed::<32>;
                $run
            }
            bytes => {
                let $size = Any::new(bytes);
                $run
            }
        }
    };
}

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
    /// Chooses the conversions of this model, and runs `job` with them.
    pub fn convert<J: ConversionJob>(&self, job: J) -> J::Output {
        match self {
            Self::Flat(flat) => with_size!(flat.page_bytes, |size| job.run(Flat::new(flat, size))),
            Self::Sections(sections) => sections.convert_through(sections.tables(), job),
            Self::Virtual(map) => with_size!(map.page_bytes, |size| job.run(Virtual::new(map, size))),
        }
    }

    /// The address of the descriptor of `pfn`: [`Conversion::pfn_to_page`] for one frame.
    #[must_use]
    pub fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        self.convert(ToPage(pfn))
    }

    /// The frame of the descriptor at `page`: [`Conversion::page_to_pfn`] for one descriptor.
    #[must_use]
    pub fn page_to_pfn(&self, page: VirtAddr, section_in_flags: impl FnOnce() -> SectionNr) -> Option<Pfn> {
        self.convert(ToPfn(page, section_in_flags))
    }

    /// What [`Conversion::page`] costs in Linux, where the address of an array or of roots may be a variable.
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

    /// What [`Conversion::pfn`] costs in Linux.
    #[must_use]
    pub fn page_to_pfn_references(&self) -> References {
        let there = self.pfn_to_page_references();
        match self {
            Self::Flat(_) | Self::Virtual(_) => there,
            Self::Sections(_) => References { page: 1, ..there },
        }
    }
}

struct ToPage(Pfn);

impl ConversionJob for ToPage {
    type Output = Option<VirtAddr>;

    fn run(self, conversion: impl Conversion) -> Self::Output {
        conversion.pfn_to_page(self.0)
    }
}

struct ToPfn<F>(VirtAddr, F);

impl<F: FnOnce() -> SectionNr> ConversionJob for ToPfn<F> {
    type Output = Option<Pfn>;

    fn run(self, conversion: impl Conversion) -> Self::Output {
        conversion.page_to_pfn(self.0, self.1)
    }
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
    /// Runs `job` with the conversions by sections' words, which are read through `words`: [`Sections::tables`], or
    /// something that watches what is read of them.
    pub fn convert_through<J: ConversionJob>(&self, words: impl Words, job: J) -> J::Output {
        let geometry = &self.geometry;
        let is_narrow = geometry.address_mask() != u64::MAX;
        match (is_narrow, geometry.page_bytes()) {
            (false, 64) if Usual::fits(geometry) => self.run_by_section(words, Usual, Fixed::<64>, job),
            (false, 64) => self.run_by_section(words, Shifts::<false>::of(geometry), Fixed::<64>, job),
            (false, bytes) => self.run_by_section(words, Shifts::<false>::of(geometry), Any::new(bytes), job),
            (true, 32) => self.run_by_section(words, Shifts::<true>::of(geometry), Fixed::<32>, job),
            (true, bytes) => self.run_by_section(words, Shifts::<true>::of(geometry), Any::new(bytes), job),
        }
    }

    fn run_by_section<J: ConversionJob>(
        &self,
        words: impl Words,
        shape: impl SectionShape,
        size: impl Size,
        job: J,
    ) -> J::Output {
        let geometry = &self.geometry;
        if geometry.is_array() {
            return job.run(BySection::new(geometry, ByArray { words }, shape, size));
        }
        job.run(BySection::new(geometry, ByRoots { words, shape }, shape, size))
    }

    /// Where the descriptors of a section start.
    #[must_use]
    pub fn map_of(&self, nr: SectionNr) -> Option<VirtAddr> {
        self.pfn_to_page(self.geometry.first_pfn(nr))
    }

    /// The address of the descriptor of `pfn`, by its section's word; `None` where the section has no map.
    #[must_use]
    pub fn pfn_to_page(&self, pfn: Pfn) -> Option<VirtAddr> {
        self.convert_through(self.tables(), ToPage(pfn))
    }

    /// The frame of the descriptor at `page`, whose flags name section `nr`; `None` if the section has no map, or no
    /// descriptor of it begins there.
    #[must_use]
    pub fn page_to_pfn(&self, page: VirtAddr, nr: SectionNr) -> Option<Pfn> {
        self.convert_through(self.tables(), ToPfn(page, || nr))
    }

    /// Whether a frame has a page descriptor, by the kernel's own rule; `is_mapped_memory` says whether boot's memory
    /// list has the frame and the linear map maps it, and is asked only where the rule wants to know.
    ///
    /// A frame number whose address would not fit into 64 bits is beyond the last section, so it needs no test.
    #[must_use]
    pub fn pfn_valid(&self, pfn: Pfn, is_mapped_memory: impl FnOnce(Pfn) -> bool) -> bool {
        let rule = ValidRule::of(&self.geometry);
        if rule == ValidRule::Memory {
            return pfn < self.geometry.max_pfn() && is_mapped_memory(pfn);
        }
        let section = self.section(self.geometry.section_of(pfn));
        let Some(section) = section.filter(|section| section.word & HAS_MAP != 0) else { return false };
        if section.word & self.geometry.word_format().early() != 0 {
            return rule == ValidRule::Sections || is_mapped_memory(pfn);
        }
        self.geometry.subsection_words() == 0 || self.subsection_in_use(pfn)
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
