//! KASAN's shadow as arithmetic: which byte of it speaks for which address.
//!
//! ```text
//! shadow(va) = (va >> scale) + offset          one byte for 2^scale bytes
//!
//!   memory   |........8 bytes........|........8 bytes........|     generic: scale 3; software tags: scale 4
//!   shadow   |s|s|
//! ```
//! Here: the modes and the arithmetic. Not here: where a layout has its shadow (`arm64`, `x86`), who fills it and what of it
//! is shared (the boot), what its bytes mean.
//!
//! # Invariants
//! 1. [`ShadowMap::memory`] of [`ShadowMap::of`] is the first byte that the shadow byte speaks for.
//! 2. [`ShadowMap::pages`] covers the shadow of every byte of its range and no page without one.
//!
//! Source: Linux 4.14–7.2 include/linux/kasan.h `kasan_mem_to_shadow`.

use kernmem_base::{Granule, VirtAddr, VirtRange};

/// Which shadow KASAN keeps. Its hardware tags need none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kasan {
    /// None.
    Off,
    /// A byte of shadow for 8 bytes.
    Generic,
    /// A byte of shadow for 16 bytes (arm64).
    SwTags,
}

impl Kasan {
    /// log2 of the bytes that one shadow byte speaks for; `None` without a shadow.
    ///
    /// Source: Linux 4.14–7.2 arch/arm64/include/asm/memory.h, arch/x86/include/asm/kasan.h `KASAN_SHADOW_SCALE_SHIFT`.
    #[must_use]
    pub const fn scale(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::Generic => Some(3),
            Self::SwTags => Some(4),
        }
    }
}

/// From an address to its shadow and back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShadowMap {
    /// log2 of the bytes that one shadow byte speaks for.
    pub scale: u32,
    /// The shadow of address 0, modulo 2^64.
    pub offset: u64,
}

impl ShadowMap {
    /// The map of a kernel whose shadow of the last address ends at `end`, exclusive; `None` without a shadow.
    ///
    /// Source: Linux 4.14–7.2 arch/arm64/include/asm/memory.h `KASAN_SHADOW_END`.
    #[must_use]
    pub const fn ending_at(kasan: Kasan, end: VirtAddr) -> Option<Self> {
        match kasan.scale() {
            Some(scale) => Some(Self { scale, offset: end.0.wrapping_sub(1 << (64 - scale)) }),
            None => None,
        }
    }

    /// The shadow byte of the byte at `va`.
    #[must_use]
    pub const fn of(&self, va: VirtAddr) -> VirtAddr {
        VirtAddr((va.0 >> self.scale).wrapping_add(self.offset))
    }

    /// The shadow of the address that ends a range, exclusive; 0 stands for 2^64.
    #[must_use]
    pub const fn end_of(&self, end: VirtAddr) -> VirtAddr {
        if end.0 == 0 { VirtAddr((1 << (64 - self.scale)) + self.offset) } else { self.of(end) }
    }

    /// The shadow pages of `range`: from the page of its first byte's shadow to that of its last byte's.
    #[must_use]
    pub const fn pages(&self, range: VirtRange, granule: Granule) -> VirtRange {
        let page = granule.bytes();
        let (start, last) = (self.of(range.start).0, self.of(range.last).0);
        VirtRange { start: VirtAddr(start & !(page - 1)), last: VirtAddr(last | (page - 1)) }
    }

    /// The first byte that the shadow byte at `shadow` speaks for, modulo 2^64.
    #[must_use]
    pub const fn memory(&self, shadow: VirtAddr) -> VirtAddr {
        VirtAddr(shadow.0.wrapping_sub(self.offset) << self.scale)
    }

    /// What the shadow bytes of `shadow` speak for.
    #[must_use]
    pub const fn memory_of(&self, shadow: VirtRange) -> VirtRange {
        let last = self.memory(shadow.last).0;
        VirtRange { start: self.memory(shadow.start), last: VirtAddr(last | ((1 << self.scale) - 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM64: ShadowMap = ShadowMap { scale: 3, offset: 0xdfff_8000_0000_0000 };

    /// Facts: 6.1 arm64, 48 bits, generic: the shadow runs from ffff600000000000 to ffff800000000000.
    #[test]
    fn the_shadow_of_an_address_space_is_an_eighth_of_it() {
        assert_eq!(ShadowMap::ending_at(Kasan::Generic, VirtAddr(0xffff_8000_0000_0000)), Some(ARM64));
        assert_eq!(ARM64.of(VirtAddr(0xffff_0000_0000_0000)), VirtAddr(0xffff_6000_0000_0000));
        assert_eq!(ARM64.end_of(VirtAddr(0)), VirtAddr(0xffff_8000_0000_0000));
        assert_eq!(ARM64.of(VirtAddr(0xffff_8000_0000_0000)), VirtAddr(0xffff_7000_0000_0000));
    }

    /// Facts: x86-64 has dffffc0000000000; software tags of 6.1 with 48 bits have efff800000000000.
    #[test]
    fn modes_differ_in_scale_and_architectures_in_offset() {
        let x86 = ShadowMap { scale: 3, offset: 0xdfff_fc00_0000_0000 };
        assert_eq!(x86.of(VirtAddr(0xffff_8000_0000_0000)), VirtAddr(0xffff_ec00_0000_0000));
        let tags = ShadowMap::ending_at(Kasan::SwTags, VirtAddr(0xffff_8000_0000_0000));
        assert_eq!(tags, Some(ShadowMap { scale: 4, offset: 0xefff_8000_0000_0000 }));
        assert_eq!(ShadowMap::ending_at(Kasan::Off, VirtAddr(0xffff_8000_0000_0000)), None);
    }

    #[test]
    fn pages_reach_outward_and_memory_comes_back() {
        let range = VirtRange { start: VirtAddr(0xffff_0000_0000_8008), last: VirtAddr(0xffff_0000_0001_0000) };
        let pages = ARM64.pages(range, Granule::K4);
        let expected = VirtRange { start: VirtAddr(0xffff_6000_0000_1000), last: VirtAddr(0xffff_6000_0000_2fff) };
        assert_eq!(pages, expected);
        let memory = VirtRange { start: VirtAddr(0xffff_0000_0000_8000), last: VirtAddr(0xffff_0000_0001_7fff) };
        assert_eq!(ARM64.memory_of(pages), memory);
        assert_eq!(ARM64.memory(ARM64.of(VirtAddr(0xffff_0000_0000_800f))), VirtAddr(0xffff_0000_0000_8008));
    }
}
