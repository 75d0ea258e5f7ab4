//! What a kernel was built for, as far as its memory model depends on it, and the rules that eras changed.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/sparsemem.h, arch/x86/include/asm/sparsemem.h,
//! include/linux/pageblock-flags.h.

use kernmem_base::{Era, Granule};

/// The architectures whose section sizes are known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SparseArch {
    /// arm64, any page size.
    Arm64,
    /// x86-64.
    X86_64,
    /// i386 with 64-bit entries (PAE).
    I386Pae,
    /// i386 with 32-bit entries.
    I386,
}

impl SparseArch {
    pub(crate) const fn word_bytes(self) -> u64 {
        match self {
            Self::Arm64 | Self::X86_64 => 8,
            Self::I386Pae | Self::I386 => 4,
        }
    }
}

/// How page descriptors are found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Model {
    /// FLATMEM: one array over the whole span.
    Flat,
    /// SPARSEMEM with all section descriptors in one array that exists from the start (SPARSEMEM_STATIC).
    Static,
    /// SPARSEMEM with roots that are allocated on demand (SPARSEMEM_EXTREME).
    Extreme,
    /// SPARSEMEM_VMEMMAP: roots as in [`Model::Extreme`], descriptors in one virtually contiguous array.
    Vmemmap,
}

impl Model {
    /// All models, simplest first.
    pub const ALL: [Self; 4] = [Self::Flat, Self::Static, Self::Extreme, Self::Vmemmap];

    /// Its name, as the documents have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Static => "static",
            Self::Extreme => "extreme",
            Self::Vmemmap => "vmemmap",
        }
    }

    /// Whether memory is divided into sections.
    #[must_use]
    pub const fn has_sections(self) -> bool {
        match self {
            Self::Flat => false,
            Self::Static | Self::Extreme | Self::Vmemmap => true,
        }
    }
}

/// Whether a kernel can be built with a memory model.
///
/// | arch | 4.14 (UNVERIFIED), 5.10 | 6.1, 6.12 | 7.2 |
/// |---|---|---|---|
/// | arm64 | flat, extreme, vmemmap | vmemmap | vmemmap |
/// | x86-64 | extreme, vmemmap | extreme, vmemmap | vmemmap |
/// | i386 | flat, static | flat, static | flat, static |
///
/// Source: Linux 5.10–7.2 arch/arm64/Kconfig, arch/x86/Kconfig, mm/Kconfig.
#[must_use]
pub const fn can_be_built(arch: SparseArch, era: Era, model: Model) -> bool {
    match (arch, era) {
        (SparseArch::Arm64, Era::V4_14 | Era::V5_10) => !matches!(model, Model::Static),
        (SparseArch::X86_64, Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12) => {
            matches!(model, Model::Extreme | Model::Vmemmap)
        }
        (SparseArch::Arm64, Era::V6_1 | Era::V6_12 | Era::V7_2) | (SparseArch::X86_64, Era::V7_2) => {
            matches!(model, Model::Vmemmap)
        }
        (SparseArch::I386Pae | SparseArch::I386, _) => matches!(model, Model::Flat | Model::Static),
    }
}

/// What a kernel was built for, as far as its memory model depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeometryFacts {
    /// Architecture.
    pub arch: SparseArch,
    /// Branch of Linux.
    pub era: Era,
    /// Page size.
    pub granule: Granule,
    /// Memory model.
    pub model: Model,
    /// arm64: physical address bits, configured (up to 6.1) or in use (6.12 on); x86 ignores it.
    pub pa_bits: u32,
    /// x86-64: five levels of page tables are in use.
    pub five_levels: bool,
    /// `ZONE_DEVICE` is configured.
    pub zone_device: bool,
    /// A section's map may be prepared before the section is (`SPARSEMEM_VMEMMAP_PREINIT`, 7.2 x86-64).
    pub preinit: bool,
    /// `PAGE_EXTENSION` is configured: a section descriptor is twice as large.
    pub page_ext: bool,
    /// `MEMORY_ISOLATION` is configured: from 7.2 on it doubles the bits of a pageblock.
    pub isolation: bool,
    /// `CMA` is configured: a migrate type more.
    pub cma: bool,
    /// log2 of the pages of a pageblock.
    pub pageblock_order: u32,
    /// log2 of the pages of the largest block of the page allocator.
    pub largest_order: u32,
    /// Bytes of a page descriptor.
    pub page_bytes: u64,
}

impl GeometryFacts {
    /// A distribution's kernel: the model the architecture prefers, huge pages, hotplug, 64-byte descriptors.
    ///
    /// Physical addresses have 52 bits with 64K pages on arm64 and 48 otherwise; change the fields to differ.
    #[must_use]
    pub const fn new(arch: SparseArch, era: Era, granule: Granule) -> Self {
        let (model, page_bytes) = match arch {
            SparseArch::Arm64 | SparseArch::X86_64 => (Model::Vmemmap, 64),
            SparseArch::I386Pae | SparseArch::I386 => (Model::Static, 32),
        };
        let wide = matches!((arch, era), (SparseArch::Arm64 | SparseArch::X86_64, _));
        Self {
            arch,
            era,
            granule,
            model,
            pa_bits: if matches!(granule, Granule::K64) { 52 } else { 48 },
            five_levels: false,
            zone_device: wide,
            preinit: matches!((arch, era), (SparseArch::X86_64, Era::V7_2)),
            page_ext: false,
            isolation: wide,
            cma: wide,
            pageblock_order: match (arch, granule) {
                (SparseArch::I386, _) => 10,
                (_, Granule::K4) => 9,
                (_, Granule::K16) => 11,
                (_, Granule::K64) => 13,
            },
            largest_order: match granule {
                Granule::K4 => 10,
                Granule::K16 => 11,
                Granule::K64 => 13,
            },
            page_bytes,
        }
    }
}

/// log2 of the bytes of a section.
///
/// | arch | page size | 4.14 (UNVERIFIED), 5.10 | 6.1 on |
/// |---|---|---|---|
/// | arm64 | 4K, 16K | 30 | 27 |
/// | arm64 | 64K | 30 | 29 |
/// | x86-64 | 4K | 27 | 27 |
/// | i386 PAE | 4K | 29 | 29 |
/// | i386 | 4K | 26 | 26 |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/sparsemem.h, arch/x86/include/asm/sparsemem.h `SECTION_SIZE_BITS`.
#[must_use]
pub const fn section_size_bits(arch: SparseArch, era: Era, granule: Granule) -> u32 {
    match (arch, era) {
        (SparseArch::Arm64, Era::V4_14 | Era::V5_10) => 30,
        (SparseArch::Arm64, Era::V6_1 | Era::V6_12 | Era::V7_2) => match granule {
            Granule::K4 | Granule::K16 => 27,
            Granule::K64 => 29,
        },
        (SparseArch::X86_64, _) => 27,
        (SparseArch::I386Pae, _) => 29,
        (SparseArch::I386, _) => 26,
    }
}

/// Bits of the largest physical address that sections can describe.
///
/// | arch | value |
/// |---|---|
/// | arm64 4.14–6.1 | configured physical address bits |
/// | arm64 6.12, 7.2 | the same, decided at run time between 48 and 52 where LPA2 is configured |
/// | x86-64 | 46 with four levels, 52 with five |
/// | i386 PAE, i386 | 36, 32 |
///
/// Source: Linux 5.10–7.2 arch/arm64/include/asm/sparsemem.h, arch/x86/include/asm/sparsemem.h `MAX_PHYSMEM_BITS`.
#[must_use]
pub const fn max_physmem_bits(facts: &GeometryFacts) -> u32 {
    match facts.arch {
        SparseArch::Arm64 => facts.pa_bits,
        SparseArch::X86_64 if facts.five_levels => 52,
        SparseArch::X86_64 => 46,
        SparseArch::I386Pae => 36,
        SparseArch::I386 => 32,
    }
}

/// Bits that one pageblock takes in a usage map.
///
/// | era | bits |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1, 6.12 | 4: three of migrate type, one that compaction sets |
/// | 7.2 | 8 with memory isolation (which got a bit of its own), else 4 |
///
/// Source: Linux 5.10–7.2 include/linux/pageblock-flags.h `NR_PAGEBLOCK_BITS`.
#[must_use]
pub const fn pageblock_bits(era: Era, isolation: bool) -> u32 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 | Era::V6_12 => 4,
        Era::V7_2 if isolation => 8,
        Era::V7_2 => 4,
    }
}
