//! arm64 with any page size and bits: attributes, changes, and windows in units of its own pages, groups and blocks.

use kernmem_arch::arm64::Arm64;
use kernmem_arch::{EntryFormat, LevelShape};
use kernmem_base::VirtAddr;

use super::{MOVE, Subject, Window};

/// Whether bits 9:8 of an entry are address bits and no shareability, and addresses have 52 bits.
const fn is_lpa2(page: u32, bits: u32) -> bool {
    page < 16 && bits == 52
}

/// A page's attributes without those that the format has no room for.
const fn attrs(bits: u64, page: u32, va: u32) -> u64 {
    if is_lpa2(page, va) { bits & !0x300 } else { bits }
}

impl<const PAGE: u32, const VA: u32> Subject for Arm64<PAGE, VA> {
    const ATTRS: [u64; 3] = [
        attrs(0x00e8_0000_0000_0703, PAGE, VA),
        attrs(0x00e0_0000_0000_0783, PAGE, VA),
        attrs(0x00e8_0000_0000_070f, PAGE, VA),
    ];
    const TABLE: u64 = 0x1800_0000_0000_0003;
    // read only; writable; executable by user mode; device; not valid; elsewhere
    const CHANGES: [(u64, u64); 6] =
        [(1 << 7, 1 << 51), (1 << 51, 1 << 7), (0, 1 << 54), (3 << 2, 0), (0, 1), (MOVE, 0)];
    const MEMORY: (u64, u64) = (if PAGE == 16 || VA == 52 { 0xd << 48 | 1 << 41 } else { 1 << 41 }, 0xff_ffff_ffff);
}

impl Window {
    /// Pages, up to the last of the address space.
    pub fn top<F: EntryFormat>() -> Self {
        let unit = F::shape().granule.bytes();
        Self { start: VirtAddr(0_u64.wrapping_sub(2048 * unit)), unit, units: 2048 }
    }

    /// Groups of pages around the end of a root entry.
    pub fn seam<F: EntryFormat>() -> Self {
        let [.., _, pages] = F::shape().levels else { panic!("two levels at the least") };
        Self::around_a_root_entry::<F>(pages, 512)
    }

    /// Blocks around the end of a root entry, and groups of them where there are.
    pub fn blocks<F: EntryFormat>() -> Self {
        let [.., blocks, _] = F::shape().levels else { panic!("two levels at the least") };
        Self::around_a_root_entry::<F>(&LevelShape { contiguous_bits: 0, ..*blocks }, 64)
    }

    /// Groups of `level`, `before` of them below the end of a root entry and twice as many behind it.
    fn around_a_root_entry<F: EntryFormat>(level: &LevelShape, before: u64) -> Self {
        let unit = level.bytes() << level.contiguous_bits;
        let root = F::shape().levels[0].bytes();
        let end = (!0 << F::shape().va_bits()) + (before * unit).next_multiple_of(root);
        Self { start: VirtAddr(end - before * unit), unit, units: 3 * before as usize }
    }
}
