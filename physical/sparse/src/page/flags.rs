//! The flags word of a page descriptor: fields from the top, flag bits from the bottom.
//!
//! ```text
//! top   SECTION | NODE | ZONE | LAST_CPUPID | KASAN_TAG | LRU_GEN | LRU_REFS | … | flag bits   bit 0
//! ```
//!
//! # Invariants
//! 1. Fields do not overlap each other or the flag bits.
//!
//! Source: Linux 5.10–7.2 include/linux/page-flags-layout.h, include/linux/page-flags.h.

use kernmem_base::Era;

/// What a kernel was built for, as far as the flags word depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlagsFacts {
    /// Branch of Linux.
    pub era: Era,
    /// Bits of the word: 64, or 32 on i386.
    pub word_bits: u32,
    /// Bits of a section's number if it must be in the word: the models with an array for each section.
    pub section_bits: u32,
    /// `NODES_SHIFT`; 0 without NUMA.
    pub nodes_shift: u32,
    /// Zones that are configured (`MAX_NR_ZONES`).
    pub zones: u32,
    /// log2 of the CPUs that are configured, rounded up, if NUMA balancing keeps the last one.
    pub balancing_cpu_bits: Option<u32>,
    /// Bits of KASAN's tag: 0, 4 or 8.
    pub tag_bits: u32,
    /// The multi-generational LRU is configured.
    pub lru_gen: bool,
    /// Flag bits that are configured (`NR_PAGEFLAGS`).
    pub nr_pageflags: u32,
}

/// Options that take flag bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlagOptions {
    /// The word has 64 bits.
    pub is_64bit: bool,
    /// `ARCH_USES_PG_UNCACHED`.
    pub uncached: bool,
    /// `MEMORY_FAILURE`.
    pub hwpoison: bool,
    /// `PAGE_IDLE_FLAG`, on 64-bit kernels.
    pub idle: bool,
    /// The architecture uses flags of its own beyond the first: arm64 with tagged memory.
    pub arch_flags: bool,
}

/// The flag bits of a kernel (`NR_PAGEFLAGS`).
///
/// | era | always | on 64-bit kernels | with options |
/// |---|---|---|---|
/// | 5.10, 6.1 (4.14 UNVERIFIED) | 22 | 1 | uncached 1, poison 1, idle tracking 2 |
/// | 6.12 | 20 | – | poison 1, idle tracking 2, the architecture's 2 |
/// | 7.2 | 21 | – | the same |
///
/// Source: Linux 5.10–7.2 include/linux/page-flags.h `pageflags`.
#[must_use]
pub const fn nr_pageflags(era: Era, options: FlagOptions) -> u32 {
    let FlagOptions { is_64bit, uncached, hwpoison, idle, arch_flags } = options;
    let tracked = hwpoison as u32 + 2 * (idle && is_64bit) as u32;
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => 22 + is_64bit as u32 + uncached as u32 + tracked,
        Era::V6_12 => 20 + 2 * arch_flags as u32 + tracked,
        Era::V7_2 => 21 + 2 * arch_flags as u32 + tracked,
    }
}

/// A field of the word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Field {
    /// Its lowest bit.
    pub shift: u32,
    /// Its bits; a field of none is not there.
    pub width: u32,
}

impl Field {
    /// The field's part of `word`.
    #[must_use]
    pub const fn get(self, word: u64) -> u64 {
        if self.width == 0 { 0 } else { word >> self.shift & ((1 << self.width) - 1) }
    }

    /// `value` in place; bits that do not fit are lost.
    #[must_use]
    pub const fn put(self, value: u64) -> u64 {
        if self.width == 0 { 0 } else { (value & ((1 << self.width) - 1)) << self.shift }
    }
}

/// Where the fields of the word are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlagsLayout {
    /// The section's number.
    pub section: Field,
    /// The node; absent where it did not fit, and a table of sections knows.
    pub node: Field,
    /// The zone.
    pub zone: Field,
    /// The last CPU and process that touched the page.
    pub last_cpupid: Field,
    /// KASAN's tag.
    pub tag: Field,
    /// The generation of the multi-generational LRU.
    pub lru_gen: Field,
    /// Its counter of references.
    pub lru_refs: Field,
}

impl FlagsLayout {
    /// The layout of a kernel.
    ///
    /// | field | 5.10 | 6.1, 6.12, 7.2 |
    /// |---|---|---|
    /// | node | if it fits beside section and zone | beside the LRU's generation too |
    /// | last CPU | if it fits beside section, zone and node | beside tag and generation too |
    ///
    /// Source: Linux 5.10–7.2 include/linux/page-flags-layout.h.
    #[must_use]
    pub const fn new(facts: &FlagsFacts) -> Self {
        const GENERATION_BITS: u32 = 3;
        const REFERENCE_BITS: u32 = 2;
        const PID_BITS: u32 = 8;
        let lru = match facts.era {
            Era::V4_14 | Era::V5_10 => false,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => facts.lru_gen,
        };
        let room = facts.word_bits - facts.nr_pageflags;
        let generation = if lru { GENERATION_BITS } else { 0 };
        let zone = match facts.zones {
            0 | 1 => 0,
            2 => 1,
            3 | 4 => 2,
            _ => 3,
        };
        let mut taken = facts.section_bits + zone + generation;
        let node = if taken + facts.nodes_shift <= room { facts.nodes_shift } else { 0 };
        taken += node;
        let tags_first = match facts.era {
            Era::V4_14 | Era::V5_10 => 0,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => facts.tag_bits,
        };
        let cpupid = match facts.balancing_cpu_bits {
            Some(bits) if taken + tags_first + PID_BITS + bits <= room => PID_BITS + bits,
            _ => 0,
        };
        taken += cpupid + facts.tag_bits;
        let left = room.saturating_sub(taken);
        let references = match () {
            () if !lru => 0,
            () if left < REFERENCE_BITS => left,
            () => REFERENCE_BITS,
        };
        Self::packed(facts.word_bits, [facts.section_bits, node, zone, cpupid, facts.tag_bits, generation, references])
    }

    const fn packed(top: u32, widths: [u32; 7]) -> Self {
        let mut fields = [Field { shift: 0, width: 0 }; 7];
        let (mut at, mut index) = (top, 0);
        while index < widths.len() {
            at -= widths[index];
            if widths[index] > 0 {
                fields[index] = Field { shift: at, width: widths[index] };
            }
            index += 1;
        }
        let [section, node, zone, last_cpupid, tag, lru_gen, lru_refs] = fields;
        Self { section, node, zone, last_cpupid, tag, lru_gen, lru_refs }
    }

    /// The word of a descriptor that nobody has used yet: zone, node and section, tag and last CPU all ones.
    ///
    /// Source: Linux 5.10–7.2 mm/page_alloc.c, mm/mm_init.c `__init_single_page`.
    #[must_use]
    pub const fn fresh(&self, section: u64, node: u64, zone: u64) -> u64 {
        self.section.put(section)
            | self.node.put(node)
            | self.zone.put(zone)
            | self.last_cpupid.put(u64::MAX)
            | self.tag.put(u64::MAX)
    }
}

/// A flag whose number is the same in every configuration of an era.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageFlag {
    /// The first page of a compound page.
    Head,
    /// Not the page allocator's: boot took it, or there is no memory.
    Reserved,
    /// Belongs to the slab allocator, up to 6.12 exclusive.
    Slab,
    /// `private` has a meaning for the owner.
    Private,
}

impl PageFlag {
    /// The bit's number; `None` where an era has no such flag.
    ///
    /// | flag | 4.14 (UNVERIFIED), 5.10, 6.1 | 6.12, 7.2 |
    /// |---|---|---|
    /// | head | 16 | 6 |
    /// | reserved | 12 | 13 |
    /// | slab | 9 | a page type |
    /// | private | 13 | 14 |
    ///
    /// Source: Linux 5.10–7.2 include/linux/page-flags.h.
    #[must_use]
    pub const fn bit(self, era: Era) -> Option<u32> {
        match (era, self) {
            (Era::V4_14 | Era::V5_10 | Era::V6_1, Self::Head) => Some(16),
            (Era::V4_14 | Era::V5_10 | Era::V6_1, Self::Reserved) => Some(12),
            (Era::V4_14 | Era::V5_10 | Era::V6_1, Self::Slab) => Some(9),
            (Era::V4_14 | Era::V5_10 | Era::V6_1, Self::Private) => Some(13),
            (Era::V6_12 | Era::V7_2, Self::Head) => Some(6),
            (Era::V6_12 | Era::V7_2, Self::Reserved) => Some(13),
            (Era::V6_12 | Era::V7_2, Self::Slab) => None,
            (Era::V6_12 | Era::V7_2, Self::Private) => Some(14),
        }
    }

    /// The bit in place; 0 where there is no such flag.
    #[must_use]
    pub const fn mask(self, era: Era) -> u64 {
        match self.bit(era) {
            Some(bit) => 1 << bit,
            None => 0,
        }
    }
}
