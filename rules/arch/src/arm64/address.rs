//! Where a descriptor keeps the output address.
//!
//! ```text
//!  48 bits       47 ........ page shift
//!  LPA   (64K)   47 ........ 16 | 51:48 in bits 15:12
//!  LPA2  (4K, 16K) 49 ...... page shift | 51:50 in bits 9:8, which are shareability otherwise
//! ```
//! Here: the three forms, masks as Linux names them, conversion. Not here: what else a descriptor says (`format`).
//!
//! Source: Arm ARM, VMSAv8-64 descriptors; Linux 5.10–7.2 arch/arm64/include/asm/pgtable-hwdef.h `PTE_ADDR_LOW`,
//! `PTE_ADDR_HIGH`; pgtable.h `__pte_to_phys`, `__phys_to_pte_val`.

use kernmem_base::{Era, Granule, PhysAddr};

/// The form of a descriptor's output address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OutputAddress {
    /// 48 bits in place.
    Bits48,
    /// 52 bits with 64K pages: the upper four in bits 15:12.
    Lpa,
    /// 52 bits with 4K or 16K pages: the upper two in bits 9:8.
    Lpa2,
}

impl OutputAddress {
    /// The form that a kernel of `granule` uses for physical addresses of `physical_bits`.
    #[must_use]
    pub const fn of(granule: Granule, physical_bits: u32) -> Self {
        match granule {
            _ if physical_bits <= 48 => Self::Bits48,
            Granule::K4 | Granule::K16 => Self::Lpa2,
            Granule::K64 => Self::Lpa,
        }
    }

    /// Bits in which the upper part of the address lies; 0 where there is none (`PTE_ADDR_HIGH`).
    #[must_use]
    pub const fn high_bits(self) -> u64 {
        match self {
            Self::Bits48 => 0,
            Self::Lpa => 0xf << 12,
            Self::Lpa2 => 3 << 8,
        }
    }

    /// How far that part lies below its place in the address (`PTE_ADDR_HIGH_SHIFT`).
    #[must_use]
    pub const fn high_shift(self) -> u32 {
        match self {
            Self::Bits48 => 0,
            Self::Lpa => 36,
            Self::Lpa2 => 42,
        }
    }

    /// Bits in which the address of a page lies in place.
    #[must_use]
    pub const fn low_bits(self, granule: Granule) -> u64 {
        let top = match self {
            Self::Bits48 | Self::Lpa => 48,
            Self::Lpa2 => 50,
        };
        ((1 << top) - 1) & !(granule.bytes() - 1)
    }

    /// The bits of a descriptor that hold `pa`, the address of a whole page.
    #[must_use]
    pub const fn encode(self, granule: Granule, pa: PhysAddr) -> u64 {
        pa.0 & self.low_bits(granule) | (pa.0 >> self.high_shift()) & self.high_bits()
    }

    /// The address that a descriptor holds: the inverse of [`OutputAddress::encode`].
    #[must_use]
    pub const fn decode(self, granule: Granule, raw: u64) -> PhysAddr {
        PhysAddr(raw & self.low_bits(granule) | (raw & self.high_bits()) << self.high_shift())
    }
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
        Era::V4_14 | Era::V5_10 | Era::V6_1 => OutputAddress::Bits48.low_bits(granule),
        Era::V6_12 | Era::V7_2 => OutputAddress::Lpa2.low_bits(granule),
    }
}

/// The mask with which Linux cuts an address, or-ed with itself shifted down by [`OutputAddress::high_shift`], to the
/// bits of a descriptor (`PHYS_TO_PTE_ADDR_MASK`). With LPA2 it is bits 49:8: those between the parts are clear in an
/// address of a whole page.
#[must_use]
pub const fn conversion_mask(era: Era, granule: Granule, form: OutputAddress) -> u64 {
    match form {
        OutputAddress::Bits48 | OutputAddress::Lpa => low_mask(era, granule) | form.high_bits(),
        OutputAddress::Lpa2 => ((1 << 50) - 1) & !0xff,
    }
}

/// The bits of TTBRn_EL1 that hold a root of 52 bits (`TTBR_BADDR_MASK_52`): 51:48 of the address are in 5:2.
pub const TTBR_ROOT_OF_52: u64 = 0x0000_ffff_ffff_fffc;

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: every bit of an address of a page alone, in every form.
    #[test]
    fn every_bit_of_an_address_has_one_place() {
        for (form, granule, bits) in [
            (OutputAddress::Bits48, Granule::K4, 48),
            (OutputAddress::Bits48, Granule::K16, 48),
            (OutputAddress::Bits48, Granule::K64, 48),
            (OutputAddress::Lpa, Granule::K64, 52),
            (OutputAddress::Lpa2, Granule::K4, 52),
            (OutputAddress::Lpa2, Granule::K16, 52),
        ] {
            let mut seen = 0;
            for bit in granule.shift()..bits {
                let raw = form.encode(granule, PhysAddr(1 << bit));
                assert_eq!((raw.count_ones(), raw & seen), (1, 0), "{form:?} {granule:?} bit {bit}");
                assert_eq!(form.decode(granule, raw), PhysAddr(1 << bit));
                seen |= raw;
            }
            assert_eq!(seen, form.low_bits(granule) | form.high_bits());
        }
    }

    #[test]
    fn the_upper_bits_lie_where_the_manual_has_them() {
        assert_eq!(OutputAddress::Lpa.encode(Granule::K64, PhysAddr(0x9_0000_1234_0000)), 0x1234_9000);
        assert_eq!(OutputAddress::Lpa2.encode(Granule::K4, PhysAddr(0xd_0000_1234_5000)), 0x1_0000_1234_5300);
    }
}
