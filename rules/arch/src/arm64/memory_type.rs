//! Memory types: indices into MAIR_EL1, by era.
//!
//! | type | 4.14 | 5.10 | 6.1 and later | attribute byte |
//! |---|---|---|---|---|
//! | device nGnRnE | 0 | 4 | 3 | 0x00 |
//! | device nGnRE | 1 | 5 | 4 | 0x04 |
//! | device GRE | 2 | 6 | – | 0x0c |
//! | normal, not cached | 3 | 2 | 2 | 0x44 |
//! | normal | 4 | 0 | 0 | 0xff |
//! | normal, written through | 5 | 3 | – | 0xbb |
//! | normal, tagged | – | 1 | 1 | 0xff; 0xf0 where the kernel uses the CPU's tags |
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/memory.h `MT_NORMAL`; arch/arm64/mm/proc.S `MAIR_EL1_SET`; 4.14
//! UNVERIFIED.

use kernmem_base::Era;

use super::bit::{ATTR_INDEX, ATTR_INDEX_SHIFT};

/// How memory behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum MemoryType {
    /// A device: nothing gathered, nothing reordered, nothing acknowledged early.
    DeviceNGnRnE,
    /// A device: writes may be acknowledged early.
    DeviceNGnRE,
    /// A device: gathered, reordered, acknowledged early.
    DeviceGre,
    /// Memory that is not cached.
    NormalNc,
    /// Memory.
    Normal,
    /// Memory that is written through.
    NormalWt,
    /// Memory with tags, whether or not the CPU has them.
    NormalTagged,
}

impl MemoryType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::DeviceNGnRnE,
        Self::DeviceNGnRE,
        Self::DeviceGre,
        Self::NormalNc,
        Self::Normal,
        Self::NormalWt,
        Self::NormalTagged,
    ];

    /// Linux's name, without `MT_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeviceNGnRnE => "DEVICE_nGnRnE",
            Self::DeviceNGnRE => "DEVICE_nGnRE",
            Self::DeviceGre => "DEVICE_GRE",
            Self::NormalNc => "NORMAL_NC",
            Self::Normal => "NORMAL",
            Self::NormalWt => "NORMAL_WT",
            Self::NormalTagged => "NORMAL_TAGGED",
        }
    }

    /// The index by the table of the module; `None` where the era has no such type.
    #[must_use]
    pub const fn index(self, era: Era) -> Option<u64> {
        let (v4_14, v5_10, later) = match self {
            Self::DeviceNGnRnE => (Some(0), Some(4), Some(3)),
            Self::DeviceNGnRE => (Some(1), Some(5), Some(4)),
            Self::DeviceGre => (Some(2), Some(6), None),
            Self::NormalNc => (Some(3), Some(2), Some(2)),
            Self::Normal => (Some(4), Some(0), Some(0)),
            Self::NormalWt => (Some(5), Some(3), None),
            Self::NormalTagged => (None, Some(1), Some(1)),
        };
        match era {
            Era::V4_14 => v4_14,
            Era::V5_10 => v5_10,
            Era::V6_1 | Era::V6_12 | Era::V7_2 => later,
        }
    }

    /// The byte of MAIR_EL1; `tags` where the kernel uses the CPU's tags.
    #[must_use]
    pub const fn attribute(self, tags: bool) -> u8 {
        match self {
            Self::DeviceNGnRnE => 0x00,
            Self::DeviceNGnRE => 0x04,
            Self::DeviceGre => 0x0c,
            Self::NormalNc => 0x44,
            Self::NormalWt => 0xbb,
            Self::NormalTagged if tags => 0xf0,
            Self::Normal | Self::NormalTagged => 0xff,
        }
    }

    /// `bits` of a descriptor with this type in place of theirs; `None` where the era has no such type.
    #[must_use]
    pub const fn put(self, era: Era, bits: u64) -> Option<u64> {
        match self.index(era) {
            Some(index) => Some(bits & !ATTR_INDEX | index << ATTR_INDEX_SHIFT),
            None => None,
        }
    }
}

/// MAIR_EL1 as the era programs it.
#[must_use]
pub const fn mair(era: Era, tags: bool) -> u64 {
    let (mut mair, mut nr) = (0, 0);
    while nr < MemoryType::ALL.len() {
        let kind = MemoryType::ALL[nr];
        if let Some(index) = kind.index(era) {
            mair |= (kind.attribute(tags) as u64) << (8 * index);
        }
        nr += 1;
    }
    mair
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts: the row MAIR_EL1 of the table of memory types.
    #[test]
    fn the_register_has_the_value_of_the_facts() {
        assert_eq!(mair(Era::V4_14, false), 0x0000_bbff_440c_0400);
        assert_eq!(mair(Era::V5_10, false), 0x000c_0400_bb44_ffff);
        for era in [Era::V6_1, Era::V6_12, Era::V7_2] {
            assert_eq!((mair(era, false), mair(era, true)), (0x0000_0004_0044_ffff, 0x0000_0004_0044_f0ff));
        }
    }
}
