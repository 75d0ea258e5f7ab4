//! The word of a section descriptor: where the section's page descriptors are, and what is known of it.
//!
//! ```text
//!  63                                        n n-1         2 1 0
//! +-------------------------------------------+-------------+-+-+
//! | address of the map - first pfn * page size| later flags |M|P|   once the map exists
//! +-------------------------------------------+-------------+-+-+
//! | node                                      | ... online  |0|P|   before that
//! +-------------------------------------------+-------------+-+-+
//! ```
//!
//! # Invariants
//! 1. [`WordFormat::decode`] is total, and [`WordFormat::encode`] gives back every word it decoded.
//! 2. A map's coded address has no bit below the mask: the map is aligned to the descriptor size and the first frame
//!    of a section is a multiple of a large power of two.
//!
//! Source: Linux 5.10–7.2 include/linux/mmzone.h, mm/sparse.c `sparse_encode_mem_map`, `sparse_encode_early_nid`.

use core::fmt;

use kernmem_base::{Era, Pfn, VirtAddr};

/// A memory node's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nid(pub u32);

/// The flags of a section's word, at their places in this kernel.
///
/// | bit | 4.14 (UNVERIFIED) | 5.10 | 6.1, 6.12 | 7.2 |
/// |---|---|---|---|---|
/// | 0 | present | present | present | present |
/// | 1 | has a map | has a map | has a map | has a map |
/// | 2 | online | online | online | online |
/// | 3 | – | early | early | early |
/// | 4 | – | – | device, if configured | device, if configured |
/// | next | – | – | – | map prepared early, if configured |
/// | node from | 3 | 3 | flags in use | flags in use |
///
/// Source: Linux 5.10–7.2 include/linux/mmzone.h `SECTION_MAP_LAST_BIT`, `SECTION_NID_SHIFT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WordFormat {
    bits: u32,
    nid_shift: u32,
    early: u64,
    device: u64,
    preinit: u64,
}

/// What a section's word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// No memory: the word is 0.
    Absent,
    /// Memory was found at boot; the map comes later.
    Early {
        /// Node that the section belongs to.
        nid: Nid,
        /// The flags, in place.
        flags: u64,
    },
    /// The section has page descriptors.
    Mapped {
        /// Address of the map minus the size of all descriptors of the frames before the section, modulo 2^64.
        coded: VirtAddr,
        /// The flags, in place.
        flags: u64,
    },
    /// Neither: bits that no kernel of this format writes.
    Odd {
        /// The whole word.
        raw: u64,
    },
}

/// The section has memory.
pub const PRESENT: u64 = 1 << 0;
/// The section has page descriptors.
pub const HAS_MAP: u64 = 1 << 1;
/// The section's pages are in use by the page allocator.
pub const ONLINE: u64 = 1 << 2;

impl WordFormat {
    /// The format of one kernel.
    #[must_use]
    pub const fn new(era: Era, zone_device: bool, preinit: bool) -> Self {
        let (early, device, preinit) = match era {
            Era::V4_14 => (0, 0, 0),
            Era::V5_10 => (1 << 3, 0, 0),
            Era::V6_1 | Era::V6_12 => (1 << 3, (zone_device as u64) << 4, 0),
            Era::V7_2 => (1 << 3, (zone_device as u64) << 4, (preinit as u64) << (4 + zone_device as u32)),
        };
        let bits = 64 - (ONLINE | early | device | preinit).leading_zeros();
        let nid_shift = match era {
            Era::V4_14 | Era::V5_10 => 3,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => bits,
        };
        Self { bits, nid_shift, early, device, preinit }
    }

    /// Mask of the coded address (`SECTION_MAP_MASK`).
    #[must_use]
    pub const fn mask(&self) -> u64 {
        !0 << self.bits
    }

    /// Where the node number starts while there is no map (`SECTION_NID_SHIFT`).
    #[must_use]
    pub const fn nid_shift(&self) -> u32 {
        self.nid_shift
    }

    /// The flag of sections that were present at boot; 0 where there is none.
    #[must_use]
    pub const fn early(&self) -> u64 {
        self.early
    }

    /// The flag of sections that hold device memory; 0 where there is none.
    #[must_use]
    pub const fn device(&self) -> u64 {
        self.device
    }

    /// The flag of sections whose map was prepared before; 0 where there is none.
    #[must_use]
    pub const fn preinit(&self) -> u64 {
        self.preinit
    }

    /// The word that boot writes for memory of `nid`.
    #[must_use]
    pub const fn early_word(&self, nid: Nid) -> u64 {
        (nid.0 as u64) << self.nid_shift | ONLINE | PRESENT
    }

    /// The node in a word that has no map yet.
    #[must_use]
    pub const fn early_nid(&self, word: u64) -> Nid {
        Nid((word >> self.nid_shift) as u32)
    }

    /// The coded address of a map.
    #[must_use]
    pub const fn coded(map: VirtAddr, first: Pfn, page_bytes: u64) -> VirtAddr {
        VirtAddr(map.0.wrapping_sub(first.0.wrapping_mul(page_bytes)))
    }

    /// The word of a section once its map exists: the low bits of `old` stay, so that on 5.10 a node's lowest bit
    /// lands in the flag that `flags` sets anyway.
    ///
    /// # Errors
    /// [`MapMisaligned`]: the coded address has bits where the flags are.
    pub const fn mapped_word(
        &self,
        old: u64,
        map: VirtAddr,
        first: Pfn,
        page_bytes: u64,
        flags: u64,
    ) -> Result<u64, MapMisaligned> {
        let coded = Self::coded(map, first, page_bytes);
        if coded.0 & !self.mask() != 0 {
            return Err(MapMisaligned { map });
        }
        Ok(old & !self.mask() | coded.0 | HAS_MAP | flags)
    }

    /// What `raw` means.
    #[must_use]
    pub const fn decode(&self, raw: u64) -> Word {
        if raw == 0 {
            return Word::Absent;
        }
        if raw & PRESENT == 0 {
            return Word::Odd { raw };
        }
        if is_mapped(raw) {
            return Word::Mapped { coded: VirtAddr(raw & self.mask()), flags: raw & !self.mask() };
        }
        let flags = raw & !(!0 << self.nid_shift);
        if raw >> self.nid_shift > u32::MAX as u64 {
            return Word::Odd { raw };
        }
        Word::Early { nid: self.early_nid(raw), flags }
    }

    /// The word that decodes to `word`.
    #[must_use]
    pub const fn encode(&self, word: Word) -> u64 {
        match word {
            Word::Absent => 0,
            Word::Early { nid, flags } => (nid.0 as u64) << self.nid_shift | flags,
            Word::Mapped { coded, flags } => coded.0 | flags,
            Word::Odd { raw } => raw,
        }
    }
}

/// Whether `raw` is the word of a section that has page descriptors.
#[inline]
pub(crate) const fn is_mapped(raw: u64) -> bool {
    raw & (PRESENT | HAS_MAP) == PRESENT | HAS_MAP
}

/// A map of page descriptors lies at an address that a section's word cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapMisaligned {
    /// Where the map lies.
    pub map: VirtAddr,
}

impl fmt::Display for MapMisaligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a memory map at {:#x} leaves no room for a section's flags", self.map)
    }
}

impl core::error::Error for MapMisaligned {}
