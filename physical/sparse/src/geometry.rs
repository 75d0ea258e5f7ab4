//! The sizes that sections, roots and usage maps have on one kernel.
//!
//! Here: [`Geometry`], and [`SectionNr`].
//! Not here: what it follows from (`facts`), which sections exist (`sections`), what a section's word says (`word`).
//!
//! # Invariants
//! 1. A pageblock is at most the largest block, that at most a section, that at most the physical address space.
//! 2. `sections_per_root` is a power of two, so root and index are a shift and a mask of the section number; the shifts
//!    are worked out once, when a geometry is made.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h; arch/arm64/include/asm/sparsemem.h; arch/x86/include/asm/sparsemem.h.

use core::fmt;

use kernmem_base::{Era, Granule, Level, Pfn, PhysAddr};

use crate::facts::{GeometryFacts, Model, SparseArch, max_physmem_bits, pageblock_bits, section_size_bits};
use crate::word::WordFormat;

/// log2 of the bytes of a subsection: 2 MiB everywhere.
pub const SUBSECTION_SHIFT: u32 = 21;

/// A section's number: its physical address divided by the section size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SectionNr(pub u64);

/// The sizes of one kernel's memory model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    facts: GeometryFacts,
    section_size_bits: u32,
    max_physmem_bits: u32,
    /// log2 of the frames of a section.
    pfn_section_shift: u32,
    /// log2 of the section descriptors of a root.
    root_shift: u32,
}

impl Geometry {
    /// What follows from `facts`.
    ///
    /// # Errors
    /// [`GeometryError`]: no kernel can be built so.
    pub const fn new(facts: GeometryFacts) -> Result<Self, GeometryError> {
        let section_size_bits = section_size_bits(facts.arch, facts.era, facts.granule);
        let max_physmem_bits = max_physmem_bits(&facts);
        let is_x86 = !matches!(facts.arch, SparseArch::Arm64);
        if is_x86 && !matches!(facts.granule, Granule::K4) {
            return Err(GeometryError::NoSuchGranule { arch: facts.arch, granule: facts.granule });
        }
        if max_physmem_bits < section_size_bits || max_physmem_bits > 52 {
            return Err(GeometryError::PhysicalBits { bits: max_physmem_bits });
        }
        let section_order = section_size_bits - facts.granule.shift();
        if facts.largest_order > section_order {
            return Err(GeometryError::BlockLargerThanSection { order: facts.largest_order });
        }
        if facts.pageblock_order > facts.largest_order {
            return Err(GeometryError::PageblockLargerThanBlock { order: facts.pageblock_order });
        }
        if facts.page_bytes == 0 || facts.page_bytes > 4096 || !facts.page_bytes.is_multiple_of(facts.arch.word_bytes())
        {
            return Err(GeometryError::PageDescriptor { bytes: facts.page_bytes });
        }
        let root_shift = root_shift(&facts);
        Ok(Self { facts, section_size_bits, max_physmem_bits, pfn_section_shift: section_order, root_shift })
    }

    /// What the geometry was made of.
    #[must_use]
    pub const fn facts(&self) -> &GeometryFacts {
        &self.facts
    }

    /// Memory model.
    #[must_use]
    pub const fn model(&self) -> Model {
        self.facts.model
    }

    /// The same kernel with another memory model.
    #[must_use]
    pub const fn with_model(mut self, model: Model) -> Self {
        self.facts.model = model;
        self.root_shift = root_shift(&self.facts);
        self
    }

    /// Page size.
    #[must_use]
    pub const fn granule(&self) -> Granule {
        self.facts.granule
    }

    /// Bytes of a page descriptor (`sizeof(struct page)`).
    #[must_use]
    pub const fn page_bytes(&self) -> u64 {
        self.facts.page_bytes
    }

    /// log2 of the bytes of a section (`SECTION_SIZE_BITS`).
    #[must_use]
    pub const fn section_size_bits(&self) -> u32 {
        self.section_size_bits
    }

    /// Bytes of a section.
    #[must_use]
    pub const fn section_bytes(&self) -> u64 {
        1 << self.section_size_bits
    }

    /// Bits of the largest describable physical address (`MAX_PHYSMEM_BITS`).
    #[must_use]
    pub const fn max_physmem_bits(&self) -> u32 {
        self.max_physmem_bits
    }

    /// The first frame that no section can describe.
    #[must_use]
    pub const fn max_pfn(&self) -> Pfn {
        Pfn(1 << (self.max_physmem_bits - self.facts.granule.shift()))
    }

    /// log2 of the frames of a section (`PFN_SECTION_SHIFT`).
    #[must_use]
    pub const fn pfn_section_shift(&self) -> u32 {
        self.pfn_section_shift
    }

    /// Frames of a section (`PAGES_PER_SECTION`).
    #[must_use]
    pub const fn pages_per_section(&self) -> u64 {
        1 << self.pfn_section_shift
    }

    /// Sections in the whole physical address space (`NR_MEM_SECTIONS`).
    #[must_use]
    pub const fn nr_mem_sections(&self) -> u64 {
        1 << (self.max_physmem_bits - self.section_size_bits)
    }

    /// Bytes of a section descriptor: two machine words, four with page extensions (`sizeof(struct mem_section)`).
    #[must_use]
    pub const fn mem_section_bytes(&self) -> u64 {
        mem_section_bytes(&self.facts)
    }

    /// Section descriptors of a root (`SECTIONS_PER_ROOT`): 1 in i386's static array, else a page full.
    ///
    /// Linux has the static array on i386 only; elsewhere [`Model::Static`] is the two-level array
    /// `mem_section[NR_SECTION_ROOTS][SECTIONS_PER_ROOT]` that explanations of SPARSEMEM draw.
    #[must_use]
    pub const fn sections_per_root(&self) -> u64 {
        1 << self.root_shift
    }

    /// Whether section descriptors are one array by number, so that there are no roots to look up.
    #[must_use]
    pub const fn is_array(&self) -> bool {
        match self.facts.model {
            Model::Flat | Model::Static => true,
            Model::Extreme | Model::Vmemmap => false,
        }
    }

    /// log2 of [`Geometry::sections_per_root`].
    #[must_use]
    pub const fn root_shift(&self) -> u32 {
        self.root_shift
    }

    /// Roots that cover all sections (`NR_SECTION_ROOTS`).
    #[must_use]
    pub const fn nr_section_roots(&self) -> u64 {
        self.nr_mem_sections().div_ceil(self.sections_per_root())
    }

    /// Bytes of the array of root pointers; 0 where roots are no pointers.
    #[must_use]
    pub const fn roots_array_bytes(&self) -> u64 {
        match self.facts.model {
            Model::Flat | Model::Static => 0,
            Model::Extreme | Model::Vmemmap => self.nr_section_roots() * self.facts.arch.word_bytes(),
        }
    }

    /// Bytes of one root.
    #[must_use]
    pub const fn root_bytes(&self) -> u64 {
        self.sections_per_root() * self.mem_section_bytes()
    }

    /// Subsections of a section (`SUBSECTIONS_PER_SECTION`).
    #[must_use]
    pub const fn subsections_per_section(&self) -> u64 {
        1 << (self.section_size_bits - SUBSECTION_SHIFT)
    }

    /// Frames of a subsection (`PAGES_PER_SUBSECTION`).
    #[must_use]
    pub const fn pages_per_subsection(&self) -> u64 {
        1 << (SUBSECTION_SHIFT - self.facts.granule.shift())
    }

    /// Pageblocks of a section.
    #[must_use]
    pub const fn pageblocks_per_section(&self) -> u64 {
        1 << (self.pfn_section_shift() - self.facts.pageblock_order)
    }

    /// Bits of one pageblock in the usage map (`NR_PAGEBLOCK_BITS`).
    #[must_use]
    pub const fn pageblock_bits(&self) -> u32 {
        pageblock_bits(self.facts.era, self.facts.isolation)
    }

    /// Bytes of the subsection bitmap: only the vmemmap model has one, from 5.10 on.
    #[must_use]
    pub const fn subsection_map_bytes(&self) -> u64 {
        match (self.facts.model, self.facts.era) {
            (Model::Flat | Model::Static | Model::Extreme, _) | (_, Era::V4_14) => 0,
            (Model::Vmemmap, _) => self.longs(self.subsections_per_section()),
        }
    }

    /// Bytes of a section's pageblock flags.
    #[must_use]
    pub const fn pageblock_flags_bytes(&self) -> u64 {
        self.longs(self.pageblocks_per_section() * self.pageblock_bits() as u64)
    }

    /// Bytes of a section's usage map: two words for deferred freeing, the subsection bitmap, the pageblock flags.
    ///
    /// | era | deferred freeing | subsection bitmap |
    /// |---|---|---|
    /// | 4.14 (UNVERIFIED) | – | – |
    /// | 5.10, 6.1, 6.12, 7.2 | yes | with vmemmap |
    ///
    /// Source: Linux 5.10–7.2 include/linux/mmzone.h `mem_section_usage`, mm/sparse.c `mem_section_usage_size`.
    #[must_use]
    pub const fn usage_bytes(&self) -> u64 {
        self.usage_head_bytes() + self.subsection_map_bytes() + self.pageblock_flags_bytes()
    }

    /// Bytes of the usage map in front of its bitmaps.
    #[must_use]
    pub const fn usage_head_bytes(&self) -> u64 {
        match self.facts.era {
            Era::V4_14 => 0,
            Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => 2 * self.facts.arch.word_bytes(),
        }
    }

    /// 64-bit words that a store keeps for a section's usage map: the bitmaps without the head.
    #[must_use]
    pub const fn usage_words(&self) -> usize {
        (self.subsection_words() + self.pageblock_words()) as usize
    }

    /// Words of the subsection bitmap in a store.
    pub(crate) const fn subsection_words(&self) -> u64 {
        self.subsection_map_bytes().div_ceil(8)
    }

    const fn pageblock_words(&self) -> u64 {
        self.pageblock_flags_bytes().div_ceil(8)
    }

    /// Bytes of a section's page descriptors.
    #[must_use]
    pub const fn section_memmap_bytes(&self) -> u64 {
        self.pages_per_section() * self.facts.page_bytes
    }

    /// What boot asks for per section when it allocates descriptors (`section_map_size`): the descriptors rounded up
    /// to a PMD block with the vmemmap model, to a page otherwise.
    ///
    /// Source: Linux 5.10–7.2 mm/sparse.c `section_map_size`.
    #[must_use]
    pub const fn section_map_size(&self) -> u64 {
        let to = match self.facts.model {
            Model::Vmemmap => 1 << self.pmd_shift(),
            Model::Flat | Model::Static | Model::Extreme => self.facts.granule.bytes(),
        };
        self.section_memmap_bytes().next_multiple_of(to)
    }

    /// log2 of the bytes that a PMD entry maps, where tables have 8-byte entries.
    #[must_use]
    pub const fn pmd_shift(&self) -> u32 {
        2 * self.facts.granule.shift() - 3
    }

    /// Largest leaf that the vmemmap is mapped with: PMD blocks with 4K pages, else pages.
    ///
    /// Source: Linux 6.1 arch/arm64/mm/mmu.c, arch/x86/mm/init_64.c `vmemmap_populate`.
    #[must_use]
    pub const fn vmemmap_leaf(&self) -> Level {
        match self.facts.granule {
            Granule::K4 => Level::Pmd,
            Granule::K16 | Granule::K64 => Level::Pte,
        }
    }

    /// How the word of a section descriptor is made.
    #[must_use]
    pub const fn word_format(&self) -> WordFormat {
        WordFormat::new(self.facts.era, self.facts.zone_device, self.facts.preinit)
    }

    /// The section of a frame.
    #[must_use]
    pub const fn section_of(&self, pfn: Pfn) -> SectionNr {
        SectionNr(pfn.0 >> self.pfn_section_shift)
    }

    /// The section of an address.
    #[must_use]
    pub const fn section_of_phys(&self, pa: PhysAddr) -> SectionNr {
        SectionNr(pa.0 >> self.section_size_bits)
    }

    /// First frame of a section of this geometry.
    #[must_use]
    pub const fn first_pfn(&self, nr: SectionNr) -> Pfn {
        Pfn(nr.0 << self.pfn_section_shift)
    }

    /// Root of a section and its place there.
    #[must_use]
    pub const fn root_of(&self, nr: SectionNr) -> (u64, usize) {
        (nr.0 >> self.root_shift, (nr.0 & (self.sections_per_root() - 1)) as usize)
    }

    /// The subsection of a frame within its section.
    #[must_use]
    pub const fn subsection_of(&self, pfn: Pfn) -> u64 {
        (pfn.0 & (self.pages_per_section() - 1)) / self.pages_per_subsection()
    }

    /// The bits of a virtual address.
    pub(crate) const fn address_mask(&self) -> u64 {
        !0 >> (64 - 8 * self.facts.arch.word_bytes())
    }

    const fn longs(&self, bits: u64) -> u64 {
        let long = self.facts.arch.word_bytes();
        bits.div_ceil(long * 8) * long
    }
}

const fn mem_section_bytes(facts: &GeometryFacts) -> u64 {
    let words = if facts.page_ext { 4 } else { 2 };
    words * facts.arch.word_bytes()
}

const fn root_shift(facts: &GeometryFacts) -> u32 {
    match (facts.model, facts.arch) {
        (Model::Static, SparseArch::I386Pae | SparseArch::I386) => 0,
        _ => (facts.granule.bytes() / mem_section_bytes(facts)).ilog2(),
    }
}

/// Why no kernel has such a geometry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GeometryError {
    /// The architecture has no such page size.
    NoSuchGranule {
        /// The architecture.
        arch: SparseArch,
        /// The page size asked for.
        granule: Granule,
    },
    /// Physical addresses are narrower than a section or wider than 52 bits.
    PhysicalBits {
        /// The bits asked for.
        bits: u32,
    },
    /// The page allocator's largest block must fit into a section.
    BlockLargerThanSection {
        /// The largest order asked for.
        order: u32,
    },
    /// A pageblock is at most the largest block.
    PageblockLargerThanBlock {
        /// The pageblock order asked for.
        order: u32,
    },
    /// A page descriptor is a small whole number of machine words.
    PageDescriptor {
        /// The size asked for.
        bytes: u64,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSuchGranule { arch, granule } => {
                write!(f, "{arch:?} has no pages of {} bytes", granule.bytes())
            }
            Self::PhysicalBits { bits } => write!(f, "physical addresses of {bits} bits fit no section size"),
            Self::BlockLargerThanSection { order } => write!(f, "a block of order {order} is larger than a section"),
            Self::PageblockLargerThanBlock { order } => {
                write!(f, "a pageblock of order {order} is larger than the largest block")
            }
            Self::PageDescriptor { bytes } => write!(f, "a page descriptor cannot have {bytes} bytes"),
        }
    }
}

impl core::error::Error for GeometryError {}
