//! Which root table a virtual address is looked up in, or that it is looked up in none.

use kernmem_base::VirtAddr;

/// Where a root register holds the number of its address space (`TTBR_ASID_MASK`).
pub const ASID_MASK: u64 = 0xffff << 48;
/// The bit of a root register that says that CPUs share its tables (`TTBR_CNP_BIT`).
pub const CNP: u64 = 1;

/// A register that holds a root table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ttbr {
    /// The lower half: user mode's.
    Ttbr0,
    /// The upper half: the kernel's.
    Ttbr1,
}

impl Ttbr {
    /// The register's name, without its exception level.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ttbr0 => "TTBR0",
            Self::Ttbr1 => "TTBR1",
        }
    }
}

/// What TCR_EL1 says about one half of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfControl {
    /// Bits of an address that are translated: 64 less T0SZ or T1SZ.
    pub bits: u32,
    /// TBI0 or TBI1: the top byte is ignored.
    pub ignores_top_byte: bool,
}

/// Both halves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TranslationControl {
    /// The half of TTBR0.
    pub lower: HalfControl,
    /// The half of TTBR1.
    pub upper: HalfControl,
}

impl TranslationControl {
    /// A kernel's control: user mode's top byte is always ignored, the kernel's only if KASAN keeps tags there.
    ///
    /// Source: Linux 5.10–7.2 arch/arm64/mm/proc.S `__cpu_setup`, `TCR_FLAGS`, `TCR_KASAN_SW_FLAGS`,
    /// `TCR_KASAN_HW_FLAGS`.
    #[must_use]
    pub const fn of_kernel(va_bits: u32, kasan_tags: bool) -> Self {
        Self {
            lower: HalfControl { bits: va_bits, ignores_top_byte: true },
            upper: HalfControl { bits: va_bits, ignores_top_byte: kasan_tags },
        }
    }

    /// The same without any ignored top byte.
    #[must_use]
    pub const fn without_tags(mut self) -> Self {
        self.lower.ignores_top_byte = false;
        self.upper.ignores_top_byte = false;
        self
    }
}

/// The root that `va` is looked up in; `None` is a translation fault before any table is read.
///
/// Bit 55 selects. The address is in the half only if every bit from 63 down to the translated ones equals bit 55;
/// where the half ignores the top byte, from 55 down.
///
/// | bit 63 | bit 55 | top byte compared | top byte ignored |
/// |---|---|---|---|
/// | 0 | 0 | TTBR0 | TTBR0 |
/// | 1 | 1 | TTBR1 | TTBR1 |
/// | 1 | 0 | fault | TTBR0 |
/// | 0 | 1 | fault | TTBR1 |
///
/// Source: Arm ARM, D8 "Selecting the translation table base address register", "Address tagging".
#[inline]
#[must_use]
pub const fn root_of(va: VirtAddr, control: &TranslationControl) -> Option<Ttbr> {
    let is_upper = va.0 >> 55 & 1 == 1;
    let (ttbr, half) = if is_upper { (Ttbr::Ttbr1, control.upper) } else { (Ttbr::Ttbr0, control.lower) };
    let highest = if half.ignores_top_byte { 55 } else { 63 };
    let compared = !0u64 >> (63 - highest) & !0u64 << half.bits;
    let expected = if is_upper { compared } else { 0 };
    if va.0 & compared == expected { Some(ttbr) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 0xffff_0000_4020_0000;
    const USER: u64 = 0x0000_0000_0040_0000;

    fn root(va: u64, control: TranslationControl) -> Option<Ttbr> {
        root_of(VirtAddr(va), &control)
    }

    #[test]
    fn bit_55_selects_where_the_top_byte_is_ignored() {
        let tags = TranslationControl::of_kernel(48, true);
        assert_eq!(root(0x00ff_0000_4020_0000, tags), Some(Ttbr::Ttbr1));
        assert_eq!(root(0xf400_0000_0040_0000, tags), Some(Ttbr::Ttbr0));
    }

    #[test]
    fn without_tags_every_upper_bit_counts() {
        let plain = TranslationControl::of_kernel(48, false).without_tags();
        assert_eq!((root(KERNEL, plain), root(USER, plain)), (Some(Ttbr::Ttbr1), Some(Ttbr::Ttbr0)));
        for bit in 48..64 {
            assert_eq!((root(KERNEL ^ 1 << bit, plain), root(USER ^ 1 << bit, plain)), (None, None), "bit {bit}");
        }
    }

    #[test]
    fn linux_without_tags_ignores_the_top_byte_of_user_addresses_only() {
        let linux = TranslationControl::of_kernel(48, false);
        assert_eq!(root(USER | 0xff << 56, linux), Some(Ttbr::Ttbr0));
        assert_eq!(root(KERNEL & !(0xff << 56), linux), None);
        // Bits 55:48 count in any case.
        assert_eq!(root(USER | 1 << 50, linux), None);
    }

    #[test]
    fn more_translated_bits_leave_fewer_to_compare() {
        let wide = TranslationControl::of_kernel(52, false);
        assert_eq!(root(0xfff0_0000_0000_0000, wide), Some(Ttbr::Ttbr1));
        assert_eq!(root(0xfff0_0000_0000_0000, TranslationControl::of_kernel(48, false)), None);
    }
}
