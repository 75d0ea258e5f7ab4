//! What one store may change on a live leaf of the kernel.

use kernmem_base::Era;

use super::bit::{ATTR_INDEX, ATTR_INDEX_SHIFT, CONT, DBM, NG, PXN, RDONLY, VALID};
use super::soft;

/// Whether a live leaf may change from `old` to `new` by one store: execution by the kernel, read-only, writable, global
/// to not global, and the two kinds of normal memory may always change.
///
/// | era | always safe | contiguous leaves | more bits |
/// |---|---|---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | from or to an empty entry | never change | none |
/// | 6.12 | from or to an entry that is not valid | never change | software's |
/// | 7.2 | the same | stay contiguous | software's |
///
/// Source: Linux 5.10–7.2 arch/arm64/mm/mmu.c `pgattr_change_is_safe`.
#[must_use]
pub const fn change_is_safe(era: Era, old: u64, new: u64) -> bool {
    const MAY_CHANGE: u64 = PXN | RDONLY | DBM | NG;
    const NORMAL_TAGGED: u64 = 1 << ATTR_INDEX_SHIFT;
    let (is_making, contiguous) = match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => (old == 0 || new == 0, (old | new) & CONT),
        Era::V6_12 => ((old & new) & VALID == 0, (old | new) & CONT),
        Era::V7_2 => ((old & new) & VALID == 0, (old ^ new) & CONT),
    };
    if is_making {
        return true;
    }
    if contiguous != 0 || old & !new & NG != 0 {
        return false;
    }
    let is_normal = old & ATTR_INDEX <= NORMAL_TAGGED && new & ATTR_INDEX <= NORMAL_TAGGED;
    let memory_type = if is_normal { ATTR_INDEX } else { 0 };
    (old ^ new) & !(MAY_CHANGE | memory_type | soft::changeable(era)) == 0
}

#[cfg(test)]
mod tests {
    use super::super::bit::DIRTY;
    use super::super::{Arm64Attrs, prot};
    use super::*;

    const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];
    const FRAME: u64 = 0x4000_0000;

    fn page(attrs: Arm64Attrs) -> u64 {
        FRAME | attrs.0
    }

    fn safe(old: u64, new: u64) -> [bool; 4] {
        ERAS.map(|era| change_is_safe(era, old, new))
    }

    #[test]
    fn rights_change_in_every_era_and_a_mapping_never_becomes_global_again() {
        let data = page(prot::PAGE_KERNEL);
        assert_eq!(safe(data, page(prot::PAGE_KERNEL_RO)), [true; 4]);
        assert_eq!(safe(data, page(prot::tagged(prot::PAGE_KERNEL))), [true; 4]);
        assert_eq!(safe(data, data | NG), [true; 4]);
        assert_eq!(safe(data | NG, data), [false; 4]);
        assert_eq!(safe(data, data ^ (1 << 54)), [false; 4], "execution by user mode");
        assert_eq!(safe(data, data + 0x1000), [false; 4], "another frame");
    }

    #[test]
    fn contiguous_leaves_change_from_7_2_on() {
        let data = page(prot::PAGE_KERNEL) | CONT;
        assert_eq!(safe(data, page(prot::PAGE_KERNEL_RO) | CONT), [false, false, false, true]);
        assert_eq!(safe(data, page(prot::PAGE_KERNEL)), [false; 4]);
    }

    #[test]
    fn software_s_bits_are_free_from_6_12_on() {
        let data = page(prot::PAGE_KERNEL);
        assert_eq!(safe(data, data ^ DIRTY), [false, false, true, true]);
    }

    #[test]
    fn an_absent_page_may_become_anything_from_6_12_on() {
        let absent = page(prot::PAGE_KERNEL) & !VALID;
        assert_eq!(safe(absent, page(prot::PAGE_KERNEL_RO)), [false, false, true, true]);
        assert_eq!(safe(0, page(prot::PAGE_KERNEL)), [true; 4]);
        assert_eq!(safe(page(prot::PAGE_KERNEL), 0), [true; 4]);
    }
}
