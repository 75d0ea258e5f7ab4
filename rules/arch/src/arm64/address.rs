//! The masks with which Linux puts an output address into a descriptor and takes it out.
//!
//! Not here: the conversion itself, which is the format's.
//!
//! Source: Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h `PTE_ADDR_LOW`, `PTE_ADDR_HIGH`; pgtable.h
//! `__pte_to_phys`, `__phys_to_pte_val`.

use kernmem_base::{Era, Granule};

use super::Output;

impl Output {
    /// The form that a kernel of `granule` uses for physical addresses of `physical_bits`.
    #[must_use]
    pub const fn of(granule: Granule, physical_bits: u32) -> Self {
        match granule {
            _ if physical_bits <= 48 => Self::Plain,
            Granule::K4 | Granule::K16 => Self::Lpa2,
            Granule::K64 => Self::Lpa,
        }
    }

    /// Bits in which the upper part of an address lies; 0 where there is none (`PTE_ADDR_HIGH`).
    #[must_use]
    pub const fn high_mask(self) -> u64 {
        match self {
            Self::Plain => 0,
            Self::Lpa => 0xf << 12,
            Self::Lpa2 => 3 << 8,
        }
    }

    /// How far that part lies below its place in the address (`PTE_ADDR_HIGH_SHIFT`).
    #[must_use]
    pub const fn high_shift(self) -> u32 {
        match self {
            Self::Plain => 0,
            Self::Lpa => 36,
            Self::Lpa2 => 42,
        }
    }
}

/// Ones from the page's size up to bit `top`, exclusive.
const fn below(top: u32, granule: Granule) -> u64 {
    ((1 << top) - 1) & !(granule.bytes() - 1)
}

/// The mask with which Linux takes the lower part out of a descriptor (`PTE_ADDR_LOW`).
///
/// | era | bits |
/// |---|---|
/// | to 6.1 | 47 and below (4.14 UNVERIFIED) |
/// | 6.12, 7.2 | 49 and below in every kernel: bits 49:48 are clear where they belong to no address |
#[must_use]
pub const fn low_mask(era: Era, granule: Granule) -> u64 {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => below(48, granule),
        Era::V6_12 | Era::V7_2 => below(50, granule),
    }
}

/// The mask with which Linux cuts an address, or-ed with itself shifted down by [`Output::high_shift`], to the bits of a
/// descriptor (`PHYS_TO_PTE_ADDR_MASK`). With LPA2 it is bits 49:8: those between the parts are clear in an address of a
/// whole page.
#[must_use]
pub const fn conversion_mask(era: Era, granule: Granule, output: Output) -> u64 {
    match output {
        Output::Plain | Output::Lpa => low_mask(era, granule) | output.high_mask(),
        Output::Lpa2 => ((1 << 50) - 1) & !0xff,
    }
}

/// The bits of TTBRn_EL1 that hold a root of 52 bits (`TTBR_BADDR_MASK_52`): 51:48 of the address are in 5:2.
pub const TTBR_ROOT_OF_52: u64 = 0x0000_ffff_ffff_fffc;
